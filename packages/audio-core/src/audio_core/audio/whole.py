"""Whether an audio file is whole. libsndfile reads a cut one without a word; its log, Ogg pages and MP3 frames tell."""

import re
from pathlib import Path
from typing import Any

from ..files import InputError
from .section import Section

# kbit/s of layer III by the four bits of a frame's head, for MPEG 1 and for MPEG 2 and 2.5.
_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)  # of MPEG 1; half of them for 2, a quarter for 2.5


def refuse_partial(file: Any, path: Path | Section) -> None:
    """An InputError where the open soundfile `file` would give less audio than `path` holds or promises."""
    if not file.frames:
        raise InputError(f"{path}: holds no samples")
    if file.frames == 2**63 - 1:
        raise InputError(f"{path}: does not say how long it is, as a stream; write it anew with flac or ffmpeg")
    # Of WAV and AIFF the samples' own chunk counts: many programs write a wrong size of the whole, or cut what follows.
    promised = r"(?:data|SSND|riff|Riff size) : (\d+) \(should be (\d+)\)"
    for header, actual in re.findall(promised, file.extra_info):
        # Sizes near 2^31 and 2^32 mean "unknown": written by programs that could not seek back.
        if int(actual) < int(header) < 0x7FFF0000:
            raise InputError(f"{path}: is truncated: {header} bytes promised, {actual} found")
    if file.format == "OGG":
        _refuse_partial_ogg(path)
    if file.format == "MP3":
        _refuse_unmeasured_mp3(path)


def _refuse_partial_ogg(path: Path | Section) -> None:
    with path.open("rb") as bytes_:
        bytes_.seek(max(0, path.stat().st_size - 0x10000))  # a page is shorter than 64 KiB
        tail = bytes_.read()
        bytes_.seek(0)
        first = bytes_.read(18)
    page = tail[tail.rfind(b"OggS\0") :] if b"OggS\0" in tail else b""
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""  # of the parts of the page behind its head
    if not lengths or not page[5] & 4 or len(page) < 27 + len(lengths) + sum(lengths):
        raise InputError(f"{path}: is truncated: its last Ogg page does not end the stream")
    if page[14:18] != first[14:18]:  # libsndfile would read the first one and be silent about the others
        raise InputError(f"{path}: holds several Ogg streams, one after another; split it into files")


def _refuse_unmeasured_mp3(path: Path | Section) -> None:
    """Frames of different bit rates and no table of their number: the length would be guessed from the first frame."""
    with path.open("rb") as bytes_:
        head = bytes_.read(10)
        if head[:3] == b"ID3":  # seven bits a byte
            bytes_.seek(10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
        else:
            bytes_.seek(0)
        data = bytes_.read(1 << 18)
    at, bitrates = max(0, data.find(b"\xff")), set()
    if any(mark in data[at : at + 200] for mark in (b"Xing", b"Info", b"VBRI")):
        return
    while at + 4 <= len(data):
        bits = int.from_bytes(data[at : at + 4], "big")
        version, layer, bitrate, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
        if bits >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
            break
        kbits = _KBITS[3 if version == 3 else 2][bitrate]
        hertz = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
        bitrates.add(kbits)
        at += (144_000 if version == 3 else 72_000) * kbits // hertz + (bits >> 9 & 1)
    if len(bitrates) > 1:
        raise InputError(f"{path}: does not say how long it is (bit rates vary); write it anew with `ffmpeg -c copy`")
