"""What the verbs of the command do; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audio_core import command
from audio_core.files import InputError, note

from . import FORMATS, SHIPPED, __version__

if TYPE_CHECKING:
    from audio_core.batch import Found, Job

    from .model import NeuralCodec


def _loaded(given: argparse.Namespace) -> NeuralCodec:
    from .model import load

    return load(given.model, command.device(given.device))


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


def encode(given: argparse.Namespace) -> int:
    live = _live(given, "encode")
    if live and given.entropy:
        raise InputError("--entropy needs many frames at once, and --stream sends each alone")
    from . import codec
    from .config import layers_for
    from .live import pipe

    model = _loaded(given)
    layers = layers_for(model.config, given.kbps)
    if live:
        pipe.encode(model, sys.stdin.buffer, sys.stdout.buffer, layers)
        return 0
    if given.entropy:
        codec.need_tables(model)

    def work(source: Path, target: Path) -> None:
        codec.encode_file(model, source, target, layers, given.entropy, given.force, given.quiet)

    return _batch(given, work, None, ".sstr")


def decode(given: argparse.Namespace) -> int:
    live = _live(given, "decode")
    if live and (given.start or given.seconds is not None):
        raise InputError("--start and --seconds need a file, which can be entered in the middle")
    if given.seconds == 0:
        raise InputError("--seconds 0: would leave nothing")
    from . import codec
    from .config import layers_for
    from .live import pipe

    model = _loaded(given)
    layers = None if given.kbps is None else layers_for(model.config, given.kbps)
    if live:
        pipe.decode(model, sys.stdin.buffer, sys.stdout.buffer, layers, given.conceal)
        return 0

    def work(source: Path, target: Path) -> None:
        part = (given.start, given.seconds, given.conceal)
        if found := codec.decode_file(model, source, target, layers, *part, given.force, given.quiet):
            note(f"{source}: {found}")

    return _batch(given, work, ".sstr", ".wav")


def _live(given: argparse.Namespace, verb: str) -> bool:
    """Whether it goes from pipe to pipe, which has to be said in full."""
    if given.inputs == ["-"] and given.out == "-" and given.stream:
        return True
    if given.stream or "-" in (*given.inputs, given.out):
        raise InputError(f"a live stream goes from pipe to pipe: {verb} - -o - --stream")
    return False


def _batch(given: argparse.Namespace, work: Callable[[Path, Path], object], kind: str | None, result: str) -> int:
    """Every input of a kind to its own result; an error costs one file."""
    from audio_core import batch

    jobs = _jobs(given, batch.find(given.inputs, kind), Path(given.out), result)
    return batch.run(jobs, work, given.force, given.quiet).code


def _jobs(given: argparse.Namespace, found: Sequence[Found], out: Path, result: str) -> list[Job]:
    """Where the results go, which end in `result` (audio: or in another extension of audio, where `out` has one)."""
    from audio_core import batch
    from audio_core.audio import FOREIGN
    from audio_core.audio import FORMATS as AUDIO

    ending = out.suffix.lower()
    if not out.is_dir() and ending != result and ending in ({".sstr"} if result == ".wav" else {*AUDIO, *FOREIGN}):
        raise InputError(f"{out}: the name must end in {result}, or be a folder's")
    jobs = batch.targets(found, out, result)
    if len(jobs) == 1 and jobs[0].target == out and out.exists() and not given.force:
        raise InputError(f"{out}: exists already; give --force to overwrite it")
    return jobs


def reconstruct(given: argparse.Namespace) -> int:
    from audio_core import batch
    from audio_core.audio import FORMATS as AUDIO

    from .codec import reconstruct_file
    from .config import bitrates, layers_for

    model = _loaded(given)
    wanted = sorted({layers_for(model.config, rate) for rate in given.kbps or [None]})
    many, inputs = len(wanted) > 1, batch.find(given.inputs)
    if many and given.out.suffix.lower() in AUDIO and not given.out.is_dir():
        raise InputError(f"{given.out}: is one file, but {len(wanted)} bitrates were asked for; give a folder")
    targets: dict[Path, dict[int, Path]] = {}  # by source and number of layers
    for layers in wanted:
        folder = given.out / f"{bitrates(model.config)[layers - 1]:g}kbps" if many else given.out
        for job in _jobs(given, inputs, folder, ".wav"):
            targets.setdefault(job.source, {})[layers] = job.paths[0]

    def work(source: Path, missing: dict[int, Path]) -> None:
        reconstruct_file(model, source, missing, given.force, given.quiet)

    jobs = [batch.Job(source, paths) for source, paths in targets.items()]
    return batch.run(jobs, work, given.force, given.quiet).code


def transmit(given: argparse.Namespace) -> int:
    from audio_core.audio import FORMATS as AUDIO

    from .config import layers_for
    from .live import transmit
    from .model import load

    command.check_out(given, tuple(AUDIO), [given.input])
    model = load(given.model)
    layers = layers_for(model.config, given.kbps)
    how = (given.loss, given.burst, given.frames, given.seed, given.force)
    facts = transmit.transmit(model, given.input, given.out, layers, *how)
    note(f"wrote {given.out}")
    shown = {name: "silence has none" if value is None else value for name, value in facts.items()}
    command.show(facts, given.json, command.columns(shown.items()))
    return 0


def info(given: argparse.Namespace) -> int:
    from .sstr import bitstream

    rows, wrong = [], 0
    for path in given.inputs:
        try:
            facts = bitstream.describe(path)
        except InputError as error:
            note(str(error))
            wrong += 1
            continue
        wrong += bool(facts["damaged_packets"] or facts["truncated"])
        rows.append({"file": str(path), **facts})
    text = "\n\n".join(command.columns(row.items()) for row in rows)
    if rows or given.json:
        command.show(rows, given.json, text)
    return 2 if wrong else 0


def cut(given: argparse.Namespace) -> int:
    from audio_core.files import reason, replacing

    from .sstr import bitstream
    from .sstr.header import HEADER_BYTES, Header

    command.check_out(given, (".sstr",), [given.input])
    try:
        with given.input.open("rb") as source, replacing(given.out, given.force) as temporary:
            head = Header.from_bytes(source.read(HEADER_BYTES), str(given.input))
            rates = [head.kbps * count / head.layers for count in range(1, head.layers + 1)]
            fits = [count for count, rate in enumerate(rates, 1) if math.isclose(rate, given.kbps, rel_tol=0.005)]
            if not fits:
                known = ", ".join(f"{rate:g}" for rate in rates)
                raise InputError(f"{given.kbps:g} kbit/s is no bitrate of {given.input}; possible are {known}")
            source.seek(0)
            with temporary.open("wb") as target:
                bitstream.cut(source, target, fits[0], str(given.input))
    except OSError as error:
        raise InputError(f"{given.input}: {reason(error)}") from None
    note(f"wrote {given.out}")
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
