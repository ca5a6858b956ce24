"""The SDR by frame: equality with museval, and its edges."""

import pytest
import torch
from audio_core import metrics
from audio_core.testing import noise, tone
from audio_sep.measures import segmental_sdr, track_sdr


def test_sdr_by_frame_is_museval_s(stored_case):
    case = stored_case("sdr_museval")
    estimate, window = case.inputs["estimate"], case.config["win"]
    references = case.inputs["reference"], case.inputs["reference_with_silence"]
    frames = [segmental_sdr(estimate, reference, window) for reference in references]
    torch.testing.assert_close(frames[0], case.outputs["sdr_frames"], rtol=1e-12, atol=0)
    silent = case.outputs["sdr_frames_with_silence"]
    torch.testing.assert_close(frames[1], silent, rtol=1e-12, atol=0, equal_nan=True)
    assert silent.isnan().sum() == 1
    # Two frames are left of the second track: their median is the mean of both.
    torch.testing.assert_close(track_sdr(torch.stack(frames)), case.outputs["track_sdr"], rtol=1e-12, atol=0)


def test_sdr_by_frame_at_its_edges():
    x, n = tone(440, 0.1, channels=2), noise(seed=1, seconds=0.1, channels=2)
    assert segmental_sdr(x + n, x, 1000).shape == (1,)  # 600 samples are dropped
    assert segmental_sdr(x + n, x, 500, 250).shape == (5,)
    short = segmental_sdr(x + n, x, 44100)
    assert short.shape == (1,)
    assert short.item() == pytest.approx(metrics.sdr(x + n, x).item(), abs=1e-4)
    assert segmental_sdr(0 * x, x, 1000).isnan().all()
    assert segmental_sdr(x, x, 1000).isinf().all()
    assert segmental_sdr((x + n).expand(3, 2, -1), x.expand(3, 2, -1), 500).shape == (3, 3)
    assert track_sdr(torch.tensor([torch.nan, torch.nan])).isnan()
    with pytest.raises(ValueError, match=r"estimate \(2, 1600\) and target \(2, 1599\) differ in shape"):
        segmental_sdr(x, n[:, :-1], 1000)


def test_sdr_by_frame_with_gaps_between_frames_counts_only_the_frames():
    x, n = tone(440, 0.1), noise(seed=1, seconds=0.1)
    frames = segmental_sdr(x + n, x, 100, 800)
    assert frames.shape == (2,)
    assert frames[1].item() == pytest.approx(metrics.sdr((x + n)[:, 800:900], x[:, 800:900]).item(), abs=1e-4)
