from pathlib import Path

import pytest
import torch
from audio_core.loss.spectral import MelLoss
from audio_core.testing import Case, close, noise, tone

FIXTURES = Path(__file__).parent / "fixtures"


def test_equal_signals_cost_nothing_even_in_silence():
    silence = torch.zeros(1, 1, 6000)
    x = noise(seed=1, seconds=0.375)[None]
    loss = MelLoss(44100)
    assert loss(silence, silence) == 0
    assert loss(x, x) == 0
    assert loss(x, silence).isfinite() and loss(silence, x).isfinite()


def test_the_mel_loss_has_finite_gradients_also_from_silence():
    loss = MelLoss(44100, magnitude=1.0)
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
    with pytest.raises(ValueError, match=r"\(2, 1, 4000\) and target \(2, 2, 4000\)"):
        MelLoss(44100)(a, b)


def test_autocast_changes_no_loss():
    x, y = noise(seed=3, seconds=0.3)[None], noise(seed=4, seconds=0.3)[None]
    loss = MelLoss(44100)
    plain = loss(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(x, y), plain)


def test_losses_hold_no_weights():
    assert not MelLoss(44100).state_dict()
