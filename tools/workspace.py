"""The packages of this workspace, as their folders describe them."""

import re
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
    found = [Package(file.parent, read_toml(file)["project"]) for file in files]
    return sorted(found, key=lambda package: (package.name != "audio-core", package.name))
