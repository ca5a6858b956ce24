"""The `audio-sep` command."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_core import batch, command, verbs
from audio_core.files import InputError, note

from . import PACKAGE

if TYPE_CHECKING:
    from .parallel import Work


def parser() -> command.Parser:
    parser, add = verbs.program(PACKAGE)
    verbs.train(add, PACKAGE, "Train a model by a recipe.")

    separate = command.verb(add, "separate", _separate, "Separate recordings into their stems, a file for each.")
    separate.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    _add_models(separate)
    _add_stems(separate)
    _add_passes(separate)
    _add_files(separate)
    command.add_out(separate, "the folder for the stems: PATH/song/vocals.wav", required=True)
    command.add_device(separate)
    command.add_quiet(separate)

    verbs.export(
        add,
        PACKAGE,
        "Make a bundle of a run, or a file for other programs.",
        "onnx: the network, from spectrograms to masks",
    )
    verbs.describe(add, PACKAGE, "Show parameters, work and delay of a model.")
    verbs.recipes(add, PACKAGE)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _add_models(parser: command.Parser) -> None:
    what = "a bundle's or a run's folder, a Hub id, or a name from the package; several share one pass over each file"
    parser.add_argument("--model", nargs="+", metavar="BUNDLE", default=["default"], help=f"{what} (default: default)")


def _add_stems(parser: command.Parser) -> None:
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument(
        "--stems",
        nargs="+",
        metavar="STEM",
        help="write only these, and compute no others (default: all of the models)",
    )
    wanted.add_argument("--two-stems", metavar="STEM", help="this stem, and no_STEM: the recording without it")
    parser.add_argument("--residual", action="store_true", help="residual: what is in none of the stems")


def _add_passes(parser: command.Parser) -> None:
    """How a recording goes through the models."""
    parser.add_argument("--segment", type=float, metavar="SECONDS", help="memory grows with it (default: 10)")
    parser.add_argument(
        "--overlap", type=float, metavar="SHARE", help="of a segment that is cross-faded, 0 to 0.5 (default: 0.1)"
    )
    parser.add_argument(
        "--shifts", type=int, default=1, metavar="N", help="mean of N estimates, at N times the work (default: 1)"
    )
    parser.add_argument(
        "--stitch", choices=("fade", "bytesep"), default="fade", help="bytesep: 30 s, cut hard as in the original"
    )
    parser.add_argument(
        "--precision", choices=("float32", "bf16"), default="float32", help="bf16: faster where the device computes it"
    )


def _add_files(parser: command.Parser) -> None:
    parser.add_argument(
        "--format",
        choices=("wav16", "wav24", "float32", "flac", "mp3", "ogg"),
        default="wav16",
        help="of the files; flac is as deep as the source (default: %(default)s)",
    )
    parser.add_argument(
        "--clip",
        choices=("clamp", "rescale"),
        default="clamp",
        help="samples beyond full scale are cut off, or all stems made softer alike (default: %(default)s)",
    )
    parser.add_argument(
        "--filename", metavar="TEMPLATE", default="{track}/{stem}.{ext}", help="of the results (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at work (default: %(default)s)")


# --- the verbs ---------------------------------------------------------------------------------------------


def _passes(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("segment", "overlap", "shifts", "stitch", "precision")}


def _residual(args: argparse.Namespace) -> str | None:
    if args.two_stems and args.residual:
        raise InputError("--two-stems has a residual already, no_STEM; leave --residual out")
    return f"no_{args.two_stems}" if args.two_stems else "residual" if args.residual else None


def _separate(args: argparse.Namespace) -> int:
    found = batch.find(args.inputs)  # a wrong path is told at once, before PyTorch is imported
    residual = _residual(args)
    if args.jobs < 1:
        raise InputError(f"--jobs: expected 1 or more, got {args.jobs}")

    from . import parallel
    from .stem_files import jobs

    models = _load(args)
    work = jobs(found, args.out, _separator(args, models, residual).names, args.format, args.filename)
    begin = functools.partial(_begin, args, residual, models if args.jobs == 1 else None)
    return parallel.run(work, begin, args.jobs, args.force, args.quiet).code


def _load(args: argparse.Namespace) -> list[Any]:
    from .models import load

    device = command.device(args.device)
    return [load(name, device) for name in args.model]


def _separator(args: argparse.Namespace, models: list[Any], residual: str | None) -> Any:
    from .separate import Separator

    stems = [args.two_stems] if args.two_stems else args.stems
    return Separator(models, stems, residual, **_passes(args))


def _begin(args: argparse.Namespace, residual: str | None, models: list[Any] | None) -> Work:
    """In each of several processes: load the models, and return what separates a file."""
    from .separate import Separator
    from .stem_files import FORMATS, separate_file

    models = _load(args) if models is None else models
    whole = _separator(args, models, residual)

    def work(source: Path, targets: dict[str, Path]) -> None:  # of the stems that are not there yet
        separator = whole if residual in targets else Separator(models, [*targets], **_passes(args))
        bar = args.quiet or args.jobs > 1
        remark = separate_file(separator, source, targets, FORMATS[args.format][1], args.clip, args.force, bar)
        if remark and not args.quiet:
            note(f"{source}: {remark}")

    return work
