"""Properties of the discriminators; test_discriminators.py holds them to the outputs of the original."""

import pytest
import torch
from audio_core.nn.discriminate import Discriminators
from audio_core.testing import check_gradients, close, noise
from audio_soundstream.discriminators import STFTDiscriminator, WaveDiscriminator
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

SMALL = {
    "wave": lambda **settings: WaveDiscriminator(width=4, **settings),
    "stft": lambda **settings: STFTDiscriminator(width=4, **settings),
}


class Score(nn.Module):
    """All that a discriminator says as (B, N), for checks that want one tensor."""

    def __init__(self, discriminator: nn.Module):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, audio):
        logits, features = self.discriminator(audio)
        return torch.cat([x.flatten(1) for x in [*logits, *(x for each in features for x in each)]], 1)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("channels", [1, 2])
def test_discriminators_see_each_item_alone_and_every_weight_learns(kind, channels):
    discriminator = Score(SMALL[kind](channels=channels))
    audio = torch.stack([noise(seed, 0.3, channels=channels) for seed in (1, 2)])
    with torch.no_grad():
        together = discriminator(audio)
        for item, alone in enumerate(audio.split(1)):
            close(discriminator(alone)[0], together[item], 1e-5)
    check_gradients(discriminator, audio)


def test_several_discriminators_speak_in_their_order():
    wave, spectral = SMALL["wave"](), SMALL["stft"]()
    audio = noise(3, 0.3)[None]
    with torch.no_grad():
        joined, first, second = Discriminators(wave=wave, stft=spectral)(audio), wave(audio), spectral(audio)
    assert [len(each) for each in joined.features] == [6, 6, 6, 6]
    assert all(torch.equal(a, b) for a, b in zip(joined.logits, first.logits + second.logits, strict=True))
    expected = [x for each in first.features + second.features for x in each]
    maps = [x for each in joined.features for x in each]
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))


def test_the_stft_discriminator_takes_short_audio():
    discriminator = STFTDiscriminator(width=4)
    for length in (1792, 1792 + 255, 1792 + 8000):
        (logits,) = discriminator(torch.randn(1, 1, length)).logits
        assert logits.shape == (1, 1, (1 + length // 256) // 8)
    with pytest.raises(ValueError, match="at least 1792 samples, got 1791"):
        discriminator(torch.randn(1, 1, 1791))


def test_the_stft_discriminator_says_when():
    """A click moves the logits around it alone."""
    calm = noise(4, 2.0)[None]
    clicked = calm.clone()
    clicked[..., 16000] += 1000
    discriminator = STFTDiscriminator(width=4)
    with torch.no_grad():
        moved = (discriminator(clicked).logits[0] - discriminator(calm).logits[0])[0, 0].abs() > 1e-6
    where = moved.nonzero() * 8 * 256  # logits -> samples
    assert len(where) and where.min() > 16000 - 8000 and where.max() < 16000 + 8000
    assert not moved.all()


def test_a_quarter_of_the_width_costs_a_tenth_of_the_parameters_or_less():
    def size(discriminator):
        return sum(parameter.numel() for parameter in discriminator.parameters())

    for kind, width in ((WaveDiscriminator, 16), (STFTDiscriminator, 32)):
        assert size(kind(width=width)) == size(kind())
        assert size(kind(width=width // 4)) < size(kind()) / 10
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        WaveDiscriminator(width=6)


def test_weight_norm_changes_no_verdict():
    plain, normed = SMALL["wave"](), SMALL["wave"](weight_norm=True)
    assert len(normed.state_dict()) > len(plain.state_dict())
    folded = SMALL["wave"](weight_norm=True)
    folded.load_state_dict(normed.state_dict())
    for layer in [layer for layer in folded.modules() if is_parametrized(layer, "weight")]:
        remove_parametrizations(layer, "weight")
    plain.load_state_dict(folded.state_dict())
    audio = noise(5, 0.3)[None]
    with torch.no_grad():
        close(Score(normed)(audio), Score(plain)(audio))


@pytest.mark.parametrize("kind", SMALL)
def test_under_autocast_a_verdict_is_right_to_the_precision_of_bfloat16(kind):
    discriminator, audio = Score(SMALL[kind]()), noise(8, 0.3)[None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = discriminator(audio)
        rounded = discriminator(audio.bfloat16())  # as a codec under autocast hands its audio over
    with torch.no_grad():
        close(half.float(), discriminator(audio), 0.03)
        close(rounded.float(), discriminator(audio), 0.03)


def test_silence_has_a_verdict_and_a_finite_gradient():
    for make in SMALL.values():
        audio = torch.zeros(1, 1, 4800, requires_grad=True)
        Score(make())(audio).square().mean().backward()
        assert audio.grad.isfinite().all()
