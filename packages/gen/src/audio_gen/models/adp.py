"""The U-Net of audio-diffusion-pytorch: of Stable Audio 1.0, and of models without text."""

from __future__ import annotations

import torch
from audio_core.dsp.stft import hann, istft, stft
from audio_core.files import InputError
from torch import Tensor, nn

from ..config.unets import ADPConfig
from .adp_blocks import Bottleneck, DownLevel, Patcher, Unpatcher, UpLevel, joined
from .conditions import expect
from .fourier import number_embedding


class ADPUNet(nn.Module):
    """`adp_cfg_1d`, `adp_1d` and `adp_uncond_1d`. (B, C, T) -> (B, C, T)."""

    Config = ADPConfig

    def __init__(self, config: ADPConfig):
        super().__init__()
        self.config = config
        mapping = config.channels * config.context_features_multiplier
        if config.use_context_time:
            self.to_time = nn.Sequential(number_embedding(config.channels // 2, mapping), nn.GELU())
        if config.context_features:
            self.to_features = nn.Sequential(nn.Linear(config.context_features, mapping), nn.GELU())
        if config.has_mapping:
            layers = [nn.Linear(mapping, mapping), nn.GELU(), nn.Linear(mapping, mapping), nn.GELU()]
            self.to_mapping = nn.Sequential(*layers)
        if config.context_embedding_features and config.context_embedding_max_length:
            self._add_tokens(config.context_embedding_features, config.context_embedding_max_length)
        self._add_levels(mapping if config.has_mapping else None)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(0.5)

    def _add_tokens(self, width: int, length: int) -> None:
        if self.config.use_xattn_time:
            self.to_time_embedding = nn.Sequential(number_embedding(self.config.channels // 2, width), nn.GELU())
            length += 1
        self.fixed_embedding = NullTokens(length, width)

    def _add_levels(self, mapping: int | None) -> None:
        config, places = self.config, range(1, len(self.config.factors) + 1)
        self.spectra = Spectra(config) if config.use_stft else None
        inputs, outputs = config.in_channels, config.out_channels or config.in_channels
        if self.spectra:
            inputs, outputs = self.spectra.rows * inputs, self.spectra.rows * outputs
        self.to_in = Patcher(inputs + config.context_at(0), config.widths[0], config.patch_size, mapping)
        self.downsamples = nn.ModuleList(DownLevel(place, config, mapping) for place in places)
        self.bottleneck = Bottleneck(config, mapping)
        self.upsamples = nn.ModuleList(UpLevel(place, config, mapping) for place in reversed(places))
        self.to_out = Unpatcher(config.widths[0], outputs, config.patch_size, mapping)

    # --- a pass --------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cross_attn_cond: Tensor | None = None,
        cross_attn_mask: Tensor | None = None,
        global_cond: Tensor | None = None,
        input_concat_cond: Tensor | None = None,
        null_items: Tensor | None = None,
    ) -> Tensor:
        """x (B, C, T) at the times t (B,), with tokens (B, N, E), a global condition (B, G) and channels (B, K, any).

        `null_items` (B,) marks items that see the learned null tokens, for guidance and for learning it.
        """
        config = self.config
        self._check_length(x.shape[-1])
        expect("cross_attn_cond", cross_attn_cond, config.context_embedding_features or 0, -1)
        expect("global_cond", global_cond, config.context_features or 0)
        expect("input_concat_cond", input_concat_cond, sum(config.context_channels))
        tokens, mask = cross_attn_cond, None
        if tokens is not None:
            tokens = self._with_time(tokens, t)
            if null_items is not None:
                tokens = torch.where(null_items.bool()[:, None, None], self.null_tokens(tokens), tokens)
            if cross_attn_mask is not None:
                mask = self._mask(cross_attn_mask, tokens)
        return self._output(x, self._mapping(t, global_cond), tokens, mask, input_concat_cond)

    def _output(
        self, x: Tensor, mapping: Tensor | None, tokens: Tensor | None, mask: Tensor | None, context: Tensor | None
    ) -> Tensor:
        samples = x.shape[-1]
        x = self.spectra.encode(x) if self.spectra else x
        x = joined(x, context) if self.config.context_at(0) else x
        x = outermost = self.to_in(x, mapping)
        skips = []
        for level in self.downsamples:
            x, kept = level(x, mapping, tokens, mask, context)
            skips.append(kept)
        x = self.bottleneck(x, mapping, tokens, mask)
        for level in self.upsamples:
            x = level(x, skips.pop(), mapping, tokens, mask)
        x = self.to_out(x + outermost, mapping)
        return self.spectra.decode(x, samples) if self.spectra else x

    def _mapping(self, t: Tensor, global_cond: Tensor | None) -> Tensor | None:
        if not self.config.has_mapping:
            return None
        parts = [self.to_time(t)] if self.config.use_context_time else []
        parts += [] if global_cond is None else [self.to_features(global_cond)]
        return self.to_mapping(sum(parts))

    # --- tokens --------------------------------------------------------------------------------------------

    def null_tokens(self, tokens: Tensor) -> Tensor:
        """As many as the tokens (B, N, E): what they are compared with in guidance."""
        return self.fixed_embedding(tokens)

    def _with_time(self, tokens: Tensor, t: Tensor) -> Tensor:
        if self.config.use_xattn_time:
            tokens = torch.cat([tokens, self.to_time_embedding(t)[:, None]], 1)
        if tokens.shape[1] > len(self.fixed_embedding.embedding.weight):
            most = self.config.context_embedding_max_length
            raise InputError(f"cross_attn_cond: has more tokens than the {most} of context_embedding_max_length")
        return tokens

    def _mask(self, mask: Tensor, tokens: Tensor) -> Tensor:
        """As numbers, with a 1 for the time where that is a token."""
        mask = mask.to(tokens)
        return torch.cat([mask, mask.new_ones(len(mask), tokens.shape[1] - mask.shape[1])], 1)

    def _check_length(self, length: int) -> None:
        ratio, frames, unit = self.config.ratio, length, "frames"
        if self.spectra:
            frames, unit = self.spectra.frames(length), "frames of spectra"
        if frames % ratio or not frames:
            raise InputError(f"x: has {frames} {unit}; this U-Net needs a multiple of {ratio}")


class NullTokens(nn.Module):
    """A learned embedding for each place, in place of tokens."""

    def __init__(self, length: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(length, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding.weight[: tokens.shape[1]].expand_as(tokens)


class Spectra(nn.Module):
    """Audio (B, C, T) as spectra (B, C * rows, frames): magnitudes, then phases; or real, then imaginary parts."""

    window: Tensor

    def __init__(self, config: ADPConfig):
        super().__init__()
        self.points, self.hop, self.is_complex = config.stft_num_fft, config.stft_hop_length, config.stft_use_complex
        self.bands = self.points // 2 + 1
        self.rows = 2 * self.bands
        window = hann(config.stft_window_length or self.points, self.points)
        self.register_buffer("window", window, persistent=False)

    def frames(self, samples: int) -> int:
        return 1 + (samples + 2 * (self.points // 2) - self.points) // self.hop

    def encode(self, audio: Tensor) -> Tensor:
        spectrum = stft(audio, self.points, self.hop, self.window) / self.points**0.5  # (B, C, bands, frames)
        if self.is_complex:
            pair = spectrum.real, spectrum.imag
        else:
            pair = spectrum.abs(), spectrum.angle()
        return torch.cat([each.flatten(1, 2) for each in pair], 1)

    def decode(self, rows: Tensor, samples: int) -> Tensor:
        first, second = (each.unflatten(1, (-1, self.bands)) for each in rows.chunk(2, 1))
        if self.is_complex:
            spectrum = torch.complex(first, second)
        else:
            spectrum = torch.complex(first * second.cos(), first * second.sin())
        return istft(spectrum * self.points**0.5, self.points, self.hop, self.window, length=samples)
