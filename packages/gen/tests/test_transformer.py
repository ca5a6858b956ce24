"""The transformer computes what the original computed, and masks, windows and checkpoints do what they say."""

import pytest
import torch
from audio_core.testing import check_gradients, close
from audio_gen.config.transformer import AttentionConfig, FeedForwardConfig, NormConfig, TransformerConfig
from audio_gen.models.linear import Linear
from audio_gen.models.positions import rotary_angles, rotation
from audio_gen.models.transformer import ContinuousTransformer
from torch import nn

from .originals import SIZES, loaded, transformer_config

PLAIN = 5e-6  # relative to the largest output
VARIANTS = (
    *("plain", "qk_l2", "qk_ln", "qk_dyt", "differential", "feat_scale", "conformer", "layer_scale", "remove_norms"),
    *("norm_bias", "ff_plain", "ff_conv", "ff_mult2_nobias", "causal", "sinusoidal", "abs_pos", "memory", "block_rope"),
    *("cross", "cross_first_only", "in_out", "adaln"),
)


def original(settings):
    """The transformer of the original's keyword arguments."""
    sizes = {name: settings[name] for name in SIZES if name in settings}
    options = transformer_config({name: value for name, value in settings.items() if name not in SIZES})
    return ContinuousTransformer(
        options,
        sizes["dim"],
        sizes["depth"],
        sizes["dim_heads"],
        sizes.get("dim_in"),
        sizes.get("dim_out"),
        sizes.get("cond_token_dim", 0),
        sizes.get("global_cond_dim", 0),
    )


# --- the original's numbers ----------------------------------------------------------------------------------


def test_rotations_are_those_of_the_original_to_the_bit(stored_case):
    """With float32 angles: at position 2047 exact ones differ by 1e-4."""
    case = stored_case("rotary")
    q, features, length = case.inputs["q"], case.config["dim"], case.config["seq_len"]

    def angles(start, stop, *factors):
        half = rotary_angles(torch.arange(start, stop), features, *factors)
        return torch.cat([half, half], -1)

    assert torch.equal(angles(1, 2)[0, : features // 2], case.outputs["inv_freq"])
    assert torch.equal(angles(0, length), case.outputs["freqs"])
    assert torch.equal(angles(0, length, 2.0, 4.0), case.outputs["freqs_scaled"])
    assert torch.equal(rotation(torch.arange(length), features)(q), case.outputs["q_rot"])
    behind_two = rotation(torch.arange(2, length), features)
    assert torch.equal(behind_two(q[:, :, :6]), case.outputs["q_rot_last6"])
    far = rotation(torch.tensor([2047]), features)
    assert torch.equal(far(q[:, :, :1]), case.outputs["q_rot_at_2047"])


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_equal_the_original(stored_case, name, learning):
    """In inference, where positions are computed in parts, and in training."""
    case = stored_case("transformer_variants")
    model = loaded(original(case.config["base"] | case.config["variants"][name]), case, f"{name}.")
    x = case.inputs["x10" if name == "in_out" else "x"]
    context = {"cross": "context64", "cross_first_only": "context128"}.get(name)
    conditions = {
        "context": case.inputs[context] if context else None,
        "global_cond": case.inputs["global"] if name == "adaln" else None,
    }
    with torch.set_grad_enabled(learning):
        close(model(x, **conditions), case.outputs[name], PLAIN)


def test_all_variants_of_the_case_are_tested(stored_case):
    assert set(stored_case("transformer_variants").config["variants"]) == {*VARIANTS}


@torch.no_grad()
def test_prepended_positions_equal_the_original(stored_case):
    case = stored_case("transformer_variants")
    model = loaded(original(case.config["base"]), case, "plain.")
    close(model(case.inputs["x"], case.inputs["prepend"]), case.outputs["plain_prepend"], PLAIN)


# --- small transformers of every kind ------------------------------------------------------------------------

WIDTH, HEAD = 64, 32
CONFIGS = {
    "plain": {},
    "l2": {"attention": AttentionConfig(qk_norm="l2")},
    "ln": {"attention": AttentionConfig(qk_norm="ln")},
    "dyt": {"attention": AttentionConfig(qk_norm="dyt"), "remove_norms": True},
    "differential": {"attention": AttentionConfig(differential=True)},
    "feat_scale": {"attention": AttentionConfig(feat_scale=True)},
    "conformer": {"conformer": True},
    "layer_scale": {"layer_scale": True},
    "norm": {"norm": NormConfig(bias=True, fix_scale=True, force_fp32=True)},
    "ff_conv": {"feed_forward": FeedForwardConfig(use_conv=True)},
    "ff_conv_plain": {"feed_forward": FeedForwardConfig(use_conv=True, glu=False, no_bias=True)},
    "sinusoidal": {"rotary_pos_emb": False, "use_sinusoidal_emb": True},
    "table": {"rotary_pos_emb": False, "use_abs_pos_emb": True, "abs_pos_emb_max_length": 40},
    "memory": {"num_memory_tokens": 3},
    "rope": {"add_rope": True},
    "first_cross": {"final_cross_attn_ix": 0},
    "window": {"sliding_window": (3, 2)},
}
LOOK_AHEAD = ("feat_scale", "conformer", "ff_conv", "ff_conv_plain")


def small(name, causal=False, **sizes):
    """Two blocks with cross-attention to tokens of one head, whose weights draw from everything."""
    torch.manual_seed(1)
    config = TransformerConfig(**CONFIGS[name], zero_init_branch_outputs=False, causal=causal)
    model = ContinuousTransformer(config, WIDTH, 2, HEAD, 5, 6, HEAD, **sizes)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(("_scale.scale", "lambda_dc", "lambda_hf")):
                parameter.copy_(torch.rand_like(parameter) + 0.5)
    return model.eval()


def inputs(time=9, tokens=4, prepended=2, batch=2):
    """A sequence, prepended tokens and a context."""
    return torch.randn(batch, time, 5), torch.randn(batch, prepended, WIDTH), torch.randn(batch, tokens, HEAD)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_padding_is_not_seen(name):
    """An item with padding behind, before and between gives what it gives alone."""
    model, (x, prepended, context) = small(name), inputs()
    valid, prepended_valid, context_valid = (
        torch.ones(part.shape[:2], dtype=torch.bool) for part in (x, prepended, context)
    )
    valid[0, 6:], prepended_valid[1, 0], context_valid[0, 2:] = False, False, False
    masks = {"valid": valid, "prepended_valid": prepended_valid, "context_valid": context_valid}
    together = model(x, prepended, context, **masks)
    close(together[:1, :8], model(x[:1, :6], prepended[:1], context[:1, :2]))
    seen = torch.cat([prepended_valid, valid], 1)
    for part, mask in ((x, valid), (prepended, prepended_valid), (context, context_valid)):
        part.masked_fill_(~mask[..., None], 9.0)
    close(model(x, prepended, context, **masks)[seen], together[seen])


@torch.no_grad()
def test_without_masks_padding_is_seen():
    """As in the published models, whose padding is zeros."""
    model, (x, _, context) = small("plain"), inputs()
    padded = torch.cat([context, torch.zeros_like(context)], 1)
    assert (model(x, context=padded) - model(x, context=context)).abs().max() > 1e-3


@torch.no_grad()
def test_what_sees_nothing_is_finite():
    """Where a whole context is padding, cross-attention adds nothing."""
    model, (x, _, context) = small("plain"), inputs()
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    close(model(x, context=context, context_valid=nothing), model(x))
    assert model(x, valid=torch.zeros(2, 9, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in LOOK_AHEAD])
def test_a_causal_transformer_sees_no_later_position(name):
    model, (x, _, context) = small(name, causal=True), inputs()
    x.requires_grad_()
    model(x, context=context)[:, 4].square().sum().backward()
    seen = x.grad.abs().sum((0, 2)) > 0
    assert not seen[5:].any() and seen[:5].all()


def test_a_window_reaches_as_far_as_it_says():
    """Three positions to the left and two to the right in each of two blocks."""
    model, (x, _, _) = small("window"), inputs(time=20)
    x.requires_grad_()
    model(x)[:, 10].square().sum().backward()
    seen = x.grad.abs().sum((0, 2)) > 0
    assert seen.nonzero()[:, 0].tolist() == [*range(10 - 6, 10 + 4 + 1)]


def test_cross_attention_of_a_causal_transformer_sees_the_whole_context():
    """The original masked it as if the context were the sequence."""
    model, (x, _, context) = small("plain", causal=True), inputs(time=1)
    context.requires_grad_()
    model(x, context=context).square().sum().backward()
    assert (context.grad.abs().sum((0, 2)) > 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_learns(name):
    model = small(name, global_width=8)
    _, prepended, context = inputs(batch=3)
    whole = nn.Module()
    whole.model, whole.forward = model, lambda x: model(x, prepended, context, torch.randn(3, 8))
    check_gradients(whole, torch.randn(3, 9, 5))


def test_checkpointing_changes_no_gradient():
    model, (x, prepended, context) = small("ln"), inputs()
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(x, prepended, context).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("settings", [{}, {"layer_scale": True}])
@torch.no_grad()
def test_a_new_transformer_passes_its_input_on(settings):
    model = ContinuousTransformer(TransformerConfig(**settings), WIDTH, 2, HEAD)
    x = torch.randn(2, 9, WIDTH)
    close(model(x), x, 1e-3 if settings else 0.0)


@torch.no_grad()
def test_longer_sequences_keep_the_angles_of_training():
    """Position 2p with an interpolation of 2 is position p without."""
    x, _, _ = inputs()
    factors = {"rotary_interpolation_factor": 2.0}, {"rotary_base_rescale_factor": 8.0}
    plain, *others = (small_rotary(**each) for each in ({}, *factors))
    assert all((model(x) - plain(x)).abs().max() > 1e-4 for model in others)
    halves = rotation(torch.arange(0, 8, 2), 32, interpolation=2.0)
    assert torch.equal(halves.cos, rotation(torch.arange(4), 32).cos)


def small_rotary(**settings):
    torch.manual_seed(1)
    config = TransformerConfig(zero_init_branch_outputs=False, attention=AttentionConfig(qk_norm="ln"), **settings)
    return ContinuousTransformer(config, WIDTH, 2, HEAD, 5)


@pytest.mark.parametrize("bias", [False, True])
def test_linear_layers_equal_those_of_pytorch(bias):
    """With gradients and without, where large ones are computed by another library."""
    layer = Linear(1024, 1024, bias)
    x = torch.randn(2, 1024, 7).mT  # rows that are not contiguous
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), plain)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            close(layer(x), plain, 1e-6)
            with torch.autocast("cpu", torch.bfloat16):
                assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64


# --- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_memory_tokens": -1}, "num_memory_tokens must be at least 0, got -1"),
        ({"final_cross_attn_ix": -2}, "final_cross_attn_ix must be at least -1"),
        ({"rotary_interpolation_factor": 0.5}, "rotary_interpolation_factor must be at least 1"),
        ({"sliding_window": (-1, 2)}, "sliding_window must be at least 0"),
        ({"use_sinusoidal_emb": True, "use_abs_pos_emb": True}, "exclude each other"),
        ({"causal": True, "conformer": True}, "conformer looks ahead"),
        ({"causal": True, "feed_forward": FeedForwardConfig(use_conv=True)}, "feed_forward.use_conv looks ahead"),
        ({"causal": True, "attention": AttentionConfig(feat_scale=True)}, "attention.feat_scale looks ahead"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**settings)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (FeedForwardConfig, {"mult": 0}, "mult must be above 0"),
        (FeedForwardConfig, {"conv_kernel_size": 4}, "conv_kernel_size must be odd, got 4"),
        (NormConfig, {"eps": 0.0}, "eps must be above 0"),
    ],
)
def test_parts_refuse_settings_that_cannot_be(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_heads_too_narrow_for_the_rotation_are_refused():
    """The original failed in the first pass."""
    with pytest.raises(ValueError, match="at least 32 channels for rotary_pos_emb, got 16"):
        ContinuousTransformer(TransformerConfig(), 64, 1, 16)
    with pytest.raises(ValueError, match="rotated in pairs"):
        ContinuousTransformer(TransformerConfig(add_rope=True), 34, 1, 34)
    ContinuousTransformer(TransformerConfig(add_rope=True), 64, 1, 16)


@torch.no_grad()
def test_arguments_that_cannot_be_are_refused():
    model, (x, _, context) = small("table"), inputs()
    with pytest.raises(ValueError, match="abs_pos_emb_max_length is 40, and the sequence has 41"):
        model(torch.randn(1, 41, 5))
    with pytest.raises(ValueError, match="exit_layer must be from 0 to 1, got 2"):
        model(x, exit_layer=2)
    with pytest.raises(ValueError, match="has no adaLN"):
        model(x, global_cond=torch.randn(2, 8))
    with pytest.raises(ValueError, match="has adaLN"):
        small("plain", global_width=8)(x)
    with pytest.raises(ValueError, match="no cross-attention"):
        ContinuousTransformer(TransformerConfig(), WIDTH, 1, HEAD)(torch.randn(2, 9, WIDTH), context=context)
    with pytest.raises(ValueError, match="an even width, got 33"):
        ContinuousTransformer(TransformerConfig(use_sinusoidal_emb=True, rotary_pos_emb=False), 33, 1, 33)
