"""Fixed transforms before the encoder and after the decoder, from time to channels: patches, wavelets, bands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from audio_core.files import InputError
from torch import Tensor, nn

from ..config import FilterBankConfig, PatchedConfig, PretransformConfig, WaveletConfig
from ..resampling import resample
from .filters import bank_filters, wavelet_filters


class Pretransform(nn.Module):
    """The face of all pretransforms; this one passes the audio on."""

    receptive_field = (0, 0)
    """Samples of `encode` to either side, beyond the `ratio` samples of the frame, and frames of `decode`."""

    def __init__(self, channels: int, ratio: int = 1, width: int | None = None):
        super().__init__()
        self.channels = channels
        self.ratio = ratio
        """Samples for each frame."""
        self.width = channels * ratio if width is None else width
        """Channels of the frames."""
        self.period = ratio
        """Samples by which audio may be shifted so that its frames are shifted too, and otherwise the same."""

    def encode(self, audio: Tensor) -> Tensor:
        """(B, C, T) -> (B, width, ceil(T / ratio)); silence fills the last frame."""
        if audio.shape[1] != self.channels:
            raise InputError(f"audio: has {audio.shape[1]} channels; the pretransform takes {self.channels}")
        return self._encode(F.pad(audio, (0, -audio.shape[-1] % self.ratio)))

    def decode(self, frames: Tensor) -> Tensor:
        """(B, width, F) -> (B, C, F * ratio)."""
        return frames

    def _encode(self, audio: Tensor) -> Tensor:
        return audio


class Patched(Pretransform):
    """Each frame holds the samples of a patch, channel by channel, perhaps at a multiple of the rate."""

    def __init__(self, config: PatchedConfig):
        super().__init__(config.channels, config.ratio, config.channels * config.patch_size)
        self.size, self.factor = config.patch_size, config.oversampling
        if self.factor > 1:  # the resampling filter has 6 zero crossings to either side and a rolloff of 0.99
            self.receptive_field = (7, -(-7 // self.ratio))

    def _encode(self, audio: Tensor) -> Tensor:
        return resample(audio, 1, self.factor).unflatten(2, (-1, self.size)).transpose(2, 3).flatten(1, 2)

    def decode(self, frames: Tensor) -> Tensor:
        return resample(frames.unflatten(1, (-1, self.size)).transpose(2, 3).flatten(2), self.factor, 1)


class Wavelet(Pretransform):
    """Biorthogonal wavelets. Each level splits the lowest band in two; the order of the bands is the original's.

    The ends are reflected, for which audio must have a few frames.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, config: WaveletConfig):
        super().__init__(config.channels, config.ratio)
        self.levels = config.levels
        filters = torch.from_numpy(wavelet_filters(config.wavelet)).float()  # (4, taps)
        self.half = filters.shape[1] // 2
        self.margin = self.half + 2  # of the synthesis, in samples of a level
        eye = torch.eye(config.channels, device="cpu")  # as the filters, also where modules are built without values
        # Rows a C + c act on channel c: (2 C, C, taps), first all low, then all high.
        kernels = [torch.einsum("at,cd->acdt", pair, eye).flatten(0, 1) for pair in (filters[:2].flip(1), filters[2:])]
        self.register_buffer("analysis", kernels[0], persistent=False)
        self.register_buffer("synthesis", kernels[1], persistent=False)
        self.receptive_field = (self.half * (self.ratio - 1), 2 * (self.half // 2 + 1))

    @full_precision
    def _encode(self, audio: Tensor) -> Tensor:
        x, channels = audio, self.channels
        self._check(audio.shape[-1] // self.ratio)
        for _ in range(self.levels):
            low, details = x[:, :channels], x[:, channels:]
            low = F.conv1d(F.pad(low, (self.half, self.half), mode="reflect"), self.analysis.to(low), stride=2)
            details = details.reshape(len(x), -1, channels, low.shape[-1], 2).permute(
                0, 1, 4, 2, 3
            )  # (B, bands, 2, C, L)
            x = torch.cat([low, details.flatten(1, 3)], 1)
        return x

    @full_precision
    def decode(self, frames: Tensor) -> Tensor:
        x, channels = frames, self.channels
        self._check(frames.shape[-1])
        for _ in range(self.levels):
            low, details = x[:, : 2 * channels], x[:, 2 * channels :]
            low = low.unflatten(1, (2, channels)).permute(0, 2, 3, 1).flatten(2)  # (B, C, 2 L)
            low = F.pad(low, (self.margin, self.margin), mode="reflect")
            low = low.unflatten(2, (-1, 2)).permute(0, 3, 1, 2).flatten(1, 2)  # (B, 2 C, L + margin)
            low = F.conv_transpose1d(low, self.synthesis.to(low), stride=2, padding=self.half)
            details = details.reshape(len(x), -1, 2, channels, x.shape[-1]).permute(
                0, 1, 3, 4, 2
            )  # (B, bands, C, L, 2)
            x = torch.cat([low[..., self.margin - 1 : -self.margin], details.flatten(3).flatten(1, 2)], 1)
        return x

    def _check(self, frames: int) -> None:
        least = self.margin // 2 + 1
        if frames < least:
            raise InputError(f"audio: has {frames} frames of {self.ratio} samples; the wavelet needs at least {least}")


class FilterBank(Pretransform):
    """Pseudo-QMF bands. Audio comes back to 3e-4 in the middle, and the first and last samples are wrong.

    In every second frame the odd bands change their sign, so frames depend on whether the first one is even.
    """

    filters: Tensor

    def __init__(self, config: FilterBankConfig):
        super().__init__(config.channels, config.ratio)
        filters = bank_filters(config.num_bands, config.attenuation)
        self.register_buffer("filters", torch.from_numpy(filters).float()[:, None], persistent=False)  # (M, 1, taps)
        self.period = 2 * self.ratio
        half = filters.shape[1] // 2
        self.receptive_field = (half, half // self.ratio + 1)

    @full_precision
    def _encode(self, audio: Tensor) -> Tensor:
        flat = audio.flatten(0, 1)[:, None]  # (B C, 1, T)
        filters = self.filters.to(flat)
        bands = F.conv1d(flat, filters, stride=self.ratio, padding=filters.shape[-1] // 2)[..., :-1]
        return self._flipped(bands).reshape(len(audio), -1, bands.shape[-1])

    @full_precision
    def decode(self, frames: Tensor) -> Tensor:
        bands = self._flipped(frames.reshape(-1, self.ratio, frames.shape[-1]))  # (B C, M, F)
        phases = self.phases().to(frames)
        padding = phases.shape[-1] // 2 + 1
        audio = self.ratio * F.conv1d(bands, phases, padding=padding)[..., :-1]
        audio = audio.transpose(1, 2).flatten(1)[:, 2 * self.ratio :]
        return audio.reshape(len(frames), self.channels, -1)

    def phases(self) -> Tensor:
        """The synthesis filters (ratio, M, taps), the analysis' backwards: one for each sample of a frame."""
        return self.filters[:, 0].flip(1).unflatten(1, (-1, self.ratio)).permute(2, 0, 1).flip(0)

    def _flipped(self, bands: Tensor) -> Tensor:
        signs = torch.ones_like(bands[0])
        signs[1::2, ::2] = -1
        return bands * signs


def build(config: PretransformConfig | None, channels: int) -> Pretransform:
    """The pretransform of audio of `channels`; without a configuration audio passes unchanged."""
    if config is None:
        return Pretransform(channels)
    if config.channels != channels:
        raise InputError(f"pretransform: takes {config.channels} channels, but the audio has {channels}")
    if isinstance(config, PatchedConfig):
        return Patched(config)
    return Wavelet(config) if isinstance(config, WaveletConfig) else FilterBank(config)
