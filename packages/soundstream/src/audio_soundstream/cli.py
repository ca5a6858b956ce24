"""The `audio-soundstream` command."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_core import batch, command
from audio_core import verbs as kit
from audio_core.files import InputError, note

from . import PACKAGE

if TYPE_CHECKING:
    from .evaluate import Result
    from .model import NeuralCodec


def parser() -> command.Parser:
    parser, verbs = kit.program(PACKAGE)
    kit.train(verbs, PACKAGE, "Train a codec by a recipe.")

    evaluate = kit.evaluate(verbs, PACKAGE, "Measure a codec on recordings, bitrate by bitrate.", _evaluate)
    evaluate.add_argument("data", nargs="+", metavar="DATA", help="files, folders, patterns or a .jsonl of `scan`")
    _add_bitrate(evaluate, " (default: four of the codec's)", nargs="+")
    _add_number(evaluate, "--files", "measure at most so many", int, 1, default=50)
    _add_number(evaluate, "--listen", "files to hear in the report", int, default=4)

    encode = _file_verb(verbs, "encode", _encode, "Encode audio files to .sstr files, or a stream on standard input.")
    _add_bitrate(encode)
    encode.add_argument("--entropy", action="store_true", help="smaller files of the same sound; no fixed bitrate")
    encode.add_argument("--stream", action="store_true", help="encode standard input: raw mono 16-bit samples, or WAV")
    _add_target(encode, "an .sstr file, or a folder for many")

    decode = _file_verb(verbs, "decode", _decode, "Decode .sstr files, or a stream on standard input.")
    _add_bitrate(decode)
    _add_number(decode, "--start", "begin here, in seconds", default=0.0)
    _add_number(decode, "--seconds", "decode this much, in seconds (default: to the end)")
    decode.add_argument("--conceal", action="store_true", help="bridge packets that are damaged or lost")
    _add_number(decode, "--bridge", "most seconds in a row without a packet that --conceal bridges (default: 10)")
    decode.add_argument("--stream", action="store_true", help="decode standard input as it arrives, to raw samples")
    _add_target(decode, "an audio file, or a folder for many")

    reconstruct = _file_verb(verbs, "reconstruct", _reconstruct, "Encode and decode files, to hear what is kept.")
    _add_bitrate(reconstruct, nargs="+")
    command.add_out(reconstruct, "a file, or a folder; with several bitrates one folder for each", required=True)

    transmit = command.verb(
        verbs, "transmit", _transmit, "Send a file over a simulated network that loses packets.", alone=True
    )
    transmit.add_argument("input", type=Path, metavar="INPUT", help="an audio file")
    kit.add_model(transmit, PACKAGE)
    _add_bitrate(transmit)
    _add_number(transmit, "--loss", "share of the packets that is lost", most=1, default=0.05)
    _add_number(transmit, "--burst", "packets lost in a row, on average", least=1, most=1000, default=1.5)
    _add_number(transmit, "--frames", "frames in a packet", int, 1, 255, default=1)
    _add_number(transmit, "--seed", "chooses the packets that are lost", int, default=0)
    command.add_out(transmit, "the audio as it arrives", required=True)
    command.add_json(transmit)

    info = command.verb(verbs, "info", _info, "Show what .sstr files hold, and whether they are whole.", alone=True)
    info.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help=".sstr files")
    command.add_json(info)

    cut = command.verb(verbs, "cut", _cut, "Lower the bitrate of an .sstr file without encoding it again.", alone=True)
    cut.add_argument("input", type=Path, metavar="FILE", help="an .sstr file")
    _add_bitrate(cut, "", required=True)
    command.add_out(cut, "the smaller .sstr file", required=True)

    kit.export(
        verbs,
        PACKAGE,
        "Make a bundle of a run, or an encoder for other machines.",
        "c, c-int8: C99 sources, in real numbers or integers; onnx: a file; tflite-int8: a file, also for TFLite Micro",
    )
    files = "a .pt file of uverd's SoundStream or TinyStream"
    kit.convert(verbs, PACKAGE, "Make a bundle of a checkpoint of the original programs.", files)
    kit.describe(verbs, PACKAGE, "Show parameters, work, bitrates and delay of a codec.")
    kit.recipes(verbs, PACKAGE)
    kit.scan(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


# --- arguments ---------------------------------------------------------------------------------------------


def _file_verb(verbs: Any, name: str, function: command.Verb, summary: str) -> command.Parser:
    parser = command.verb(verbs, name, function, summary)
    streams = "" if name == "reconstruct" else "; - with --stream for standard input"
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=f"files, folders or patterns{streams}")
    kit.add_model(parser, PACKAGE)
    command.add_device(parser)
    command.add_quiet(parser)
    return parser


def _add_bitrate(parser: command.Parser, default: str = " (default: the highest)", **how: Any) -> None:
    parser.add_argument("--kbps", type=float, metavar="R", help=f"kbit/s{default}", **how)


def _add_target(parser: command.Parser, what: str) -> None:
    default = "beside the input; of a stream standard output"
    parser.add_argument("-o", "--out", metavar="PATH", help=f"{what} (default: {default})")
    parser.add_argument("--force", action="store_true", help="overwrite what exists")


def _add_number(
    parser: command.Parser,
    flag: str,
    what: str,
    kind: type[int] | type[float] = float,
    least: int = 0,
    most: int = 10**9,
    default: float | None = None,
) -> None:
    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {name} from {least} to {most}, got {text[:20]!r}")
        return value

    shown = "" if default is None else " (default: %(default)s)"
    parser.add_argument(flag, type=read, default=default, metavar="N", help=what + shown)


# --- the verbs ---------------------------------------------------------------------------------------------


def _loaded(path: str, device: str) -> NeuralCodec:
    from .model import load

    return load(path, command.device(device))


def _evaluate(args: argparse.Namespace) -> Result:
    from .evaluate import evaluate

    model, listen = _loaded(args.bundle, args.device), args.listen if args.out else 0
    return evaluate(model, args.data, args.kbps, args.files, listen, args.quiet)


def _encode(args: argparse.Namespace) -> int | None:
    live, out = _live(args, "encode")
    if live and args.entropy:
        raise InputError("--entropy needs many frames at once, and --stream sends each alone")
    from . import codec
    from .config import layers_for
    from .live import pipe

    model = _loaded(args.model, args.device)
    layers = layers_for(model.config, args.kbps)
    if live:
        return pipe.encode_to(model, out, layers, args.force)
    if args.entropy:
        codec.need_tables(model)

    def work(source: Path, target: Path) -> None:
        codec.encode_file(model, source, target, layers, args.entropy, args.force, args.quiet)

    jobs = codec.jobs(batch.find(args.inputs), out, ".sstr", args.force)
    return batch.run(jobs, work, args.force, args.quiet).code


def _decode(args: argparse.Namespace) -> int | None:
    live, out = _live(args, "decode")
    if live and (args.start or args.seconds is not None):
        raise InputError("--start and --seconds need a file, which can be entered in the middle")
    if args.seconds == 0:
        raise InputError("--seconds 0: would leave nothing")
    if args.bridge is not None and not args.conceal:
        raise InputError("--bridge limits what --conceal bridges; give both")
    from . import codec
    from .config import layers_for
    from .live import pipe

    model, bridge = _loaded(args.model, args.device), codec.BRIDGE if args.bridge is None else args.bridge
    layers = None if args.kbps is None else layers_for(model.config, args.kbps)
    if live:
        return pipe.decode_to(model, out, layers, args.conceal, bridge, args.force)

    def work(source: Path, target: Path) -> None:
        part = (args.start, args.seconds, args.conceal, bridge)
        if damage := codec.decode_file(model, source, target, layers, *part, args.force, args.quiet):
            note(f"{source}: {damage}")

    jobs = codec.jobs(batch.find(args.inputs, ".sstr"), out, ".wav", args.force)
    return batch.run(jobs, work, args.force, args.quiet).code


def _live(args: argparse.Namespace, verb: str) -> tuple[bool, Path | None]:
    """Whether standard input is coded, and the path of the result; None: standard output, or beside the input."""
    live = args.inputs == ["-"] and args.stream
    if not live and (args.stream or "-" in (*args.inputs, args.out)):
        raise InputError(f"a live stream comes from standard input: {verb} - --stream, with -o FILE or -o -")
    return live, None if args.out in (None, "-") else Path(args.out)


def _reconstruct(args: argparse.Namespace) -> int:
    from . import codec

    model = _loaded(args.model, args.device)

    def work(source: Path, targets: Mapping[int, Path]) -> None:
        codec.reconstruct_file(model, source, targets, args.force, args.quiet)

    jobs = codec.reconstruction_jobs(model, args.inputs, args.out, args.kbps or [], args.force)
    return batch.run(jobs, work, args.force, args.quiet).code


def _transmit(args: argparse.Namespace) -> int:
    from audio_core.audio import FORMATS

    from .live.transmit import table, transmit

    command.check_out(args, tuple(FORMATS), [args.input])
    network = (args.loss, args.burst, args.frames, args.seed)
    facts = transmit(_loaded(args.model, "cpu"), args.input, args.out, args.kbps, *network, args.force)
    note(f"wrote {args.out}")
    command.show(facts, args.json, table(facts))
    return 0


def _info(args: argparse.Namespace) -> int:
    from .sstr.bitstream import describe_all

    rows, wrong = describe_all(args.inputs)
    if rows or args.json:
        command.show(rows, args.json, "\n\n".join(command.columns(row.items()) for row in rows))
    return 2 if wrong else 0


def _cut(args: argparse.Namespace) -> int:
    from .sstr.bitstream import cut_file

    command.check_out(args, (".sstr",), [args.input])
    cut_file(args.input, args.out, args.kbps, args.force)
    note(f"wrote {args.out}")
    return 0
