"""The `audio-acdnet` command."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from audio_core import command
from audio_core.files import InputError, note

from . import FORMATS, SHIPPED, __version__


def parser() -> command.Parser:
    parser, verbs = command.program("audio-acdnet", "Sound classification on raw audio.", __version__)

    train = command.verb(verbs, "train", _train, "Train by a recipe, a run for each fold.", _settings)
    train.add_argument("recipe", help="a name that `recipes` shows, or a .yaml file")
    train.add_argument("settings", nargs="*", metavar="key=value", help="what differs from the recipe")
    train.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="the run's folder; goes on where it stands"
    )
    command.add_device(train)
    command.add_json(train)
    command.add_quiet(train)

    evaluate = command.verb(verbs, "evaluate", _evaluate, "Test a model on the clips of a data set.")
    evaluate.add_argument(
        "bundle", help="a bundle's folder, a Hub id, or `default` or `quiet`, which come with the package"
    )
    evaluate.add_argument("data", type=Path, help="the data set's folder, or a .csv with filename, label and fold")
    evaluate.add_argument(
        "--fold", type=int, metavar="N", help="only this fold (default: all that it was not trained on)"
    )
    evaluate.add_argument(
        "--crops", type=int, default=10, metavar="N", help="crops of each clip (default: %(default)s)"
    )
    evaluate.add_argument("--restrict", action="store_true", help="decide only between the classes of the data set")
    evaluate.add_argument("--gain", type=float, default=0.0, metavar="DB", help="change the level of the clips first")
    evaluate.add_argument(
        "--integers", choices=("c", "c-16x8"), help="test what `export --format` of that name computes"
    )
    _add_calibrate(evaluate)
    evaluate.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="write report.html, with players, and confusion.png"
    )
    evaluate.add_argument(
        "--force", action="store_true", help="test on a trained fold, if --fold names one; overwrite the report"
    )
    command.add_device(evaluate)
    command.add_json(evaluate)

    classify = command.verb(verbs, "classify", _classify, "Say what is heard in files; in long ones, when.")
    classify.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    classify.add_argument(
        "--model",
        metavar="BUNDLE",
        default="default",
        help="a folder, a Hub id, or `quiet` for soft recordings (default: the ten classes of ESC-10)",
    )
    classify.add_argument("--top", type=int, default=3, metavar="N", help="classes to name (default: %(default)s)")
    classify.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="least probability of an event (default: %(default)s)"
    )
    classify.add_argument("--stream", action="store_true", help="print each event as soon as it is over")
    command.add_device(classify)
    command.add_json(classify)

    compress = command.verb(
        verbs, "compress", _compress, "Make a trained network smaller: sparsify, prune, tune, distil.", _stages
    )
    compress.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished training run")
    compress.add_argument("settings", nargs="*", metavar="key=value", help="what differs from the settings below")
    compress.add_argument(
        "--target", required=True, metavar="SIZE", help="parameters at most: a number, or micro for Micro-ACDNet's"
    )
    compress.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="goes on where it stands (default: RUN/compressed)"
    )
    command.add_device(compress)
    command.add_json(compress)
    command.add_quiet(compress)

    export = command.verb(verbs, "export", _export, "Make a bundle of a run, or files for other machines of either.")
    export.add_argument(
        "source",
        nargs="?",
        default="default",
        metavar="RUN|BUNDLE",
        help="a run's folder, a bundle's or a Hub id, `default` or `quiet` (default: %(default)s)",
    )
    export.add_argument(
        "--format",
        choices=("bundle", *FORMATS),
        default="bundle",
        help="bundle: a folder to load and share; onnx: one file, real numbers or 8 bits; tflite-int8: one file for "
        "TensorFlow Lite and its Micro; c: C99 sources in integers for microcontrollers; c-16x8: with 16-bit maps, for "
        "soft sounds and twice the memory (default: %(default)s)",
    )
    export.add_argument(
        "--best", action="store_true", help="of a run, the weights of the best evaluation, not the last"
    )
    _add_calibrate(export)
    command.add_out(
        export, "the result (default: of a run its folder bundle, else the source's name with the format's ending)"
    )
    command.add_json(export)

    convert = command.verb(
        verbs, "convert", _convert, "Make a bundle of an original checkpoint (authors', uverd's, Keras)."
    )
    convert.add_argument("original", type=Path, help="a .pt file of the authors or of uverd, or a Keras .h5")
    convert.add_argument(
        "settings", nargs="*", metavar="key=value", help="what the file does not hold, as model.rate=22050"
    )
    command.add_out(convert, "the bundle's folder", required=True)

    describe = command.verb(verbs, "describe", _describe, "Show layers, parameters, FLOPs and memory of a model.")
    describe.add_argument("model", help="a bundle, or a recipe")
    describe.add_argument("settings", nargs="*", metavar="key=value", help="what differs from the recipe")
    command.add_json(describe)

    recipes = command.verb(verbs, "recipes", _recipes, "List the recipes that come with the package.")
    command.add_json(recipes)
    return parser


def _add_calibrate(parser: command.Parser) -> None:
    parser.add_argument(
        "--calibrate",
        action="append",
        metavar="INPUT",
        help="a file, folder or pattern of recordings that set the scales of integers; may be given several times "
        "(default: sounds made here)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _settings() -> str:
    from .recipe import Recipe

    return command.fields(Recipe)


def _train(given: argparse.Namespace) -> int:
    from .recipe import Recipe
    from .train import summary, table, train

    recipe = command.load_recipe(Recipe, "audio_acdnet", given.recipe, given.settings)
    outcomes = train(recipe, given.out, given.device, given.quiet)
    if outcomes is None:
        note(f"{given.out}: stopped; the same command goes on")
        return 130
    if os.environ.get("RANK", "0") != "0":  # of several processes one tells
        return 0
    tested = [outcome for outcome in outcomes if outcome.last is not None]
    plain = summary(tested) if tested else {"folds": []}
    command.show(plain, given.json, table(outcomes))
    if not given.quiet:
        for outcome in outcomes:
            note(f"wrote {outcome.folder / 'bundle'}")
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    from .evaluate import evaluate, report
    from .model import load

    if given.out and given.out.is_file():
        raise InputError(f"{given.out}: is a file, and the report needs a folder")
    if given.out and (given.out / "report.html").exists() and not given.force:
        raise InputError(f"{given.out}: holds a report already; give --force to overwrite it")
    model = load(given.bundle, "cpu" if given.integers else command.device(given.device))
    if given.integers:
        from .export import calibrate
        from .export.quantise import Emulated, quantise

        map_type = "int8" if given.integers == "c" else "int16"
        recorded = given.calibrate and calibrate.recordings(model.config, given.calibrate)
        model = Emulated(quantise(model, recorded or calibrate.sounds(model.config), map_type=map_type))
    elif given.calibrate:
        raise InputError("--calibrate sets the scales of --integers, which are not asked for")
    result = evaluate(model, given.data, given.fold, given.crops, given.restrict, given.force, given.gain)
    if heard := sorted({clip.fold for clip in result.clips} & set(model.config.folds)):
        note(f"the model was trained on fold {', '.join(map(str, heard))}: the result says nothing about other sounds")
    if given.out:
        kind = " in integers" if given.integers else ""
        report(result, given.out, f"{given.bundle}{kind} on {given.data.name}")
        note(f"wrote {given.out / 'report.html'} and {given.out / 'confusion.png'}")
    rows = [
        (label, row["clips"], 100 * row["recall"], 100 * row["precision"] if row["precision"] >= 0 else "-")
        for label, row in result.per_class().items()
    ]
    right = round(result.accuracy * len(result.clips))
    text = command.columns([("class", "clips", "recall %", "precision %"), *rows])
    command.show(
        result.plain(), given.json, f"{text}\n\naccuracy {100 * result.accuracy:.2f} % ({right} of {len(result.clips)})"
    )
    return 0


def _classify(given: argparse.Namespace) -> int:
    from audio_core import batch

    from .classify import check, classify_file, events, windows
    from .model import folded, load

    check(given.top, given.threshold)
    files = [found.file for found in batch.find(given.inputs)]
    model = folded(load(given.model)).to(command.device(given.device))
    wrong = 0
    for file in files:
        try:
            if given.stream:
                for event in events(model, windows(model, file), given.threshold):
                    line = {"file": str(file), **event._asdict()}
                    print(json.dumps(line) if given.json else f"{file}  {_told(line)}", flush=True)
                continue
            found = classify_file(model, file, given.top, given.threshold)
        except InputError as error:
            note(str(error))
            wrong += 1
            continue
        if given.json:
            print(json.dumps(found), flush=True)  # one object a line, as files are done
            continue
        top = ", ".join(f"{one['label']} {100 * one['score']:.0f} %" for one in found["top"])
        print(f"{file}  {top or 'silent'}", flush=True)
        for event in found.get("events", []):
            print(f"  {_told(event)}", flush=True)
    return 2 if wrong else 0


def _told(event: dict) -> str:
    return f"{event['start']:9.2f} to {event['end']:9.2f} s  {event['label']} {100 * event['score']:.0f} %"


def _stages() -> str:
    from .compress.stages import Compression

    return command.fields(Compression)


def _compress(given: argparse.Namespace) -> int:
    from audio_core import config

    from .compress.stages import Compression

    settings = config.build(Compression, {}, [*given.settings, f"target={given.target}"])
    from .compress.run import compress, plain, table

    out = given.out or given.run / "compressed"
    rows = compress(given.run, settings, out, given.device, given.quiet)
    if rows is None:
        note(f"{out}: stopped; the same command goes on")
        return 130
    command.show(plain(rows), given.json, table(rows))
    if not given.quiet:
        note(f"wrote {out / 'bundle'} and {out / 'report.html'}")
    return 0


def _export(given: argparse.Namespace) -> int:
    run = (Path(given.source) / "recipe.yaml").exists()
    if given.calibrate and given.format in ("bundle", "onnx"):
        raise InputError(f"--calibrate sets the scales of integers, and --format {given.format} has none")
    if given.format == "bundle":
        return _bundle(given, run)
    if given.best and not run:
        raise InputError("--best chooses between the weights of a run, and a bundle has only one kind")
    name = {"default": "micro-acdnet", "quiet": "micro-acdnet-quiet"}.get(
        given.source, Path(given.source).resolve().name
    )
    out = given.out or Path(name + FORMATS[given.format])
    if out.exists() and not given.force:
        raise InputError(f"{out}: exists already; give --force to overwrite it")
    from .export import calibrate
    from .export.write import export, table
    from .model import load

    if run:
        from .train import trained

        _, model = trained(given.source, given.best)
    else:
        model = load(given.source)
    crops = calibrate.recordings(model.config, given.calibrate) if given.calibrate else None
    facts = export(model, out, given.format, crops, given.force)
    note(f"wrote {out}")
    command.show(facts, given.json, table(facts))
    return 0


def _bundle(given: argparse.Namespace, run: bool) -> int:
    if given.source in SHIPPED:
        raise InputError(f"--format: choose one of {', '.join(FORMATS)}; the model in the wheel is a bundle already")
    if not run:
        raise InputError(
            f"{given.source}: holds no training run (no recipe.yaml) to make a bundle of; choose a --format"
        )
    from .train import release

    out = given.out or Path(given.source) / "bundle"
    release(given.source, out, given.best, given.force)
    note(f"wrote {out}")
    command.show({"format": "bundle", "path": str(out)}, given.json, str(out))
    return 0


def _convert(given: argparse.Namespace) -> int:
    from audio_core import bundle

    from .original import convert

    model = convert(given.original, given.settings)
    settings = model.config
    card = bundle.card(
        f"ACDNet, {len(settings.labels)} classes, converted",
        f"Converted from {given.original.name}; hears {settings.samples} samples at {settings.rate} Hz.",
        "other",
        "As of the original checkpoint.",
        {},
        'import audio_acdnet\n\nmodel = audio_acdnet.load("bundle")  # the folder of this file',
        ["audio-classification"],
    )
    bundle.save(model, given.out, "audio-acdnet", __version__, card, given.force)
    note(f"wrote {given.out}: {len(settings.labels)} classes, {settings.samples} samples at {settings.rate} Hz")
    return 0


def _describe(given: argparse.Namespace) -> int:
    from . import cost
    from .recipe import Recipe

    if given.model in SHIPPED or Path(given.model).is_dir():
        if given.settings:
            raise InputError(f"{given.model}: is a bundle, which has no settings to change")
        from .model import load

        settings = load(given.model).config
    else:
        settings = command.load_recipe(Recipe, "audio_acdnet", given.model, given.settings).model
    layers = cost.layers(settings)
    device, whole = cost.device_memory(settings), cost.layer_memory(settings)
    memory = {"device": sum(device.values()), "layers": max(whole.values())}
    plain = {
        "rate": settings.rate,
        "samples": settings.samples,
        "classes": len(settings.labels),
        "labels": list(settings.labels),
        "channels": list(settings.channels),
        "parameters": cost.parameters(settings),
        "flops": cost.flops(settings),
        "macs": cost.macs(settings),
        "int8_memory_bytes": memory,
        "layers": [layer._asdict() for layer in layers],
    }
    table = command.columns(
        [
            ("layer", "output", "parameters", "FLOPs"),
            *((x.name, " x ".join(map(str, x.shape)), x.parameters, x.flops) for x in layers),
        ]
    )
    heard = f"{settings.samples / settings.rate:.2f} s at {settings.rate} Hz, {len(settings.labels)} classes: "
    few = ", ".join(settings.labels[:10]) + (", ..." if len(settings.labels) > 10 else "")
    text = f"{table}\n\n{heard}{few}"
    text += f"\n{plain['parameters']:,} parameters, {plain['flops']:,} FLOPs, {plain['macs']:,} multiply-adds"
    text += f"\nint8 memory: {memory['device']:,} bytes in the C export, {memory['layers']:,} layer by layer"
    command.show(plain, given.json, text)
    return 0


def _recipes(given: argparse.Namespace) -> int:
    found = command.recipes("audio_acdnet")
    command.show(found, given.json, command.columns(found.items()))
    return 0
