"""The `audio-core` command: work on audio files, and describe released models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import command
from .__about__ import __version__
from .files import InputError, note
from .verbs import scan

if TYPE_CHECKING:
    from .report import Report


def parser() -> command.Parser:
    parser, verbs = command.program(
        "audio-core", "Inspect, convert and compare audio files, and prepare them for training.", __version__
    )

    info = command.verb(verbs, "info", _info, "Show length, rate, channels and format of audio files.", alone=True)
    info.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    command.add_json(info)

    convert = command.verb(verbs, "convert", _convert, "Convert files to another format, rate or channel count.")
    convert.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    command.add_out(convert, "a file, or a folder for many", required=True)
    convert.add_argument(
        "--format",
        metavar="EXT",
        help="format of the results in a folder: wav, flac, ogg, opus, mp3, ... (default: that of each input)",
    )
    convert.add_argument(
        "--encoding", metavar="NAME", help="such as PCM_24, FLOAT or OPUS (default: the depth of the input)"
    )
    convert.add_argument("--rate", type=_rate, metavar="HZ", help="resample to this rate")
    convert.add_argument(
        "--channels",
        type=_positive,
        metavar="N",
        help="number of channels: 1 mixes all down, 2 also mixes surround down, mono is copied to N",
    )
    command.add_quiet(convert)

    compare = command.verb(
        verbs, "compare", _compare, "Measure estimates against references, and write a page to listen to.", alone=True
    )
    compare.add_argument("reference", type=Path, help="a file, or a folder of files")
    compare.add_argument("estimate", type=Path, help="a file, or a folder with files of the same names")
    command.add_out(compare, "write an HTML page with numbers, players and spectrograms")
    command.add_json(compare)

    scan(verbs)

    pack = command.verb(
        verbs, "pack", _pack, "Pack the files of a manifest into one HDF5 file that trainings read fast.", alone=True
    )
    pack.add_argument("manifest", type=Path, help="a .jsonl file that `scan` wrote")
    command.add_out(pack, "the pack, an .h5 file", required=True)
    pack.add_argument("--rate", type=_rate, required=True, metavar="HZ", help="sampling rate of the pack")
    pack.add_argument(
        "--channels", type=_positive, default=1, metavar="N", help="channels of the pack (default: %(default)s)"
    )
    command.add_quiet(pack)

    shard = command.verb(verbs, "shard", _shard, "Put the files of a manifest into WebDataset tar files.", alone=True)
    shard.add_argument("manifest", type=Path, help="a .jsonl file that `scan` wrote")
    command.add_out(shard, "the folder of the tar files", required=True)
    shard.add_argument(
        "--size",
        type=_positive,
        default=1000,
        metavar="MB",
        help="approximate size of each tar file (default: %(default)s)",
    )
    command.add_quiet(shard)

    describe = command.verb(
        verbs, "describe", _describe, "Show package, class, settings and size of a released model.", alone=True
    )
    describe.add_argument("bundle", help="a folder or a Hub id")
    command.add_json(describe)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 12 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a positive whole number")
    return int(text)


def _rate(text: str) -> int:
    if not 1 <= _positive(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} Hz is no rate of audio; 8000 to 192000 are usual")
    return int(text)


# --- the verbs ---------------------------------------------------------------------------------------


def _info(args: argparse.Namespace) -> int:
    from . import audio, batch

    rows: list[dict[str, object]] = []
    wrong = 0
    for file, _ in batch.find(args.inputs):
        try:
            header = audio.info(file)
            rows.append({"file": str(file), "seconds": round(header.seconds, 6), **header._asdict()})
        except InputError as error:
            note(str(error))
            wrong += 1
    names = ("file", "seconds", "rate", "channels", "frames", "container", "encoding")
    if rows or args.json:
        command.show(rows, args.json, command.columns([names, *([row[name] for name in names] for row in rows)]))
    return 2 if wrong else 0


def _convert(args: argparse.Namespace) -> int:
    from . import audio, batch

    def convert(source: Path, target: Path) -> None:
        header = audio.info(source)
        rate, channels = args.rate or header.rate, args.channels or header.channels
        total = -(-header.frames * rate // header.rate)
        encoding, lost = (args.encoding, "") if args.encoding else audio.encoding_like(header.encoding, target.suffix)
        with audio.Writer(target, rate, channels, encoding, total, args.force) as writer:
            for block in audio.blocks(source, rate=rate, channels=channels):
                writer.write(block)
        if not args.quiet:
            for change in filter(None, (lost, audio.mixing(header.channels, channels))):
                note(f"{source}: {change}")
            if writer.clipped:
                note(f"{target}: {writer.clipped} samples were beyond full scale and cut off")

    def stale(target: Path) -> str:
        return audio.differing(target, args.rate, args.channels, args.encoding)

    extension = f".{args.format.lower().lstrip('.')}" if args.format else None
    if extension and args.out.suffix.lower() in audio.FORMATS and args.out.suffix.lower() != extension:
        raise InputError(f"{args.out}: is not a name for --format {args.format}")
    jobs = batch.targets(batch.find(args.inputs), args.out, extension)
    for path in (path for job in jobs for path in job.paths):  # wrong arguments, even where all is done already
        audio.Writer(path, args.rate or 48_000, args.channels or 1, args.encoding)
    return batch.run(jobs, convert, args.force, args.quiet, stale).code


def _compare(args: argparse.Namespace) -> int:
    from . import batch
    from .report import Report

    if args.out:
        command.check_out(args, (".html",), (args.reference, args.estimate))
    pairs = {args.reference.name: (args.reference, args.estimate)}
    if args.reference.is_dir():
        items = batch.find(args.reference)
        pairs = {str(relative): (file, args.estimate / relative) for file, relative in items}
    report, rows = Report("Estimates against references"), {}
    for name, (reference, estimate) in pairs.items():
        try:
            rows[name] = _measured(reference, estimate, name, report if args.out else None)
        except InputError as error:
            note(str(error))
    header = ("file", "SDR", "SI-SDR", "LSD")
    table = [(name, *row.values()) for name, row in rows.items()]
    if args.out and rows:
        report.table(header, table, "All in dB: SDR and SI-SDR higher, LSD (log-spectral distance) lower is better.")
        report.foot(args.program, args.line)
        report.save(args.out)
        note(f"wrote {args.out}")
    if rows:
        command.show(rows, args.json, command.columns([header, *table]))
    return 0 if len(rows) == len(pairs) else 2


def _measured(reference: Path, estimate: Path, name: str, report: Report | None) -> dict[str, float]:
    import torch

    from . import audio, metrics

    target, rate = audio.read(reference)
    samples, own_rate = audio.read(estimate)
    if (own_rate, samples.shape) != (rate, target.shape):
        sizes = [f"{x.shape[0]} x {x.shape[1]} samples at {r} Hz" for x, r in ((samples, own_rate), (target, rate))]
        raise InputError(
            f"{estimate}: {sizes[0]}, but the reference has {sizes[1]}; `audio-core convert` can change it"
        )
    if target.shape[1] < 1024:
        raise InputError(f"{reference}: {target.shape[1]} samples are too few to compare spectra; 1024 are needed")
    if report:
        report.heading(name)
        report.row([("reference", target, rate), ("estimate", samples, rate)])
    x, y = torch.from_numpy(samples), torch.from_numpy(target)
    return {
        "SDR": float(metrics.sdr(x, y)),
        "SI-SDR": float(metrics.si_sdr(x, y).mean()),
        "LSD": float(metrics.log_spectral_distance(x, y).mean()),
    }


def _pack(args: argparse.Namespace) -> int:
    from .data.pack import pack

    command.check_out(args, (".h5", ".hdf5"))
    result = pack(args.manifest, args.out, args.rate, args.channels, not args.quiet, args.force)
    for name, cause in result.unreadable:
        note(f"{name}: {cause}")
    print(f"{args.out}: {result.items} items; {len(result.unreadable)} unreadable")
    return 2 if result.unreadable else 0


def _shard(args: argparse.Namespace) -> int:
    from .data.sharding import shard

    result = shard(args.manifest, args.out, args.size * 10**6, not args.quiet, args.force)
    for name, cause in result.unreadable:
        note(f"{name}: {cause}")
    print(f"{args.out}: {result.items} items in {result.tars} tar files; {len(result.unreadable)} unreadable")
    return 2 if result.unreadable else 0


def _describe(args: argparse.Namespace) -> int:
    from .bundle import describe

    head = describe(args.bundle)
    command.show(head, args.json, command.columns(_flat(head)))
    return 0


def _flat(value: object, where: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{where}.{key}" if where else key)]
    return [(where, value)]
