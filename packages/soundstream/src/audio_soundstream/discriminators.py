"""SoundStream's discriminators, on samples and on spectra.

The default `width` is that of the original; computation and parameters grow with its square.
"""

from itertools import pairwise

import torch.nn.functional as F
from audio_core.dsp.stft import STFT
from audio_core.nn.discriminate import DiscriminatorOutput, Stack, gathered, parts, wave_stack
from torch import Tensor, nn


class WaveDiscriminator(nn.Module):
    """MelGAN's multi-scale discriminator in SoundStream's form: a stack for each of `scales` rates, each half the last.

    A stack downsamples by 256: logits (B, 1, ceil(T / 256)) at the first rate.
    """

    def __init__(self, channels: int = 1, width: int = 16, scales: int = 3, weight_norm: bool = False):
        super().__init__()
        self.scales = nn.ModuleList([wave_stack(channels, width, weight_norm) for _ in range(scales)])

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        outputs = []
        for place, scale in enumerate(self.scales):
            if place:
                audio = F.avg_pool1d(audio, 4, stride=2, padding=1)
            outputs.append(scale(audio))
        return gathered(outputs)


class STFTDiscriminator(nn.Module):
    """SoundStream's: six blocks over real and imaginary parts of an STFT, which downsample time by 8, frequency by 64.

    Logits (B, 1, frames // 8) are means over the remaining frequencies. Features are the outputs of the blocks.
    """

    def __init__(self, channels: int = 1, width: int = 32, n_fft: int = 1024, hop: int = 256):
        super().__init__()
        self.stft, self.shortest = STFT(n_fft, hop), 7 * hop  # samples
        widths = [width, width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        blocks = [
            nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(inputs, outputs, (stride + 2, 4), (stride, 2), padding=1),
            )
            for (inputs, outputs), stride in zip(pairwise(widths), (1, 2, 1, 2, 1, 2), strict=True)
        ]
        self.first = nn.Conv2d(2 * channels, width, 7, padding=3)
        self.blocks = Stack(blocks, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        if audio.shape[-1] < self.shortest:
            raise ValueError(f"the STFTDiscriminator needs at least {self.shortest} samples, got {audio.shape[-1]}")
        logits, features = self.blocks(F.leaky_relu(self.first(self.spectrum(audio)), 0.2))
        return DiscriminatorOutput([logits.mean(-1)], [features])

    def spectrum(self, audio: Tensor) -> Tensor:
        """(B, 2C, frames, F)"""
        return parts(self.stft(audio))
