from pathlib import Path

import pytest
import torch
from audio_core.loss.spectral import MelLoss, MultiResolutionSTFTLoss, STFTLoss
from audio_core.testing import Case, close, noise, tone

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def spectral():
    return Case.load(FIXTURES / "spectral_losses")


@pytest.mark.parametrize(("divide_by", "suffix"), [("estimate", ""), ("target", "_swapped")])
def test_the_multi_resolution_loss_is_stable_audio_tools_s(spectral, divide_by, suffix):
    decoded, real, expected = spectral.inputs["decoded"], spectral.inputs["reals"], spectral.outputs
    loss = MultiResolutionSTFTLoss(a_weighting=44100, divide_by=divide_by)
    close(loss(decoded[:, :1], real[:, :1]), expected[f"mrstft_mono{suffix}"], 1e-6)
    both = MultiResolutionSTFTLoss(a_weighting=44100, divide_by=divide_by, sum_and_difference=True)
    close(both(decoded, real), expected[f"sum_and_difference{suffix}"], 1e-6)
    if not suffix:
        left, right = (loss(decoded[:, i : i + 1], real[:, i : i + 1]) for i in (0, 1))
        close(left, expected["left"], 1e-6)
        close(right, expected["right"], 1e-6)
        close(both(decoded, real) + left / 2 + right / 2, expected["stereo_total_weight1"], 1e-6)


def test_each_term_and_each_resolution_is_stable_audio_tools_s(spectral):
    decoded, real, expected = spectral.inputs["decoded"], spectral.inputs["reals"], spectral.outputs
    left = decoded[:, :1], real[:, :1]
    plain = MultiResolutionSTFTLoss(divide_by="estimate")
    close(plain(*left), expected["mono_unweighted"], 1e-6)
    weighted = MultiResolutionSTFTLoss(a_weighting=44100, divide_by="estimate")
    close(weighted.prepared(real[:, :1]), expected["a_weighted_real_left"], 1e-6)
    filtered = [weighted.prepared(x) for x in left]
    for i, window in enumerate(spectral.config["fft_sizes"]):
        hop = spectral.config["hop_sizes"][i]
        logs = STFTLoss(window, hop, convergence=0)(*filtered)
        close(logs, expected["mono_log_magnitude"][i], 1e-5)
        one = STFTLoss(window, hop, log_magnitude=0, divide_by="estimate")
        items = torch.stack([one(a[None], b[None]) for a, b in zip(*filtered, strict=True)])
        close(items, expected["mono_spectral_convergence"][i], 1e-5)
        close(one(*filtered), items.mean(), 1e-6)  # by item, not over the batch
    full = STFTLoss(512, 128, magnitude=0.5, phase=1.0, divide_by="estimate")
    close(full(*left), expected["stft512_with_phase_and_linear"], 1e-6)


def test_equal_signals_cost_nothing_even_in_silence(spectral):
    silence = torch.zeros(1, 1, 6000)
    x = noise(seed=1, seconds=0.375)[None]
    for loss in (MultiResolutionSTFTLoss(a_weighting=44100), MelLoss(44100)):
        assert loss(silence, silence) == 0
        assert loss(x, x) == 0
        assert loss(x, silence).isfinite() and loss(silence, x).isfinite()


@pytest.mark.parametrize("loss", [MultiResolutionSTFTLoss(magnitude=1.0, phase=1.0), MelLoss(44100, magnitude=1.0)])
def test_losses_have_finite_gradients_also_from_silence(loss):
    for start in (torch.zeros(1, 1, 4000), noise(seed=2, seconds=0.25)[None]):
        estimate = start.clone().requires_grad_()
        loss(estimate, tone(440, 0.25)[None]).backward()
        assert estimate.grad.isfinite().all()
    assert estimate.grad.any()


def test_the_mel_loss_is_dac_s():
    case = Case.load(FIXTURES / "mel_loss")
    decoded, real, expected = case.inputs["decoded"], case.inputs["reals"], case.outputs
    close(MelLoss(44100)(decoded, real), expected["mel"], 1e-6)
    for window, bands in zip(case.config["window_lengths"], case.config["n_mels"], strict=True):
        close(MelLoss(44100, [window], [bands])(decoded, real), expected[f"mel_w{window}"], 1e-6)
    dac = MelLoss(44100, [2048, 512], [150, 80], power=2.0, log=1.0, magnitude=1.0)
    close(dac(decoded, real), expected["mel_pow2_mag1"], 1e-6)
    close(MelLoss(44100, [512], [80]).mels[0](real[0, 0]), expected["mel_spec_w512"], 1e-5)


def test_losses_say_which_shapes_do_not_fit():
    a, b = torch.zeros(2, 1, 4000), torch.zeros(2, 2, 4000)
    for loss in (MultiResolutionSTFTLoss(), STFTLoss(512, 128), MelLoss(44100)):
        with pytest.raises(ValueError, match=r"\(2, 1, 4000\) and target \(2, 2, 4000\)"):
            loss(a, b)
    with pytest.raises(ValueError, match="2 channels, got 1"):
        MultiResolutionSTFTLoss(sum_and_difference=True)(a, a)


def test_autocast_changes_no_loss():
    x, y = noise(seed=3, seconds=0.3)[None], noise(seed=4, seconds=0.3)[None]
    for loss in (MultiResolutionSTFTLoss(a_weighting=44100), MelLoss(44100)):
        plain = loss(x, y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(loss(x, y), plain)


def test_losses_hold_no_weights():
    assert not MultiResolutionSTFTLoss(a_weighting=44100).state_dict() and not MelLoss(44100).state_dict()
