"""Training samples and validation items: clean and noisy audio of one level, cut at the same place."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from audio_core import audio
from audio_core.audio import Samples
from audio_core.data.combine import Aligned, Mixture, Source
from audio_core.data.manifest import File
from audio_core.data.seeds import mix, shuffled
from audio_core.data.segments import cut, tensor
from torch import Tensor

from ..pcs import stretch
from ..recipe import Data
from .noises import coloured, noise
from .pairs import Corpus, read_pair

Generator = np.random.Generator
SILENT = 1e-10  # power below which audio has no level: -100 dB


def training(data: Data, corpus: Corpus, rate: int, seed: int) -> Source:
    """Endless {"clean": (1, T), "noisy": (1, T)}; each recording comes once in an epoch, whatever its kind."""
    sources: list[Source] = []
    shares: list[int] = []
    if corpus.pairs:
        sources.append(Pairs(data, corpus, rate, mix(seed, 0)))
        shares.append(len(corpus.pairs))
    if corpus.clean:
        mixer = Mixer(data, corpus, rate)
        clean = {"clean": corpus.clean}
        sources.append(
            Aligned(clean, seconds=data.seconds, rate=rate, channels=1, seed=mix(seed, 1), augment=mixer.augment)
        )
        shares.append(len(corpus.clean))
    common = math.gcd(*shares)
    return Mixture(sources, [share // common for share in shares]) if len(sources) > 1 else sources[0]


class Pairs:
    """Endless samples of recorded pairs. The level is normalised over the whole noisy file, as in the original.

    So whole files are read for each sample: long recordings are better cut before.
    """

    def __init__(self, data: Data, corpus: Corpus, rate: int, seed: int):
        self.data, self.pairs, self.rate, self.seed = data, corpus.pairs, rate, seed
        self.samples = round(data.seconds * rate)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        clean, noisy = read_pair(self.pairs[shuffled(index, len(self.pairs), self.seed)], self.rate)
        clean, noisy = _without(clean, noisy, self.data, rng)
        clean, noisy = normalised(target(clean, self.data, self.rate), noisy)
        start = int(rng.integers(max(0, noisy.shape[1] - self.samples) + 1))
        clean, noisy = (piece(x, start, self.samples) for x in (clean, noisy))
        return _tensors(*varied(clean, noisy, self.data, self.rate, rng))

    def name(self, index: int) -> str:
        return self.pairs[shuffled(index, len(self.pairs), self.seed)].name


class Mixer:
    """Mixes noise with clean speech of `corpus`: files of noise, and noise made in code."""

    def __init__(self, data: Data, corpus: Corpus, rate: int):
        self.data, self.corpus, self.rate = data, corpus, rate

    def augment(self, sources: dict[str, Samples], rng: Generator) -> dict[str, Samples]:
        """A clean segment (1, T) to a sample of training."""
        clean = sources["clean"]
        if rng.random() < self.data.microphone:
            clean = recorded(clean, self.rate, rng)
        noisy = mixed(clean, self.noise(clean.shape[1], rng), rng.uniform(*self.data.snr_db))
        clean, noisy = _without(clean, noisy, self.data, rng)
        clean, noisy = normalised(target(clean, self.data, self.rate), noisy)
        clean, noisy = varied(clean, noisy, self.data, self.rate, rng)
        return {"clean": clean, "noisy": noisy}

    def noise(self, samples: int, rng: Generator) -> Samples:
        """(1, samples) of noise from a file or made in code."""
        is_made = self.data.made and (not self.corpus.noise or rng.random() < self.data.made_share)
        if is_made:
            kind = self.data.made[int(rng.integers(len(self.data.made)))]
            return noise(kind, samples, self.rate, rng, lambda rng: self._voice(samples, rng))
        for _ in range(4):  # recordings of noise hold silence, too
            sound = piece_of(self.corpus.noise[int(rng.integers(len(self.corpus.noise)))], samples, self.rate, rng)
            if power(sound) > SILENT:
                break
        return sound

    def _voice(self, samples: int, rng: Generator) -> np.ndarray:
        speech = self.corpus.clean
        return piece_of(speech[int(rng.integers(len(speech)))], samples, self.rate, rng)[0]


class Held:
    """Validation items, always the same: whole files or the middle of each, with noise at fixed ratios in turn.

    Noise made in code is used where there are no files with noise.
    """

    def __init__(self, data: Data, corpus: Corpus, rate: int):
        self.data, self.corpus, self.rate = data, corpus, rate
        self.mixer = Mixer(replace(data, made=()) if corpus.noise else data, corpus, rate)

    def __len__(self) -> int:
        return self.corpus.files

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """{"clean": (1, T), "noisy": (1, T)}; items differ in length."""
        at = index - len(self.corpus.pairs)
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        if at < 0:
            clean, noisy = read_pair(self.corpus.pairs[index], self.rate)
        else:
            clean = audio.read(self.corpus.clean[at].path, rate=self.rate, channels=1).samples
            ratio = self.data.valid_snr_db[at % len(self.data.valid_snr_db)]
            noisy = mixed(clean, self.mixer.noise(clean.shape[1], np.random.default_rng(index)), ratio)
        clean, noisy = normalised(clean, noisy)
        length = noisy.shape[1]
        samples = min(round(self.data.valid_seconds * self.rate) or length, length)
        clean, noisy = (piece(x, (length - samples) // 2, samples) for x in (clean, noisy))
        return _tensors(clean, noisy)

    def name(self, index: int) -> str:
        at = index - len(self.corpus.pairs)
        return self.corpus.pairs[index].name if at < 0 else self.corpus.clean[at].name


# --- steps; audio is (1, T) ------------------------------------------------------------------------------


def mixed(clean: Samples, noise: Samples, snr_db: float) -> Samples:
    """`clean` with noise at this ratio of mean powers; where either is silent there is no ratio, and both are added."""
    speech, other = power(clean), power(noise)
    if min(speech, other) <= SILENT:
        return clean + noise
    return clean + noise * np.float32(math.sqrt(speech / other / 10 ** (snr_db / 10)))


def _without(clean: Samples, noisy: Samples, data: Data, rng: Generator) -> tuple[Samples, Samples]:
    """Leave out the speech or the noise of some samples."""
    draw = rng.random()
    if draw < data.silence:
        return np.zeros_like(clean), noisy - clean
    return (clean, clean.copy()) if draw < data.silence + data.clean else (clean, noisy)


def target(clean: Samples, data: Data, rate: int) -> Samples:
    """What the model is to give for this clean audio."""
    if data.pcs == "no":
        return clean
    return stretch(clean, rate, keep_level=data.pcs == "level")


def norm_factor(noisy: Samples) -> float:
    """The factor that gives the noisy audio an RMS of 1, and silence none."""
    level = power(noisy)
    return 1 / math.sqrt(level) if level > SILENT else 1.0


def normalised(clean: Samples, noisy: Samples) -> tuple[Samples, Samples]:
    """Both times the `norm_factor` of the noisy side."""
    factor = np.float32(norm_factor(noisy))
    return clean * factor, noisy * factor


def varied(clean: Samples, noisy: Samples, data: Data, rate: int, rng: Generator) -> tuple[Samples, Samples]:
    """Another bandwidth and another level, of both alike."""
    if rng.random() < data.band_limit:
        cutoff = rng.uniform(*data.band_hz)
        clean, noisy = (low_pass(x, cutoff, rate) for x in (clean, noisy))
    gain = np.float32(10 ** (rng.uniform(*data.gain_db) / 20))
    return clean * gain, noisy * gain


def recorded(clean: Samples, rate: int, rng: Generator) -> Samples:
    """As another microphone in another room would hear it: a smooth random filter, hiss 30 to 60 dB below, and rumble.

    Speech that was synthesised lacks such noise, and a model that knows no other takes that of recordings for an error.
    """
    if power(clean) <= SILENT:
        return clean
    spectrum = np.fft.rfft(clean)
    octaves = np.log2(np.linspace(1, rate / 100, spectrum.shape[-1]))
    gains_db = np.interp(octaves, np.linspace(0, octaves[-1], 7), rng.normal(0, 5.0, 7))
    filtered = np.fft.irfft(spectrum * 10 ** (gains_db / 20), clean.shape[-1]).astype(np.float32)
    hiss = coloured(clean.shape[-1], rate, rng)[None].astype(np.float32)
    rumble = low_pass(rng.standard_normal(clean.shape), rng.uniform(30, 120), rate)
    return mixed(mixed(filtered, hiss, rng.uniform(30, 60)), rumble, rng.uniform(15, 50))


def low_pass(x: Samples, cutoff: float, rate: int) -> Samples:
    """Without what is above `cutoff` Hz; the edge is a tenth of it wide."""
    spectrum = np.fft.rfft(x)
    frequency = np.fft.rfftfreq(x.shape[-1], 1 / rate)
    edge = np.clip((frequency / cutoff - 1) / 0.1, 0, 1)
    return np.fft.irfft(spectrum * np.cos(np.pi / 2 * edge) ** 2, x.shape[-1]).astype(np.float32)


def piece(x: Samples, start: int, samples: int) -> Samples:
    """(1, samples) from `start` on; silence follows what is too short."""
    part = x[:, start : start + samples]
    return np.pad(part, ((0, 0), (0, samples - part.shape[1])))


def piece_of(file: File, samples: int, rate: int, rng: Generator) -> Samples:
    """(1, samples) of a file from a random place; a shorter file is repeated."""
    length = math.ceil(samples * file.rate / rate)
    start = int(rng.integers(max(0, file.frames - length) + 1))
    whole = max(1, math.floor(file.frames * rate / file.rate))
    return np.resize(cut(file, start, min(samples, whole), rate, 1), (1, samples))


def power(x: Samples) -> float:
    return float(np.mean(np.square(x, dtype=np.float64)))


def _tensors(clean: Samples, noisy: Samples) -> dict[str, Tensor]:
    return {"clean": tensor(clean), "noisy": tensor(noisy)}
