"""The losses of a recipe against stored outputs of stable-audio-tools and LyraCodec, and their properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_codec_vae.loss import Distances, PhaseLoss, weights
from audio_codec_vae.recipe import EncodecDiscriminator, Losses, Mel, Phase, Spectral, Time
from audio_codec_vae.spectral import MelSTFTLoss, SpectralLoss
from audio_codec_vae.weighting import a_weighting, k_weighted, k_weighting
from audio_core.metrics import si_sdr
from audio_core.testing import Case, close, noise, tone

FIXTURES = Path(__file__).parent / "fixtures"
RATE = 44100


@pytest.fixture(scope="module")
def spectral() -> Case:
    return Case.load(FIXTURES / "spectral_losses")


def one(losses: Losses, case: Case, channels: slice, rate: int = RATE) -> dict[str, torch.Tensor]:
    estimate, target = case.inputs["decoded"][:, channels], case.inputs["reals"][:, channels]
    return Distances(losses, rate, target.shape[1])(estimate, target)


LEFT, RIGHT, BOTH = slice(0, 1), slice(1, 2), slice(0, 2)
TEXTBOOK = Losses(spectral=Spectral(divide_by="target"))


def test_the_spectral_loss_is_stable_audio_tools_s_of_mono_and_of_stereo(spectral):
    expected = spectral.outputs
    for channels, name in ((LEFT, "left"), (RIGHT, "right"), (LEFT, "mrstft_mono")):
        values = one(Losses(), spectral, channels)
        assert list(values) == ["spectral"]
        close(values["spectral"], expected[name])
    close(one(TEXTBOOK, spectral, LEFT)["spectral"], expected["mrstft_mono_swapped"])
    close(one(TEXTBOOK, spectral, BOTH)["spectral"], expected["sum_and_difference_swapped"])
    stereo = one(Losses(), spectral, BOTH)
    close(stereo["spectral"], expected["sum_and_difference"])
    close(stereo["sides"], (expected["left"] + expected["right"]) / 2)
    weight = weights(Losses(), None)
    total = sum(weight[name] * value for name, value in stereo.items())
    close(total, expected["stereo_total_weight1"])


def test_terms_filters_and_bands_are_stable_audio_tools_s(spectral):
    expected = spectral.outputs
    plain = Losses(spectral=Spectral(weighting="none"))
    close(one(plain, spectral, LEFT)["spectral"], expected["mono_unweighted"])
    terms = Spectral(windows=(512,), weighting="none", magnitude=0.5, phase=1.0)
    close(one(Losses(spectral=terms), spectral, LEFT)["spectral"], expected["stft512_with_phase_and_linear"])
    mel = Spectral(windows=(1024,), weighting="none", mel_bands=64, divide_by="target")
    values = one(Losses(spectral=mel), spectral, BOTH)
    close(values["sides"], expected["mel_stft"])
    loss, left = SpectralLoss(Spectral(), RATE), (spectral.inputs[side][:, :1] for side in ("decoded", "reals"))
    close(loss.taps, expected["a_weighting_taps"])
    decoded, real = (loss.prepared(x) for x in left)
    close(real, expected["a_weighted_real_left"])
    for at, size in enumerate(spectral.config["fft_sizes"]):
        logs = SpectralLoss(Spectral(windows=(size,), weighting="none", convergence=0), RATE)
        close(logs(decoded, real), expected["mono_log_magnitude"][at])
        norms = SpectralLoss(Spectral(windows=(size,), weighting="none", log_magnitude=0), RATE)
        items = torch.stack([norms(a[None], b[None]) for a, b in zip(decoded, real, strict=True)])
        close(items, expected["mono_spectral_convergence"][at])


def test_equal_signals_cost_nothing_also_in_silence(spectral):
    silence = torch.zeros(1, 2, 6000)
    every = Losses(spectral=Spectral(weighting="K"), mel=Mel(), phase=Phase(), time=Time(l1=1, l2=1))
    for losses in (Losses(), every):
        for x in (silence, spectral.inputs["reals"]):
            values = Distances(losses, RATE, 2)(x, x)
            assert all(abs(float(value)) < 1e-6 for value in values.values()), values
    assert spectral.outputs["silence_vs_silence"] == 0
    assert set(values) == {"spectral", "sides", "mel", "phase", "l1", "l2"} == set(weights(every, None))


def test_the_mel_loss_is_dac_s():
    case = Case.load(FIXTURES / "mel_loss")
    close(one(Losses(mel=Mel()), case, BOTH)["mel"], case.outputs["mel"])
    for size, bands in zip(case.config["window_lengths"], case.config["n_mels"], strict=True):
        close(one(Losses(mel=Mel(windows=(size,), bands=(bands,))), case, BOTH)["mel"], case.outputs[f"mel_w{size}"])
    own = Mel(windows=(2048, 512), bands=(150, 80), power=2.0, magnitude=1.0)
    close(one(Losses(mel=own), case, BOTH)["mel"], case.outputs["mel_pow2_mag1"])
    mel = Distances(Losses(mel=Mel(windows=(512,), bands=(80,))), RATE, 1).parts["mel"].mels[0]
    close(mel(case.inputs["reals"][0, 0]), case.outputs["mel_spec_w512"])
    with pytest.raises(ValueError, match="one number for each of 2 windows"):
        Mel(windows=(2048, 512), bands=(80,))


def test_losses_of_the_samples_are_means():
    case = Case.load(FIXTURES / "lyra_schedules")
    losses = Losses(spectral=None, time=Time(l1=1.0, l2=1.0))
    values = Distances(losses, RATE, 2)(case.inputs["y"], case.inputs["x"])
    close(values["l2"], case.outputs["mse"])
    close(values["l1"], (case.inputs["y"] - case.inputs["x"]).abs().mean())


def test_the_ratios_of_the_case_are_those_of_the_core(spectral):
    decoded, real = spectral.inputs["decoded"], spectral.inputs["reals"]
    centred = [x - x.mean(-1, keepdim=True) for x in (decoded, real)]
    close(si_sdr(*centred).mean(), spectral.outputs["sisdr_db"])


def test_weights_decay_before_each_use_and_zero_leaves_a_term_out():
    case = Case.load(FIXTURES / "schedules")
    start, decay = case.config["decay"].values()
    losses = Losses(spectral=Spectral(weight=start, decay=decay, sides=0), time=Time(l1=start, decay=decay))
    values = [weights(losses, None, update) for update in range(4)]
    for name in ("spectral", "l1"):
        close(torch.tensor([each[name] for each in values]), case.outputs["decayed_loss"])
    parts = {name for name, weight in values[0].items() if weight}
    assert parts == {"spectral", "l1"} == set(Distances(losses, RATE, 2).parts)
    both = weights(losses, EncodecDiscriminator(adversarial=0.3, features=0))
    assert both["adversarial"] == 0.3 and both["features"] == 0
    with pytest.raises(ValueError, match="one of spectral, mel, phase and time"):
        Losses(spectral=None)
    with pytest.raises(ValueError, match="shares of the gradient do not decay"):
        Losses(spectral=Spectral(decay=0.9), balanced=True)


# --- weighting and phase -----------------------------------------------------------------------------------


def test_a_weighting_follows_the_standard():
    # IEC 61672, table of the A-weighting at exact frequencies, in dB
    for frequency, level in ((1000, 0.0), (31.623, -39.4), (100, -19.1), (10000, -2.5), (3981.07, 1.0)):
        assert 20 * np.log10(a_weighting(np.array(frequency))) == pytest.approx(level, abs=0.06)


def test_the_k_weighting_is_that_of_the_standard_at_48_khz():
    """Its two tables of coefficients, ITU-R BS.1770-5."""
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]
    frequency = np.geomspace(10, 23000, 200)
    z = np.exp(-2j * np.pi * frequency / 48000)
    gain = np.ones(200)
    for above, below in (shelf, high_pass):
        gain *= np.abs(np.polyval(above[::-1], z) / np.polyval(below[::-1], z))
    bent = torch.from_numpy(48000 / np.pi * np.tan(np.pi * frequency / 48000))
    torch.testing.assert_close(k_weighting(bent), torch.from_numpy(gain), rtol=1e-5, atol=0)
    for tested in (100.0, 1000.0, 10000.0):
        x = tone(tested, 1.0, 48000)
        ratio = k_weighted(x, 48000)[..., 9600:-9600].std() / x[..., 9600:-9600].std()
        assert float(ratio) == pytest.approx(float(np.interp(tested, frequency, gain)), rel=2e-3)


def test_k_weighting_leaves_places_alone():
    click = torch.zeros(1, 1, 4001)
    click[..., 2000] = 1
    answer = k_weighted(click, RATE)
    assert answer.abs().argmax() == 2000 and torch.allclose(answer, answer.flip(-1), atol=1e-6)
    start = torch.zeros(1, 1, 8000)
    start[..., 0] = 1
    assert k_weighted(start, RATE)[..., 4410:].abs().max() < 1e-3 * k_weighted(start, RATE).abs().max()


@pytest.mark.parametrize("weighting", ["A", "K"])
def test_autocast_changes_no_spectral_loss(weighting):
    loss = SpectralLoss(Spectral(weighting=weighting), RATE)
    x, y = noise(1, 0.3)[None], noise(2, 0.3)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(x, y)
    assert torch.equal(half, loss(x, y))


def test_the_phase_loss_sees_phases_and_nothing_else():
    loss, x = PhaseLoss((512, 128)), noise(1, 0.5)[None]
    assert float(loss(0.5 * x, x)) < 1e-5  # volume
    assert float(loss(-x, x)) < 1e-5  # a turn of all phases alike
    unrelated = float(loss(noise(2, 0.5)[None], x))
    assert 0.5 < unrelated < 0.7
    late = float(loss(x.roll(2, -1), x))
    assert 0.001 < late < unrelated
    estimate = torch.zeros(1, 1, 8000, requires_grad=True)
    loss(estimate, x).backward()
    assert estimate.grad.isfinite().all()
    learnt = (0.1 * noise(3, 0.5)[None]).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(learnt, x), learnt)
    assert loss(learnt - 0.01 * gradient / gradient.norm(), x) < loss(learnt, x)


def test_mel_bands_have_no_phase():
    with pytest.raises(ValueError, match="mel bands have none"):
        MelSTFTLoss(Spectral(mel_bands=64, phase=1.0), 1024, RATE)


def test_spectral_losses_say_which_shapes_do_not_fit():
    mono, stereo = torch.zeros(2, 1, 4000), torch.zeros(2, 2, 4000)
    with pytest.raises(ValueError, match=r"\(2, 1, 4000\) and target \(2, 2, 4000\)"):
        SpectralLoss(Spectral(), RATE)(mono, stereo)
    with pytest.raises(ValueError, match="2 channels, got 1"):
        SpectralLoss(Spectral(), RATE, sum_and_difference=True)(mono, mono)


@pytest.mark.parametrize("weighting", ["A", "K", "none"])
def test_spectral_losses_have_finite_gradients_also_from_silence_and_no_weights(weighting):
    loss = SpectralLoss(Spectral(weighting=weighting, magnitude=1.0, phase=1.0), RATE)
    assert not loss.state_dict()
    for start in (torch.zeros(1, 1, 4000), noise(seed=2, seconds=0.25)[None]):
        estimate = start.clone().requires_grad_()
        loss(estimate, tone(440, 0.25)[None]).backward()
        assert estimate.grad.isfinite().all()
    assert estimate.grad.any()
