"""What all models do around their network: spectrograms of the mixture, and audio of the sources."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from audio_core.dsp.stft import STFT, magnitude_phase
from audio_core.files import InputError
from torch import Tensor, nn

from ..config import SeparatorConfig
from .body import UNetBody
from .head import Mixture, SourcePlanes, estimates
from .pqmf import PQMF


class FrequencyNorm(nn.BatchNorm2d):
    """(B, C, T, F): each frequency has statistics of its own, over all channels, and so over all subbands."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 3)).transpose(1, 3)


class SpectrogramSeparator(nn.Module):
    """A network that sees the magnitudes of a mixture and gives a mask and a rotation for each source.

    The highest bin has no place in the network, whose sizes are powers of 2, and is silent in the result.
    """

    Config: type[SeparatorConfig] = SeparatorConfig
    bounded = False
    """Whether the magnitude that a fourth plane adds is at most 1."""
    estimated: int | None = None
    """How many sources one pass estimates, where that is not all of them."""
    precision = torch.float32
    """Of the network in the form for inference. Everything around it is float32 always."""

    def __init__(self, config: SeparatorConfig, body: UNetBody):
        super().__init__()
        self.config = config
        self.shortest = config.shortest
        self.bank = PQMF() if config.bands > 1 else None
        if self.bank is not None:
            for name, filters in [*self.bank.named_buffers()]:  # saved as well: the weights were learnt with them
                self.bank.register_buffer(name, filters)
        self.stft = STFT(config.n_fft, config.hop)
        self.norm = FrequencyNorm(config.bins, momentum=0.01)
        self.body = body
        self.frames_unit = body.unit
        """The number of frames is padded to a multiple of this."""
        sources = self.estimated or len(config.sources)
        sizes = sources, config.channels, config.planes, config.bands, config.slices
        self.planes = SourcePlanes(config.widths[0], *sizes)
        initialize(self)

    def forward(self, audio: Tensor) -> Tensor:
        """(B, C, T), T from `shortest` on -> (B, S, C, T)."""
        mixture = self.analysis(audio)
        features = self.features(mixture.magnitude)
        return self.estimate(features, mixture, [*range(len(self.config.sources))], audio.shape[-1])

    @torch.inference_mode()
    def separate(self, audio: Tensor, sources: Sequence[str] | None = None) -> dict[str, Tensor]:
        """(B, C, T) -> each source, (B, C, T). What only other sources than the wanted ones need is not computed."""
        names = self.config.sources if sources is None else sources
        mixture = self.analysis(audio)
        features = self.features(mixture.magnitude)
        outputs = self.estimate(features, mixture, self.places(names), audio.shape[-1])
        return dict(zip(names, outputs.unbind(1), strict=True))

    def places(self, names: Sequence[str]) -> list[int]:
        """Where these sources are among the outputs."""
        for name in names:
            if name not in self.config.sources:
                raise InputError(f"{name}: is no source of this model, which gives {', '.join(self.config.sources)}")
        return [self.config.sources.index(name) for name in names]

    def analysis(self, audio: Tensor) -> Mixture:
        """(B, C, T) -> spectrograms (B, C, frames, bins), or (B, C * bands, ...)."""
        channels, length = audio.shape[-2:]
        if audio.ndim != 3 or channels != self.config.channels:
            raise ValueError(f"audio must be (B, {self.config.channels}, T), got {tuple(audio.shape)}")
        if length < self.shortest:
            raise ValueError(f"audio must have at least {self.shortest} samples, got {length}")
        if self.bank is not None:
            audio = self.bank.analysis(audio)
        spectrum = self.stft(audio).mT
        return Mixture(*magnitude_phase(spectrum.real, spectrum.imag), audio.shape[-1])

    def features(self, magnitude: Tensor, *condition: Tensor) -> Tensor:
        """(B, C, frames, bins) -> what the planes follow from, (B, width, frames and some more, bins of a slice)."""
        x = F.pad(self.norm(magnitude)[..., :-1], (0, 0, 0, -magnitude.shape[2] % self.frames_unit))
        if self.config.slices > 1:
            x = sliced(x, self.config.slices)
        if self.precision != torch.float32:
            x, condition = x.to(self.precision), tuple(values.to(self.precision) for values in condition)
            return self.body(x, *condition).float()
        return self.body(x, *condition)

    def spectra(self, features: Tensor, mixture: Mixture, sources: list[int]) -> Tensor:
        """The complex spectrograms of these sources, (B, S, C, frames, bins) or (B, S, C * bands, ...)."""
        planes = self.planes(features, sources)[..., : mixture.magnitude.shape[2], :]
        return F.pad(estimates(planes, mixture, self.bounded), (0, 1))

    def synthesis(self, spectra: Tensor, samples: int, length: int) -> Tensor:
        """Spectrograms as `spectra` gives them -> audio (B, S, C, length). `samples` are those of the mixture."""
        audio = self.stft.inverse(spectra.mT, samples)
        if self.bank is None:
            return audio
        return self.bank.synthesis(audio.flatten(1, 2), length).unflatten(1, (spectra.shape[1], self.config.channels))

    def estimate(self, features: Tensor, mixture: Mixture, sources: list[int], length: int) -> Tensor:
        """The audio of these sources, (B, S, C, length)."""
        return self.synthesis(self.spectra(features, mixture, sources), mixture.samples, length)


def sliced(x: Tensor, slices: int) -> Tensor:
    """(B, C, T, F) -> (B, C * slices, T, F / slices): the lowest frequencies of a channel first."""
    return x.unflatten(-1, (slices, -1)).movedim(-2, 2).flatten(1, 2)


def initialize(model: nn.Module) -> None:
    """Xavier's uniform distribution for convolutions, uniform from -1 to 1 for what conditions shift, zero biases.

    Norms begin with 1 and 0, as PyTorch's do.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
        elif isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight, -1, 1)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
