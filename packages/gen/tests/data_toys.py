"""Small folders of latents and audio, and the settings of models that take them."""

import json
import tarfile
from dataclasses import dataclass, field

import numpy as np
from audio_core import audio
from audio_core import latents as stored
from audio_core.latents import Latents
from audio_gen.config.conditioners import CodecSource

MARK, OTHER = b"codec-01", b"codec-02"


@dataclass(frozen=True)
class Toy:
    """What data depend on of a model: latents of 4 channels at 10 frames a second, 8 of them."""

    rate: int = 1000
    channels: int = 1
    hop: int = 100
    width: int = 4
    frames: int = 8
    scale: float = 1.0
    codec: CodecSource | None = field(default_factory=lambda: CodecSource(name="toy"))


def ramp(rows, frames, first=0.0):
    """Latents whose values tell their frame."""
    return np.broadcast_to(first + np.arange(frames, dtype=np.float32), (rows, frames)).copy()


def latents(values, samples=None, mark=MARK, **facts):
    return Latents(values, 1000, 100, samples or values.shape[1] * 100, 1, mark, facts)


def save(path, values, samples=None, mark=MARK, **facts):
    stored.save(path, latents(values, samples, mark, **facts))


def save_npy(path, values, mask=None, **facts):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    facts |= {} if mask is None else {"padding_mask": mask}
    path.with_suffix(".json").write_text(json.dumps(facts))


def tone(path, seconds=1.0, rate=1000, channels=1, level=0.5):
    """A recording whose first channel is a ramp from 0 to `level`, and each further one half of that before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.linspace(0, level, round(seconds * rate), dtype=np.float32)
    audio.write(path, np.stack([samples / 2**channel for channel in range(channels)]), rate, "FLOAT")


def packed(folder, out, pieces=2):
    """The files of a folder in tars, each item's behind each other, and the last items in the first tar."""
    out.mkdir(parents=True, exist_ok=True)
    items = sorted({path.with_suffix("") for path in folder.rglob("*.*")})
    for piece in range(pieces):
        with tarfile.open(out / f"shard-{pieces - 1 - piece:03d}.tar", "w") as tar:
            for item in items[len(items) * piece // pieces : len(items) * (piece + 1) // pieces]:
                for path in sorted(item.parent.glob(f"{item.name}.*")):
                    tar.add(path, path.relative_to(folder).as_posix())
    return out


def same(one, other):
    """Whether two samples are the same, beside the paths in their facts."""
    facts = [{key: value for key, value in each.facts.items() if key != "path"} for each in (one, other)]
    return bool((one.values == other.values).all() and (one.real == other.real).all() and facts[0] == facts[1])
