import sys
from pathlib import Path

import pytest
import torch
from audio_core import metrics
from audio_core.files import InputError
from audio_core.testing import Case, close, noise, tone

FIXTURES = Path(__file__).parent / "fixtures"


def test_ratios_and_spectral_distances_are_soundstream_s():
    case = Case.load(FIXTURES / "eval_metrics")
    estimate, target, expected = case.inputs["reconstructed"], case.inputs["original"], case.outputs
    shape = (1, 1)
    close(metrics.snr(estimate, target), expected["snr_db"].float().expand(shape), 1e-6)
    close(metrics.si_sdr(estimate, target, zero_mean=True), expected["si_snr_db"].float().expand(shape), 1e-6)
    distance = metrics.log_spectral_distance(estimate, target, by_frame=False) / 10  # the original counts in bels
    close(distance, expected["log_spectral_distance_db"].float().expand(shape), 1e-5)
    convergence = metrics.spectral_convergence(estimate, target)
    close(convergence, expected["spectral_convergence"].float().expand(shape), 1e-5)


def test_sdr_over_a_clip_is_bytesep_s():
    case = Case.load(FIXTURES / "int16_and_sdr")
    estimate, reference, zeros = (case.inputs[name] for name in ("estimate", "reference", "zeros"))
    close(metrics.sdr(estimate, reference), case.outputs["sdr"], 1e-6)
    close(metrics.sdr(reference, reference), case.outputs["sdr_perfect"], 1e-6)
    close(metrics.sdr(estimate[:, :100], zeros), case.outputs["sdr_zero_ref_vs_estimate"], 1e-6)
    assert metrics.sdr(zeros, zeros) == 0


def test_si_sdr_ignores_the_volume_of_the_estimate():
    x, n = tone(440), noise(seed=1)
    loud, quiet = metrics.si_sdr(5 * (x + 0.1 * n), x), metrics.si_sdr(x + 0.1 * n, x)
    assert loud.shape == (1,)
    assert loud.item() == pytest.approx(quiet.item(), abs=1e-3)
    assert metrics.snr(5 * (x + 0.1 * n), x) < 0 < quiet - 30  # the noise is 31 dB down


def test_si_sdr_without_means_is_stable_audio_tools_s():
    case = Case.load(FIXTURES / "spectral_losses")
    sides = case.inputs["decoded"][:, 0], case.inputs["reals"][:, 0]
    whole = metrics.si_sdr(case.inputs["decoded"], case.inputs["reals"], zero_mean=True)
    assert whole.shape == (2, 2)
    close(metrics.si_sdr(*sides, zero_mean=True), whole[:, 0], 1e-6)
    close(whole.mean(), case.outputs["sisdr_db"], 1e-6)


def test_silence_gives_finite_numbers():
    silence, x = torch.zeros(1, 4000), tone(440, 0.25)
    measures = (
        metrics.si_sdr, metrics.snr, metrics.sdr, metrics.log_spectral_distance, metrics.spectral_convergence
    )  # fmt: skip
    for measure in measures:
        for pair in ((silence, silence), (silence, x), (x, silence), (x, x)):
            assert measure(*pair).isfinite().all(), (measure.__name__, pair)
    assert metrics.si_sdr(x, silence) == pytest.approx(-80, abs=0.01)
    assert metrics.log_spectral_distance(silence, silence) == 0


def test_a_spectrum_ten_times_as_loud_is_twenty_decibels_away():
    x = noise(seed=2)
    assert metrics.log_spectral_distance(10 * x, x).item() == pytest.approx(20, abs=1e-3)
    assert metrics.spectral_convergence(10 * x, x).item() == pytest.approx(9, abs=1e-3)


def test_signals_of_different_shapes_are_refused():
    x, y = torch.zeros(1, 4000), torch.zeros(1, 3999)
    for measure in (
        metrics.si_sdr, metrics.snr, metrics.sdr, metrics.log_spectral_distance, metrics.spectral_convergence,
        lambda a, b: metrics.pesq(a, b, 16000),
        lambda a, b: metrics.stoi(a, b, 16000),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"\(1, 4000\) and target \(1, 3999\)"):
            measure(x, y)


def test_pesq_and_stoi_are_those_of_the_published_enhancement():
    case = Case.load(FIXTURES / "pesq")
    for name in ("p257_152", "p232_162"):
        clean, noisy, enhanced = (case.inputs[f"{name}.{kind}"] for kind in ("clean", "noisy", "enhanced"))
        for estimate, row in zip((noisy, enhanced), case.outputs[f"{name}.metrics"], strict=True):
            pair = [x[: len(estimate)].float() / 32768 for x in (estimate, clean)]
            assert metrics.pesq(*pair, 16000).item() == pytest.approx(row[0].item(), abs=1e-4)
            assert metrics.stoi(*pair, 16000).item() == pytest.approx(row[5].item(), abs=1e-3)


def test_pesq_takes_batches_of_signals():
    case = Case.load(FIXTURES / "pesq")
    clean, noisy, enhanced = (case.inputs[f"p257_152.{kind}"][:8000].float() for kind in ("clean", "noisy", "enhanced"))
    both = metrics.pesq(torch.stack([noisy, enhanced])[:, None], torch.stack([clean, clean])[:, None], 16000)
    assert both.shape == (2, 1)
    assert both[1, 0] == metrics.pesq(enhanced, clean, 16000) > both[0, 0]


def test_pesq_is_narrow_at_8000_hz_and_refuses_other_rates():
    case = Case.load(FIXTURES / "pesq")
    clean, noisy = (case.inputs[f"p257_152.{kind}"][:24000:2].float() / 32768 for kind in ("clean", "noisy"))
    assert 1 < metrics.pesq(noisy, clean, 8000) < metrics.pesq(clean, clean, 8000) <= 4.55  # the narrow band's best
    with pytest.raises(InputError, match="not at 44100: resample first"):
        metrics.pesq(noisy, clean, 44100)
    with pytest.raises(InputError, match="4000 samples, got 100"):
        metrics.pesq(noisy[:100], clean[:100], 16000)


def test_pesq_of_silence_is_not_a_number():
    silence, x = torch.zeros(16000), noise(seed=1)[0]
    assert metrics.pesq(silence, x, 16000).isnan() and metrics.pesq(x, silence, 16000).isnan()


@pytest.mark.parametrize(("name", "measure"), [("pesq", metrics.pesq), ("pystoi", metrics.stoi)])
def test_a_missing_extra_is_named(monkeypatch, name, measure):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'pip install "audio-core\[metrics\]"'):
        measure(noise(), noise(), 16000)
