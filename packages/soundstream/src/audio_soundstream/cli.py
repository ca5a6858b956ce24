"""The `audio-soundstream` command."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from audio_core import command
from audio_core import verbs as kit

from . import PACKAGE, actions


def parser() -> command.Parser:
    parser, verbs = kit.program(PACKAGE)
    kit.train(verbs, PACKAGE, "Train a codec by a recipe.")

    evaluate = kit.evaluate(verbs, PACKAGE, "Measure a codec on recordings, bitrate by bitrate.", actions.evaluate)
    evaluate.add_argument("data", nargs="+", metavar="DATA", help="files, folders, patterns or a .jsonl of `scan`")
    _add_ladder(evaluate, "four of the codec's")
    evaluate.add_argument(
        "--files", type=_number(int, 1), default=50, metavar="N", help="measure at most so many (default: %(default)s)"
    )
    evaluate.add_argument(
        "--listen", type=_number(int), default=4, metavar="N", help="files to hear in the report (default: %(default)s)"
    )

    encode = command.verb(
        verbs, "encode", actions.encode, "Encode audio files to .sstr files, or a live stream from standard input."
    )
    encode.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns; - for standard input")
    kit.add_model(encode, PACKAGE)
    _add_kbps(encode)
    encode.add_argument("--entropy", action="store_true", help="smaller files of the same sound; no fixed bitrate")
    encode.add_argument(
        "--stream",
        action="store_true",
        help="encode standard input as it arrives: mono 16-bit samples at the codec's rate, raw or as a WAV file",
    )
    _add_target(encode, "an .sstr file, or a folder for many (default: beside the input; of a stream standard output)")
    command.add_device(encode)
    command.add_quiet(encode)

    decode = command.verb(verbs, "decode", actions.decode, "Decode .sstr files, or a live stream from standard input.")
    decode.add_argument("inputs", nargs="+", metavar="INPUT", help=".sstr files, folders or patterns; - for a pipe")
    kit.add_model(decode, PACKAGE)
    _add_kbps(decode)
    decode.add_argument("--start", type=_number(float), default=0.0, metavar="S", help="begin here (default: 0)")
    decode.add_argument("--seconds", type=_number(float), metavar="S", help="so much of it")
    decode.add_argument("--conceal", action="store_true", help="bridge packets that are damaged or lost")
    decode.add_argument(
        "--bridge",
        type=_number(float),
        metavar="S",
        help="bridge at most so many seconds without a packet (default: 10)",
    )
    decode.add_argument("--stream", action="store_true", help="decode standard input as it arrives")
    _add_target(decode, "an audio file, or a folder for many (default: beside the input; of a stream standard output)")
    command.add_device(decode)
    command.add_quiet(decode)

    reconstruct = command.verb(
        verbs, "reconstruct", actions.reconstruct, "Encode and decode files, to hear what the codec keeps."
    )
    reconstruct.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    kit.add_model(reconstruct, PACKAGE)
    _add_ladder(reconstruct, "the codec's highest")
    command.add_out(reconstruct, "a file, or a folder; with several bitrates one folder for each", required=True)
    command.add_device(reconstruct)
    command.add_quiet(reconstruct)

    transmit = command.verb(
        verbs, "transmit", actions.transmit, "Send a file over a simulated network that loses packets."
    )
    transmit.add_argument("input", type=Path, metavar="INPUT", help="an audio file")
    kit.add_model(transmit, PACKAGE)
    _add_kbps(transmit)
    share, burst, frames, seed = _number(float, 0, 1), _number(float, 1, 1000), _number(int, 1, 255), _number(int)
    transmit.add_argument(
        "--loss", type=share, default=0.05, metavar="P", help="share of the packets that is lost (default: %(default)s)"
    )
    transmit.add_argument(
        "--burst", type=burst, default=1.5, metavar="N", help="lost in a row, on average (default: %(default)s)"
    )
    transmit.add_argument(
        "--frames", type=frames, default=1, metavar="N", help="frames in a packet (default: %(default)s)"
    )
    transmit.add_argument("--seed", type=seed, default=0, metavar="N", help="of what is lost (default: %(default)s)")
    command.add_out(transmit, "the audio as it arrives", required=True)
    command.add_json(transmit)

    info = command.verb(verbs, "info", actions.info, "Show what .sstr files hold, and whether they are whole.")
    info.add_argument("inputs", nargs="+", type=Path, metavar="FILE")
    command.add_json(info)

    cut = command.verb(verbs, "cut", actions.cut, "Lower the bitrate of an .sstr file without encoding it again.")
    cut.add_argument("input", type=Path, metavar="FILE")
    _add_kbps(cut, required=True)
    command.add_out(cut, "the smaller .sstr file", required=True)

    kit.export(
        verbs,
        PACKAGE,
        "Make a bundle of a run, or an encoder for other machines.",
        "c, c-int8: C99 sources for microcontrollers, in real numbers or integers; onnx: one file; "
        "tflite-int8: one file for TensorFlow Lite and its Micro",
    )
    original = "a .pt file of uverd's SoundStream or TinyStream"
    kit.convert(verbs, PACKAGE, "Make a bundle of a checkpoint of the original programs.", original)
    kit.describe(verbs, PACKAGE, "Show parameters, work, bitrates and delay of a codec.")
    kit.recipes(verbs, PACKAGE)
    kit.scan(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _add_kbps(parser: command.Parser, required: bool = False) -> None:
    default = "" if required else " (default: all there are)"
    parser.add_argument("--kbps", type=float, required=required, metavar="R", help=f"kbit/s{default}")


def _add_ladder(parser: command.Parser, default: str) -> None:
    parser.add_argument("--kbps", type=float, nargs="+", metavar="R", help=f"bitrates in kbit/s (default: {default})")


def _add_target(parser: command.Parser, what: str) -> None:
    parser.add_argument("-o", "--out", metavar="PATH", help=what)
    parser.add_argument("--force", action="store_true", help="overwrite what exists")


def _number(kind: type[int] | type[float], least: int = 0, most: int = 10**9) -> Callable[[str], int | float]:
    """What reads a number within limits from the command line."""

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {what} from {least} to {most}, got {text[:20]!r}")
        return value

    return read
