"""Perceptual contrast stretching equals the original's, and keeps length, level and silence."""

import numpy as np
import pytest
from audio_core.testing import noise, tone
from audio_semamba.pcs import GAINS, stretch


def test_a_stretched_file_is_that_of_the_original(stored_case):
    case = stored_case("pcs400")
    x = case.inputs["enhanced_int16"].numpy().astype(np.float32) / 32768
    stretched = stretch(x, 16000, keep_level=False)
    np.testing.assert_allclose(GAINS, case.outputs["gains"].numpy(), atol=1e-9)
    np.testing.assert_allclose(stretched, case.outputs["pcs_wav"].numpy(), atol=1e-6)
    np.testing.assert_allclose(stretched, case.outputs["published_wav"].numpy(), atol=1 / 32768)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_length_and_level_are_kept(rate):
    x = (0.2 * tone(300, 0.737, rate, 2) + 0.1 * noise(1, 0.737, rate, 2)).numpy()
    stretched = stretch(x, rate)
    assert stretched.shape == x.shape and stretched.dtype == np.float32
    np.testing.assert_allclose(np.square(stretched).mean(-1), np.square(x).mean(-1), rtol=1e-4)
    assert np.abs(stretched - x).max() > 0.01


@pytest.mark.parametrize("samples", [0, 1, 99, 400])
@pytest.mark.parametrize("keep_level", [True, False])
def test_silence_and_short_clips_stay_finite(samples, keep_level):
    for x in (np.zeros((1, samples), np.float32), np.full((1, samples), 0.3, np.float32)):
        stretched = stretch(x, 16000, keep_level)
        assert stretched.shape == x.shape and np.isfinite(stretched).all()
        assert stretched.any() == x.any()
