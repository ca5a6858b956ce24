"""`clean_wheel.py [--beside FOLDER] WHEEL...` installs each wheel alone in a clean environment and starts it.

That finds dependencies nobody declared, files missing from the wheel, a command that does not start.
`--beside` offers the other wheels of a folder, for versions that the index does not have yet.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start_alone(wheel: Path, links: list[str]) -> str:
    """What the imported package says of itself, or a CalledProcessError."""
    module = wheel.name.split("-")[0]
    uv = [sys.executable, "-m", "uv"]
    with tempfile.TemporaryDirectory() as folder:  # outside the checkout, or Python would import from there
        python = Path(folder, "v", "Scripts" if os.name == "nt" else "bin", "python")
        subprocess.run([*uv, "venv", "-q", f"{folder}/v"], check=True)
        install = [*uv, "pip", "install", "-q", "--python", python, "-c", ROOT / "tools/constraints.txt"]
        install += ["--refresh-package", "audio-core"]  # else that of an earlier build may come from uv's cache
        subprocess.run([*install, *links, wheel], check=True)
        hello = [python, "-c", f"import {module}; print({module}.__name__, {module}.__version__)"]
        line = subprocess.run(hello, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
        command = python.with_name(module.replace("_", "-"))
        if command.exists():
            subprocess.run([command, "--help"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            line += ", its command starts"
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--beside", type=Path)
    options = parser.parse_args()
    folders = [options.beside and options.beside.resolve(), os.environ.get("PIP_FIND_LINKS")]
    links = [word for folder in folders if folder for word in ("--find-links", str(folder))]
    with ThreadPoolExecutor(2) as pool:  # installing waits for the disk more than for the processor
        for line in pool.map(lambda wheel: start_alone(wheel.resolve(), links), options.wheels):
            print(line, flush=True)


if __name__ == "__main__":
    main()
