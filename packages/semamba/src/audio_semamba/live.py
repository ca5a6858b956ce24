"""Live audio: a causal model enhances what arrives, chunk by chunk, with the delay of one window."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from audio_core import audio
from audio_core.audio import Samples
from audio_core.audio.arrays import shaped
from audio_core.dsp.stft import hann
from audio_core.files import InputError, note
from numpy.typing import ArrayLike
from torch import Tensor

from .model import SEMamba

NAME = "standard input"


class Stream:
    """Takes noisy audio (C, any) at the model's rate, and returns what is enhanced by then; all joined is what
    `model.enhance` makes of the whole.

        stream = Stream(model)
        for chunk in microphone:
            play(stream.feed(chunk))
        play(stream.finish())
    """

    def __init__(self, model: SEMamba, channels: int = 1):
        config = model.config
        if not config.causal:
            raise InputError(
                "this model looks at the whole recording; a stream needs a causal one, such as `causal` in the package"
            )
        self.model, self.n_fft, self.hop, self.power = model, config.n_fft, config.hop, config.compress
        self.device = next(model.parameters()).device
        self.window = hann(config.window, config.n_fft).to(self.device)
        self.state = model.start(channels)
        self.arrived = torch.zeros(channels, 0, device=self.device)  # what further frames need
        self.sums = torch.zeros(channels, 0, device=self.device)  # of overlapping frames
        self.weights = torch.zeros(0, device=self.device)  # sums of squared windows
        self.taken = self.given = 0  # samples
        self.half = self.n_fft // 2
        self.before = self.half  # samples before the first, which the STFT reflects; nobody hears them
        self.begun = self.finished = False

    @property
    def latency(self) -> int:
        """Samples after its own that an output waits for."""
        return self.n_fft - 1

    @torch.inference_mode()
    def feed(self, chunk: ArrayLike | Tensor) -> Tensor:
        """(C, any) -> (C, any); of one channel (any,) as well. An empty chunk is no mistake."""
        if self.finished:
            raise InputError("this stream is finished; make a new one for further audio")
        samples = shaped(chunk, "chunk", len(self.arrived))
        if not np.isfinite(samples).all():
            raise InputError("chunk: holds NaN or infinity")
        self.arrived = torch.cat([self.arrived, torch.from_numpy(samples).to(self.device)], 1)
        self.taken += samples.shape[1]
        if not self.begun:
            if self.arrived.shape[1] <= self.half:
                return self.arrived[:, :0]
            self._begin()
        return self._frames()

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The rest: all that was returned is then as long as the input."""
        left = self.taken - self.given
        if self.finished or not left:
            self.finished = True
            return self.arrived[:, :0]
        self.finished = True
        if not self.begun:  # as `model.enhance` does with what is too short to reflect
            self.arrived = F.pad(self.arrived, (0, self.half + 1 - self.arrived.shape[1]))
            self._begin()
        self.arrived = torch.cat([self.arrived, self.arrived[:, -self.half - 1 : -1].flip(1)], 1)
        parts = torch.cat([self._frames(), self.sums / self.weights.clamp(min=1e-11)], 1)
        return parts[:, :left]

    def _begin(self) -> None:
        self.arrived = torch.cat([self.arrived[:, 1 : self.half + 1].flip(1), self.arrived], 1)
        self.begun = True

    def _frames(self) -> Tensor:
        """Enhances all frames that are complete; returns the samples that no later frame changes."""
        frames = (self.arrived.shape[1] - self.n_fft) // self.hop + 1
        if frames < 1:
            return self.arrived[:, :0]
        pieces = self.arrived[:, : (frames - 1) * self.hop + self.n_fft].unfold(1, self.n_fft, self.hop)
        self.arrived = self.arrived[:, frames * self.hop :]
        spectrum = torch.fft.rfft(pieces * self.window).mT  # (C, F, frames)
        estimate, self.state = self.model.stream(spectrum.abs() ** self.power, spectrum.angle(), self.state)
        enhanced = torch.polar(estimate.magnitude ** (1 / self.power), estimate.phase)
        pieces = torch.fft.irfft(enhanced.mT, self.n_fft) * self.window  # (C, frames, n_fft)
        total = (frames - 1) * self.hop + self.n_fft
        sums = F.pad(self.sums, (0, total - self.sums.shape[1]))
        weights = F.pad(self.weights, (0, total - len(self.weights)))
        for at in range(frames):
            place = slice(at * self.hop, at * self.hop + self.n_fft)
            sums[:, place] += pieces[:, at]
            weights[place] += self.window.square()
        done = frames * self.hop
        output = sums[:, :done] / weights[:done].clamp(min=1e-11)
        self.sums, self.weights = sums[:, done:], weights[done:]
        dropped = min(self.before, done)
        self.before -= dropped
        output = output[:, dropped:]
        self.given += output.shape[1]
        return output


def pipe(model: SEMamba, source: BinaryIO, out: Path | None, force: bool = False, quiet: bool = False) -> None:
    """Enhance live mono audio, raw 16-bit samples or a WAV file, to an audio file, or to raw samples on standard
    output."""
    rate = model.config.rate
    stream = Stream(model)
    blocks = _enhanced(stream, audio.arriving(source, rate, model.config.hop, NAME), rate, quiet)
    if out is None:
        for block in blocks:
            sys.stdout.buffer.write(audio.to_int16(block[0]).astype("<i2").tobytes())
            sys.stdout.buffer.flush()
        return
    with audio.Writer(out, rate, 1, force=force) as writer:
        for block in blocks:
            writer.write(np.clip(block, -1, 1))


def _enhanced(stream: Stream, blocks: Iterator[Samples], rate: int, quiet: bool) -> Iterator[Samples]:
    for block in blocks:
        if not stream.taken and not quiet:
            note(f"{NAME}: enhanced at {rate} Hz with a delay of {stream.model.config.latency_ms:g} ms")
        yield finite(stream.feed(block).cpu().numpy())
    if not stream.taken:
        raise InputError(f"{NAME}: holds no audio (0 samples)")
    yield finite(stream.finish().cpu().numpy())


def finite(enhanced: Samples) -> Samples:
    """The same, unless it is useless: weights that are not finite spoil all, and so does audio of 1e20 times full
    scale."""
    if not np.isfinite(enhanced).all():
        raise InputError("the model gives NaN or infinity: its weights are damaged, or the audio is far too loud")
    return enhanced
