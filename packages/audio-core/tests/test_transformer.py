import pytest
import torch
from audio_core.nn.transformer import GLU, Conformer, LayerScale, TimeConv
from audio_core.testing import check_gradients, close
from torch import nn


class Projection(nn.Linear):
    """A linear layer of someone's own."""


def test_a_scale_begins_small_and_is_one_of_channels():
    scale, x = LayerScale(3), torch.randn(2, 5, 3)
    close(scale(x), 1e-5 * x)
    with torch.no_grad():
        scale.scale.copy_(torch.tensor([1.0, 2.0, 3.0]))
    close(scale(x)[..., 2], 3 * x[..., 2])


def test_the_second_half_of_a_projection_gates_the_first():
    glu, x = GLU(4, 3, Projection), torch.randn(2, 5, 4)
    assert isinstance(glu.proj, Projection)
    value, gate = x @ glu.proj.weight.mT[:, :3] + glu.proj.bias[:3], x @ glu.proj.weight.mT[:, 3:] + glu.proj.bias[3:]
    close(glu(x), value * gate * torch.sigmoid(gate), 1e-6)


def test_a_convolution_over_time_sees_zeros_where_nothing_is_valid():
    conv, x = TimeConv(4, 3, 5, bias=True), torch.randn(1, 9, 4)
    valid = torch.arange(9)[None] < 6
    close(conv(x, valid)[:, :6], conv(x[:, :6]), 1e-6)
    assert (conv(x)[:, 5] - conv(x, valid)[:, 5]).abs().max() > 1e-3


@pytest.mark.parametrize("at", [0, 20, 39])
def test_a_conformer_reaches_eight_positions_to_either_side(at):
    model, x = Conformer(6, nn.LayerNorm), torch.randn(1, 40, 6, requires_grad=True)
    model(x)[:, at].square().sum().backward()
    seen = (x.grad.abs().sum((0, 2)) > 0).nonzero()[:, 0].tolist()
    assert Conformer.reach == 8 and seen == [*range(max(at - 8, 0), min(at + 9, 40))]


def test_a_conformer_has_the_names_of_published_weights_and_learns():
    model = Conformer(6, nn.LayerNorm, Projection)
    weights = {name: tuple(value.shape) for name, value in model.state_dict().items() if "norm" not in name}
    assert weights == {
        "pointwise_conv.weight": (6, 6, 1),
        "glu.proj.weight": (12, 6),
        "glu.proj.bias": (12,),
        "depthwise_conv.weight": (6, 1, 17),
        "pointwise_conv_2.weight": (6, 6, 1),
    }
    assert isinstance(model.glu.proj, Projection)
    check_gradients(model, torch.randn(3, 9, 6))


@torch.no_grad()
def test_a_conformer_does_not_see_padding():
    model, x = Conformer(6, nn.LayerNorm), torch.randn(2, 12, 6)
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[0, 7:] = False
    close(model(x, valid)[:1, :7], model(x[:1, :7]), 1e-6)
    close(model(x, valid)[1:], model(x[1:]), 1e-6)
