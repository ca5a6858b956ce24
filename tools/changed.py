"""`changed.py BASE` prints the folders of the packages a change can break, as JSON for the tests' matrix."""

import json
import subprocess
import sys
from pathlib import Path

from workspace import ROOT, packages

# A change in one of these can break any package.
SHARED = ("packages/audio-core/", "tools/", ".ci/", ".github/", "conftest.py", "hatch.toml", "pyproject.toml")


def changed(root: Path, base: str) -> list[str]:
    """The folders of the packages that may notice what changed since the commit `base`."""
    folders = [package.folder.relative_to(root).as_posix() for package in packages(root)]
    known = subprocess.run(["git", "cat-file", "-e", f"{base}^{{commit}}"], cwd=root, capture_output=True)
    if known.returncode:  # a first push has no base, a rewritten branch has lost it
        return folders
    command = ["git", "diff", "--name-only", base]
    files = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    if any(file.startswith(SHARED) for file in files):
        return folders
    return [folder for folder in folders if any(file.startswith(f"{folder}/") for file in files)]


if __name__ == "__main__":
    print(json.dumps(changed(ROOT, sys.argv[1])))
