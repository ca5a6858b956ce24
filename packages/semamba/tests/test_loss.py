"""The losses of generator and discriminator."""

import torch
from audio_core.testing import noise
from audio_semamba.compressed import CompressedSTFT
from audio_semamba.loss import (
    anti_wrapped,
    discriminator_losses,
    generator_losses,
    metric_loss,
    oversuppression_loss,
    phase_losses,
    spectral_loss,
)


def test_phase_losses_equal_the_original(stored_case):
    case = stored_case("phase_losses")
    phase = case.inputs["pha_g"].requires_grad_()
    losses = phase_losses(phase, case.inputs["pha_r"])
    for loss, name in zip(losses, ("ip", "gd", "iaf"), strict=True):
        assert abs(loss.item() - case.outputs[name].item()) <= 1e-6
    assert (anti_wrapped(case.inputs["x"]) - case.outputs["anti_wrap_x"]).abs().max() <= 1e-6
    sum(losses).backward()
    assert (phase.grad - case.outputs["grad_pha_g"]).abs().max() <= 1e-6


def test_whole_turns_cost_nothing():
    phase = 3 * torch.randn(1, 5, 7)
    turns = 2 * torch.pi * torch.randint(-2, 3, phase.shape)
    assert max(phase_losses(phase + turns, phase)) < 1e-5


def test_perfect_estimates_cost_nothing_but_rounding():
    stft, audio = CompressedSTFT(400, 100), noise(seconds=0.2)
    clean = stft(audio)
    losses = generator_losses(clean, stft.inverse(*clean[:2], audio.shape[-1]), clean, audio, stft)
    assert losses.magnitude == losses.phase == losses.complex == 0
    assert losses.time < 1e-6
    assert losses.consistency < 1e-4


def test_complex_losses_count_twice():
    stft, audio = CompressedSTFT(400, 100), noise(seconds=0.2)
    clean, other = stft(audio), stft(noise(seed=1, seconds=0.2))
    losses = generator_losses(other, audio, clean, audio, stft)
    difference = (other.parts - clean.parts).square().mean()
    assert torch.isclose(losses.complex, 2 * difference)
    assert torch.isclose(losses.consistency, 2 * difference, rtol=1e-2)


def test_what_is_suppressed_too_much_costs_and_what_is_left_does_not():
    target = torch.full((2, 3, 4), 2.0)
    assert oversuppression_loss(target + 1, target) == 0
    estimate = target.clone()
    estimate[0] -= 0.5
    assert torch.isclose(oversuppression_loss(estimate, target), torch.tensor(0.125))


def test_the_spectral_loss_hears_both_windows_and_no_phase():
    audio = noise(seconds=0.2)
    assert spectral_loss(audio, audio, 0.3) == 0
    assert spectral_loss(-audio, audio, 0.3) < 1e-6
    assert spectral_loss(audio / 2, audio, 0.3) > 0.01
    silence = torch.zeros_like(audio).requires_grad_()
    spectral_loss(silence, audio, 0.3).backward()
    assert silence.grad.isfinite().all()


def test_items_without_pesq_count_for_nothing():
    real, fake = torch.tensor([0.9, 0.8, 1.0]), torch.tensor([0.5, 0.3, 0.1])
    losses = discriminator_losses(real, fake, torch.tensor([2.75, torch.nan, 1.0]))
    assert torch.isclose(losses.real, torch.tensor((0.01 + 0.04) / 3))
    assert torch.isclose(losses.fake, torch.tensor(0.01 / 2))
    fake.requires_grad_()
    discriminator_losses(real, fake, torch.full((3,), torch.nan)).fake.backward()
    assert not fake.grad.any()
    assert metric_loss(torch.ones(3)) == 0
    assert metric_loss(torch.zeros(3)) == 1
