"""The verbs of the command that work on files: encode, decode, reconstruct, preencode, evaluate."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_core import batch, command
from audio_core import verbs as kit
from audio_core.files import InputError
from audio_core.package import Package

if TYPE_CHECKING:
    from .evaluate import Result
    from .models.autoencoder import Autoencoder


def add(verbs: Any, package: Package) -> None:
    """Add them to a parser; a model is what the package's own `load` gives."""

    def loaded(args: argparse.Namespace) -> Autoencoder:
        return package.model(args.model).to(command.device(args.device)).eval()

    def encode(args: argparse.Namespace) -> int:
        from . import codec

        model = _coded(loaded(args), args.codes)

        def work(source: Path, target: Path) -> None:
            codec.encode_file(model, source, target, args.codes, _seed(args), args.force, args.quiet)

        jobs = codec.jobs(batch.find(args.inputs), args.out, codec.ENDING, args.force)
        return batch.run(jobs, work, args.force, args.quiet, codec.stale_latents(model, args.codes)).code

    def decode(args: argparse.Namespace) -> int:
        from . import codec

        model = loaded(args)

        def work(source: Path, target: Path) -> None:
            codec.decode_file(model, source, target, args.force)

        jobs = codec.jobs(codec.find_latents(args.inputs), args.out, ".wav", args.force)
        return batch.run(jobs, work, args.force, args.quiet).code

    def reconstruct(args: argparse.Namespace) -> int:
        from . import codec

        model = loaded(args)

        def work(source: Path, target: Path) -> None:
            codec.reconstruct_file(model, source, target, _seed(args), args.force, args.quiet)

        jobs = codec.jobs(batch.find(args.inputs), args.out, ".wav", args.force)
        return batch.run(jobs, work, args.force, args.quiet).code

    def preencode(args: argparse.Namespace) -> int:
        from .preencode import Settings
        from .preencode import preencode as write

        settings = Settings(args.seconds, args.mask_padding, _seed(args), args.codes, args.half, args.npy)
        return write(_coded(loaded(args), args.codes), args.inputs, args.out, settings, args.force, args.quiet).code

    def evaluate(args: argparse.Namespace) -> Result:
        from .evaluate import evaluate as measure

        model = package.model(args.bundle).to(command.device(args.device)).eval()
        return measure(model, args.data, args.voice, args.files, args.listen if args.out else 0, args.quiet)

    parser = _file_verb(verbs, package, "encode", encode, "Encode audio files to files of latents.")
    _add_codes(parser)
    _add_draw(parser)
    command.add_out(parser, "a .latents file, or a folder for many (default: beside the input)")

    latents = "files of latents (.latents, .safetensors, .npy), folders of them, or patterns"
    parser = _file_verb(verbs, package, "decode", decode, "Decode files of latents to audio.", latents)
    command.add_out(parser, "an audio file, or a folder for many (default: beside the input)")

    parser = _file_verb(verbs, package, "reconstruct", reconstruct, "Encode and decode files, to hear what is kept.")
    _add_draw(parser)
    command.add_out(parser, "an audio file, or a folder for many", required=True)

    summary = "Encode folders for the training of models on latents: a tensor and a .json for each item."
    parser = _file_verb(verbs, package, "preencode", preencode, summary)
    how = "items of this length: more than one of a longer file, the last filled with silence (default: whole files)"
    parser.add_argument("--seconds", type=_seconds, metavar="S", help=how)
    masks = "write which frames are recorded and not filled, as padding_mask in the .json"
    parser.add_argument("--mask-padding", action="store_true", help=masks)
    _add_codes(parser)
    _add_draw(parser)
    parser.add_argument("--half", action="store_true", help="latents as float16")
    parser.add_argument("--npy", action="store_true", help="the layout of stable-audio-tools in place of safetensors")
    command.add_out(parser, "a folder; the same command goes on where it was interrupted", required=True)

    parser = kit.evaluate(verbs, package, "Measure what an autoencoder keeps of recordings.", evaluate)
    parser.add_argument("data", nargs="+", metavar="DATA", help="files, folders, patterns or a .jsonl of `scan`")
    parser.add_argument("--voice", action="store_true", help="the recordings are speech: measure PESQ too")
    parser.add_argument(
        "--files", type=_count, default=50, metavar="N", help="measure at most so many (default: %(default)s)"
    )
    parser.add_argument(
        "--listen", type=int, default=4, metavar="N", help="files to hear in the report (default: %(default)s)"
    )


def _file_verb(
    verbs: Any,
    package: Package,
    name: str,
    function: command.Verb,
    summary: str,
    inputs: str = "audio files, folders or patterns",
) -> command.Parser:
    parser = command.verb(verbs, name, function, summary)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    kit.add_model(parser, package)
    command.add_device(parser)
    command.add_quiet(parser)
    return parser


def _add_codes(parser: command.Parser) -> None:
    parser.add_argument("--codes", action="store_true", help="codes in place of latents, of a model that has codebooks")


def _add_draw(parser: command.Parser) -> None:
    parser.add_argument("--sample", action="store_true", help="draw latents in place of taking their means")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="chooses what --sample draws, and implies it (default: 0)"
    )


def _seed(args: argparse.Namespace) -> int | None:
    return 0 if args.sample and args.seed is None else args.seed


def _coded(model: Autoencoder, codes: bool) -> Autoencoder:
    if codes and not model.codebooks:
        raise InputError("--codes: this model has continuous latents and no codes")
    return model


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text[:20]!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text[:20]!r}")
    return int(text)
