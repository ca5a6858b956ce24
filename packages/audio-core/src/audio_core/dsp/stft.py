"""Short-time Fourier transforms; `magnitude_phase` is what bytesep makes of a spectrum."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import full_precision


def hann(length: int, n_fft: int | None = None) -> Tensor:
    """The periodic Hann window, zero-padded on both sides to `n_fft` (left gets the smaller half)."""
    spare = (n_fft or length) - length
    window = torch.hann_window(length, periodic=True, device="cpu")  # for "meta" PyTorch imports its whole compiler
    return F.pad(window, (spare // 2, spare - spare // 2))


def shortest_input(n_fft: int, center: bool = True) -> int:
    """Samples of the shortest input. A centred transform reflects half a window; any other needs one whole window."""
    return n_fft // 2 + 1 if center else n_fft


@full_precision
def stft(x: Tensor, n_fft: int, hop: int, window: Tensor | None = None, center: bool = True) -> Tensor:
    """(..., T) -> complex (..., F, frames), not normalised. The window is by default a periodic Hann of `n_fft`.

    Centred: frame t is centred on sample t * hop, reflected at the ends, and there are 1 + T // hop frames.
    """
    if x.shape[-1] < shortest_input(n_fft, center):
        raise ValueError(
            f"an STFT of {n_fft} points needs at least {shortest_input(n_fft, center)} samples, got {x.shape[-1]}"
        )
    window = (hann(n_fft) if window is None else window).to(x)
    flat = x.reshape(-1, x.shape[-1])
    spectrum = torch.stft(flat, n_fft, hop, n_fft, window, center, "reflect", False, True, True)
    return spectrum.reshape(*x.shape[:-1], *spectrum.shape[-2:])


@full_precision
def istft(
    spectrum: Tensor, n_fft: int, hop: int, window: Tensor | None = None, center: bool = True, length: int | None = None
) -> Tensor:
    """Complex (..., F, frames) -> (..., T): overlap-add over the summed squares of the window (>= 1e-11).

    Without `length` the end is where the last full hop ends: hop * (frames - 1) samples when centred.
    Samples beyond the last frame are zero.
    """
    frames = spectrum.shape[-1]
    window = (hann(n_fft) if window is None else window).to(spectrum.real)
    pieces = torch.fft.irfft(spectrum.reshape(-1, *spectrum.shape[-2:]), n_fft, dim=-2) * window[:, None]
    total = (frames - 1) * hop + n_fft
    squares = window.square()[None, :, None].expand(1, n_fft, frames)
    added, weight = (F.fold(p, (1, total), (1, n_fft), stride=(1, hop))[:, 0, 0] for p in (pieces, squares))
    start = n_fft // 2 if center else 0
    length = total - 2 * start if length is None else length
    x = (added / weight.clamp(min=1e-11))[:, start : start + length]
    return F.pad(x, (0, length - x.shape[-1])).reshape(*spectrum.shape[:-2], length)


@full_precision
def magnitude_phase(real: Tensor, imaginary: Tensor, eps: float = 1e-10) -> tuple[Tensor, Tensor, Tensor]:
    """bytesep's: sqrt(max(re² + im², eps)), cosine and sine of the phase; silence gives sqrt(eps), 0, 0."""
    magnitude = (real.square() + imaginary.square()).clamp(min=eps).sqrt()
    return magnitude, real / magnitude, imaginary / magnitude


class STFT(nn.Module):
    """`stft` and its inverse with fixed settings: periodic Hann of `window` samples, centred, reflected."""

    def __init__(self, n_fft: int, hop: int, window: int | None = None):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", hann(window or n_fft, n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., T) -> complex (..., F, 1 + T // hop)."""
        return stft(x, self.n_fft, self.hop, self.window)

    def inverse(self, spectrum: Tensor, length: int | None) -> Tensor:
        """Complex (..., F, frames) -> (..., length); None gives hop * (frames - 1) samples."""
        return istft(spectrum, self.n_fft, self.hop, self.window, length=length)
