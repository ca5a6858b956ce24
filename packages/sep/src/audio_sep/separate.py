"""Music source separation of recordings of any length, rate and number of channels, in flat memory.

Arrays, streams and files take one way: resampling to the rate of the models, segments that overlap and are
cross-faded, and resampling back. What lies above half of the models' rate is in no stem, only in the residual.
`channels.py` says how recordings of other numbers of channels than the models' are separated.

Silent segments do not go through the models, and those below -60 dB of full scale do not become louder: a model adds
magnitudes that it has learnt from music to what it masks.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from audio_core import audio
from audio_core.audio import Samples
from audio_core.audio.arrays import refuse_rate, shaped
from audio_core.chunk import process_blocks
from audio_core.dsp.precision import Precision, computed_in
from audio_core.files import InputError
from numpy.typing import ArrayLike
from torch import Tensor

from .channels import groups
from .config import SeparatorConfig
from .models.inference import for_inference
from .models.separator import SpectrogramSeparator

SEGMENT = {"fade": 10.0, "bytesep": 30.0}  # seconds
OVERLAP = 0.1  # of a segment
SPREAD = 0.5  # seconds within which the shifts lie
QUIET = 1e-3  # a segment whose peak is lower does not become louder

Stitch = Literal["fade", "bytesep"]


def separate(
    model: SpectrogramSeparator | Sequence[SpectrogramSeparator], samples: ArrayLike | Tensor, rate: int
) -> dict[str, np.ndarray]:
    """The stems of a recording (T,) or (C, T) of floats at `rate`, each of the same shape and rate."""
    return Separator(model)(samples, rate)


class Separator:
    """Models, and how recordings go through them.

        separator = Separator(load("vocals"), residual="accompaniment")
        stems = separator(samples, 48000)                    # {"vocals": ..., "accompaniment": ...}
        for stems in separator.blocks(samples, 48000):       # the same in parts, each as soon as it is ready
            ...

    Several models separate a recording in one pass. A stem that several of them give is the mean of theirs.
    """

    def __init__(
        self,
        models: SpectrogramSeparator | Sequence[SpectrogramSeparator],
        stems: Sequence[str] | None = None,
        residual: str | None = None,
        segment: float | None = None,
        overlap: float | None = None,
        shifts: int = 1,
        stitch: Stitch = "fade",
        precision: Precision = "float32",
    ):
        """`stems` are those wanted, by default all that the models give; what only others need is not computed.
        `residual` is the name of a further stem: the recording minus all others.

        `segment` is in seconds, `overlap` the share of a segment that is cross-faded with the next (default: a tenth).
        `shifts` estimates of each segment, which begin at different samples, are averaged. `stitch="bytesep"` cuts
        segments of 30 s at a quarter and three quarters, as the original program does. `precision="bf16"` computes
        the network in 16 bits, where the device does that.
        """
        models = [models] if isinstance(models, torch.nn.Module) else list(models)
        rates = sorted({model.config.rate for model in models})
        if len(rates) != 1:
            differ = f"differ in their rate, {' and '.join(f'{rate} Hz' for rate in rates)}" if rates else "are none"
            raise InputError(f"models: {differ}")
        if shifts < 1:
            raise InputError(f"shifts: expected 1 or more, got {shifts}")
        (self.rate,) = rates
        self.device = next(models[0].parameters()).device
        kind = computed_in(precision, self.device)
        self.shifts, self.stitch = shifts, stitch
        self.sizes = self._sizes(segment, overlap, models)
        self.names, self.residual = result_names([model.config for model in models], stems, residual), residual
        """The names of all that it gives; the residual is the last."""
        shares = [(model, [name for name in model.config.sources if name in self.stems]) for model in models]
        self.parts = [(_prepared(model, kind), sources) for model, sources in shares if sources]
        """Each model, and the stems that it gives."""

    def only(self, names: Collection[str]) -> Separator:
        """The same for some of its stems, which then are all that is computed; the residual needs every stem."""
        if self.residual in names:
            return self
        reduced = copy.copy(self)
        reduced.names, reduced.residual = tuple(name for name in self.stems if name in names), None
        shares = [(model, [name for name in sources if name in names]) for model, sources in self.parts]
        reduced.parts = [(model, sources) for model, sources in shares if sources]
        return reduced

    @property
    def stems(self) -> tuple[str, ...]:
        """The names of those that models give."""
        return self.names if self.residual is None else self.names[:-1]

    def __call__(self, samples: ArrayLike | Tensor, rate: int) -> dict[str, np.ndarray]:
        """The stems of a recording (T,) or (C, T) of floats at `rate`, each of the same shape and rate."""
        blocks = list(self.blocks(samples, rate))
        stems = {name: np.concatenate([block[name] for block in blocks], 1) for name in self.names}
        return {name: stem[0] for name, stem in stems.items()} if np.ndim(samples) == 1 else stems

    def blocks(self, samples: ArrayLike | Tensor | Iterator[ArrayLike], rate: int) -> Iterator[dict[str, Samples]]:
        """The stems in consecutive blocks (C, n), as soon as they are ready: of a recording, or of an iterator over
        its blocks, such as those of a live source."""
        refuse_rate(rate)
        arriving = isinstance(samples, Iterator)
        recording = _checked(samples) if arriving else iter([audio.samples(samples, "samples")])
        return (self._named(*pair) for pair in self.estimates(recording, rate))

    def _named(self, mixture: Samples, estimates: np.ndarray) -> dict[str, Samples]:
        stems = dict(zip(self.stems, estimates, strict=True))
        return stems if self.residual is None else {**stems, self.residual: mixture - estimates.sum(0)}

    def estimates(self, recording: Iterator[Samples], rate: int) -> Iterator[tuple[Samples, np.ndarray]]:
        """Blocks of the recording (C, n), each with its stems (S, C, n), without the residual."""
        first = next(recording, None)
        if first is None:
            return
        channels, size = len(first), audio.BLOCK
        waiting: deque[Samples] = deque()
        inputs = _noted(audio.regroup(itertools.chain([first], recording), size), waiting)
        if rate != self.rate:
            inputs = audio.resampled(inputs, rate, self.rate, channels)
        tensors = (torch.from_numpy(block)[None] for block in inputs)
        if self.stitch == "bytesep":
            tensors = _padded(tensors, self.sizes["segment"])
        stems = (
            block[0].numpy() for block in process_blocks(self._estimate, tensors, **self.sizes, device=self.device)
        )
        if rate != self.rate:
            stems = audio.resampled(stems, self.rate, rate, len(self.stems) * channels)
        for block in audio.regroup(stems, size):
            if not waiting:  # the rest is of the silence behind the recording
                return
            mixed = waiting.popleft()
            if not np.isfinite(block).all():
                raise InputError("the model gives NaN or infinity; the audio is far too loud, or its weights are wrong")
            yield mixed, block[:, : mixed.shape[1]].reshape(len(self.stems), channels, -1)

    # --- a segment -----------------------------------------------------------------------------------------

    def _estimate(self, segment: Tensor) -> Tensor:
        """(1, C, T) -> (1, S * C, T)"""
        (recording,) = segment
        stems = recording.new_zeros(len(self.stems), *recording.shape)
        counts = Counter(source for _, sources in self.parts for source in sources)
        for model, sources in self.parts:
            width = model.config.channels
            for group in map(list, groups(len(recording), width)):
                inputs = recording[group]
                if not inputs.any():
                    continue
                outputs = self._shifted(model, inputs.expand(width, -1), sources)
                if len(group) < width:
                    outputs = {name: output.mean(0, keepdim=True) for name, output in outputs.items()}
                for name, output in outputs.items():
                    stems[self.stems.index(name), group] += _not_louder(output, inputs) / counts[name]
        return stems.flatten(0, 1)[None]

    def _shifted(self, model: SpectrogramSeparator, recording: Tensor, sources: list[str]) -> dict[str, Tensor]:
        """(C, T) -> each source, (C, T); all but the first estimate see some silence before it."""
        length = recording.shape[-1]
        totals = {name: torch.zeros_like(recording) for name in sources}
        for at in range(self.shifts):
            before = round(SPREAD * self.rate * at / self.shifts)
            after = max(0, model.shortest - before - length)
            outputs = model.separate(F.pad(recording, (before, after))[None], sources)
            for name in sources:
                totals[name] += outputs[name][0, :, before : before + length] / self.shifts
        return totals

    def _sizes(
        self, seconds: float | None, share: float | None, models: Sequence[SpectrogramSeparator]
    ) -> dict[str, int]:
        """For `process_blocks`."""
        if self.stitch not in SEGMENT:
            raise InputError(f"stitch: expected {' or '.join(SEGMENT)}, got {self.stitch!r}")
        segment = round((SEGMENT[self.stitch] if seconds is None else seconds) * self.rate)
        least = max(model.shortest for model in models)
        if segment < least:
            raise InputError(f"segment: must be at least {least / self.rate:.3f} s, got {seconds} s")
        if self.stitch == "bytesep":
            if share is not None or segment % 4:
                what = "has no overlap" if share is not None else f"needs a multiple of 4 samples, got {segment}"
                raise InputError(f"stitch: the original's way {what}")
            return {"segment": segment, "overlap": 0, "margin": segment // 4}
        share = OVERLAP if share is None else share
        if not 0 <= share <= 0.5:
            raise InputError(f"overlap: expected a share of a segment from 0 to 0.5, got {share}")
        hop = _aligned(segment - int(share * segment), segment, [_unit(model) for model in models])
        return {"segment": segment, "overlap": segment - hop}


def result_names(
    configs: Sequence[SeparatorConfig], stems: Sequence[str] | None = None, residual: str | None = None
) -> tuple[str, ...]:
    """What a `Separator` gives with models of these configs: the stems, then the residual."""
    sources = list(dict.fromkeys(source for config in configs for source in config.sources))
    names = tuple(sources if stems is None else dict.fromkeys(stems))
    unknown = [name for name in names if name not in sources]
    if unknown or not names:
        what = f"there is no model for {unknown[0]}" if unknown else "none was asked for"
        rest = "; a residual gives the rest" if residual is None else ""
        raise InputError(f"stems: {what}; the models give {', '.join(sources)}{rest}")
    if residual in names:
        raise InputError(f"residual: {residual} is the name of a stem already")
    return names if residual is None else (*names, residual)


def _unit(model: SpectrogramSeparator) -> int:
    """Samples from one place to the next where the network's coarsest frames begin anew."""
    if not isinstance(model, SpectrogramSeparator):
        return 1
    return model.config.hop * model.config.bands * model.frames_unit


def _aligned(hop: int, segment: int, units: Sequence[int]) -> int:
    """The distance of segments, near `hop`, with which their frames lie where those of the whole recording would.

    Pooled frames that lie elsewhere give other estimates: with random weights and 10 s, 4.6 dB of SNR to the whole
    recording at once in place of 15.6. Where models do not agree on a unit, the first decides.
    """
    common = math.lcm(*units)
    unit = common if common <= segment // 4 else units[0]
    aligned = hop // unit * unit
    if 2 * aligned < segment:  # more than half would overlap
        aligned += unit
    return aligned if aligned <= segment else hop


def _not_louder(output: Tensor, recording: Tensor) -> Tensor:
    """A stem of a quiet segment with at most the energy of the recording."""
    if recording.abs().max() >= QUIET:
        return output
    energy, limit = output.square().sum(), recording.square().sum()
    return output * (limit / energy).sqrt() if energy > limit else output


def _noted(blocks: Iterator[Samples], waiting: deque[Samples]) -> Iterator[Samples]:
    """The blocks, each of them also put among those that wait for their stems. itertools.tee would keep 56 that do not
    wait any more."""
    for block in blocks:
        waiting.append(block)
        yield block


def _padded(blocks: Iterator[Tensor], segment: int) -> Iterator[Tensor]:
    """With silence at the end, up to a multiple of `segment`."""
    count, block = 0, torch.empty(0)
    for block in blocks:
        count += block.shape[-1]
        yield block
    yield block.new_zeros(*block.shape[:-1], -count % segment)


def _checked(blocks: Iterator[ArrayLike]) -> Iterator[Samples]:
    """The blocks of a recording as (C, n) of one number of channels."""
    channels = None
    for block in blocks:
        samples = shaped(block, "samples", channels)
        channels = len(samples)
        if not np.isfinite(samples).all():
            raise InputError("samples: hold NaN or infinity")
        if samples.shape[1]:
            yield samples


def _prepared(model: SpectrogramSeparator, precision: torch.dtype) -> SpectrogramSeparator:
    """In its form for inference; other models with the same face are left as they are."""
    if not isinstance(model, SpectrogramSeparator):
        return model
    return for_inference(model, precision)
