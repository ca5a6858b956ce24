"""The models of four subbands as Bytesep's program computes them, so that what ours do otherwise can be measured.

It transforms by convolutions with Fourier matrices, computes the network layer by layer as it was trained and every
source, and cuts segments of 30 s, which overlap by half, at a quarter and three quarters. The weights and the layers
are those of our model, whose sums in place are left in.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from audio_core.dsp.stft import magnitude_phase
from audio_sep.models.separator import SpectrogramSeparator
from torch import Tensor, nn

SEGMENT = 30.0  # seconds


class MatrixSTFT:
    """Real and imaginary parts (N, F, frames) of the spectra of audio (N, T), and back."""

    def __init__(self, n_fft: int, hop: int):
        self.n_fft, self.hop = n_fft, hop
        n = torch.arange(n_fft)
        angles = 2 * math.pi * (n[:, None] * n % n_fft).double() / n_fft
        window = torch.hann_window(n_fft, dtype=torch.float64)
        bins = n_fft // 2 + 1
        self.cos = (angles.cos() * window)[:bins, None].float()  # (F, 1, n)
        self.sin = (-angles.sin() * window)[:bins, None].float()
        self.inverse_cos = (angles.cos() * window[:, None] / n_fft)[..., None].float()  # (n, bins of both halves, 1)
        self.inverse_sin = (angles.sin() * window[:, None] / n_fft)[..., None].float()
        self.square = window.square().float()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(x[:, None], (self.n_fft // 2, self.n_fft // 2), mode="reflect")
        return F.conv1d(padded, self.cos, stride=self.hop), F.conv1d(padded, self.sin, stride=self.hop)

    def inverse(self, real: Tensor, imaginary: Tensor, length: int) -> Tensor:
        real = torch.cat([real, real[:, 1:-1].flip(1)], 1)
        imaginary = torch.cat([imaginary, -imaginary[:, 1:-1].flip(1)], 1)
        pieces = F.conv1d(real, self.inverse_cos) - F.conv1d(imaginary, self.inverse_sin)  # (N, n, frames)
        weight = self.added(self.square[None, :, None].expand(1, -1, pieces.shape[-1]))
        audio = self.added(pieces) / weight.clamp(min=1e-11)
        return audio[:, self.n_fft // 2 :][:, :length]

    def added(self, pieces: Tensor) -> Tensor:
        total = (pieces.shape[-1] - 1) * self.hop + self.n_fft
        return F.fold(pieces, (1, total), (1, self.n_fft), stride=(1, self.hop))[:, 0, 0]


class BytesepWay:
    def __init__(self, model: SpectrogramSeparator):
        self.model, self.config = copy.deepcopy(model).eval(), model.config
        self.transform = MatrixSTFT(self.config.n_fft, self.config.hop)
        for decoder in self.model.body.decoders:
            if isinstance(decoder.up[-1], nn.Upsample):  # MobileNet's pixels are repeated first
                decoder.up = nn.Sequential(decoder.up[-1], *decoder.up[:-1])

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Tensor:
        """(B, C, T) -> (B, S, C, T)."""
        model, (batch, channels, length) = self.model, audio.shape
        subbands = model.bank.analysis(audio)  # (B, C * bands, n)
        parts = [part.view(batch, -1, *part.shape[1:]).mT for part in self.transform(subbands.flatten(0, 1))]
        magnitude, cos, sin = magnitude_phase(*parts)  # (B, C * bands, frames, bins)
        x = model.features(magnitude)
        planes = F.conv2d(x, model.planes.weight, model.planes.bias)[:, :, : magnitude.shape[2]]
        sources, _, kinds, bands, _ = model.planes.rows
        planes = F.pad(planes, (0, 1)).view(batch, sources, channels, kinds, bands, *magnitude.shape[2:])
        mask, x, y, added = planes.unbind(3)  # (B, S, C, bands, frames, bins)
        magnitude, cos, sin = (part.unflatten(1, (1, channels, bands)) for part in (magnitude, cos, sin))
        x, y = torch.tanh(x), torch.tanh(y)
        turn = (x**2 + y**2).sqrt().clamp(min=1e-10)
        x, y = x / turn, y / turn
        magnitude = torch.relu(torch.sigmoid(mask) * magnitude + torch.tanh(added))
        real, imaginary = magnitude * (cos * x - sin * y), magnitude * (sin * x + cos * y)
        spectra = (part.flatten(0, 3).mT for part in (real, imaginary))
        subbands = self.transform.inverse(*spectra, subbands.shape[-1]).view(batch, sources * channels * bands, -1)
        return model.bank.synthesis(subbands, length).unflatten(1, (sources, channels))

    def separate(self, samples: np.ndarray, seconds: float = SEGMENT) -> np.ndarray:
        """(C, T) -> (S, C, T), in segments of so many seconds."""
        size, length = round(seconds * self.config.rate), samples.shape[1]
        padded = np.pad(samples.astype(np.float64), ((0, 0), (0, -length % size)))
        starts = range(0, padded.shape[1] - size + 1, size // 2)
        pieces = []
        for start in starts:
            segment = torch.from_numpy(padded[:, start : start + size].astype(np.float32))
            begin = 0 if start == 0 else size // 4
            end = size if start == starts[-1] else 3 * size // 4
            pieces.append(self(segment[None])[0, ..., begin:end].numpy())
        return np.concatenate(pieces, -1)[..., :length]
