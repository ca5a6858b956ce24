"""Programs in processes of their own: what they cost, and environments for those of others."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# A process begins with the peak of the one that starts it, so that a small one stands between.
BETWEEN = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)\n"
    "sys.exit(code)"
)


class Cost(NamedTuple):
    seconds: float
    """Of processor time, the kernel's included."""
    megabytes: float
    """The peak of resident memory."""


def cost(*command: object) -> Cost:
    """Of a program on one thread, from its start to its end."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    words = [sys.executable, "-c", BETWEEN, *map(str, command)]
    done = subprocess.run(words, env=own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(last_line(done.stderr))
    return Cost(*map(float, done.stdout.split()))


def python_with(requirement: str, module: str) -> Path:
    """The Python of an environment that has a package whose module is called so, made once in the user's cache folder.

    What is installed here, such as PyTorch, is used from here, so that it is the same and need not be fetched.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "audio-bench" / requirement
    python = folder / "bin" / "python"
    if not python.exists() or not _works([python, "-c", f"import {module}"]):
        _run([sys.executable, "-m", "venv", "--clear", folder])
        site = Path(_run([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]).strip())
        (site / "here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
        _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement])
        _run([python, "-c", f"import {module}"])
    return python


def _works(command: Sequence[object]) -> bool:
    return subprocess.run([*map(str, command)], capture_output=True).returncode == 0


def _run(command: Sequence[object]) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(last_line(done.stderr))
    return done.stdout


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
