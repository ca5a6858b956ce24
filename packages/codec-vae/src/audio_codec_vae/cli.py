"""The `audio-codec-vae` command."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_core import command, verbs
from audio_core.files import InputError, note, write_text

from . import PACKAGE

_CONFIGS = (".json", ".yaml", ".yml")  # what files of configurations end in; all others are checkpoints


def parser() -> command.Parser:
    parser, add = verbs.program(PACKAGE)
    verbs.train(add, PACKAGE, "Train an autoencoder by a recipe.")

    _models(add)
    verbs.describe(add, PACKAGE, "Show parameters, work, latents and context of an autoencoder.")
    verbs.recipes(add, PACKAGE)
    verbs.scan(add)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


# --- models ------------------------------------------------------------------------------------------------


def _models(add: Any) -> None:
    """The verbs that make bundles."""
    verbs.export(add, PACKAGE, "Make a bundle of a run.", "all other formats are yet to come")
    files = (
        "a checkpoint of LyraCodec, stable-audio-tools, diffusers or DAC, and where it does not say how its network is "
        "built, the configuration before or behind it; or a configuration alone, for a recipe"
    )
    convert = verbs.convert(
        add, PACKAGE, "Make a bundle of an original checkpoint, or a recipe of its settings.", files
    )
    checkpoint: command.Verb = convert.get_default("verb")
    convert.set_defaults(verb=functools.partial(_convert, checkpoint))

    unwrap = command.verb(
        add, "unwrap", functools.partial(_unwrap, checkpoint), "Take the autoencoder out of a training."
    )
    unwrap.add_argument(
        "source",
        type=Path,
        metavar="RUN|CKPT",
        help="a run's folder, or the checkpoint of a stable-audio-tools training",
    )
    verbs.add_settings(unwrap, "of a checkpoint its configuration, and what neither holds, as rate=48000")
    unwrap.add_argument(
        "--best", action="store_true", help="of a run, the weights of its best evaluation, not the last"
    )
    command.add_out(unwrap, "the bundle's folder", required=True)
    command.add_json(unwrap)


def _convert(checkpoint: command.Verb, args: argparse.Namespace) -> int | None:
    """A checkpoint, with its configuration before it or behind it or within it; or a configuration alone."""
    if args.original.suffix.lower() in _CONFIGS:
        files = [text for text in args.settings if "=" not in text]
        if not files:
            return _migrate(args)
        args.settings = [f"config={args.original}", *(text for text in args.settings if text not in files[:1])]
        args.original = Path(files[0])
    return checkpoint(args)


def _migrate(args: argparse.Namespace) -> int:
    """A configuration alone: a recipe."""
    from .model_config import migrated

    command.check_out(args, (".yaml",), [args.original])
    write_text(args.out, migrated(args.original, args.settings)[1])
    title, text = "a recipe", f"train by it: {PACKAGE.name} train {args.out}"
    note(f"wrote {args.out}: {title}, {text}")
    facts = {"path": str(args.out), "class": "Recipe", "title": title, "summary": text}
    command.show(facts, args.json, str(args.out))
    return 0


def _unwrap(checkpoint: command.Verb, args: argparse.Namespace) -> int | None:
    source: Path = args.source
    if not (source / "recipe.yaml").exists():
        if source.is_dir():
            raise InputError(f"{source}: holds no training run (no recipe.yaml); give a run or a checkpoint")
        if args.best:
            raise InputError("--best chooses between the weights of a run; of a checkpoint the averaged ones are taken")
        args.original = source
        return _convert(checkpoint, args)
    if args.settings:
        raise InputError(f"{source}: is a run, which has its settings in itself; leave out {args.settings[0]}")
    from .train import release

    release(source, args.out, args.best, args.force)
    note(f"wrote {args.out}")
    command.show({"path": str(args.out)}, args.json, str(args.out))
    return 0
