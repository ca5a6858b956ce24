"""The `audio-core` command: what the core can do by itself, on files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import command
from .__about__ import __version__
from .files import InputError, note


def parser() -> command.Parser:
    parser, verbs = command.program("audio-core", "Audio files: look, convert, compare, prepare for training.", __version__)

    info = command.verb(verbs, "info", _info, "Show what audio files hold.")
    info.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    command.add_json(info)

    convert = command.verb(verbs, "convert", _convert, "Convert files to another format, rate or channel count.")
    convert.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    command.add_out(convert, "a file, or a folder for many", required=True)
    convert.add_argument("--format", metavar="EXT", help="wav, flac, ogg, opus, mp3, ... (default: as the output name says, or wav)")
    convert.add_argument("--encoding", metavar="NAME", help="e.g. PCM_16, PCM_24, FLOAT, VORBIS, OPUS")
    convert.add_argument("--rate", type=_positive, metavar="HZ", help="resample to this rate")
    convert.add_argument("--channels", type=_positive, metavar="N", help="1 takes the mean; mono is copied to N")
    command.add_quiet(convert)

    compare = command.verb(verbs, "compare", _compare, "Measure estimates against references; optionally a page to listen to.")
    compare.add_argument("reference", type=Path, help="a file, or a folder of files")
    compare.add_argument("estimate", type=Path, help="a file, or a folder with files of the same names")
    command.add_out(compare, "write an HTML page with numbers, players and spectrograms")
    command.add_json(compare)

    scan = command.verb(verbs, "scan", _scan, "List the audio files of a folder in a manifest, and those that cannot be read.")
    scan.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders or patterns")
    command.add_out(scan, "the manifest, a .jsonl file", required=True)
    scan.add_argument("--decode", action="store_true", help="decode every file to find damage the header hides")
    command.add_quiet(scan)

    pack = command.verb(verbs, "pack", _pack, "Pack the files of a manifest into one HDF5 file for fast training.")
    pack.add_argument("manifest", type=Path)
    command.add_out(pack, "the pack, an .h5 file", required=True)
    pack.add_argument("--rate", type=_positive, required=True, metavar="HZ", help="the rate of the pack")
    pack.add_argument("--channels", type=_positive, default=1, metavar="N", help="its channels (default: %(default)s)")
    command.add_quiet(pack)

    describe = command.verb(verbs, "describe", _describe, "Show what a released model's folder holds.")
    describe.add_argument("bundle", help="a folder or a Hub id")
    command.add_json(describe)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(parser(), arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)
