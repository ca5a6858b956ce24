"""The fixed filters of the pretransforms, in float64: biorthogonal wavelets and the pseudo-QMF filter bank."""

import functools
import math
from collections.abc import Callable

import numpy as np

# --- wavelets ----------------------------------------------------------------------------------------------

_SYNTHESIS_ROOTS = {"bior4.4": slice(0, 1), "bior6.8": slice(2, 4)}
"""Which roots of the polynomial belong to the synthesis, in the order of their magnitudes; others leave it none."""


def wavelet_filters(name: str) -> np.ndarray:
    """Low and high filter of the analysis, low and high filter of the synthesis: (4, taps).

    They are those of Cohen, Daubechies and Feauveau (1992), placed as PyWavelets places them without its zeros in
    front. `bior6.8` has 6 vanishing moments in the synthesis and 8 in the analysis.
    """
    synthesis, analysis = (int(moments) for moments in name.removeprefix("bior").split("."))
    # The product of both low filters is a half-band filter: a power of the cosine, and a polynomial in the squared
    # sine, whose roots are shared out between the two.
    half = (synthesis + analysis) // 2
    roots = np.roots([math.comb(half - 1 + power, power) for power in reversed(range(half))])
    roots = roots[np.argsort(abs(roots), kind="stable")]
    own = _SYNTHESIS_ROOTS.get(name, slice(0))
    wide = _low_filter(analysis, np.delete(roots, own))
    narrow = _low_filter(synthesis, roots[own])
    margin = (len(wide) - len(narrow)) // 2
    narrow = np.pad(narrow, (margin - 1, margin + 1))  # its middle lies one tap before that of the other
    signs = (-1.0) ** (np.arange(len(wide)) - len(wide) // 2)
    return np.stack([wide, signs * narrow, narrow, -signs * wide])


def _low_filter(moments: int, roots: np.ndarray) -> np.ndarray:
    """√2 cos(w / 2)^moments, times 1 - sin²(w / 2) / r for each root r."""
    taps = np.array([math.sqrt(2)], dtype=complex)
    for _ in range(moments):
        taps = np.convolve(taps, [0.5, 0.5])
    for root in roots:
        taps = np.convolve(taps, [0.25 / root, 1 - 0.5 / root, 0.25 / root])
    return taps.real


# --- the filter bank -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def bank_filters(bands: int, attenuation: int) -> np.ndarray:
    """The filters (bands, taps) of stable-audio-tools' filter bank; the taps are a power of two with zeros around.

    The cutoff of the Kaiser-windowed prototype is searched so that bands next to each other sum to one. The search
    begins at 1 / bands and stops early, as the original's does, so its path decides the last digits.
    """
    cutoff = _simplex_search(lambda cutoff: _leakage(_prototype(cutoff, attenuation), bands), 1 / bands)
    taps = len(_prototype(cutoff, attenuation))
    filters = _modulated(bands, taps, _beta(attenuation), cutoff / math.pi)
    spare = (1 << (taps - 1).bit_length()) - taps
    return np.pad(filters, ((0, 0), (spare // 2, spare - spare // 2)))


def _modulated(bands: int, taps: int, beta: float, cutoff: float) -> np.ndarray:
    """A Kaiser-windowed sinc modulated to the centre of each band: (bands, taps); cutoff 1 is Nyquist."""
    time = np.arange(taps) - (taps - 1) / 2
    prototype = cutoff * np.sinc(cutoff * time) * np.kaiser(taps, beta)
    band = np.arange(bands)[:, None]
    return 2 * prototype * np.cos((band + 0.5) * np.pi / bands * time + (-1.0) ** band * np.pi / 4)


def _prototype(cutoff: float, attenuation: int) -> np.ndarray:
    """A low-pass filter whose width of transition is its cutoff, in radians a sample."""
    taps = math.ceil((attenuation - 7.95) / (2.285 * cutoff) + 1) // 2 * 2 + 1
    time = np.arange(taps) - taps // 2
    return cutoff / math.pi * np.sinc(cutoff / math.pi * time) * np.kaiser(taps, _beta(attenuation))


def _beta(attenuation: int) -> float:
    """Kaiser's, of the window."""
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)


def _leakage(prototype: np.ndarray, bands: int) -> float:
    """The largest correlation of the filter with itself at a distance of a multiple of 2 bands."""
    size = 1 << (2 * len(prototype)).bit_length()
    correlation = np.fft.irfft(abs(np.fft.rfft(prototype, size)) ** 2)[: len(prototype)]
    return float(abs(correlation[2 * bands :: 2 * bands]).max())


def _simplex_search(loss: Callable[[float], float], start: float, tolerance: float = 1e-4) -> float:
    """The minimum of a function of one number by the simplex of Nelder and Mead, with the usual factors."""
    points = sorted((loss(place), place) for place in (start, 1.05 * start))
    for _ in range(200):
        (low, best), (high, worst) = points
        if abs(worst - best) <= tolerance and high - low <= tolerance:
            break
        step = best - worst
        reflected = (loss(best + step), best + step)
        if reflected[0] < low:
            points[1] = min(reflected, (loss(best + 2 * step), best + 2 * step))
        else:
            inside = best + step / 2 if reflected[0] < high else best - step / 2
            points[1] = (loss(inside), inside)
            if points[1][0] > min(reflected[0], high):
                points[1] = (loss(best - step / 2), best - step / 2)
        points.sort()
    return points[0][1]
