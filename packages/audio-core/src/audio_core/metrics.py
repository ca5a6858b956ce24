"""Measures of quality. Audio is (..., T), the estimate comes first, and each docstring states its convention.

Silence gives finite numbers unless a docstring says NaN.
"""

import importlib
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dsp.stft import stft
from .files import InputError


def si_sdr(estimate: Tensor, target: Tensor, zero_mean: bool = False, eps: float = 1e-8) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis: (..., T) -> (...).

    With `zero_mean` the mean of each signal is subtracted first. A silent target gives 10 log10(eps), -80 dB.
    """
    _check(estimate, target)
    if zero_mean:
        estimate, target = (x - x.mean(-1, keepdim=True) for x in (estimate, target))
    scale = (estimate * target).sum(-1, keepdim=True) / (target.square().sum(-1, keepdim=True) + eps)
    scaled = scale * target
    return 10 * torch.log10(scaled.square().sum(-1) / ((estimate - scaled).square().sum(-1) + eps) + eps)


def snr(estimate: Tensor, target: Tensor, floor: float = 1e-10) -> Tensor:
    """10 log10 (mean target² / mean error²) over the last axis, (..., T) -> (...); both means >= `floor`."""
    _check(estimate, target)
    return _ratio(target.square().mean(-1), (estimate - target).square().mean(-1), floor)


def sdr(estimate: Tensor, target: Tensor, floor: float = 1e-8) -> Tensor:
    """`snr` with all channels pooled: (..., C, T) -> (...). The floor is bytesep's."""
    _check(estimate, target)
    return snr(estimate.flatten(-2), target.flatten(-2), floor)


def spectral_convergence(estimate: Tensor, target: Tensor, n_fft: int = 1024, hop: int = 256) -> Tensor:
    """|X - Y| / (|Y| + 1e-8) (Frobenius) of the magnitudes of estimate and target: (..., T) -> (...)."""
    _check(estimate, target)
    x, y = (stft(signal, n_fft, hop).abs() for signal in (estimate, target))
    return (x - y).norm(dim=(-2, -1)) / (y.norm(dim=(-2, -1)) + 1e-8)


def log_spectral_distance(
    estimate: Tensor, target: Tensor, n_fft: int = 1024, hop: int = 256, by_frame: bool = True, eps: float = 1e-8
) -> Tensor:
    """Root mean square difference of 10 log10(|X|² + eps) in dB: (..., T) -> (...).

    The root is taken in each frame and averaged, as is usual. `by_frame=False` takes one root over all,
    as the SoundStream original does; it prints a tenth of this number and calls it dB.
    """
    _check(estimate, target)
    x, y = (10 * torch.log10(stft(signal, n_fft, hop).abs().square() + eps) for signal in (estimate, target))
    square = (x - y).square().mean(-2)  # (..., frames)
    return square.sqrt().mean(-1) if by_frame else square.mean(-1).sqrt()


def pesq(estimate: Tensor, target: Tensor, rate: int) -> Tensor:
    """Perceptual evaluation of speech quality, (..., T) -> (...): wide band at 16 kHz, narrow band at 8 kHz.

    NaN where target or estimate is silent or the measure finds no speech.
    """
    _check(estimate, target)
    modes = {16000: "wb", 8000: "nb"}
    if rate not in modes:
        raise InputError(f"PESQ is defined at 8000 and 16000 Hz, not at {rate}: resample first")
    if target.shape[-1] < rate // 4:
        raise InputError(f"PESQ needs a quarter of a second, {rate // 4} samples, got {target.shape[-1]}")
    library = _extra("pesq")

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        try:
            return library.pesq(rate, b, a, modes[rate]) if a.any() and b.any() else float("nan")
        except library.NoUtterancesError:
            return float("nan")

    return _each(measure, estimate, target)


def stoi(estimate: Tensor, target: Tensor, rate: int, extended: bool = False) -> Tensor:
    """Short-time objective intelligibility, 0 to 1, (..., T) -> (...). Any rate is resampled to 10 kHz inside.

    NaN where too little of the target is louder than silence.
    """
    library = _extra("pystoi")

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(library.stoi(b, a, rate, extended=extended))
            except (RuntimeWarning, IndexError):  # it says so and returns 1e-5; a clip below one frame breaks it
                return float("nan")

    return _each(measure, estimate, target)


def _ratio(signal: Tensor, error: Tensor, floor: float) -> Tensor:
    return 10 * (signal.clamp(min=floor).log10() - error.clamp(min=floor).log10())


def _check(estimate: Tensor, target: Tensor) -> None:
    if estimate.shape != target.shape:
        raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} differ in shape")


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'{name} is not installed: pip install "audio-core[metrics]"') from error


def _each(measure: Any, estimate: Tensor, target: Tensor) -> Tensor:
    """`measure` of each signal alone, since the libraries take one at a time."""
    _check(estimate, target)
    flat = [x.detach().cpu().float().reshape(-1, x.shape[-1]).numpy() for x in (estimate, target)]
    values = [float(measure(a, b)) for a, b in zip(*flat, strict=True)]
    return torch.tensor(values).reshape(target.shape[:-1])
