"""The composite measures equal those of the published protocol."""

import math

import numpy as np
import pytest
import torch
from audio_core import metrics
from audio_core.testing import noise, tone
from audio_semamba.loss import normalised
from audio_semamba.measures import composite, llr, ssnr, wss
from audio_semamba.scores import pesq

RATE = 16000
UTTERANCES = ("p257_152", "p232_162")
COMPOSITES = ("csig", "cbak", "covl", "ssnr")


def utterance(case, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of noisy and enhanced: (estimate, clean), float32 of full scale 1, cut to the shorter."""
    clean, *sides = (case.inputs[f"{name}.{side}"].numpy() for side in ("clean", "noisy", "enhanced"))
    scaled = [(side.astype(np.float32) / 32768, clean.astype(np.float32) / 32768) for side in sides]
    return [(x[: len(y)], y[: len(x)]) for x, y in scaled]


@pytest.mark.parametrize("name", UTTERANCES)
def test_composite_measures_are_those_of_the_original(stored_case, name):
    case = stored_case("pesq")
    names = case.config["columns"]
    rows = (case.outputs[f"{name}.{scale}"] for scale in ("metrics", "metrics_int16"))
    for (side, clean), floats, ints in zip(utterance(case, name), *rows, strict=True):
        score = float(floats[names.index("pesq")])
        measured = composite(side, clean, score), composite(32768 * side, 32768 * clean, score, int16=True)
        for found, wanted in zip(measured, (floats, ints), strict=True):
            expected = [float(wanted[names.index(measure)]) for measure in COMPOSITES]
            assert list(found) == pytest.approx(expected, abs=1e-4)
        assert wss(side, clean) < wss(side, clean, int16=True)


@pytest.mark.parametrize("name", UTTERANCES)
def test_pesq_and_stoi_are_those_of_the_original(stored_case, name):
    case = stored_case("pesq")
    names = case.config["columns"]
    sides = utterance(case, name)
    for (side, clean), wanted in zip(sides, case.outputs[f"{name}.metrics"], strict=True):
        assert pesq(side, clean, RATE) == pytest.approx(float(wanted[names.index("pesq")]), abs=1e-4)
        stoi = metrics.stoi(torch.from_numpy(side), torch.from_numpy(clean), RATE)
        assert float(stoi) == pytest.approx(float(wanted[names.index("stoi")]), abs=1e-3)
    scores = normalised(torch.tensor([pesq(*side, RATE) for side in sides]))
    assert scores.tolist() == pytest.approx(case.outputs[f"{name}.pesq_normalised"].tolist(), abs=1e-4)


def test_equal_signals_have_no_distance_and_the_best_scores():
    x = noise(0, 1.0)[0].numpy()
    assert llr(x, x) == pytest.approx(0, abs=1e-9) and wss(x, x) == 0 and ssnr(x, x) == 35
    assert composite(x, x, 4.64) == (5, 5, 5, 35)


def test_measures_do_not_depend_on_the_level_but_for_the_floor():
    clean, error = noise(0, 1.0)[0].double().numpy(), noise(1, 1.0)[0].double().numpy()
    for measure in (llr, ssnr, lambda x, y: wss(x, y, int16=True)):
        assert measure(100 * (clean + error), 100 * clean) == pytest.approx(measure(clean + error, clean), rel=1e-3)


def test_segmental_ratio_of_a_known_error():
    clean = tone(100, 1.0)[0].double().numpy()  # a frame holds three periods
    assert ssnr(0.9 * clean, clean) == pytest.approx(20, abs=1e-6)
    assert ssnr(10 * clean, clean) == -10


def test_silence_tones_and_short_clips_end_in_numbers_or_nan():
    silence, sound, pure = np.zeros(RATE, np.float32), noise(0, 1.0)[0].numpy(), tone(440, 1.0)[0].numpy()
    half = np.where(np.arange(RATE) < RATE // 2, sound, 0)
    assert math.isfinite(sum(composite(half, half + sound, 2.0)))  # silent frames are left out
    assert math.isfinite(sum(composite(pure, sound, 2.0))) and math.isfinite(sum(composite(sound, pure, 2.0)))
    assert ssnr(sound, silence) == -10 and math.isnan(llr(sound, silence))
    assert all(map(math.isnan, composite(sound[:500], sound[:500], 2.0)))
    assert all(map(math.isnan, composite(sound, sound, math.nan)[:3]))
