"""What the verbs of the command do; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from audio_core import batch, command
from audio_core.files import InputError, note

from . import FORMATS, SHIPPED, __version__

if TYPE_CHECKING:
    from .model import NeuralCodec


def _loaded(args: argparse.Namespace) -> NeuralCodec:
    from .model import load

    return load(args.model, command.device(args.device))


# --- training ----------------------------------------------------------------------------------------------


def settings() -> str:
    from .recipe import Recipe

    return command.fields(Recipe)


def train(given: argparse.Namespace) -> int:
    from .recipe import Recipe

    recipe = command.load_recipe(Recipe, "audio_soundstream", given.recipe, given.settings)
    from . import train as training

    run = training.train(recipe, given.out, given.device, given.quiet)
    if not run.finished:
        if run.main:
            note(f"{given.out}: stopped; the same command goes on")
        return 130
    if run.main:
        found = training.results(given.out)
        measured = {name: value for name, value in found.items() if isinstance(value, float) and name != "time"}
        text = "\n".join(f"{name} {value:.4g}" for name, value in measured.items())
        command.show(found, given.json, text or f"{run.step} steps done; nothing was held out to measure")
        if not given.quiet:
            note(f"wrote {given.out / 'bundle'}")
    return 0


def scan(given: argparse.Namespace) -> int:
    from audio_core import batch
    from audio_core.data import manifest

    command.check_out(given, (".jsonl",))
    found = manifest.scan([item.file for item in batch.find(given.inputs)], given.out, progress=not given.quiet)
    for name, cause in found.unreadable:
        note(f"{name}: {cause}")
    seconds = sum(item.frames / item.rate for item in found.items)
    print(f"{len(found.items)} files, {seconds / 3600:.2f} h, in {given.out}")
    return 2 if found.unreadable else 0


def recipes(given: argparse.Namespace) -> int:
    found = command.recipes("audio_soundstream")
    command.show(found, given.json, command.columns(found.items()))
    return 0


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


# --- measuring and making ----------------------------------------------------------------------------------


def evaluate(given: argparse.Namespace) -> int:
    from . import evaluate as measuring
    from .model import load

    if given.out:
        command.check_out(given, (".html",))
    model = load(given.bundle, command.device(given.device))
    result = measuring.evaluate(
        model, given.data, given.kbps, given.files, given.listen if given.out else 0, given.quiet
    )
    if given.out:
        measuring.report(result, given.out, str(given.bundle))
        note(f"wrote {given.out}")
    command.show(result.plain(), given.json, measuring.table(result))
    return 2 if result.unreadable else 0


def export(given: argparse.Namespace) -> int:
    run = (Path(given.source) / "recipe.yaml").exists()
    if given.calibrate and given.format not in ("c-int8", "tflite-int8"):
        raise InputError(f"--calibrate sets the scales of integers, and --format {given.format} has none")
    if given.best and not run:
        raise InputError("--best chooses between the weights of a run, and a bundle has only one kind")
    if given.format == "bundle":
        if not run:
            kinds = ", ".join(FORMATS)
            raise InputError(f"{given.source}: holds no training run to make a bundle of; choose a --format: {kinds}")
        from .train import release

        out = given.out or Path(given.source) / "bundle"
        release(given.source, out, given.best, given.force)
        note(f"wrote {out}")
        command.show({"format": "bundle", "path": str(out)}, given.json, str(out))
        return 0
    name = "tinystream" if given.source in SHIPPED else Path(given.source).resolve().name
    out = given.out or Path(name + FORMATS[given.format])
    if out.exists() and not given.force:
        raise InputError(f"{out}: exists already; give --force to overwrite it")
    from .export import calibrate
    from .export import write as exporting
    from .model import load

    if run:
        from .train import trained

        _, model = trained(given.source, given.best)
    else:
        model = load(given.source)
    sounds = calibrate.recordings(model.config, given.calibrate) if given.calibrate else None
    facts = exporting.export(model, out, given.format, sounds, given.force)
    note(f"wrote {out}")
    command.show(facts, given.json, exporting.table(facts))
    return 0


def convert(given: argparse.Namespace) -> int:
    from audio_core import bundle

    from . import original
    from .config import bitrates

    model = original.convert(given.original)
    kind, rate = type(model).__name__, model.sample_rate
    card = bundle.card(
        f"{kind}, converted",
        f"Converted from {given.original.name}: {rate} Hz, up to {bitrates(model.config)[-1]:g} kbit/s.",
        "other",
        "As of the original checkpoint.",
        {},
        'import audio_soundstream\n\nmodel = audio_soundstream.load("bundle")  # the folder of this file',
        ["audio-codec"],
    )
    bundle.save(model, given.out, "audio-soundstream", __version__, card, given.force)
    note(f"wrote {given.out}: {kind} at {rate} Hz, {len(model.codebooks)} codebooks of {model.codebooks[0]}")
    return 0


def describe(given: argparse.Namespace) -> int:
    import torch

    from . import cost

    file = Path(given.model).suffix in (".yaml", ".yml", ".json")
    if given.model in SHIPPED or Path(given.model).is_dir() or ("/" in given.model and not file):
        if given.settings:
            raise InputError(f"{given.model}: is a bundle, which has no settings to change")
        from .model import load

        model = load(given.model)
    else:
        from .recipe import Recipe
        from .train import build

        recipe = command.load_recipe(Recipe, "audio_soundstream", given.model, given.settings)
        with torch.device("meta"):
            model = build(recipe.model)
    facts = cost.describe(model)
    command.show(facts, given.json, cost.table(facts))
    return 0
