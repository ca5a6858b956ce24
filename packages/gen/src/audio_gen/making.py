"""The verbs that make audio: generate, inpaint, continue, vary."""

from __future__ import annotations

import argparse
import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from audio_core import batch, command, verbs
from audio_core.files import InputError, note

from . import PACKAGE

SETTINGS = (
    *("steps", "cfg", "sampler", "rescale", "interval", "apg", "norm_threshold"),
    *("temperature", "top_k", "top_p"),
)


def add(verbs_: Any) -> None:
    generate = command.verb(verbs_, "generate", _generate, "Make audio from prompts.")
    what = "texts, or .txt files with one in each line, or .csv files with a column `prompt`"
    generate.add_argument("prompts", nargs="*", default=[""], metavar="PROMPT", help=what)
    number(generate, "--seconds", "length of each (default: all that the model generates)", float)
    number(generate, "--count", "results of each prompt", int, 1)
    command.add_out(generate, "an audio file, or a folder for many (default: the current folder)")
    _common(generate)

    inpaint = command.verb(verbs_, "inpaint", _inpaint, "Make parts of a recording anew; the rest stays as it is.")
    _recordings(inpaint)
    where = "what stays, in seconds; all else is made anew"
    inpaint.add_argument("--keep", nargs="+", required=True, metavar="FROM:TO", type=_region, help=where)
    _common(inpaint)

    continued = command.verb(verbs_, "continue", _continue, "Go on where a recording ends.")
    _recordings(continued)
    number(continued, "--seconds", "how much to add", float, 5.0)
    number(continued, "--context", "how much of the end the model hears (default: half of its length)", float)
    _common(continued)

    back = command.verb(verbs_, "reconstruct", _reconstruct, "Encode and decode by a diffusion autoencoder.")
    back.add_argument("inputs", nargs="+", metavar="INPUT", help="audio files, folders or patterns")
    back.add_argument("--model", metavar="BUNDLE", required=True, help="a bundle's or a run's folder, or a Hub id")
    number(back, "--seed", "gives the same result again; -1 draws one and prints it", int, -1)
    number(back, "--steps", "sampling steps (default: the model's own)", int)
    command.add_out(back, "an audio file, or a folder for many", required=True)
    command.add_device(back)
    command.add_json(back)
    command.add_quiet(back)

    vary = command.verb(verbs_, "vary", _vary, "Make recordings that are like a given one.")
    _recordings(vary)
    number(vary, "--strength", "how unlike, from 0 to 1", float, 0.5)
    _common(vary)


def _recordings(parser: command.Parser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="audio files, folders or patterns")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what is to be heard")
    command.add_out(parser, "an audio file, or a folder for many", required=True)


def _common(parser: command.Parser) -> None:
    verbs.add_model(parser, PACKAGE)
    parser.add_argument("--negative", metavar="TEXT", help="what results shall be unlike; needs guidance")
    number(parser, "--seed", "gives the same result again; -1 draws one and prints it", int, -1)
    how = parser.add_argument_group("sampling (default: the model's own settings)")
    number(how, "--steps", "sampling steps", int)
    number(how, "--cfg", "scale of classifier-free guidance; 1: none", float)
    names = "euler, rk4, dpmpp, pingpong of rectified flows; dpmpp-3m-sde, dpmpp-2m, v-ddim and more of v-models"
    how.add_argument("--sampler", type=_sampler, metavar="NAME", help=names)
    number(how, "--rescale", "of guidance, from 0 to 1", float)
    how.add_argument("--interval", type=_region, metavar="FROM:TO", help="noise levels at which guidance acts")
    number(how, "--apg", "adaptive projected guidance, from 0 to 1", float)
    number(how, "--norm-threshold", "greatest norm of guidance", float)
    number(how, "--temperature", "of a language model; 0: always the likeliest code", float)
    number(how, "--top-k", "of a language model: draw from so many codes", int)
    number(how, "--top-p", "of a language model: draw from codes that have this probability together", float)
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="FILE[:STRENGTH]", help="of `finetune`; may be given often"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="the value of another conditioner"
    )
    command.add_device(parser)
    command.add_json(parser)
    command.add_quiet(parser)


def number(parser: Any, flag: str, what: str, kind: type, default: Any = None) -> None:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {name}, got {text[:20]!r}")
        return value

    shown = "" if default is None else " (default: %(default)s)"
    parser.add_argument(flag, type=read, default=default, metavar="N", help=what + shown)


def _region(text: str) -> tuple[float, float]:
    try:
        start, end = (float(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected FROM:TO such as 0:4, got {text[:20]!r}") from None
    if not 0 <= start < end < math.inf:
        raise argparse.ArgumentTypeError(f"expected a start before an end, got {text[:20]!r}")
    return start, end


def _sampler(text: str) -> str:
    """One of any objective: that it is one of the model's is known when that is loaded."""
    from .config.sampling import FlowSampler, VSampler

    names = (*get_args(FlowSampler), *get_args(VSampler))
    if text not in names:
        close = difflib.get_close_matches(text, names, 1, 0.6)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is none; {hint}")
    return text


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in SETTINGS}


def _values(args: argparse.Namespace) -> dict[str, Any]:
    values = {}
    for text in args.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set: expected KEY=VALUE, got {text[:40]!r}")
        try:
            values[key] = float(value)
        except ValueError:
            values[key] = value
    return values


def _loaded(args: argparse.Namespace) -> Any:
    model = PACKAGE.model(args.model)
    if args.adapter:
        from .adapters import adapt

        adapt(model, args.adapter)
    return model.to(command.device(args.device))


def _seed(args: argparse.Namespace) -> int:
    from .diffusion import item_seeds

    seed = item_seeds(args.seed, 1)[0]
    if args.seed == -1 and not args.quiet:
        note(f"seed {seed}")
    return seed


def _expect_conditions(args: argparse.Namespace, model: Any) -> None:
    """Refuse values by --set that no conditioner of the model takes."""
    conditioning = model.config.conditioning
    known = {*conditioning.conditioners, *conditioning.default_keys.values()}
    for key in _values(args):
        if key not in known:
            there = ", ".join(sorted(known)) or "none"
            raise InputError(f"--set: the model has no condition {key[:40]!r}; it has {there}")


def _remark_cut(args: argparse.Namespace, model: Any, items: Sequence[Mapping[str, Any]]) -> None:
    """Tell of texts that are longer than what the model reads of them."""
    for key, conditioner in [] if args.quiet else model.conditioner.conditioners.items():
        for text in {item[key]: None for item in items if isinstance(item.get(key), str)}:
            if counts := conditioner.limit(text):
                note(f"{key} {text[:24]!r}...: only {counts} count")


def _print_result(args: argparse.Namespace, path: Path, seed: int, seconds: float, values: Mapping[str, Any]) -> None:
    """One line: JSON, or the file's name."""
    facts = {**values, "file": str(path), "seed": seed, "seconds": round(seconds, 3)}
    print(json.dumps(facts, ensure_ascii=False) if args.json else path, flush=True)


def _generate(args: argparse.Namespace) -> int:
    from . import files
    from .generate import chosen, generate, samples_of

    if args.count < 1:
        raise InputError(f"--count: expected a number from 1 on, got {args.count}")
    prompts = files.repeated(files.prompts_of(args.prompts, _values(args)), args.count)
    pairs = files.jobs(prompts, args.out or Path(), ".wav")
    model = _loaded(args)
    chosen(model.config, **_settings(args))  # what is wrong for all is told once
    samples_of(model.config, args.seconds)
    _expect_conditions(args, model)
    seed = _seed(args) if any(prompt.seed is None for prompt in prompts) else 0
    _remark_cut(args, model, [prompt.values for prompt in prompts])
    numbered = {job.source: (seed + at, prompt) for at, (job, prompt) in enumerate(pairs)}

    def work(source: Path, target: Path) -> None:
        number, prompt = numbered[source]
        number = number if prompt.seed is None else prompt.seed
        with files.steps_shown(args.quiet) as callback:
            result = generate(
                model,
                prompt.values,
                args.seconds if prompt.seconds is None else prompt.seconds,
                args.negative if prompt.negative is None else prompt.negative,
                number,
                callback=callback,
                **_settings(args),
            )
        assert result.audio is not None
        files.write(target, result.audio[0].cpu().numpy(), model.config.rate, force=args.force)
        _print_result(args, target, number, result.audio.shape[2] / model.config.rate, prompt.values)

    return batch.run([job for job, _ in pairs], work, args.force, args.quiet).code


def _inpaint(args: argparse.Namespace) -> int:
    from .editing import inpaint

    return _edited(args, lambda *given, **settings: inpaint(*given, args.keep, **settings))


def _continue(args: argparse.Namespace) -> int:
    from .editing import continued

    return _edited(args, lambda *given, **settings: continued(*given, args.seconds, context=args.context, **settings))


def _vary(args: argparse.Namespace) -> int:
    from .editing import varied

    return _edited(args, lambda *given, **settings: varied(*given, args.strength, **settings))


def _reconstruct(args: argparse.Namespace) -> int:
    from audio_core import audio

    from . import files
    from .editing import reconstructed

    model, seed = PACKAGE.model(args.model).to(command.device(args.device)), _seed(args)
    jobs = batch.targets(batch.find(args.inputs), args.out)
    seeds = {job.source: seed + at for at, job in enumerate(jobs)}

    def work(source: Path, target: Path) -> None:
        recording = audio.read(source)
        result = reconstructed(model, recording.samples, recording.rate, seeds[source], args.steps)
        files.write(target, result, recording.rate, force=args.force)
        _print_result(args, target, seeds[source], result.shape[1] / recording.rate, {})

    return batch.run(jobs, work, args.force, args.quiet).code


def _edited(args: argparse.Namespace, edit: Callable[..., Any]) -> int:
    from audio_core import audio

    from . import files
    from .generate import chosen

    jobs = batch.targets(batch.find(args.inputs), args.out)
    item = {"prompt": args.prompt, **_values(args)}
    model = _loaded(args)
    chosen(model.config, **_settings(args))
    _expect_conditions(args, model)
    seed = _seed(args)
    _remark_cut(args, model, [item])
    seeds = {job.source: seed + at for at, job in enumerate(jobs)}

    def work(source: Path, target: Path) -> None:
        recording = audio.read(source)
        with files.steps_shown(args.quiet) as callback:
            result = edit(
                model,
                recording.samples,
                recording.rate,
                prompt=item,
                negative=args.negative,
                seed=seeds[source],
                callback=callback,
                **_settings(args),
            )
        encoding, _ = audio.encoding_like(audio.info(source).encoding, target.suffix)
        files.write(target, result, recording.rate, encoding, args.force)
        _print_result(args, target, seeds[source], result.shape[1] / recording.rate, item)

    return batch.run(jobs, work, args.force, args.quiet).code
