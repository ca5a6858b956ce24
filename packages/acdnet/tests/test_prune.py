"""Pruning against stored results of the authors' code."""

import pytest
import torch
from audio_acdnet import cost, original
from audio_acdnet.compress import prune
from audio_acdnet.config import CONVOLUTIONS, SECOND_BLOCK, ACDNetConfig
from audio_acdnet.model import ACDNet, convolutions
from audio_core.testing import close
from torch import nn


@pytest.fixture
def pruning(stored):
    return stored("pruning")


def loss(logits, targets):
    return nn.functional.kl_div(logits.log_softmax(1), targets, reduction="batchmean")


def indices(ranking, config, second: bool):
    """(module, channel) as the authors count modules: in both blocks, or in the second alone."""
    numbers = {name.rpartition(".")[2]: index - 7 * second for index, name in enumerate(original.modules(config))}
    return [[numbers[row.layer], row.channel] for row in ranking[:12]]


def test_the_largest_weights_of_all_layers_are_kept(pruning):
    case, model = pruning
    kept = prune.sparsify(model, case.config["sparsity"])
    assert kept == case.outputs["l0_keep"]
    assert sum(weight.numel() for weight in prune.weights(model).values()) == case.outputs["l0_total"]
    assert list(prune.density(model).values()) == case.outputs["l0_nonzero_per_layer"].tolist()
    least = min(weight[weight != 0].abs().min().item() for weight in prune.weights(model).values())
    assert least == pytest.approx(case.outputs["l0_min_kept"].item(), rel=1e-6)
    with torch.no_grad():
        close(model.probabilities(case.inputs["x"][:, None]), case.outputs["l0_probs"])


def by_magnitude(model, layers=CONVOLUTIONS):
    """The authors' other ranking, by the sum of the absolute weights of a channel; `compress` does not use it."""
    parts = {name: part for name, part in convolutions(model).items() if name in layers}
    return prune.ranked({name: part.weight.detach().double().abs().flatten(1).sum(1) for name, part in parts.items()})


@pytest.mark.parametrize("area", ["full", "tfeb"])
def test_channels_are_ranked_by_magnitude(pruning, area):
    case, model = pruning
    ranking = by_magnitude(model, CONVOLUTIONS if area == "full" else SECOND_BLOCK)
    assert indices(ranking, model.config, area == "tfeb") == case.outputs[f"magnitude_{area}_index"].tolist()
    close(torch.tensor([row.value for row in ranking[:12]]), case.outputs[f"magnitude_{area}_value"].float(), 1e-6)


@pytest.mark.parametrize("area", ["full", "tfeb"])
def test_channels_are_ranked_by_activation_times_gradient(pruning, area):
    case, model = pruning
    batches = [(case.inputs[f"x{end}"][:, None], case.inputs[f"y{end}"]) for end in ("", "2")]
    ranking = prune.by_taylor(model, batches, loss, CONVOLUTIONS if area == "full" else SECOND_BLOCK)
    assert indices(ranking, model.config, area == "tfeb") == case.outputs[f"taylor_{area}_index"].tolist()
    values = torch.tensor([row.value for row in ranking[:12]], dtype=torch.float64)
    close(values, case.outputs[f"taylor_{area}_value"], 1e-5)
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("area", ["full", "tfeb"])
def test_channels_are_taken_out_one_after_the_other(pruning, area):
    case, model = pruning
    names = original.modules(model.config)
    pairs = [
        (names[index + 7 * (area == "tfeb")].rpartition(".")[2], channel)
        for index, channel in case.config[f"remove_{area}"]
    ]
    smaller = prune.remove(model, pairs)
    assert list(smaller.config.channels) == case.outputs[f"removed_{area}_channels"].tolist()
    assert sum(weight.numel() for weight in smaller.parameters()) == cost.parameters(smaller.config)
    assert not smaller.training
    with torch.no_grad():
        close(smaller.probabilities(case.inputs["x"][:, None]), case.outputs[f"removed_{area}_probs"])


@pytest.mark.parametrize("layer", CONVOLUTIONS)
def test_a_dead_channel_leaves_without_a_trace(layer):
    """Every kind of neighbour: a convolution, a picture's row, the output."""
    config = ACDNetConfig(20000, 12000, (3, 33, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8), ("a", "b", "c"))
    model = ACDNet(config).eval()
    if layer == "conv2":  # a row of the picture: its neighbours hear it, so only the shapes can be kept
        smaller = prune.remove(model, [("conv2", 32)])
        assert smaller.config.channels[1] == 32 and smaller(torch.randn(2, 1, 12000)).shape == (2, 3)
        return
    block = model.hearing if layer == "conv1" else model.seeing
    getattr(block, layer.replace("conv", "norm")).weight.data[1] = 0  # its bias is zero already
    smaller = prune.remove(model, [(layer, 1)])
    audio = torch.randn(2, 1, 12000)
    with torch.no_grad():
        close(smaller(audio), model(audio), 1e-6)


def test_the_second_convolution_keeps_what_the_picture_needs_and_every_layer_one():
    config = ACDNetConfig(20000, 12000, (3, 32, 3, 4, 4, 5, 5, 6, 6, 7, 7, 1), ("a", "b", "c"))
    ranking = [prune.Channel("conv2", 0, 0.0), prune.Channel("conv12", 0, 0.1), prune.Channel("conv5", 2, 0.2)]
    assert prune.first_allowed(ranking, config) == ranking[2]
    assert prune.first_allowed(ranking, config, {}) == ranking[0]
    assert prune.first_allowed(ranking[:2], config) is None
    with pytest.raises(ValueError, match="channel 0 of conv12 cannot be removed: it has 1"):
        prune.remove(ACDNet(config), [("conv12", 0)])


def test_a_dead_layer_ranks_first_and_is_not_nan(pruning):
    _, model = pruning
    model.seeing.conv4.weight.data.zero_()
    ranking = by_magnitude(model)
    assert [(row.layer, row.channel, row.value) for row in ranking[:8]] == [("conv4", at, 0.0) for at in range(8)]


def test_pruning_refuses_what_makes_no_sense(pruning):
    _, model = pruning
    with pytest.raises(ValueError, match="sparsity"):
        prune.sparsify(model, 1.0)
    with pytest.raises(ValueError, match="at least one batch"):
        prune.by_taylor(model, [], loss)
