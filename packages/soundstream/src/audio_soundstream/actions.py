"""What the verbs of the command do; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from audio_core import batch, command
from audio_core.files import InputError, note

if TYPE_CHECKING:
    from .evaluate import Result
    from .model import NeuralCodec


def _loaded(args: argparse.Namespace) -> NeuralCodec:
    from .model import load

    return load(args.model, command.device(args.device))


# --- coding ------------------------------------------------------------------------------------------------


def encode(args: argparse.Namespace) -> int:
    from . import codec
    from .config import layers_for
    from .live import pipe

    live = _live(args, "encode")
    if live and args.entropy:
        raise InputError("--entropy needs many frames at once, and --stream sends each alone")
    model = _loaded(args)
    layers = layers_for(model.config, args.kbps)
    if live:
        pipe.encode_to(model, _file(args.out), layers, args.force)
        return 0
    if args.entropy:
        codec.need_tables(model)
    jobs = codec.jobs(batch.find(args.inputs), _file(args.out), ".sstr", args.force)

    def work(source: Path, target: Path) -> None:
        codec.encode_file(model, source, target, layers, args.entropy, args.force, args.quiet)

    return batch.run(jobs, work, args.force, args.quiet).code


def decode(args: argparse.Namespace) -> int:
    from . import codec
    from .config import layers_for
    from .live import pipe
    from .sstr.bitstream import BRIDGE

    live = _live(args, "decode")
    if live and (args.start or args.seconds is not None):
        raise InputError("--start and --seconds need a file, which can be entered in the middle")
    if args.seconds == 0:
        raise InputError("--seconds 0: would leave nothing")
    if args.bridge is not None and not args.conceal:
        raise InputError("--bridge says how much --conceal may bridge; give both")
    model, bridge = _loaded(args), BRIDGE if args.bridge is None else args.bridge
    layers = None if args.kbps is None else layers_for(model.config, args.kbps)
    if live:
        pipe.decode_to(model, _file(args.out), layers, args.conceal, bridge, args.force)
        return 0
    jobs = codec.jobs(batch.find(args.inputs, ".sstr"), _file(args.out), ".wav", args.force)

    def work(source: Path, target: Path) -> None:
        part = (args.start, args.seconds, args.conceal, bridge)
        if damage := codec.decode_file(model, source, target, layers, *part, args.force, args.quiet):
            note(f"{source}: {damage}")

    return batch.run(jobs, work, args.force, args.quiet).code


def _live(args: argparse.Namespace, verb: str) -> bool:
    """Whether the input is a live stream, which has to be asked for."""
    if args.inputs == ["-"] and args.stream:
        return True
    if args.stream or "-" in (*args.inputs, args.out):
        raise InputError(f"a live stream comes from standard input: {verb} - --stream, with -o FILE or -o -")
    return False


def _file(out: str | None) -> Path | None:
    """None for standard output, and for results beside their inputs."""
    return None if out in (None, "-") else Path(out)


def reconstruct(args: argparse.Namespace) -> int:
    from . import codec

    model = _loaded(args)
    jobs = codec.ladder(model, args.inputs, args.out, args.kbps or [], args.force)

    def work(source: Path, targets: Mapping[int, Path]) -> None:
        codec.reconstruct_file(model, source, targets, args.force, args.quiet)

    return batch.run(jobs, work, args.force, args.quiet).code


def transmit(args: argparse.Namespace) -> int:
    from audio_core.audio import FORMATS as AUDIO

    from .config import layers_for
    from .live import transmit
    from .model import load

    command.check_out(args, tuple(AUDIO), [args.input])
    model = load(args.model)
    layers = layers_for(model.config, args.kbps)
    how = (args.loss, args.burst, args.frames, args.seed, args.force)
    facts = transmit.transmit(model, args.input, args.out, layers, *how)
    note(f"wrote {args.out}")
    shown = {name: "silence has none" if value is None else value for name, value in facts.items()}
    command.show(facts, args.json, command.columns(shown.items()))
    return 0


def info(args: argparse.Namespace) -> int:
    from .sstr import bitstream

    rows, wrong = [], 0
    for path in args.inputs:
        try:
            facts = bitstream.describe(path)
        except InputError as error:
            note(str(error))
            wrong += 1
            continue
        wrong += bool(facts["damaged_packets"] or facts["truncated"])
        rows.append({"file": str(path), **facts})
    text = "\n\n".join(command.columns(row.items()) for row in rows)
    if rows or args.json:
        command.show(rows, args.json, text)
    return 2 if wrong else 0


def cut(args: argparse.Namespace) -> int:
    from .sstr import bitstream

    command.check_out(args, (".sstr",), [args.input])
    bitstream.cut_file(args.input, args.out, args.kbps, args.force)
    note(f"wrote {args.out}")
    return 0


def evaluate(args: argparse.Namespace) -> Result:
    from .evaluate import evaluate
    from .model import load

    model = load(args.bundle, command.device(args.device))
    return evaluate(model, args.data, args.kbps, args.files, args.listen if args.out else 0, args.quiet)
