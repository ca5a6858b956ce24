"""The packages of this workspace, as their folders describe them, and what their sources import."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "0.0.0"  # the version of a package that holds only its name


@dataclass(frozen=True)
class Package:
    folder: Path
    project: dict[str, Any]

    @property
    def name(self) -> str:
        return self.project["name"]

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.module

    @property
    def about(self) -> Path:
        return self.source / "__about__.py"

    @property
    def has_command(self) -> bool:
        return (self.source / "cli.py").exists()

    @property
    def changelog(self) -> Path:
        return self.folder / "CHANGELOG.md"

    @property
    def version(self) -> str:
        return re.findall(r'^__version__ = "(.+)"$', self.about.read_text(), re.M)[0]

    @property
    def newest_entry(self) -> str:
        """The version of the changelog's first numbered heading, empty without one."""
        return next(iter(re.findall(r"^## (\d\S*)", self.changelog.read_text(), re.M)), "")

    @property
    def requirements(self) -> list[str]:
        extras = self.project.get("optional-dependencies", {})
        return [*self.project.get("dependencies", []), *(line for lines in extras.values() for line in lines)]


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def packages(root: Path) -> list[Package]:
    """All packages, each after those it needs: audio-core first, since nothing needs a sibling."""
    files = root.glob("packages/*/pyproject.toml")
    every = [Package(file.parent, read_toml(file)["project"]) for file in files]
    return sorted(every, key=lambda package: (package.name != "audio-core", package.name))


def sources(root: Path) -> Iterator[tuple[Package, Path]]:
    for package in packages(root):
        for path in sorted(package.source.rglob("*.py")):
            yield package, path


def imports(path: Path, package: Package) -> Iterator[tuple[int, str, str, bool]]:
    """(line, importing module, dotted name, whether it runs later than the module itself) of each import of a file.

    Imports of functions run later, those under `if TYPE_CHECKING` never.
    """
    parts = path.relative_to(package.source.parent).with_suffix("").parts
    above = parts[:-1]
    module = ".".join(above if parts[-1] == "__init__" else parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or for_types(node)
    ]
    inner = {id(node) for outer in later for node in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*above[: len(above) - node.level + 1]] if node.level else []
            names = [".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            yield node.lineno, module, name, id(node) in inner


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
