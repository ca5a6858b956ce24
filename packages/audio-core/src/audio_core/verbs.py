"""The verbs that all packages share, written once: their arguments, texts, exit codes and JSON.

A package adds them to its parser beside its own verbs:

    def parser() -> command.Parser:
        parser, verbs = program(PACKAGE)
        train(verbs, PACKAGE, "Train a codec by a recipe.")
        ...

The work is done by functions that every package has in the same chapters. A chapter is imported when its verb runs:

    recipe.Recipe                                           a Plan
    train.train(recipe, out, device, quiet)                 -> an Outcome, or None when it was asked to stop
    train.trained(run, best)                                -> the recipe and the model of a run
    train.release(run, out, best, force)                    writes the bundle of a run
    load(path, device), of the package itself               -> a model with `.config`
    cost.describe(config), cost.table(facts)                -> facts as plain values, and as text
    original.convert(path, settings)                        -> a model
    original.summary(model)                                 -> title and summary of its card
    original_recipe.migrated(path, settings)                -> the recipe of an original as YAML of ours, or elsewhere
    export.write.export(model, out, format, calibration, force), export.write.table(facts)
    export.calibrate.recordings(config, inputs)             -> calibration sounds
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import command
from .files import InputError, note, write_text
from .package import Package

if TYPE_CHECKING:
    from .report import Report


_CONFIGS = (".json", ".yaml", ".yml")  # what files of configurations end in; all others are checkpoints


class Outcome(Protocol):
    """What a training came to."""

    bundles: Sequence[Path]

    def plain(self) -> Any:
        """For JSON."""

    def table(self) -> str:
        """For people."""


class Result(Protocol):
    """What an evaluation measured."""

    unreadable: int
    """Files that were left out, each named in a line."""

    def plain(self) -> Any:
        """For JSON."""

    def table(self) -> str:
        """For people."""

    def page(self, report: Report, folder: Path) -> None:
        """Fill the report; further files of it go into the folder."""


def program(package: Package) -> tuple[command.Parser, Any]:
    return command.program(package.name, package.about, package.version)


# --- training --------------------------------------------------------------------------------------------


def train(verbs: Any, package: Package, summary: str) -> None:
    def run(args: argparse.Namespace) -> int:
        recipe = command.load_recipe(package.chapter("recipe").Recipe, package.module, args.recipe, args.settings)
        return ended(package.chapter("train").train(recipe, args.out, args.device, args.quiet), args)

    parser = command.verb(verbs, "train", run, summary, lambda: command.fields(package.chapter("recipe").Recipe))
    parser.add_argument("recipe", help="a name that `recipes` shows, or a .yaml file")
    add_settings(parser)
    where = "the run's folder; the same command goes on where it stands"
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help=where)
    command.add_device(parser)
    command.add_json(parser)
    command.add_quiet(parser)


def ended(outcome: Outcome | None, args: argparse.Namespace) -> int:
    """Show what a training came to, None where it was stopped; gives the exit code. Of several processes one talks."""
    if command.rank() == 0 and outcome is None:
        note(f"{args.out}: stopped; the same command goes on")
    elif command.rank() == 0 and outcome:
        command.show(outcome.plain(), args.json, outcome.table())
        for path in [] if args.quiet else outcome.bundles:
            note(f"wrote {path}")
    return 130 if outcome is None else 0


def add_settings(parser: command.Parser, what: str = "what differs from the recipe") -> None:
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help=what)


def recipes(verbs: Any, package: Package) -> None:
    def run(args: argparse.Namespace) -> int:
        known = command.recipes(package.module)
        command.show(known, args.json, command.columns(known.items()))
        return 0

    parser = command.verb(verbs, "recipes", run, "List the recipes that come with the package.", alone=True)
    command.add_json(parser)


# --- evaluation ------------------------------------------------------------------------------------------


def evaluate(
    verbs: Any, package: Package, summary: str, measure: Callable[[argparse.Namespace], Result]
) -> command.Parser:
    """The frame of `evaluate`: the package adds the arguments of its data and its protocol to the parser."""

    def run(args: argparse.Namespace) -> int:
        check_report(args.out, args.force)
        result = measure(args)
        if args.out:
            write_report(result, args.out, f"{package.name}: {args.bundle}", args)
        command.show(result.plain(), args.json, result.table())
        return 2 if result.unreadable else 0

    parser = command.verb(verbs, "evaluate", run, summary, alone=True)
    add_bundle(parser, package)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="a folder for report.html, results.json and their files"
    )
    parser.add_argument("--force", action="store_true", help="overwrite a report")
    command.add_device(parser)
    command.add_json(parser)
    command.add_quiet(parser)
    return parser


def check_report(folder: Path | None, force: bool) -> None:
    """Before the work: the folder can take a report."""
    if folder and folder.is_file():
        raise InputError(f"{folder}: is a file, and the report needs a folder")
    if folder and (folder / "report.html").exists() and not force:
        raise InputError(f"{folder}: holds a report already; give --force to overwrite it")


def write_report(result: Result, folder: Path, title: str, args: argparse.Namespace) -> None:
    from .report import Report

    report = Report(title)
    folder.mkdir(parents=True, exist_ok=True)
    result.page(report, folder)
    report.foot(args.program, args.line)
    report.save(folder / "report.html")
    write_text(folder / "results.json", json.dumps(result.plain(), indent=1, ensure_ascii=False) + "\n")
    if not args.quiet:
        note(f"wrote {folder / 'report.html'}")


def add_bundle(parser: command.Parser, package: Package) -> None:
    parser.add_argument("bundle", help=f"the model: {_sources(package)}")


def add_model(parser: command.Parser, package: Package) -> None:
    """--model, for the verbs that users come for: the model in the wheel unless another is named."""
    what = f"{_sources(package)} (default: %(default)s)"
    parser.add_argument("--model", metavar="BUNDLE", default="default", help=what)


def _sources(package: Package) -> str:
    names = " or ".join(f"`{name}`" for name in package.shipped)
    return "a bundle's or a run's folder, a Hub id" + (f", or {names} from the package" if names else "")


# --- models ----------------------------------------------------------------------------------------------


def export(verbs: Any, package: Package, summary: str, formats: str) -> None:
    """`formats` says what each format is, besides the bundle."""

    def run(args: argparse.Namespace) -> int:
        is_run = args.source not in package.shipped and (Path(args.source) / "recipe.yaml").exists()
        if args.calibrate and args.format not in package.calibrated:
            raise InputError(f"--calibrate sets the scales of integers, and --format {args.format} has none")
        if args.best and not is_run:
            raise InputError("--best chooses between the weights of a run, and a bundle has only one kind")
        if args.format == "bundle":
            return _export_bundle(package, args, is_run)
        stem = package.stems.get(args.source) or Path(args.source).resolve().name
        out = args.out or Path(stem + package.formats[args.format])
        if out.exists() and not args.force:
            raise InputError(f"{out}: exists already; give --force to overwrite it")
        if is_run:
            _, model = package.chapter("train").trained(args.source, args.best)
        else:
            model = package.model(args.source)
        recordings = None
        if args.calibrate:
            recordings = package.chapter("export.calibrate").recordings(model.config, args.calibrate)
        writing = package.chapter("export.write")
        facts = writing.export(model, out, args.format, recordings, args.force)
        note(f"wrote {out}")
        command.show(facts, args.json, writing.table(facts))
        return 0

    parser = command.verb(verbs, "export", run, summary, alone=True)
    parser.add_argument(
        "source", nargs="?", default="default", metavar="RUN|BUNDLE", help=f"{_sources(package)} (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=("bundle", *package.formats),
        default="bundle",
        help=f"bundle: a folder to load and share; {formats} (default: %(default)s)",
    )
    parser.add_argument("--best", action="store_true", help="of a run the weights of its best evaluation, not the last")
    add_calibrate(parser)
    command.add_out(
        parser, "the result (default: of a run its folder bundle, else the source's name with the format's ending)"
    )
    command.add_json(parser)


def _export_bundle(package: Package, args: argparse.Namespace, is_run: bool) -> int:
    if not is_run:
        what = "holds no training run (no recipe.yaml)" if Path(args.source).is_dir() else "there is no such folder"
        what = "is a bundle already" if args.source in package.shipped else what
        others = f"; choose a --format: {', '.join(package.formats)}" if package.formats else ""
        raise InputError(f"{args.source}: {what}{others}")
    out = args.out or Path(args.source) / "bundle"
    package.chapter("train").release(args.source, out, args.best, args.force)
    note(f"wrote {out}")
    command.show({"format": "bundle", "path": str(out)}, args.json, str(out))
    return 0


def add_calibrate(parser: command.Parser) -> None:
    parser.add_argument(
        "--calibrate",
        action="append",
        metavar="INPUT",
        help="a file, folder or pattern of recordings for calibration, which sets the scales of integers; may be given "
        "several times (default: synthetic sounds)",
    )


def convert(
    verbs: Any, package: Package, summary: str, original: str, recipe_title: str = "", reader: str = "original_recipe"
) -> command.Parser:
    """`original` says which files of the original programs are read. With a `recipe_title`, such as "Bytesep's
    recipe", their recipes are among them, and become recipes of the package by its chapter `reader`. One that is given
    together with a checkpoint says how the network of that is built."""

    def run(args: argparse.Namespace) -> int:
        if recipe_title and args.original.suffix.lower() in _CONFIGS:
            files = [text for text in args.settings if "=" not in text]
            if not files:
                command.check_out(args, (".yaml",), [args.original])
                write_text(args.out, package.chapter(reader).migrated(args.original, args.settings))
                return written(args, "Recipe", recipe_title, f"train by it: {package.name} train {args.out}")
            others = [text for text in args.settings if text != files[0]]
            args.original, args.settings = Path(files[0]), [f"config={args.original}", *others]
        originals = package.chapter("original")
        model = originals.convert(args.original, args.settings)
        title, text = originals.summary(model)
        card = package.card(
            f"{title}, converted", f"Converted from {args.original.name}: {text}.", "As of the original checkpoint."
        )
        package.save(model, args.out, card, args.force)
        return written(args, type(model).__name__, title, text)

    def written(args: argparse.Namespace, kind: str, title: str, text: str) -> int:
        note(f"wrote {args.out}: {title}, {text}")
        facts = {"path": str(args.out), "class": kind, "title": title, "summary": text}
        command.show(facts, args.json, str(args.out))
        return 0

    parser = command.verb(verbs, "convert", run, summary, alone=True)
    parser.add_argument("original", type=Path, help=original)
    add_settings(parser, "what the file does not hold, as model.rate=22050")
    command.add_out(parser, "the bundle's folder", required=True)
    command.add_json(parser)
    return parser


def unwrap(verbs: Any, package: Package, summary: str, convert: command.Parser, original: str) -> None:
    """`convert` is the verb for checkpoints; `original` says whose trainings are read."""

    def run(args: argparse.Namespace) -> int | None:
        source: Path = args.source
        if not (source / "recipe.yaml").exists():
            if source.is_dir():
                raise InputError(f"{source}: holds no training run (no recipe.yaml); give a run or a checkpoint")
            if args.best:
                raise InputError("--best chooses between the weights of a run; of a checkpoint averaged ones are taken")
            args.original = source
            return convert.get_default("verb")(args)
        if args.settings:
            raise InputError(f"{source}: is a run, which has its settings in itself; leave out {args.settings[0]}")
        package.chapter("train").release(source, args.out, args.best, args.force)
        note(f"wrote {args.out}")
        command.show({"path": str(args.out)}, args.json, str(args.out))
        return 0

    parser = command.verb(verbs, "unwrap", run, summary)
    parser.add_argument("source", type=Path, metavar="RUN|CKPT", help=f"a run's folder, or {original}")
    add_settings(parser, "of a checkpoint its configuration, and what neither holds, as rate=48000")
    parser.add_argument("--best", action="store_true", help="of a run the weights of its best evaluation, not the last")
    command.add_out(parser, "the bundle's folder", required=True)
    command.add_json(parser)


def describe(verbs: Any, package: Package, summary: str) -> None:
    def run(args: argparse.Namespace) -> int:
        is_file = Path(args.model).suffix in (".yaml", ".yml", ".json")
        if args.model in package.shipped or Path(args.model).is_dir() or ("/" in args.model and not is_file):
            if args.settings:
                raise InputError(f"{args.model}: is a bundle, which has no settings to change")
            config = package.model(args.model).config
        else:
            recipe_class = package.chapter("recipe").Recipe
            kinds = "bundle, run or recipe"
            config = command.load_recipe(recipe_class, package.module, args.model, args.settings, kinds).model
        cost = package.chapter("cost")
        facts = cost.describe(config)
        command.show(facts, args.json, cost.table(facts))
        return 0

    parser = command.verb(verbs, "describe", run, summary, alone=True)
    parser.add_argument("model", help=f"{_sources(package)}; or a recipe")
    add_settings(parser)
    command.add_json(parser)


# --- files to train on -----------------------------------------------------------------------------------


def scan(verbs: Any) -> None:
    def run(args: argparse.Namespace) -> int:
        from . import batch
        from .data import manifest

        command.check_out(args, (".jsonl",))
        paths = [item.file for item in batch.find(args.inputs)]
        result = manifest.scan(paths, args.out, progress=not args.quiet, check=args.decode, level=args.level)
        for name, cause in result.unreadable:
            note(f"{name}: {cause}")
        seconds = sum(item.frames / item.rate for item in result.items)
        facts = {
            "path": str(args.out),
            "files": len(result.items),
            "hours": round(seconds / 3600, 4),
            "unreadable": [row._asdict() for row in result.unreadable],
        }
        counts = f"{len(result.items)} files, {seconds / 3600:.2f} hours; {len(result.unreadable)} unreadable"
        command.show(facts, args.json, f"{args.out}: {counts}")
        return 2 if result.unreadable else 0

    summary = "List the audio files of folders in a manifest to train on, and those that cannot be read."
    parser = command.verb(verbs, "scan", run, summary, alone=True)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    command.add_out(parser, "the manifest, a .jsonl file", required=True)
    parser.add_argument("--decode", action="store_true", help="decode every file to find damage the header hides")
    parser.add_argument("--level", action="store_true", help="decode every file and store its peak and RMS in dB")
    command.add_json(parser)
    command.add_quiet(parser)
