"""What every command line of the family shares: verbs on argparse, one-line errors, exit codes, recipes by name.

Exit codes: 0 done; 2 the input is wrong, and one line says what; 1 a fault of ours. As in shells, 130 is Ctrl-C, 143 is
SIGTERM, and 141 means that the reader of the output left.

This module imports nothing heavy, since `--help` must answer at once: verbs import what they need when they run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from . import config
from .files import InputError, note, reason

T = TypeVar("T")
Verb = Callable[[argparse.Namespace], "int | None"]


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and help that keeps its line breaks."""

    def __init__(self, **settings: Any):
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Takes settings (key=value) behind options too; argparse before 3.12 takes them only in one place."""
        parsed, rest = super().parse_known_args(args, namespace)
        if hasattr(parsed, "settings"):
            late = [word for word in rest if "=" in word and not word.startswith("-")]
            parsed.settings, rest = [*parsed.settings, *late], [word for word in rest if word not in late]
        return parsed, rest

    def format_help(self) -> str:
        if callable(self.epilog):  # a long epilog is written only when it is shown
            self.epilog = self.epilog()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        if match := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            choices = re.findall(r"[\w.-]+", match[2])
            import difflib

            near = difflib.get_close_matches(match[1], choices, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(choices)}"
            message = f"{match[1]!r} is not known here; {hint}"
        self.exit(2, f"{self.prog}: error: {message}\n")


def program(name: str, description: str, version: str) -> tuple[Parser, Any]:
    """The command's parser and the place for its verbs."""
    parser = Parser(prog=name, description=description)
    parser.set_defaults(program=f"{name} {version}")
    parser.add_argument("--version", action="version", version=f"{name} {version}")
    return parser, parser.add_subparsers(metavar="VERB", required=True, title="verbs")


def verb(
    verbs: Any, name: str, function: Verb, summary: str, epilog: Callable[[], str] | None = None, alone: bool = False
) -> Parser:
    """A parser for one verb. Its help begins with `summary`, which also stands in the list of verbs, and ends with
    `epilog()`.

    Of several processes only the first runs a verb that is `alone`, one with a single result such as a report.
    """
    parser: Parser = verbs.add_parser(name, help=summary, description=summary, epilog=epilog)
    parser.set_defaults(verb=function, alone=alone)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the whole traceback of an error")
    return parser


def add_out(parser: Parser, what: str, required: bool = False) -> None:
    parser.add_argument("-o", "--out", type=Path, required=required, metavar="PATH", help=what)
    parser.add_argument("--force", action="store_true", help="overwrite what exists")


def check_out(args: argparse.Namespace, suffixes: Sequence[str], inputs: Iterable[Path] = ()) -> None:
    """Refuse --out where its suffix is wrong, it is an input, or it exists and --force is absent."""
    out: Path = args.out
    if out.suffix.lower() not in suffixes:
        raise InputError(f"{out}: the name must end in {' or '.join(suffixes)}")
    if out.exists() and any(path.exists() and path.samefile(out) for path in inputs):
        raise InputError(f"{out}: the result would overwrite an input")
    if out.exists() and not args.force:
        raise InputError(f"{out}: exists already; give --force to overwrite it")


def add_device(parser: Parser) -> None:
    choices = ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--device", choices=choices, default="auto", help="where to compute (default: %(default)s)")


def add_precision(parser: Parser) -> None:
    text = "bf16: faster where the device computes it"
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help=text)


def add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="results as JSON on standard output")


def add_quiet(parser: Parser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress, no remarks; errors only")


def main(parser: Parser, arguments: Sequence[str] | None = None) -> int:
    """Run the verb and return its exit code; every error becomes one line.

    A verb's `args` also hold the `program` with its version and the command `line`, for the foot of a report.
    Without `arguments` the process is the command itself. Under torchrun it then ends by `leave`.
    """
    code = _run(parser, arguments)
    if arguments is None and processes() > 1:
        leave(code)
    return code


def leave(code: int = 0) -> NoReturn:
    """End the program with the exit code `code`.

    One of several processes ends without shutting the interpreter down, which sometimes aborts while threads of gloo
    live, although all work is done.
    """
    if processes() == 1:
        sys.exit(code)
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def processes() -> int:
    """How many processes torchrun or Accelerate launched together; they need not have joined a process group yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among those that were launched together, from 0 on."""
    return int(os.environ.get("RANK", "0"))


def _run(parser: Parser, arguments: Sequence[str] | None) -> int:
    try:
        args = parser.parse_args(arguments)
        args.line = shlex.join([parser.prog, *(sys.argv[1:] if arguments is None else arguments)])
    except SystemExit as leaving:  # --help, --version, wrong usage
        return int(leaving.code or 0)
    if args.alone and rank():
        return 0
    try:
        with _terminating():
            return args.verb(args) or 0
    except InputError as error:
        return _fail(parser, args, 2, " ".join(str(error).split()))
    except BrokenPipeError:  # the reader of our output, as in `| head`, has left: no message, but work is left undone
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
        return 141
    except _Terminated:
        return _fail(parser, args, 143, "terminated")
    except OSError as error:
        return _fail(parser, args, 2, f"{error.filename}: {reason(error)}" if error.filename else reason(error))
    except KeyboardInterrupt:
        return _fail(parser, args, 130, "interrupted")
    except Exception as error:
        return _fail(parser, args, 1, f"{type(error).__name__}: {reason(error)} (a fault of ours: -v shows where)")


class _Terminated(BaseException):
    """SIGTERM as an exception, so that every `with` cleans up."""


@contextmanager
def _terminating() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there may signals be handled
        yield
        return

    def leave(number: int, frame: object) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(parser: Parser, args: argparse.Namespace, code: int, line: str) -> int:
    if args.verbose:
        traceback.print_exc()
    note(f"{parser.prog}: error: {line}")
    return code


def device(name: str) -> str:
    """The device that `name` means, which may be `auto`; an error where it is not available.

    Each of several processes on a machine gets a GPU of its own, as far as there are enough.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[name]:
        raise InputError(f"--device {name}: not available here; use --device cpu")
    if name == "cpu" and not chosen("FSDP"):  # who divides weights wants memory, not speed
        keep_memory()
    if name == "cuda" and processes() > 1:
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return name


def chosen(name: str) -> bool:
    """Whether `accelerate config` chose FSDP, DEEPSPEED or the like."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"


def keep_memory(large: bool = True) -> None:
    """Let the process keep freed memory. By default glibc fetches large tensors from the kernel each time anew, which
    takes up to a quarter of the work of a processor.

    Kept blocks scatter with time, so that a process of many tensors holds up to a third more at its end than after a
    minute. Without `large` what is kept never grows for a block of 32 MiB or more, the highest limit that glibc takes.
    """
    import ctypes

    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # musl has none
        trim_threshold, map_threshold, most_maps = -1, -3, -4
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(map_threshold, 32 * 2**20)
        mallopt(most_maps, 0 if large else 2**16)


def show(result: Any, as_json: bool, text: str) -> None:
    """The result of a verb on standard output: JSON for programs, text for people."""
    print(json.dumps(result, indent=1, ensure_ascii=False) if as_json else text, flush=True)


def columns(rows: Iterable[Sequence[object]]) -> str:
    """Rows as aligned columns, numbers to the right."""
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    numeric = [[isinstance(cell, int | float) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [any(column) for column in zip(*numeric, strict=True)]
    lines = []
    for row in cells:
        aligned = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


# --- recipes --------------------------------------------------------------------------------------


def recipes(package: str) -> dict[str, str]:
    """The recipes in a package's wheel, and the first comment line of each."""
    summaries = {}
    for file in sorted(_recipes(package).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            first = file.read_text(encoding="utf-8").split("\n", 1)[0]
            summary = first.removeprefix("#").strip() if first.startswith("#") else ""
            summaries[file.name.removesuffix(".yaml")] = summary
    return summaries


def _recipes(package: str) -> Path:
    return Path(str(importlib.import_module(package).__file__)).with_name("recipes")


def load_recipe(cls: type[T], package: str, name: str, overrides: Sequence[str] = (), kinds: str = "recipe") -> T:
    """The recipe called `name` in the wheel of `package`, or in the YAML or JSON file with this path.

    `kinds` says what else the name could have been, for the message that nothing is called so.
    """
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return config.load(cls, name, overrides)
    names = recipes(package)
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"recipes are {', '.join(names) or 'none'}"
        raise InputError(f"no {kinds} is called {name}; {hint} (or give the path of a .yaml file)")
    text = (_recipes(package) / f"{name}.yaml").read_text(encoding="utf-8")
    return config.build(cls, config.parse(text, name) or {}, overrides)


def fields(cls: type) -> str:
    """The settings of the recipe `cls` for the end of `train --help`; those that `cls.FIRST` names come first."""
    order = {name: at for at, name in enumerate(getattr(cls, "FIRST", ()))}
    rows = sorted(config.table(cls), key=lambda row: order.get(row[0], len(order)))
    lines = ["settings (key=value):"]
    for at, (name, kind, default, text) in enumerate(rows):
        lines += ["", "all others:"] if order and at == len(order) else []
        shown = textwrap.shorten(default, 60, placeholder=" ...")  # class lists can be long
        lines.append(f"  {name}  ({kind}{', default ' + shown if default else ''})")
        lines += textwrap.wrap(text, 100, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
