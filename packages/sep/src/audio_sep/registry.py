"""The published checkpoints of the original program: what they are and where they lie. Nothing here needs a network."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

from audio_core.files import InputError

RECORDS = "https://zenodo.org/records"
LICENCE = "the record's; the program is under Apache-2.0, and MUSDB18 is for research and education"


@dataclass(frozen=True)
class Published:
    """A checkpoint of the authors, trained on the 100 songs of MUSDB18's training set."""

    name: str
    kind: str
    """The class that `convert` makes of it."""
    source: str
    """What it separates."""
    sdr: float
    """In dB, of MUSDB18's test set, as published."""
    steps: int
    record: int
    """Of Zenodo."""
    file: str
    bytes: int
    exact: bool = True
    """Whether the size is known to the byte."""
    layout: str = "v2"
    """How its head orders the planes of subbands, which `convert` sees by the file's name."""

    @property
    def url(self) -> str:
        return f"{RECORDS}/{self.record}/files/{self.file}?download=1"

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "url": self.url, "licence": LICENCE}


def _mobilenet(source: str, sdr: float) -> Published:
    file = f"mobilenet_subbtandtime_{source}_{sdr}dB_500k_steps_v2.pth"
    return Published(
        f"{source}-mobilenet-subband", "MobileNetSubbandTime", source, sdr, 500_000, 5804160, file, 4_621_773
    )


def _resunet(source: str, sdr: float, size: int) -> Published:
    file = f"resunet143_subbtandtime_{source}_{sdr}dB_500k_steps_v2.pth"
    return Published(f"{source}-resunet-subband", "ResUNet143SubbandTime", source, sdr, 500_000, 5804160, file, size)


def _earlier(name: str, kind: str, stem: str, source: str, sdr: float, size: int, layout: str) -> Published:
    file = f"resunet143_{stem}_{source}_{sdr}dB_350k_steps.pth"
    return Published(f"{source}-{name}", kind, source, sdr, 350_000, 5507029, file, size, False, layout)


PUBLISHED = {
    published.name: published
    for published in (
        _mobilenet("vocals", 7.2),
        _mobilenet("accompaniment", 14.6),
        _resunet("vocals", 8.7, 414_046_363),
        _resunet("accompaniment", 16.4, 414_036_369),  # the original's command expects the size of the other one
        _earlier("resunet-ismir", "ResUNet143", "ismir2021", "vocals", 8.9, 461_000_000, "v2"),
        _earlier("resunet-ismir", "ResUNet143", "ismir2021", "accompaniment", 16.8, 461_000_000, "v2"),
        *(
            _earlier("resunet-subband-350k", "ResUNet143SubbandTime", "subbtandtime", source, sdr, 414_000_000, "v1")
            for source, sdr in (("vocals", 8.8), ("accompaniment", 16.4))
        ),
    )
}


def find(name: str) -> Published:
    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"they are {', '.join(PUBLISHED)}"
        raise InputError(f"{name}: no published checkpoint is called so; {hint}")
    return PUBLISHED[name]
