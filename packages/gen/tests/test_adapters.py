"""LoRA and DoRA start from the base, learn alone, are stacked and merged, and compute what the papers say."""

import copy
import math

import pytest
import torch
from audio_core import bundle
from audio_core.config import build
from audio_core.files import InputError
from audio_core.testing import close
from audio_core.train.average import Average
from audio_core.weights import no_values
from audio_gen import adapters
from audio_gen.adapters import layers as adapter_layers
from audio_gen.config.adapters import AdapterConfig
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.transformer import TransformerConfig
from audio_gen.config.unets import ADPConfig
from audio_gen.models.adp import ADPUNet
from audio_gen.models.dit import DiT
from audio_gen.models.linear import Linear
from audio_gen.models.transformer import ContinuousTransformer
from torch import nn

from .adapter_toys import METHODS, SEVERAL, SMALL, WIDTH, drawn, learnt, output, small_dit


@pytest.fixture
def dit():
    return small_dit()


# --- the start and the formulas ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_those_of_the_base_at_first(dit, method):
    before, names = output(dit), [*dit.state_dict()]
    attached = adapters.attach(dit, AdapterConfig(method=method))
    assert torch.equal(output(dit), before)
    kinds = ("cross_attn.to_kv", "cross_attn.to_out", "cross_attn.to_q", "ff.down", "ff.up")
    kinds += ("self_attn.to_out", "self_attn.to_qkv")
    assert sorted(attached) == [f"transformer.layers.{block}.{kind}" for block in (0, 1) for kind in kinds]
    assert [name for name in dit.state_dict() if ".adapters." not in name] == names


def test_only_the_factors_learn(dit):
    adapters.attach(dit, AdapterConfig(rank=3, layers=("*.self_attn.to_qkv",)))
    learning = {name: tensor.numel() for name, tensor in dit.named_parameters() if tensor.requires_grad}
    assert sum(learning.values()) == 2 * 3 * (WIDTH + 3 * WIDTH)
    assert len(learning) == 4 and all("to_qkv.adapters" in name for name in learning)
    dora = DiT(SMALL)
    adapters.attach(dora, AdapterConfig(rank=3, layers=("*.self_attn.to_qkv",), method="dora"))
    count = sum(tensor.numel() for tensor in dora.parameters() if tensor.requires_grad)
    assert count == sum(learning.values()) + 2 * 3 * WIDTH


def test_the_factors_of_published_models_can_be_counted():
    """Stable Audio Open Small, without its weights."""
    config = DiTConfig(io_channels=64, embed_dim=1024, depth=16, num_heads=8, cond_token_dim=768, global_cond_dim=768)
    for method, count in (("lora", 7_077_888), ("dora", 7_356_416)):
        with no_values():
            model = DiT(config)
            adapters.attach(model, AdapterConfig(method=method))
        assert sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad) == count


@pytest.mark.parametrize("method", METHODS)
def test_training_moves_the_adapter_alone(dit, method):
    before = {name: tensor.clone() for name, tensor in dit.state_dict().items()}
    adapters.attach(dit, AdapterConfig(rank=4, method=method))
    start = copy.deepcopy(adapters.adapter_state(dit))
    optimizer = torch.optim.AdamW((each for each in dit.parameters() if each.requires_grad), lr=1e-2, weight_decay=0.1)
    target, losses = torch.randn(2, 4, 12), []
    for _ in range(20):
        loss = (output(dit.train()) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(dit.state_dict()[name], tensor) for name, tensor in before.items())
    assert not any(torch.equal(tensor, start[name]) for name, tensor in adapters.adapter_state(dit).items())


@pytest.mark.parametrize("kind", [nn.Linear, Linear])
@pytest.mark.parametrize("bias", [False, True])
def test_lora_adds_the_scaled_product(kind, bias):
    model = learnt(nn.Sequential(kind(8, 6, bias)), AdapterConfig(rank=2, alpha=5, layers=("0",)))
    factors, x = adapters.adapter_state(model), torch.randn(3, 7, 8)
    update = 5 / 2 * x @ factors["0.down"].T @ factors["0.up"].T
    close(model(x), nn.functional.linear(x, model[0].weight, model[0].bias) + update)


@pytest.mark.parametrize("kind", [nn.Linear, Linear])
@pytest.mark.parametrize("bias", [False, True])
def test_dora_learns_lengths_and_directions_apart(kind, bias):
    """Against the weight itself: magnitude · V / |V| by rows, V = W + scale · up · down; and no bias is scaled."""
    model = nn.Sequential(kind(8, 6, bias))
    adapters.attach(model, AdapterConfig(rank=2, alpha=5, layers=("0",), method="dora"))
    close(adapters.adapter_state(model)["0.magnitude"], model[0].weight.norm(dim=1))
    for tensor in adapters.adapter_state(model).values():
        tensor += 0.3 * torch.randn_like(tensor)
    factors, x = adapters.adapter_state(model), torch.randn(3, 7, 8)
    v = model[0].weight + 5 / 2 * factors["0.up"] @ factors["0.down"]
    weight = factors["0.magnitude"][:, None] * v / v.norm(dim=1, keepdim=True)
    close(model(x), nn.functional.linear(x, weight, model[0].bias))


@pytest.mark.parametrize("name", ["up", "down", "weight"])
def test_dora_sees_every_change_of_its_tensors(name):
    """In inference too, which keeps the lengths of rows."""
    config = AdapterConfig(rank=2, layers=("0",), method="dora")
    model, x = learnt(nn.Sequential(nn.Linear(8, 6)), config).eval(), torch.randn(3, 8)
    with torch.no_grad():
        before = model(x)
        kept = model[0].adapters[0]._kept
        assert torch.equal(model(x), before) and model[0].adapters[0]._kept is kept  # which are used again
        tensor = model[0].weight if name == "weight" else getattr(model[0].adapters[0], name)
        tensor += 0.3 * torch.randn_like(tensor)
        changed = model(x)
    assert (changed - before).abs().max() > 1e-3
    close(changed, model(x))  # with gradients nothing is kept
    with torch.no_grad():
        tensor.data = tensor.data.clone().mul_(2)  # as when a model moves
        close(model(x), model.train()(x))


def test_gradients_of_dora_are_those_of_a_constant_length():
    """As the paper proposes, to save memory."""
    config = AdapterConfig(rank=2, layers=("0",), method="dora")
    model = learnt(nn.Sequential(nn.Linear(8, 6)).double(), config)
    factors, x = model[0].adapters[0], torch.randn(7, 8, dtype=torch.float64)
    model(x).square().sum().backward()
    down, up, magnitude = (each.detach().requires_grad_() for each in (factors.down, factors.up, factors.magnitude))
    v = model[0].weight + up @ down
    weight = (magnitude / v.norm(dim=1).detach())[:, None] * v
    nn.functional.linear(x, weight, model[0].bias).square().sum().backward()
    for ours, direct in ((factors.down, down), (factors.up, up), (factors.magnitude, magnitude)):
        torch.testing.assert_close(ours.grad, direct.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_starts_from_the_base_too(method):
    model = nn.Sequential(nn.Linear(8, 6)).bfloat16()
    x = torch.randn(3, 8).bfloat16()
    before = model(x)
    adapters.attach(model, AdapterConfig(layers=("0",), method=method))
    assert torch.equal(model(x), before) and model(x).dtype == torch.bfloat16


@pytest.mark.parametrize("method", METHODS)
def test_autocast_computes_the_same_in_less_precision(dit, method):
    full = output(learnt(dit, AdapterConfig(rank=4, method=method)))
    with torch.autocast("cpu", torch.bfloat16):
        close(output(dit).float(), full, 0.05)


# --- dropout -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_dropout_acts_in_training_alone(dit):
    before = output(dit)
    model = learnt(dit, AdapterConfig(rank=4, dropout=0.5))
    assert torch.equal(output(model), output(model))
    assert not torch.equal(output(model.train()), output(model))
    adapters.set_strength(model, "adapter", 0)
    assert torch.equal(output(model), before)


def test_checkpointing_drops_the_same_inputs_out_again(dit):
    model, gradients = learnt(dit, AdapterConfig(rank=4, dropout=0.5)).train(), []
    for checkpointing in (False, True):
        model.transformer.checkpointing = checkpointing
        model.zero_grad()
        torch.manual_seed(5)
        output(model).square().sum().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.requires_grad]))
    close(*gradients)


# --- strengths and stacks ------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_strength_of_zero_is_the_base_to_the_bit(dit):
    before = output(dit)
    for at, config in enumerate(SEVERAL):
        learnt(dit, config, f"number {at}")
    assert (output(dit) - before).abs().max() > 0.01
    for name in adapters.adapter_names(dit):
        adapters.set_strength(dit, name, 0)
    assert torch.equal(output(dit), before)
    for tensor in adapters.adapter_state(dit, "number 1").values():
        tensor.fill_(math.nan)  # one that has diverged
    assert torch.equal(output(dit), before)


@torch.no_grad()
def test_several_adapters_add_up_in_any_order(dit):
    """Each at its strength, and each on the weights of the base: DoRA too does not see the others."""
    stacks = [copy.deepcopy(dit) for _ in range(2)]
    for stack, order in zip(stacks, ((0, 1), (1, 0)), strict=True):
        for at in order:
            learnt(stack, SEVERAL[at], f"number {at}", seed=at)
            adapters.set_strength(stack, f"number {at}", (0.7, -0.4)[at])
    close(output(stacks[0]), output(stacks[1]), 2e-6)
    name = "transformer.layers.1.ff.up"
    changes = []
    for at, config in enumerate(SEVERAL):
        alone = learnt(copy.deepcopy(dit), config, seed=at)
        adapters.merge(alone)
        changes.append(alone.get_submodule(name).weight - dit.get_submodule(name).weight)
    adapters.merge(stacks[0])
    expected = dit.get_submodule(name).weight + 0.7 * changes[0] - 0.4 * changes[1]
    close(stacks[0].get_submodule(name).weight, expected)


def test_a_new_adapter_learns_on_top_of_others(dit):
    learnt(dit, SEVERAL[0], "first")
    before = output(dit)
    adapters.attach(dit, SEVERAL[0], "second")
    assert torch.equal(output(dit), before)
    learning = [name for name, tensor in dit.named_parameters() if tensor.requires_grad]
    assert learning and all(".adapters.1." in name for name in learning)


# --- merging -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_merged_weights_give_the_same_outputs_as_a_plain_model(dit, tmp_path):
    names = [*dit.state_dict()]
    for at, config in enumerate(SEVERAL):
        learnt(dit, config, f"number {at}", seed=at)
    adapters.set_strength(dit, "number 1", 0.5)
    adapted = output(dit)
    adapters.merge(dit)
    close(output(dit), adapted, 1e-6)
    assert [*dit.state_dict()] == names and adapters.adapter_names(dit) == []
    bundle.save(dit, tmp_path / "merged", "audio-gen", "0", "card")
    assert torch.equal(output(bundle.load(tmp_path / "merged", [DiT])), output(dit))


@torch.no_grad()
def test_merging_at_a_strength_of_zero_leaves_the_weights(dit):
    before = copy.deepcopy(dit.state_dict())
    adapters.set_strength(learnt(dit, SEVERAL[1]), "adapter", 0)
    adapters.merge(dit)
    assert all(torch.equal(dit.state_dict()[name], tensor) for name, tensor in before.items())


@torch.no_grad()
def test_copies_have_adapters_of_their_own(dit):
    """An average of weights is such a copy."""
    average = Average(learnt(dit, SEVERAL[1]), 0.5)
    before, base = output(dit), adapters.base_fingerprint(dit)
    close(output(average.net), before)
    for tensor in adapters.adapter_state(dit).values():
        tensor += 0.2
    average.update(dit, 1)
    assert adapters.base_fingerprint(average.net) == base
    moved = adapters.adapter_state(average.net)["transformer.layers.0.ff.up.up"]
    close(adapters.adapter_state(dit)["transformer.layers.0.ff.up.up"] - moved, torch.full_like(moved, 0.1), 1e-4)
    averaged = output(average.net)
    adapters.merge(average.net)
    close(output(average.net), averaged, 1e-6)
    assert adapters.adapter_names(dit) == ["adapter"] and (output(dit) - averaged).abs().max() > 1e-3


# --- networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_a_causal_transformer_goes_on_from_its_cache(method):
    torch.manual_seed(0)
    model = drawn(ContinuousTransformer(TransformerConfig(causal=True), WIDTH, 2, 32, context_width=WIDTH)).eval()
    x, context = torch.randn(2, 9, WIDTH), torch.randn(2, 4, WIDTH)
    before = model(x, context=context)
    learnt(model, AdapterConfig(rank=4, method=method))
    whole, cache = model(x, context=context), model.start()
    parts = [
        model(x[:, :4], context=context, cache=cache),
        *(model(x[:, at : at + 1], cache=cache) for at in range(4, 9)),
    ]
    close(torch.cat(parts, 1), whole)
    assert (whole - before).abs().max() > 0.01


@torch.no_grad()
def test_a_u_net_has_layers_of_attention_too():
    sizes = {"multipliers": (1, 1, 2), "factors": (2, 2), "num_blocks": (1, 2), "attentions": (0, 1, 2)}
    model = ADPUNet(ADPConfig(in_channels=2, channels=32, attention_heads=2, **sizes)).eval()
    x, t = torch.randn(1, 2, 64), torch.tensor([0.5])
    before = model(x, t)
    learnt(model, AdapterConfig(rank=2))
    kinds = {name.split(".attention.", 1)[-1] for name in adapter_layers.adapted(model) if ".attention." in name}
    assert kinds == {"to_q", "to_kv", "attention.to_out"}
    adapted = model(x, t)
    adapters.merge(model)
    close(model(x, t), adapted, 1e-6)
    assert not torch.allclose(adapted, before, rtol=0, atol=1e-4)


@torch.no_grad()
def test_large_layers_keep_their_way_through_onednn():
    model = nn.Sequential(Linear(1024, 1024))
    x = torch.randn(4, 1024)
    before = model(x)
    learnt(model, AdapterConfig(layers=("0",)))
    adapters.set_strength(model, "adapter", 0)
    assert torch.equal(model(x), before)


# --- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be from 1 to 4096, got 0"),
        ({"rank": 5000}, "rank must be from 1 to 4096, got 5000"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"alpha": math.inf}, "alpha"),
        ({"method": "loha"}, "method: 'loha' is not one of lora, dora"),
        ({"layers": []}, "layers needs one pattern or more"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build(AdapterConfig, settings)


def test_a_pattern_without_layers_is_told_the_nearest_names(dit):
    """Also beside one that matches; and nothing has changed then."""
    config = AdapterConfig(layers=("*.ff.up", "*.self_atn.to_qkv"))
    message = (
        r"'\*\.self_atn\.to_qkv' matches no linear layer of DiT, which has transformer\.layers\.\*\.self_attn\.to_qkv"
    )
    with pytest.raises(InputError, match=message):
        adapters.attach(dit, config)
    assert all(tensor.requires_grad for tensor in dit.parameters())
    with pytest.raises(InputError, match="which has none"):
        adapters.attach(nn.Sequential(nn.Conv1d(1, 1, 1)), AdapterConfig())


def test_names_and_strengths_that_cannot_be_are_refused(dit):
    with pytest.raises(InputError, match=r"adapter 'a': the model has no such adapter \(none is attached\)"):
        adapters.set_strength(dit, "a", 1)
    with pytest.raises(InputError, match="the model has no adapter"):
        adapters.merge(dit)
    adapters.attach(dit, AdapterConfig(), "a")
    with pytest.raises(InputError, match="'a': the model has one of this name"):
        adapters.attach(dit, AdapterConfig(), "a")
    with pytest.raises(InputError, match=r"no such adapter \(attached: a\)"):
        adapters.adapter_state(dit, "b")
    with pytest.raises(InputError, match="strength: expected a number, got nan"):
        adapters.set_strength(dit, "a", math.nan)
