"""Weight norm in the layouts of checkpoints: each loads into each, and folding changes no output."""

from itertools import product

import pytest
import torch
from audio_codec_vae.models.weight_norm import fit_weight_norm, remove_weight_norm
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import ResidualUnit
from audio_core.nn.stream import Sequential
from audio_core.testing import close
from torch import nn


def old_layout(state):
    ends = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    return {next((k[: -len(e)] + ends[e] for e in ends if k.endswith(e)), k): v for k, v in state.items()}


def normed(weight_norm):
    return Sequential(
        Conv1d(2, 4, 3, weight_norm=weight_norm),
        ResidualUnit(4, weight_norm=weight_norm),
        ConvTranspose1d(4, 2, 4, 2, weight_norm=weight_norm),
    )


def test_weights_load_from_all_three_layouts_into_both_kinds_of_layer():
    torch.manual_seed(1)
    source, x = normed(True), torch.randn(1, 2, 50)
    with torch.no_grad():
        source[0].parametrizations.weight.original0.mul_(3)  # g is not |v| by accident
    expected, new = source(x).detach(), source.state_dict()
    folded = {k: v.clone() for k, v in remove_weight_norm(normed_copy(new)).state_dict().items()}
    for layout, weight_norm in product((new, old_layout(new), folded), (True, False)):
        target = normed(weight_norm)
        target.load_state_dict(fit_weight_norm(layout, target), strict=True)
        close(target(x), expected, 1e-6)


def normed_copy(state):
    module = normed(True)
    module.load_state_dict(state)
    return module


def test_the_old_layout_is_torch_s_old_weight_norm():
    with pytest.warns(FutureWarning, match="weight_norm"):
        old = nn.utils.weight_norm(nn.ConvTranspose1d(3, 2, 4, 2, 1))
    assert old.weight_g.shape == (3, 1, 1)
    with torch.no_grad():
        old.weight_g.mul_(2)
    new, x = ConvTranspose1d(3, 2, 4, 2, padding=1, weight_norm=True), torch.randn(1, 3, 20)
    new.load_state_dict(fit_weight_norm(old.state_dict(), new))
    close(new(x), old(x), 1e-6)


def test_folding_changes_no_output_and_a_zero_weight_stays_zero():
    layer, x = Conv1d(2, 3, 3, weight_norm=True), torch.randn(1, 2, 20)
    before = layer(x)
    assert remove_weight_norm(layer) is layer and set(layer.state_dict()) == {"weight", "bias"}
    close(layer(x), before, 1e-6)
    zero = {"weight": torch.zeros(3, 2, 3), "bias": torch.zeros(3)}
    layer = Conv1d(2, 3, 3, weight_norm=True)
    layer.load_state_dict(fit_weight_norm(zero, layer))
    assert not layer(x).any()
    plain = Conv1d(2, 3, 3)
    plain.load_state_dict(fit_weight_norm(fit_weight_norm(zero, layer), plain))
    assert not plain.weight.any()
