"""The `audio-semamba` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_core import batch, command, verbs
from audio_core.files import InputError, note

from . import PACKAGE

if TYPE_CHECKING:
    from .evaluate import Result


def parser() -> command.Parser:
    parser, add = verbs.program(PACKAGE)
    verbs.train(add, PACKAGE, "Train a model by a recipe.")

    evaluate = verbs.evaluate(add, PACKAGE, "Measure a model on pairs of clean and noisy recordings.", _evaluate)
    evaluate.add_argument("clean", type=Path, help="a folder of clean files, or a manifest of pairs that `scan` wrote")
    evaluate.add_argument("noisy", type=Path, nargs="?", help="the folder of their noisy partners")
    _add_options(evaluate)
    evaluate.add_argument("--listen", type=int, default=4, metavar="N", help="files to hear in the report (default: 4)")

    enhance = command.verb(add, "enhance", _enhance, "Take noise out of recordings of speech, or of live audio.")
    enhance.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="files, folders or patterns; - with --stream for standard input"
    )
    verbs.add_model(enhance, PACKAGE)
    _add_options(enhance)
    enhance.add_argument(
        "--stream", action="store_true", help="standard input as it arrives: raw mono 16-bit samples, or WAV"
    )
    command.add_out(enhance, "an audio file, or a folder for many; - with --stream for standard output", required=True)
    command.add_device(enhance)
    _add_scan(enhance)
    command.add_quiet(enhance)

    verbs.export(
        add,
        PACKAGE,
        "Make a bundle of a run, or a file for other programs.",
        "onnx: one frame of a causal model, with its states as inputs and outputs",
    )
    files = "a .pth file of SEMamba (generator or discriminator); or one of its recipes, for a recipe (.yaml)"
    verbs.convert(add, PACKAGE, "Make a bundle of an original checkpoint.", files, "SEMamba's recipe")
    verbs.describe(add, PACKAGE, "Show parameters, work and delay of a model.")
    verbs.recipes(add, PACKAGE)

    scan = command.verb(add, "scan", _scan, "List pairs of clean and noisy files in a manifest.", alone=True)
    scan.add_argument("clean", type=Path, help="a folder of clean files")
    scan.add_argument("noisy", type=Path, help="the folder of their noisy partners, of the same names")
    command.add_out(scan, "the manifest, a .jsonl file", required=True)
    command.add_json(scan)
    command.add_quiet(scan)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _add_options(parser: command.Parser) -> None:
    parser.add_argument(
        "--pcs", action="store_true", help="perceptual contrast stretching: sharper, a higher PESQ, less faithful"
    )
    parser.add_argument(
        "--mix",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the enhanced audio, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument("--atten-limit", type=float, metavar="DB", help="soften noise by at most so many decibels")


def _add_scan(parser: command.Parser) -> None:
    parser.add_argument(
        "--scan",
        metavar="NAME",
        choices=("torch", "numba", "mamba-ssm", "triton"),
        help="compute the selective scan in this way: torch, numba, mamba-ssm or triton (default: the fastest)",
    )


def _options(args: argparse.Namespace) -> Any:
    from .config import Options

    return Options(args.pcs, args.mix, args.atten_limit)


# --- the verbs ---------------------------------------------------------------------------------------------


def _evaluate(args: argparse.Namespace) -> Result:
    from .evaluate import evaluate
    from .model import load

    options = _options(args)
    model = load(args.bundle, command.device(args.device))
    return evaluate(model, args.clean, args.noisy, options, listen=args.listen, quiet=args.quiet)


def _enhance(args: argparse.Namespace) -> int:
    live = args.stream or args.inputs == ["-"] or args.out == Path("-")
    if live and not (args.stream and args.inputs == ["-"]):
        raise InputError("live audio comes from standard input: enhance - --stream -o - (or a file)")
    options = _options(args)
    if live and (options.share != 1 or options.pcs):
        raise InputError("--pcs, --mix and --atten-limit are for files, not for --stream")
    jobs = [] if live else _jobs(args)  # a wrong path is told at once, before PyTorch is imported

    from . import scan
    from .enhance import enhance_file
    from .model import load

    scan.use(args.scan)
    device = command.device(args.device)
    scan.backend(device)  # one that does not work here is told once, before any file
    model = load(args.model, device)
    if live:
        from .live import pipe

        pipe(model, sys.stdin.buffer, None if args.out == Path("-") else args.out, args.force, args.quiet)
        return 0

    def work(source: Path, target: Path) -> None:
        remark = enhance_file(model, source, target, options, args.force, args.quiet)
        if remark and not args.quiet:
            note(f"{target}: {remark}")

    return batch.run(jobs, work, args.force, args.quiet).code


def _jobs(args: argparse.Namespace) -> list[batch.Job]:
    jobs = batch.targets(batch.find(args.inputs), args.out)
    if len(jobs) == 1 and jobs[0].target == args.out and args.out.exists() and not args.force:
        raise InputError(f"{args.out}: exists already; give --force to overwrite it")
    return jobs


def _scan(args: argparse.Namespace) -> int:
    from .data.pairs import scan_pairs

    command.check_out(args, (".jsonl",))
    result = scan_pairs(args.clean, args.noisy, args.out, not args.quiet)
    for name, cause in result.unreadable:
        note(f"{name}: {cause}")
    left_out = [row._asdict() for row in result.unreadable]
    facts = {"path": str(args.out), "pairs": len(result.pairs), "unreadable": left_out}
    command.show(facts, args.json, f"{args.out}: {len(result.pairs)} pairs; {len(left_out)} files left out")
    return 2 if left_out else 0
