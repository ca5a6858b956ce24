"""The `audio-acdnet` command."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audio_core import command, verbs
from audio_core.files import InputError, note

from . import PACKAGE

if TYPE_CHECKING:
    from .evaluate import Result


def parser() -> command.Parser:
    parser, add = verbs.program(PACKAGE)
    verbs.train(add, PACKAGE, "Train by a recipe, a run for each fold.")

    evaluate = verbs.evaluate(add, PACKAGE, "Test a model on the clips of a data set.", _evaluate)
    evaluate.add_argument("data", type=Path, help="the data set's folder, or a .csv with filename, label and fold")
    evaluate.add_argument(
        "--fold",
        type=int,
        metavar="N",
        help="only this fold (default: all that it was not trained on); with --force also a trained one",
    )
    evaluate.add_argument(
        "--crops", type=int, default=10, metavar="N", help="crops of each clip (default: %(default)s)"
    )
    evaluate.add_argument("--restrict", action="store_true", help="decide only between the classes of the data set")
    evaluate.add_argument("--gain", type=float, default=0.0, metavar="DB", help="change the level of the clips first")
    evaluate.add_argument(
        "--integers", choices=("c", "c-16x8"), help="test what `export --format` of that name computes"
    )
    verbs.add_calibrate(evaluate)

    classify = command.verb(add, "classify", _classify, "Say what is heard in files; in long ones, when.")
    classify.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    verbs.add_model(classify, PACKAGE)
    classify.add_argument("--top", type=int, default=3, metavar="N", help="classes to name (default: %(default)s)")
    classify.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="least probability of an event (default: %(default)s)"
    )
    classify.add_argument("--stream", action="store_true", help="print each event as soon as it is over")
    command.add_device(classify)
    command.add_json(classify)

    compress = command.verb(
        add, "compress", _compress, "Make a trained network smaller: sparsify, prune, tune, distil.", _stages
    )
    compress.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished training run")
    verbs.add_settings(compress, "what differs from the settings below")
    compress.add_argument(
        "--target", required=True, metavar="SIZE", help="parameters at most: a number, or micro for Micro-ACDNet's"
    )
    compress.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="goes on where it stands (default: RUN/compressed)"
    )
    command.add_device(compress)
    command.add_json(compress)
    command.add_quiet(compress)

    verbs.export(
        add,
        PACKAGE,
        "Make a bundle of a run, or files for other machines of either.",
        "onnx: one file, real numbers or 8 bits; tflite-int8: one file for TensorFlow Lite and its Micro; "
        "c: C99 sources in integers for microcontrollers; c-16x8: with 16-bit maps",
    )
    verbs.convert(
        add,
        PACKAGE,
        "Make a bundle of an original checkpoint (authors', uverd's, Keras).",
        "a .pt file of the authors or of uverd, or a Keras .h5",
    )
    verbs.describe(add, PACKAGE, "Show layers, parameters, FLOPs and memory of a model.")
    verbs.recipes(add, PACKAGE)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _evaluate(args: argparse.Namespace) -> Result:
    from .evaluate import evaluate
    from .model import load

    model = load(args.bundle, "cpu" if args.integers else command.device(args.device))
    if args.integers:
        from .export import calibrate
        from .export.quantise import Emulated, quantise

        map_type = "int8" if args.integers == "c" else "int16"
        recordings = args.calibrate and calibrate.recordings(model.config, args.calibrate)
        model = Emulated(quantise(model, recordings or calibrate.sounds(model.config), map_type=map_type))
    elif args.calibrate:
        raise InputError("--calibrate sets the scales of --integers, which are not asked for")
    result = evaluate(model, args.data, args.fold, args.crops, args.restrict, args.force, args.gain)
    if trained := sorted({clip.fold for clip in result.clips} & set(model.config.folds)):
        folds = ", ".join(map(str, trained))
        note(f"the model was trained on fold {folds}: the result says nothing about other sounds")
    return result


def _classify(args: argparse.Namespace) -> int:
    from audio_core import batch

    from .classify import check, classify_file, events, windows
    from .model import folded, load

    check(args.top, args.threshold)
    files = [item.file for item in batch.find(args.inputs)]
    model = folded(load(args.model)).to(command.device(args.device))
    wrong = 0
    for file in files:
        try:
            if args.stream:
                for event in events(model, windows(model, file), args.threshold):
                    row = {"file": str(file), **event._asdict()}
                    print(json.dumps(row) if args.json else f"{file}  {_event(row)}", flush=True)
                continue
            answer = classify_file(model, file, args.top, args.threshold)
        except InputError as error:
            note(str(error))
            wrong += 1
            continue
        if args.json:
            print(json.dumps(answer), flush=True)  # one object a line, as files are done
            continue
        top = ", ".join(f"{one['label']} {100 * one['score']:.0f} %" for one in answer["top"])
        print(f"{file}  {top or 'silent'}", flush=True)
        for event in answer.get("events", []):
            print(f"  {_event(event)}", flush=True)
    return 2 if wrong else 0


def _event(event: dict) -> str:
    return f"{event['start']:9.2f} to {event['end']:9.2f} s  {event['label']} {100 * event['score']:.0f} %"


def _stages() -> str:
    from .compress.stages import Compression

    return command.fields(Compression)


def _compress(args: argparse.Namespace) -> int:
    from audio_core import config

    from .compress.stages import Compression

    settings = config.build(Compression, {}, [*args.settings, f"target={args.target}"])
    from .compress.run import compress, plain, table

    out = args.out or args.run / "compressed"
    rows = compress(args.run, settings, out, args.device, args.quiet)
    if rows is None:
        note(f"{out}: stopped; the same command goes on")
        return 130
    command.show(plain(rows), args.json, table(rows))
    if not args.quiet:
        note(f"wrote {out / 'bundle'} and {out / 'report.html'}")
    return 0
