"""The `audio-acdnet` command."""

from __future__ import annotations

import argparse
import json
import os
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
    verbs.add_settings(evaluate, "clips to test on, as in training: data.labels=[dog,cat]")
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

    classify = command.verb(add, "classify", _classify, "Name the sounds in files; in long ones, when each is there.")
    classify.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="files, folders or patterns; - is a WAV file on standard input"
    )
    verbs.add_model(classify, PACKAGE)
    classify.add_argument("--top", type=int, default=3, metavar="N", help="classes to name (default: %(default)s)")
    classify.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="least probability of an event (default: %(default)s)"
    )
    classify.add_argument("--stream", action="store_true", help="print each event as soon as it is over")
    command.add_out(classify, "a file for the events: .csv, or .txt with labels that Audacity imports")
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
    from .data.listing import chosen
    from .evaluate import evaluate, trained_folds
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
    source = chosen(args.data, args.settings)
    result = evaluate(model, source, args.fold, args.crops, args.restrict, args.force, args.gain)
    if trained := trained_folds(model.config, result):
        folds = ", ".join(map(str, trained))
        note(f"the model was trained on fold {folds}: the result says nothing about other sounds")
    return result


def _classify(args: argparse.Namespace) -> int:
    from audio_core import batch

    from .classify import PIPE, check, predict_file, stream
    from .events import check_target, write
    from .model import folded, load

    check(args.top, args.threshold)
    named = [name for name in args.inputs if name != PIPE]
    files = [PIPE] * (PIPE in args.inputs) + [str(item.file) for item in (batch.find(named) if named else [])]
    if args.out:
        if args.stream or os.environ.get("WORLD_SIZE", "1") != "1":
            raise InputError(f"{args.out}: is written at the end by one process; use neither --stream nor torchrun")
        check_target(args.out, files, args.force)
    model = folded(load(args.model)).to(command.device(args.device))
    wrong, rows = 0, []
    for file in batch.mine(files):
        try:
            if args.stream:
                for event in stream(model, file, args.threshold):
                    line = json.dumps({"file": file, **event._asdict()}) if args.json else f"{file}  {event}"
                    print(line, flush=True)
                continue
            prediction = predict_file(model, file, args.top, args.threshold)
        except InputError as error:
            note(str(error))
            wrong += 1
            continue
        rows += [(file, event) for event in prediction.rows()]
        if args.json:
            print(json.dumps({"file": file, **prediction.plain()}), flush=True)  # one object a line, as files are done
            continue
        top = ", ".join(f"{label} {100 * score:.0f} %" for label, score in prediction.top)
        print(f"{file}  {top or 'silent'}", *prediction.events or [], sep="\n  ", flush=True)
    if args.out:
        write(args.out, rows)
        note(f"wrote {args.out}")
    return 2 if wrong else 0


def _stages() -> str:
    from .compress.stages import Compression

    return command.fields(Compression)


def _compress(args: argparse.Namespace) -> int:
    from audio_core import config

    from .compress.stages import Compression

    settings = config.build(Compression, {}, [*args.settings, f"target={args.target}"])
    from .compress.run import compress, plain, table

    out = args.out or args.run / "compressed"
    rows = compress(args.run, settings, out, args.device, args.quiet, args.line)
    if rows is None:
        note(f"{out}: stopped; the same command goes on")
        return 130
    command.show(plain(rows), args.json, table(rows))
    if not args.quiet:
        note(f"wrote {out / 'bundle'} and {out / 'report.html'}")
    return 0
