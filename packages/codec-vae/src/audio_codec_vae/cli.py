"""The `audio-codec-vae` command."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_core import batch, command, verbs
from audio_core.files import InputError

from . import PACKAGE

if TYPE_CHECKING:
    from .evaluate import Result
    from .models.autoencoder import Autoencoder


def parser() -> command.Parser:
    parser, add = verbs.program(PACKAGE)
    verbs.train(add, PACKAGE, "Train an autoencoder by a recipe.")
    _files(add)
    _models(add)
    verbs.describe(add, PACKAGE, "Show parameters, work, latents and context of an autoencoder.")
    verbs.recipes(add, PACKAGE)
    verbs.scan(add)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


# --- files -------------------------------------------------------------------------------------------------


def _files(add: Any) -> None:
    """The verbs that users come for, and `evaluate`."""
    evaluate = verbs.evaluate(add, PACKAGE, "Measure what an autoencoder keeps of recordings.", _evaluate)
    evaluate.add_argument("data", nargs="+", metavar="DATA", help="files, folders, patterns or a .jsonl of `scan`")
    evaluate.add_argument("--voice", action="store_true", help="the recordings are speech: measure PESQ too")
    _add_number(evaluate, "--files", "measure at most so many", int, 1, 50)
    _add_number(evaluate, "--listen", "files to hear in the report", int, 0, 4)

    encode = _file_verb(add, "encode", _encode, "Encode audio files to files of latents.")
    _add_kinds(encode)
    command.add_out(encode, "a .latents file, or a folder for many (default: beside the input)")

    kinds = "files of latents (.latents, .safetensors, .npy), folders of them, or patterns"
    decode = _file_verb(add, "decode", _decode, "Decode files of latents to audio.", kinds)
    command.add_out(decode, "an audio file, or a folder for many (default: beside the input)")

    reconstruct = _file_verb(add, "reconstruct", _reconstruct, "Encode and decode files, to hear what is kept.")
    _add_kinds(reconstruct, codes=False)
    command.add_out(reconstruct, "an audio file, or a folder for many", required=True)

    what = "Encode folders for the training of models on latents: a tensor and a .json for each item."
    preencode = _file_verb(add, "preencode", _preencode, what)
    length = "the length of all items, in seconds: several of a longer file, the last filled (default: whole files)"
    _add_number(preencode, "--seconds", length, float, 1e-3)
    masks = "write which frames are recorded and not filled, as padding_mask in the .json"
    preencode.add_argument("--mask-padding", action="store_true", help=masks)
    _add_kinds(preencode)
    preencode.add_argument("--half", action="store_true", help="latents as float16")
    preencode.add_argument("--npy", action="store_true", help="in the layout of stable-audio-tools, not safetensors")
    command.add_out(preencode, "a folder; the same command goes on where it was interrupted", required=True)


def _file_verb(
    add: Any, name: str, function: command.Verb, summary: str, inputs: str = "audio files, folders or patterns"
) -> command.Parser:
    parser = command.verb(add, name, function, summary)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    verbs.add_model(parser, PACKAGE)
    command.add_device(parser)
    command.add_precision(parser)
    command.add_quiet(parser)
    return parser


def _add_kinds(parser: command.Parser, codes: bool = True) -> None:
    if codes:
        parser.add_argument("--codes", action="store_true", help="codes, not latents, of a model with codebooks")
    parser.add_argument("--sample", action="store_true", help="draw latents in place of taking their means")
    _add_number(parser, "--seed", "chooses what is drawn; implies --sample", int, 0)


def _add_number(
    parser: command.Parser, flag: str, what: str, kind: type, least: float, default: int | None = None
) -> None:
    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= 10**9:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {name} from {least:g} on, got {text[:20]!r}")
        return value

    shown = "" if default is None else " (default: %(default)s)"
    parser.add_argument(flag, type=read, default=default, metavar="N", help=what + shown)


def _loaded(path: str, args: argparse.Namespace) -> Autoencoder:
    from .models.autoencoder import folded

    model = folded(PACKAGE.model(path), command.device(args.device), getattr(args, "precision", "float32"))
    if getattr(args, "codes", False) and not model.codebooks:
        raise InputError("--codes: this model has continuous latents and no codes")
    return model


def _seed(args: argparse.Namespace) -> int | None:
    return 0 if args.sample and args.seed is None else args.seed


def _evaluate(args: argparse.Namespace) -> Result:
    from .evaluate import evaluate

    listen = args.listen if args.out else 0
    return evaluate(_loaded(args.bundle, args), args.data, args.voice, args.files, listen, args.quiet)


def _encode(args: argparse.Namespace) -> int:
    from . import codec

    model, seed = _loaded(args.model, args), _seed(args)

    def work(source: Path, target: Path) -> None:
        codec.encode_file(model, source, target, args.codes, seed, args.force, args.quiet)

    jobs = codec.jobs(batch.find(args.inputs), args.out, codec.ENDING, args.force)
    return batch.run(jobs, work, args.force, args.quiet, codec.stale_latents(model, args.codes)).code


def _decode(args: argparse.Namespace) -> int:
    from . import codec

    model = _loaded(args.model, args)

    def work(source: Path, target: Path) -> None:
        codec.decode_file(model, source, target, args.force)

    jobs = codec.jobs(codec.find_latents(args.inputs), args.out, ".wav", args.force)
    return batch.run(jobs, work, args.force, args.quiet).code


def _reconstruct(args: argparse.Namespace) -> int:
    from . import codec

    model, seed = _loaded(args.model, args), _seed(args)

    def work(source: Path, target: Path) -> None:
        codec.reconstruct_file(model, source, target, seed, args.force, args.quiet)

    jobs = codec.jobs(batch.find(args.inputs), args.out, ".wav", args.force)
    return batch.run(jobs, work, args.force, args.quiet).code


def _preencode(args: argparse.Namespace) -> int:
    from .preencode import Settings, preencode

    settings = Settings(args.seconds, args.mask_padding, _seed(args), args.codes, args.half, args.npy)
    return preencode(_loaded(args.model, args), args.inputs, args.out, settings, args.force, args.quiet).code


# --- models ------------------------------------------------------------------------------------------------


def _models(add: Any) -> None:
    """The verbs that make bundles."""
    formats = (
        "onnx: a folder with encoder.onnx, decoder.onnx and, for codes, dequantizer.onnx, free in batch and length; "
        "models that attend to the whole audio are refused"
    )
    verbs.export(add, PACKAGE, "Make a bundle of a run, or files for other programs.", formats)
    files = (
        "a checkpoint of LyraCodec, stable-audio-tools, diffusers or DAC, and where it does not say how its network is "
        "built, the configuration before or behind it; or a configuration alone, for a recipe"
    )
    summary = "Make a bundle of an original checkpoint, or a recipe of its settings."
    convert = verbs.convert(add, PACKAGE, summary, files, "a recipe", "model_config")
    whose = "the checkpoint of a stable-audio-tools training"
    verbs.unwrap(add, PACKAGE, "Take the autoencoder out of a training.", convert, whose)
