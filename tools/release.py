"""Versions, tags and bounds of the packages. A pushed tag such as audio-core-v0.1.0 is what publishes one.

list [--json]     packages whose version has no tag yet, audio-core first
bump NAME PART    PART is major, minor, patch or x.y.z; needs news under `## Unreleased` in the changelog
check [NAME ...]  what keeps these packages, or all unreleased ones, from being tagged
tags              the commands that tag and push
select TAG        name, version and folder of the package behind a tag, a line each
notes TAG         what the changelog says of it
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from workspace import PLACEHOLDER, ROOT, Package, packages

BOUNDS = re.compile(r'(?P<start>"audio-core(?:\[[\w,-]+\])?)>=(?P<low>[\d.]+),<(?P<high>[\d.]+)"')


class Refused(Exception):
    """Why a release cannot go on, in one line."""


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def numbers(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Refused(f"{version} is no version of the form x.y.z")
    return tuple(map(int, version.split(".")))


def named(root: Path, name: str) -> Package:
    known = {package.name: package for package in packages(root)}
    if name not in known:
        raise Refused(f"{name} is not one of {', '.join(known)}")
    return known[name]


def tag_of(package: Package) -> str:
    return f"{package.name}-v{package.version}"


def unreleased(root: Path) -> list[Package]:
    tags = git(root, "tag").split()
    return [each for each in packages(root) if each.version != PLACEHOLDER and tag_of(each) not in tags]


def admits(low: str, high: str, version: str) -> bool:
    """Whether >=low,<high holds; bounds may leave out trailing zeros."""
    low_numbers, high_numbers = (tuple(map(int, bound.split("."))) for bound in (low, high))
    return low_numbers <= numbers(version) and numbers(version)[: len(high_numbers)] < high_numbers


def entry(package: Package, heading: str) -> str:
    """The text of the changelog below a heading, up to the next one."""
    parts = re.split(r"^## (.+)$", package.changelog.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(heading, "").strip()


def bump(root: Path, name: str, part: str) -> list[str]:
    """Sets the version, names the news after it, and moves the dependants' bounds where they must."""
    package = named(root, name)
    before = numbers(package.version)
    if part in ("major", "minor", "patch"):
        at = ("major", "minor", "patch").index(part)
        version = ".".join(map(str, [*before[:at], before[at] + 1, 0, 0][:3]))
    else:
        version = part
    if numbers(version) <= before:
        raise Refused(f"{name} is at {package.version} already, {version} is not higher")
    if not entry(package, "Unreleased"):
        raise Refused(f"{package.changelog.relative_to(root)}: write what is new under `## Unreleased` first")
    news = package.changelog.read_text(encoding="utf-8").replace("## Unreleased", f"## {version}", 1)
    package.changelog.write_text(news, encoding="utf-8")
    package.about.write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    lines = [f"{name} {version}"]
    if name == "audio-core":
        major, minor, _ = numbers(version)
        # Before 1.0 a minor version may break what stands on it.
        low, high = (f"0.{minor}", f"0.{minor + 1}") if major == 0 else (f"{major}.{minor}", str(major + 1))
        for dependant in packages(root):
            file = dependant.folder / "pyproject.toml"
            text = file.read_text(encoding="utf-8")
            bounds = BOUNDS.search(text)
            if bounds and not admits(bounds["low"], bounds["high"], version):
                file.write_text(BOUNDS.sub(rf'\g<start>>={low},<{high}"', text), encoding="utf-8")
                lines.append(f"{dependant.name} now needs audio-core>={low},<{high}: it wants a release of its own")
    return lines


def findings(root: Path, chosen: list[Package]) -> list[str]:
    """What keeps the chosen packages from being tagged."""
    tags, core, lines = git(root, "tag").split(), named(root, "audio-core"), []
    if git(root, "status", "--porcelain"):
        lines.append("the checkout has changes that are not committed")
    for package in packages(root):
        for bounds in BOUNDS.finditer((package.folder / "pyproject.toml").read_text(encoding="utf-8")):
            if not admits(bounds["low"], bounds["high"], core.version):
                lines.append(f"{package.name}: its bounds refuse the local audio-core {core.version}")
    for package in chosen:
        earlier = [tag.rpartition("-v")[2] for tag in tags if tag.startswith(f"{package.name}-v")]
        if package.version == PLACEHOLDER:
            lines.append(f"{package.name}: {PLACEHOLDER} holds the name only and is not for release")
        if tag_of(package) in tags:
            lines.append(f"{package.name}: the tag {tag_of(package)} exists already")
        elif earlier and numbers(package.version) < max(map(numbers, earlier)):
            lines.append(f"{package.name}: a higher version than {package.version} has a tag already")
        if package.newest_entry != package.version or not entry(package, package.version):
            lines.append(f"{package.name}: the changelog does not begin with news of {package.version}")
        if entry(package, "Unreleased"):
            lines.append(f"{package.name}: there is news under `## Unreleased`: bump it")
    return lines


def select(root: Path, tag: str) -> Package:
    """The package behind a tag, which must be what the tag says."""
    name, _, version = tag.rpartition("-v")
    package = named(root, name)
    if version == PLACEHOLDER or not version == package.version == package.newest_entry:
        has = f"version {package.version}, changelog {package.newest_entry}"
        raise Refused(f"{tag} does not fit {package.folder.relative_to(root)}: {has}")
    if not entry(package, version):
        raise Refused(f"{package.changelog.relative_to(root)}: says nothing of {version}")
    return package


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list").add_argument("--json", action="store_true")
    bumping = verbs.add_parser("bump")
    bumping.add_argument("name")
    bumping.add_argument("part")
    verbs.add_parser("check").add_argument("names", nargs="*")
    verbs.add_parser("tags")
    for verb in ("select", "notes"):
        verbs.add_parser(verb).add_argument("tag")
    return top


def run(root: Path, options: argparse.Namespace) -> list[str]:
    """The lines that a verb prints."""
    if options.verb == "bump":
        return bump(root, options.name, options.part)
    if options.verb in ("select", "notes"):
        package = select(root, options.tag)
        if options.verb == "notes":
            return [entry(package, package.version)]
        folder = package.folder.relative_to(root).as_posix()
        return [
            f"name={package.name}",
            f"version={package.version}",
            f"path={folder}",
        ]
    chosen = [named(root, name) for name in getattr(options, "names", [])] or unreleased(root)
    if options.verb == "list":
        rows = [{"name": p.name, "version": p.version, "path": f"packages/{p.folder.name}"} for p in chosen]
        return [json.dumps(rows)] if options.json else [f"{row['name']} {row['version']}" for row in rows]
    if lines := findings(root, chosen):
        raise Refused("\n".join(lines))
    lines = [f'git tag -a {tag_of(p)} -m "{p.name} {p.version}" && git push origin {tag_of(p)}' for p in chosen]
    if options.verb == "tags" and len(lines) > 1 and chosen[0].name == "audio-core":
        lines.insert(1, "# go on when the index has audio-core")
    return lines if options.verb == "tags" else []


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    try:
        for line in run(root, parser().parse_args(argv)):
            print(line)
        return 0
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
