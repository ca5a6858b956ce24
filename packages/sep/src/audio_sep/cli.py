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
    from .evaluate import Result
    from .parallel import Work

_KINDS = ("musdb18", "songs", "voicebank-demand", "maestro")  # of data sets


def parser() -> command.Parser:
    parser, add = verbs.program(PACKAGE)
    verbs.train(add, PACKAGE, "Train a model by a recipe.")

    evaluate = verbs.evaluate(add, PACKAGE, "Measure a model on songs whose stems are known.", _evaluate)
    evaluate.add_argument(
        "songs",
        type=Path,
        help="MUSDB18 or MUSDB18-HQ, or a folder of songs with a file for each stem; or VoiceBank-DEMAND",
    )
    _add_passes(evaluate)
    evaluate.add_argument("--listen", type=int, default=4, metavar="N", help="songs to hear in the report (default: 4)")

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
        "onnx: the whole model, audio in and stems out, a segment at a time",
    )
    files = "a .pth file of Bytesep; or one of its recipes (.yaml, of both schemas), for a recipe"
    verbs.convert(add, PACKAGE, "Make a bundle of an original checkpoint.", files, "Bytesep's recipe")
    verbs.describe(add, PACKAGE, "Show parameters and work of a model.")
    verbs.recipes(add, PACKAGE)

    pack = command.verb(add, "pack", _pack, "Pack a data set for training: an HDF5 file for each song.")
    pack.add_argument("kind", metavar="KIND", choices=_KINDS, help=f"of the data set: {', '.join(_KINDS)}")
    pack.add_argument("folder", type=Path, help="the data set's")
    command.add_out(pack, "the folder for the packs", required=True)
    pack.add_argument("--rate", type=int, default=44100, metavar="HZ", help="of the packs (default: %(default)s)")
    pack.add_argument("--channels", type=int, default=2, metavar="N", help="of the packs (default: %(default)s)")
    pack.add_argument(
        "--source", default="piano", metavar="NAME", help="what maestro's recordings are of (default: %(default)s)"
    )
    command.add_quiet(pack)

    models = command.verb(add, "models", _models, "List the published checkpoints of the original.", alone=True)
    command.add_json(models)
    download = command.verb(add, "download", _download, "Fetch published checkpoints of the original.", alone=True)
    download.add_argument("names", nargs="+", metavar="NAME", help="names that `models` shows")
    download.add_argument("-o", "--out", type=Path, metavar="DIR", help="in place of the cache folder")
    command.add_json(download)
    command.add_quiet(download)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _add_models(parser: command.Parser) -> None:
    what = "a bundle's or a run's folder or a Hub id, several for one pass over each file (default: that in the wheel)"
    parser.add_argument("--model", action="extend", nargs="+", metavar="BUNDLE", help=what)


def _add_stems(parser: command.Parser) -> None:
    selection = parser.add_mutually_exclusive_group()
    selection.add_argument(
        "--stems",
        nargs="+",
        metavar="STEM",
        help="write only these, and compute no others (default: all of the models)",
    )
    selection.add_argument("--two-stems", metavar="STEM", help="this stem, and no_STEM: the recording without it")
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
    command.add_precision(parser)


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
    """Those that are not the defaults."""
    defaults = {"segment": None, "overlap": None, "shifts": 1, "stitch": "fade", "precision": "float32"}
    return {name: value for name, default in defaults.items() if (value := getattr(args, name)) != default}


def _evaluate(args: argparse.Namespace) -> Result:
    from .evaluate import evaluate
    from .models import load

    model = load(args.bundle, command.device(args.device))
    return evaluate(model, args.songs, listen=args.listen, quiet=args.quiet, **_passes(args))


def _residual(args: argparse.Namespace) -> str | None:
    if args.two_stems and args.residual:
        raise InputError("--two-stems has a residual already, no_STEM; leave --residual out")
    return f"no_{args.two_stems}" if args.two_stems else "residual" if args.residual else None


def _separate(args: argparse.Namespace) -> int:
    recordings = batch.find(args.inputs)  # a wrong path is reported at once, before PyTorch is imported
    residual = _residual(args)
    if args.jobs < 1:
        raise InputError(f"--jobs: expected 1 or more, got {args.jobs}")
    from audio_core import audio

    from . import parallel
    from .models import load_config
    from .separate import result_names
    from .stem_files import FORMATS, jobs

    models = args.model or ["default"]
    stems = [args.two_stems] if args.two_stems else args.stems
    names = result_names([load_config(model) for model in models], stems, residual)
    work = jobs(recordings, args.out, names, args.format, args.filename)
    begin = functools.partial(_begin, args, models, stems, residual)
    stale = functools.partial(audio.differing, encoding=FORMATS[args.format][1])
    return parallel.run(work, begin, args.jobs, args.force, args.quiet, stale).code


def _begin(args: argparse.Namespace, models: list[str], stems: list[str] | None, residual: str | None) -> Work:
    """In each process: load the models, and return what separates a file."""
    from .models import load
    from .separate import Separator
    from .stem_files import FORMATS, separate_file

    device = command.device(args.device)
    if device == "cpu":
        command.keep_memory(large=False)  # recordings are of any length
    separator = Separator([load(model, device) for model in models], stems, residual, **_passes(args))
    encoding, quiet = FORMATS[args.format][1], args.quiet or args.jobs > 1

    def work(source: Path, targets: dict[str, Path]) -> None:  # the stems that are not there yet
        remark = separate_file(separator.only(targets), source, targets, encoding, args.clip, args.force, quiet)
        if remark and not args.quiet:
            note(f"{source}: {remark}")

    return work


def _pack(args: argparse.Namespace) -> int:
    from .data.pack import pack

    options = (args.rate, args.channels, args.source, args.force, args.quiet)
    return pack(args.kind, args.folder, args.out, *options).code


def _models(args: argparse.Namespace) -> int:
    from .download import listing, table

    rows = listing()
    command.show(rows, args.json, table(rows))
    return 0


def _download(args: argparse.Namespace) -> int:
    from .download import download
    from .registry import find

    facts = []
    for published in [find(name) for name in args.names]:
        path = download(published, args.out, args.quiet)
        facts.append({"name": published.name, "path": str(path)})
        if not args.quiet:
            note(f"make a bundle of it: {PACKAGE.name} convert {path} -o {published.name}")
    command.show(facts, args.json, "\n".join(fact["path"] for fact in facts))
    return 0
