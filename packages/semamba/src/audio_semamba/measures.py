"""Composite measures of enhanced speech: LLR, WSS and segmental SNR, and CSIG, CBAK and COVL made of them and PESQ.

They follow the implementation by which VoiceBank-DEMAND results are published. PESQ, STOI and SI-SDR are in
`audio_core.metrics`. Audio is (T,) at 16 kHz, full scale 1, the estimate first. Where nothing can be measured they
are NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RATE = 16000
_FRAME, _HOP = 480, 120
_WINDOW = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, _FRAME + 1) / (_FRAME + 1)))
_ORDER = 16  # of linear prediction
_KEPT = 0.95  # of the frames, those with the lowest distances
_EPS = 2.2e-16
# Critical bands: centres and bandwidths in Hz.
_CENTRES = np.array(
    [
        *(50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72),
        *(1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63),
    ]
)
_WIDTHS = np.array(
    [
        *(70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823),
        *(168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136),
    ]
)


class Composite(NamedTuple):
    csig: float
    """Signal distortion, 1 to 5."""
    cbak: float
    """Intrusiveness of the background, 1 to 5."""
    covl: float
    """Overall quality, 1 to 5."""
    ssnr: float
    """Segmental signal-to-noise ratio in dB."""


def composite(estimate: np.ndarray, clean: np.ndarray, pesq: float, int16: bool = False) -> Composite:
    """The composite measures for this wide-band PESQ; see `wss` for `int16`."""
    likelihood, slopes, ratio = llr(estimate, clean), wss(estimate, clean, int16), ssnr(estimate, clean)
    scores = (
        3.093 - 1.029 * likelihood + 0.603 * pesq - 0.009 * slopes,
        1.634 + 0.478 * pesq - 0.007 * slopes + 0.063 * ratio,
        1.594 + 0.805 * pesq - 0.512 * likelihood - 0.007 * slopes,
    )
    csig, cbak, covl = (float(np.clip(score, 1, 5)) for score in scores)
    return Composite(csig, cbak, covl, ratio)


def ssnr(estimate: np.ndarray, clean: np.ndarray) -> float:
    """Mean over frames of the ratio of clean to error in dB, each within -10 and 35."""
    signal, error = (np.square(_frames(x)).sum(-1) for x in (clean, np.subtract(clean, estimate, dtype=np.float64)))
    ratios = 10 * np.log10(signal / (error + _EPS) + _EPS)
    return float(np.clip(ratios, -10, 35).mean()) if len(ratios) else float("nan")


def llr(estimate: np.ndarray, clean: np.ndarray) -> float:
    """Log likelihood ratio of the linear predictions of both, without the frames in which either is silent."""
    of_estimate, of_clean = (_autocorrelation(_frames(x)) for x in (estimate, clean))
    sounding = (of_estimate[:, 0] > 0) & (of_clean[:, 0] > 0)
    of_estimate, of_clean = of_estimate[sounding], of_clean[sounding]
    lags = np.abs(np.subtract.outer(np.arange(_ORDER + 1), np.arange(_ORDER + 1)))
    residuals = [np.einsum("fi,fij,fj->f", a, of_clean[:, lags], a) for a in map(_predictor, (of_estimate, of_clean))]
    return _lowest(np.log(residuals[0] / residuals[1]))


def wss(estimate: np.ndarray, clean: np.ndarray, int16: bool = False) -> float:
    """Weighted spectral slope distance in 25 critical bands.

    The implementation divides its input by 32768. Published numbers come from inputs of full scale 1, where quiet bands
    then lie on the floor of -100 dB; this is the default. `int16` is for inputs of full scale 32768, as was meant:
    distances are larger, and composite measures 0.02 to 0.16 lower.
    """
    scale = 1.0 if int16 else 1 / 32768
    spectra = [np.square(np.abs(np.fft.rfft(_frames(x) * scale, 1024)))[:, :512] for x in (estimate, clean)]
    levels = [10 * np.log10(np.maximum(spectrum @ _BANDS.T, 1e-10)) for spectrum in spectra]  # (frames, 25)
    slopes = [np.diff(level, axis=1) for level in levels]  # (frames, 24)
    weights = _weights(levels[0], slopes[0]) + _weights(levels[1], slopes[1])
    return _lowest((weights * np.square(slopes[0] - slopes[1])).sum(1) / weights.sum(1))


def _critical_bands() -> np.ndarray:
    """(25, 512): Gaussian weights of the bins of an FFT of 1024 points."""
    centres, widths = (np.floor(_CENTRES / (RATE / 2) * 512), _WIDTHS / (RATE / 2) * 512)
    exponents = -11 * np.square((np.arange(512) - centres[:, None]) / widths[:, None])
    weights = np.exp(exponents + np.log(70 / _WIDTHS)[:, None])
    return np.where(weights > np.exp(-30 / 4.606), weights, 0.0)


_BANDS = _critical_bands()


def _weights(levels: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Klatt's weights (frames, 24): large where a band is near the loudest one and near the next peak."""
    rows, bands = np.arange(len(levels)), slopes.shape[1]
    above, below = np.empty(slopes.shape, int), np.empty(slopes.shape, int)  # where each search of a peak ends
    end = np.full(len(levels), bands)
    for band in reversed(range(bands)):  # upwards, to the first slope that falls
        end = above[:, band] = np.where(slopes[:, band] > 0, end, band)
    end = np.full(len(levels), -1)
    for band in range(bands):  # downwards, to the first slope that rises
        end = below[:, band] = np.where(slopes[:, band] > 0, band, end)
    # Upwards the implementation takes one band before the true peak, and published numbers depend on it.
    peaks = levels[rows[:, None], np.where(slopes > 0, above - 1, below + 1)]
    loudest, levels = levels.max(1, keepdims=True), levels[:, :-1]
    return 20 / (20 + loudest - levels) / (1 + peaks - levels)


def _frames(x: np.ndarray) -> np.ndarray:
    """(frames, 480), windowed; the last full frame is left out, as the implementation does."""
    count = max(0, (len(x) - _FRAME) // _HOP)
    if not count:
        return np.zeros((0, _FRAME))
    views = np.lib.stride_tricks.sliding_window_view(np.asarray(x, np.float64), _FRAME)
    return views[: count * _HOP : _HOP] * _WINDOW


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """(frames, 17)."""
    columns = [(frames[:, : _FRAME - lag] * frames[:, lag:]).sum(1) for lag in range(_ORDER + 1)]
    return np.stack(columns, 1)


def _predictor(r: np.ndarray) -> np.ndarray:
    """Levinson's recursion: autocorrelations (frames, 17) to the filters (frames, 17) that leave the residual."""
    a, error = np.zeros_like(r), r[:, 0].copy()
    a[:, 0] = 1
    for order in range(1, _ORDER + 1):
        known = a[:, :order]
        reflection = -(known * r[:, order:0:-1]).sum(1) / error
        a[:, 1 : order + 1] += reflection[:, None] * known[:, ::-1]
        error *= 1 - np.square(reflection)
    return a


def _lowest(distances: np.ndarray) -> float:
    """The mean of the lowest 95 %."""
    kept = np.sort(distances)[: round(len(distances) * _KEPT)]
    return float(kept.mean()) if len(kept) else float("nan")
