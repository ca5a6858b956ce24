"""What audio-acdnet costs: ratios measured side by side in this process, on one thread of processor time.

hatch run bench acdnet [--minutes 60]
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import audio_acdnet
import numpy as np
import torch
from audio_acdnet.classify import stream
from audio_acdnet.config import ACDNET, MICRO, ACDNetConfig
from audio_acdnet.crops import FULL_SCALE, stretch
from audio_acdnet.data import mix
from audio_acdnet.export import c_code, calibrate
from audio_acdnet.export.quantise import quantise
from audio_acdnet.model import ACDNet, folded
from audio_core import audio

RATE, SAMPLES = 20000, 30225


def compared(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of processor time of both functions, which are called in turn."""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for function, taken in zip((one, other), times, strict=True):
            began = time.process_time()
            function()
            taken.append(time.process_time() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def show(what: str, ours: float, other: float, than: str) -> None:
    print(f"{what:42} {1000 * ours:9.3f} ms   {other / ours:5.2f} times as fast as {than} ({1000 * other:.3f} ms)")


# --- mixing ------------------------------------------------------------------------------------------------


def level_by_windows(x: np.ndarray) -> float:
    """The level of a crop as the published programs find it: window by window, the weights computed in each."""
    size, levels = 2048, []
    for start in range(0, len(x) - size + 1, size // 2):
        spectrum = np.fft.rfft(x[start : start + size] * np.hanning(size + 1)[:-1])
        square = np.linspace(0, RATE // 2, size // 2 + 1) ** 2
        square[0] = 1
        curve = 2 + 20 * (
            2 * np.log10(12194.0)
            + 2 * np.log10(square)
            - np.log10(square + 12194.0**2)
            - np.log10(square + 20.6**2)
            - 0.5 * np.log10(square + 107.7**2)
            - 0.5 * np.log10(square + 737.9**2)
        )
        power = np.abs(spectrum) ** 2 * np.power(10, np.maximum(curve, -80) / 10)
        levels.append(10 * np.log10(np.maximum(power.sum(), 1e-8)))
    return max(levels)


def mixing() -> None:
    rng = np.random.default_rng(0)
    sounds = [(8000 * rng.standard_normal(100_000)).astype(np.int16) for _ in range(20)]
    mixes = mix.Mixes(sounds, list(range(20)), 20, RATE, SAMPLES)
    draws = [mixes.drawn(index) for index in range(32)]

    def by_windows() -> None:
        for drawn in draws:
            crops = []
            for clip, factor, start in drawn[:2]:
                whole = np.pad(stretch(sounds[clip], factor), SAMPLES // 2) / FULL_SCALE
                crops.append(whole[start : start + SAMPLES])
            one, other = (level_by_windows(crop) for crop in crops)
            t = 1 / (1 + np.power(10, (one - other) / 20) * (1 - drawn.ratio) / drawn.ratio)
            mixed = (crops[0] * t + crops[1] * (1 - t)) / np.sqrt(t**2 + (1 - t) ** 2)
            mix.amplify(mixed.astype(np.float32), drawn.gain_db).astype(np.float32)

    ours, other = compared(lambda: [mixes.render(drawn) for drawn in draws], by_windows, 7)
    show("a mixed training item", ours / 32, other / 32, "window by window")


# --- inference ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def folding() -> None:
    for name, channels in (("Micro-ACDNet", MICRO), ("ACDNet", ACDNET)):
        model = ACDNet(ACDNetConfig(channels=channels)).eval()
        quick, crop = folded(model), torch.randn(1, 1, SAMPLES)
        ours, other = compared(lambda q=quick, c=crop: q(c), lambda m=model, c=crop: m(c), 60)
        show(f"{name}, folded, one crop", ours, other, "unfolded")


def streaming(minutes: float) -> None:
    """Time and peak memory of classifying a recording of noise, in blocks."""
    model = folded(audio_acdnet.load())
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for length in (1.0, minutes):
            path = Path(folder) / f"{length}.wav"
            rng = np.random.default_rng(0)
            second = 0.1 * rng.standard_normal((1, 44100)).astype(np.float32)
            with audio.Writer(path, 44100, 1) as writer:
                for _ in range(int(60 * length)):
                    writer.write(second)
            began = time.process_time()
            count = sum(1 for _ in stream(model, path))
            taken = time.process_time() - began
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            print(f"{length:g} minutes, {count} events: {taken:.1f} s, {60 * length / taken:.0f} times real time")
    print(f"peak memory {peaks[0]:.0f} MB after one minute, {peaks[1]:.0f} MB after all")


def device() -> None:
    model = audio_acdnet.load()
    for map_type in ("int8", "int16"):
        quantised = quantise(model, calibrate.sounds(model.config), map_type=map_type)
        memory = sum(c_code.memory_of(quantised).values())
        print(f"C export, {map_type} maps: {memory:,} bytes of memory, {c_code.flash(quantised):,} of flash")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="length of the streamed recording")
    args = parser.parse_args()
    torch.set_num_threads(1)
    streaming(args.minutes)  # first, since it prints the peak memory of the process
    mixing()
    folding()
    device()
