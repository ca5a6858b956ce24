"""What discriminators are made of; the packages hold theirs to the stored outputs of their originals."""

import pytest
import torch
from audio_core.nn.discriminate import DiscriminatorOutput, Discriminators, Stack, gathered, parts, wave_stack
from audio_core.testing import close, noise
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations


class Halves(nn.Module):
    """A stack on the audio as it is, and one on every second sample."""

    def __init__(self):
        super().__init__()
        self.stacks = nn.ModuleList([wave_stack(width=4) for _ in range(2)])

    def forward(self, audio):
        return gathered([stack(audio[..., :: place + 1]) for place, stack in enumerate(self.stacks)])


@torch.no_grad()
def test_several_discriminators_speak_in_their_order():
    one, other, audio = Halves(), Halves(), noise(3, 0.3)[None]
    joined, first, second = Discriminators(one=one, other=other)(audio), one(audio), other(audio)
    assert isinstance(joined, DiscriminatorOutput) and [len(each) for each in joined.features] == [6] * 4
    for part in ("logits", "features"):
        expected = [*getattr(first, part), *getattr(second, part)]
        for a, b in zip(getattr(joined, part), expected, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@torch.no_grad()
def test_a_stack_keeps_what_each_layer_gave_behind_its_activation():
    stack, x = Stack([nn.Linear(3, 4), nn.Linear(4, 5)], nn.Linear(5, 1), slope=0.5), torch.randn(2, 3)
    logits, (first, second) = stack(x)
    close(first, F.leaky_relu(stack.layers[0](x), 0.5))
    close(second, F.leaky_relu(stack.layers[1](first), 0.5))
    close(logits, stack.last(second))


@torch.no_grad()
def test_weight_norm_changes_no_verdict():
    plain, normed, folded = wave_stack(width=4), *(wave_stack(width=4, weight_norm=True) for _ in range(2))
    folded.load_state_dict(normed.state_dict())
    for layer in [layer for layer in folded.modules() if is_parametrized(layer, "weight")]:
        remove_parametrizations(layer, "weight")
    plain.load_state_dict(folded.state_dict())
    audio = noise(5, 0.3)[None]
    close(normed(audio)[0], plain(audio)[0])
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        wave_stack(width=6)


def test_parts_are_the_real_ones_of_all_channels_and_then_the_imaginary_ones():
    spectrum = torch.complex(*torch.randn(2, 1, 2, 5, 7))  # (B, C, F, frames)
    seen = parts(spectrum)
    assert seen.shape == (1, 4, 7, 5)
    assert torch.equal(seen[0, 1], spectrum.real[0, 1].T) and torch.equal(seen[0, 2], spectrum.imag[0, 0].T)
