"""Augmentations change what they say, by the generator they are given."""

import pickle
import sys

import numpy as np
import pytest
import torch
from audio_core.data import augment, pack
from audio_core.files import InputError

# --- augment ---------------------------------------------------------------------------------------------------

TUNE = np.random.default_rng(5).uniform(-0.5, 0.5, (2, 8000)).astype(np.float32)
NOISE = [np.random.default_rng(at).standard_normal((1, 3000 * at)).astype(np.float32) for at in (1, 2, 5)]


def generator() -> np.random.Generator:
    return np.random.default_rng((1, 2))


@pytest.mark.parametrize(
    "change",
    [
        augment.Gain(-6, 6),
        augment.Peak(0.95),
        augment.Polarity(),
        augment.SwapChannels(),
        augment.Mix(NOISE, 0, 10),
        augment.Shift(1000),
        augment.Shift(1000, circular=False),
        augment.Sometimes(augment.Polarity(), 1.0),
        augment.Chain(augment.Gain(-6, 6), augment.Polarity(), augment.Mix(NOISE, 0, 10)),
    ],
    ids=lambda change: type(change).__name__,
)
def test_every_augmentation_is_a_function_of_samples_and_generator(change):
    varies(change)


def varies(change) -> None:
    before = TUNE.copy()
    varied = change(TUNE, generator())
    assert np.array_equal(TUNE, before)  # the input is left alone
    assert (varied.shape, varied.dtype) == (TUNE.shape, np.float32)
    assert not np.array_equal(varied, TUNE)
    assert np.array_equal(pickle.loads(pickle.dumps(change))(TUNE, generator()), varied)


def test_gain_stays_in_its_range_and_fills_it():
    rng = generator()
    levels = [20 * np.log10((augment.Gain(-6, 3)(TUNE, rng) / TUNE).mean()) for _ in range(300)]
    assert -6 <= min(levels) < -5.8 and 2.8 < max(levels) <= 3


def test_a_peak_is_reached_with_a_gain_of_at_most_40_db():
    for scale in (0.02, 1.0, 3.0):
        assert np.abs(augment.Peak(0.95)(np.float32(scale) * TUNE, generator())).max() == pytest.approx(0.95, rel=1e-6)
    assert augment.Peak(0.95)(np.full((1, 4), 2.0**-15, np.float32), generator()).max() == pytest.approx(100 * 2.0**-15)
    for samples in (np.zeros((1, 4), np.float32), np.full((1, 4), 1e-40, np.float32)):
        assert np.array_equal(augment.Peak(0.95)(samples, generator()), samples)
    assert np.array_equal(augment.Peak(0.0)(TUNE, generator()), TUNE)


def test_the_ratio_of_signal_to_noise_is_the_one_asked_for():
    for ratio in (-5.0, 0.0, 17.5):
        for noise in ([NOISE[0]], [NOISE[2]], [np.repeat(NOISE[2], 2, 0)], [torch.from_numpy(NOISE[1])]):
            added = augment.Mix(noise, ratio, ratio)(TUNE, generator()).astype(np.float64) - TUNE
            assert 10 * np.log10(np.square(TUNE).mean(dtype=np.float64) / np.square(added).mean()) == pytest.approx(
                ratio, abs=1e-4
            )


def test_silence_has_no_ratio_and_stays():
    silence = np.zeros((2, 100), np.float32)
    assert not augment.Mix(NOISE, 0, 0)(silence, generator()).any()
    assert np.array_equal(augment.Mix([silence], 0, 0)(TUNE, generator()), TUNE)


def test_sometimes_is_as_often_as_it_says():
    rng, maybe = generator(), augment.Sometimes(augment.Polarity(), 0.3)
    flipped = sum(maybe(TUNE[:, :1], rng)[0, 0] == -TUNE[0, 0] for _ in range(2000))
    assert 0.26 < flipped / 2000 < 0.34


def test_a_shift_moves_samples_and_loses_them_only_when_told():
    rng = generator()
    for _ in range(50):
        moved = augment.Shift(5000)(TUNE, rng)
        assert np.array_equal(np.sort(moved), np.sort(TUNE))
        lost = augment.Shift(5000, circular=False)(TUNE, rng)
        empty = int((lost[0] == 0).sum())
        kept = lost[:, empty:] if not lost[0, 0] else lost[:, : 8000 - empty]
        assert np.array_equal(kept, TUNE[:, : 8000 - empty] if not lost[0, 0] else TUNE[:, empty:])


def test_pitch_and_tempo_change_one_thing_each():
    time = np.arange(32000) / 16000
    tone = (0.5 * np.sin(2 * np.pi * 500 * time) * (time < 1)).astype(np.float32)[None]

    def peak(samples: np.ndarray) -> float:
        return np.abs(np.fft.rfft(samples[0, 2000:10_000])).argmax() * 2.0

    for change in (augment.Pitch(16000, -3, 3), augment.Tempo(0.8, 1.25)):  # here: librosa takes seconds to import
        varies(change)
    higher = augment.Pitch(16000, 12, 12)(tone, generator())
    assert abs(peak(higher) - 1000) < 10
    assert np.square(higher[0, 17_000:]).sum() < 0.01 * np.square(higher).sum()
    faster = augment.Tempo(1.6, 1.6)(tone, generator())
    assert abs(peak(faster) - 500) < 10
    assert np.square(faster[0, 11_000:]).sum() < 0.01 * np.square(faster).sum()


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "librosa", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r'pip install "audio-core\[augment\]"'):
        augment.Pitch(16000, 1, 1)(TUNE, generator())
    with pytest.raises(InputError, match=r'pip install "audio-core\[hdf5\]"'):
        pack.Pack(tmp_path / "all.h5")
