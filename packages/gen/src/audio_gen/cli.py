"""The `audio-gen` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_core import command, verbs
from audio_core.files import note

from . import PACKAGE


def parser() -> command.Parser:
    from . import making
    from .ui import command as page

    parser, add = verbs.program(PACKAGE)
    verbs.train(add, PACKAGE, "Train a model by a recipe, from latents or codes that a codec made, or from audio.")
    _evaluating(add)
    making.add(add)
    _finetuning(add)
    verbs.export(add, PACKAGE, "Make a bundle of a run.", "it is the only one")
    _originals(add)
    page.add(add)
    verbs.describe(add, PACKAGE, "Show parameters, work, length and conditions of a model.")
    verbs.recipes(add, PACKAGE)
    verbs.scan(add)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _evaluating(add: Any) -> None:
    from .making import number

    what = "Measure how well a model has learnt a folder of latents or codes."
    parser = verbs.evaluate(add, PACKAGE, what, _evaluate)
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder of latents or codes, or .tar shards")
    table = "describes the items: .csv or .jsonl with a column `file` and one for each key"
    parser.add_argument("--metadata", type=Path, metavar="TABLE", help=table)
    number(parser, "--clips", "items to generate at most", int, 64)
    number(parser, "--listen", "of them to hear in the report", int, 4)
    number(parser, "--seed", "of the generated items", int, 0)


def _evaluate(args: argparse.Namespace) -> Any:
    from .evaluate import evaluate

    model = PACKAGE.model(args.bundle).to(command.device(args.device))
    listen = args.listen if args.out else 0
    return evaluate(model, args.data, args.metadata, args.clips, listen, args.seed, args.quiet)


def _originals(add: Any) -> None:
    files = (
        "a checkpoint of stable-audio-tools, with its model_config.json before or behind it or within it; or such a "
        "configuration alone, for a recipe"
    )
    summary = "Make a bundle of an original checkpoint, or a recipe of its settings."
    convert = verbs.convert(add, PACKAGE, summary, files, "a recipe", "model_config")
    whose = "the checkpoint of a stable-audio-tools training"
    verbs.unwrap(add, PACKAGE, "Take the model out of a training.", convert, whose)


def _finetuning(add: Any) -> None:
    finetune = command.verb(
        add, "finetune", _finetune, "Train a bundle further, or adapters for it, or post-train it for few steps."
    )
    finetune.add_argument("bundle", help="the model: a bundle's or a run's folder, a Hub id, or `default`")
    finetune.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="key=value",
        help="such as data.root=latents, as of `train`",
    )
    kinds = finetune.add_mutually_exclusive_group()
    kinds.add_argument("--lora", type=int, metavar="RANK", help="train low-rank adapters of this rank alone")
    kinds.add_argument("--dora", type=int, metavar="RANK", help="adapters that learn lengths and directions apart")
    arc = "adversarial post-training (ARC): a rectified flow learns to generate in 8 steps without guidance"
    kinds.add_argument("--arc", action="store_true", help=arc)
    where = "the run's folder; the same command goes on where it stands"
    finetune.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help=where)
    command.add_device(finetune)
    command.add_json(finetune)
    command.add_quiet(finetune)

    merging = command.verb(add, "merge", _merge, "Fold adapters into the weights of a bundle.", alone=True)
    merging.add_argument("bundle", help="the model: a bundle's or a run's folder, a Hub id, or `default`")
    merging.add_argument("adapters", nargs="+", metavar="FILE[:STRENGTH]", help="adapters that `finetune` made")
    command.add_out(merging, "the bundle's folder", required=True)
    command.add_json(merging)


def _finetune(args: argparse.Namespace) -> int:
    from .finetune import recipe_for
    from .train import train

    rank = args.lora if args.lora is not None else args.dora
    method = "dora" if args.dora is not None else "lora"
    recipe = recipe_for(args.bundle, args.settings, rank, method, args.arc)
    return verbs.ended(train(recipe, args.out, args.device, args.quiet), args)


def _merge(args: argparse.Namespace) -> int:
    from .finetune import merged

    merged(args.bundle, args.adapters, args.out, args.force)
    note(f"wrote {args.out}")
    command.show({"path": str(args.out)}, args.json, str(args.out))
    return 0
