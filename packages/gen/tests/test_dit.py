"""The diffusion transformer computes what the original computed, and takes each condition where it belongs."""

import pytest
import torch
from audio_core.testing import check_gradients, close
from audio_core.weights import no_values
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.guidance import Guidance
from audio_gen.config.transformer import AttentionConfig, TransformerConfig
from audio_gen.diffusion import objectives
from audio_gen.models.dit import DiT
from audio_gen.models.guidance import Guided
from torch import nn

from .originals import dit_config, loaded

CASES = ("dit_open_small", "dit_adaln_inpaint", "dit_prepend_gqa")
PLAIN, GUIDED = 5e-6, 2e-5  # relative to the largest output


def stored(case):
    """The model of a case, its x and t, and its conditions under our names."""
    names = {"global_embed": "global_cond"}
    given = ("cross_attn_cond", "global_embed", "input_concat_cond", "prepend_cond")
    conditions = {names.get(name, name): case.inputs[name] for name in given if name in case.inputs}
    model = loaded(DiT(dit_config(case.config["kwargs"])), case)
    return model, case.inputs["x"], case.inputs["t"], conditions


# --- the original's numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_outputs_equal_the_original(stored_case, name):
    case = stored_case(name)
    model, x, t, conditions = stored(case)
    hidden = []
    for layer in model.transformer.layers:
        layer.register_forward_hook(lambda _, __, output: hidden.append(output))
    close(model(x, t, **conditions), case.outputs["out"], PLAIN)
    for at, output in enumerate(hidden):
        close(output, case.outputs[f"hidden_{at}"], PLAIN)
    close(model.hidden(x, t, 0, **conditions), case.outputs["exit_layer_0"], PLAIN)
    features = model.timestep_features(t)
    close(features, case.outputs["timestep_features"], PLAIN)
    close(model.to_timestep_embed(features), case.outputs["timestep_embed"], PLAIN)


@pytest.mark.parametrize(
    ("output", "guidance", "negative"),
    [
        ("out_cfg6", Guidance(scale=6), False),
        ("out_cfg6_phi0p7", Guidance(scale=6, rescale=0.7), False),
        ("out_cfg6_interval_0_0p2", Guidance(scale=6, interval=(0, 0.2)), False),
        ("out_cfg4_negative", Guidance(scale=4), True),
    ],
)
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_guided_outputs_equal_the_original(stored_case, name, output, guidance, negative):
    case = stored_case(name)
    model, x, t, conditions = stored(case)
    objective = objectives.build(case.config["kwargs"]["diffusion_objective"])
    tokens = {name: case.inputs[f"negative_{name}"] for name in ("cross_attn_cond", "cross_attn_mask")}
    denoise = Guided(model, conditions, guidance, objective, tokens if negative else None)
    close(denoise(x, t), case.outputs[output], GUIDED)


# --- published sizes -----------------------------------------------------------------------------------------

OPEN = DiTConfig(  # Stable Audio 2.0 and Stable Audio Open 1.0
    io_channels=64,
    embed_dim=1536,
    depth=24,
    num_heads=24,
    cond_token_dim=768,
    project_cond_tokens=False,
    global_cond_dim=1536,
)
OPEN_SMALL = DiTConfig(
    io_channels=64,
    embed_dim=1024,
    depth=16,
    num_heads=8,
    cond_token_dim=768,
    global_cond_dim=768,
    transformer=TransformerConfig(attention=AttentionConfig(qk_norm="ln")),
)


@pytest.mark.parametrize(("config", "millions"), [(OPEN, 1056.8), (OPEN_SMALL, 340.9)])
def test_published_models_have_their_parameters(config, millions):
    with no_values():
        model = DiT(config)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions


# --- small models of every kind ------------------------------------------------------------------------------

SIZES = {"io_channels": 4, "embed_dim": 64, "depth": 2, "num_heads": 2}
TOKENS = {"cond_token_dim": 12, "prepend_cond_dim": 10}
OPTIONS = TransformerConfig(zero_init_branch_outputs=False)
CONFIGS = {
    "plain": {},
    "all": {**TOKENS, "global_cond_dim": 6, "input_concat_dim": 3},
    "adaln": {**TOKENS, "global_cond_dim": 6, "input_concat_dim": 3, "global_cond_type": "adaLN"},
    "patches": {**TOKENS, "patch_size": 3},
    "time_in_frames": {**TOKENS, "timestep_cond_type": "input_concat", "timestep_embed_dim": 5},
    "unprojected": {"cond_token_dim": 32, "project_cond_tokens": False},
    "adaln_unprojected": {"global_cond_dim": 64, "project_global_cond": False, "global_cond_type": "adaLN"},
}
LENGTH = 12


def small(name):
    torch.manual_seed(1)
    model = DiT(DiTConfig(**SIZES, **CONFIGS[name], transformer=OPTIONS))
    with torch.no_grad():
        for conv in (model.preprocess_conv, model.postprocess_conv):
            conv.weight.normal_(std=0.1)
    return model.eval()


def conditions(model, batch=2):
    """All that the model takes, with masks of which nothing is hidden."""
    config, result = model.config, {}
    for name, width, count in (
        ("cross_attn_cond", config.cond_token_dim, 5),
        ("prepend_cond", config.prepend_cond_dim, 3),
    ):
        if width:
            result[name] = torch.randn(batch, count, width)
    if config.global_cond_dim:
        result["global_cond"] = torch.randn(batch, config.global_cond_dim)
    if config.input_concat_dim:
        result["input_concat_cond"] = torch.randn(batch, config.input_concat_dim, LENGTH)
    return result


def noisy(batch=2):
    return torch.randn(batch, 4, LENGTH), torch.rand(batch)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_items_do_not_depend_on_their_batch(name):
    model, (x, t) = small(name), noisy(3)
    given = conditions(model, 3)
    together = model(x, t, **given)
    assert together.shape == x.shape
    for item in range(3):
        one = slice(item, item + 1)
        close(model(x[one], t[one], **{key: value[one] for key, value in given.items()}), together[one])


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_padding_is_not_seen(name):
    """A short item gives in a batch of longer ones what it gives alone, whatever stands in the padding."""
    model, (x, t) = small(name), noisy()
    given, masks = conditions(model), {"padding_mask": torch.ones(2, LENGTH, dtype=torch.bool)}
    masks["padding_mask"][0, 6:] = False
    for key, mask, kept in (("cross_attn_cond", "cross_attn_mask", 2), ("prepend_cond", "prepend_cond_mask", 1)):
        if key in given:
            masks[mask] = torch.ones(given[key].shape[:2], dtype=torch.bool)
            masks[mask][0, kept:] = False
    together = model(x, t, **given, **masks)
    short = {key: value[:1] for key, value in given.items()}
    for key, kept in (("cross_attn_cond", 2), ("prepend_cond", 1)):
        if key in short:
            short[key] = short[key][:, :kept]
    if "input_concat_cond" in short:
        short["input_concat_cond"] = short["input_concat_cond"][..., :6]
    alone = model(x[:1, :, :6], t[:1], **short)
    if "prepend_cond" not in given:  # otherwise the positions behind the prepended ones are others
        close(together[:1, :, :6], alone)
    noise = x.clone()
    noise[0, :, 6:] = 7.0
    close(model(noise, t, **given, **masks)[:1, :, :6], together[:1, :, :6])
    assert (model(noise, t, **given) - model(x, t, **given))[0, :, :6].abs().max() > 1e-4


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_every_condition_counts(name):
    """With and without a mask; the original failed on prepended tokens without one, and on the time in frames."""
    model, (x, t) = small(name), noisy()
    given = conditions(model)
    y = model(x, t, **given)
    for key, value in given.items():
        assert (model(x, t, **given | {key: 2 * value}) - y).abs().max() > 1e-4, key
    assert (model(x, t.flip(0), **given) - y).abs().max() > 1e-4
    if "prepend_cond" in given:
        close(model(x, t, **given, prepend_cond_mask=torch.ones(2, 3, dtype=torch.bool)), y)


@torch.no_grad()
def test_zero_tokens_are_as_none():
    """So that a model learns to do without, by zeros in their place."""
    model, (x, t) = small("all"), noisy()
    given = conditions(model)
    without = {key: value for key, value in given.items() if key != "cross_attn_cond"}
    zeros = torch.zeros_like(given["cross_attn_cond"])
    close(model(x, t, cross_attn_cond=zeros, **without), model(x, t, **without))


@torch.no_grad()
def test_frames_beside_the_input_are_repeated_to_its_length():
    model, (x, t) = small("all"), noisy()
    given = conditions(model)
    half = given.pop("input_concat_cond")[..., ::2]
    whole = half.repeat_interleave(2, 2)
    close(model(x, t, **given, input_concat_cond=half), model(x, t, **given, input_concat_cond=whole))


@torch.no_grad()
def test_a_new_model_only_projects_its_input():
    """Blocks and convolutions add nothing yet."""
    x, t = noisy()
    model = DiT(DiTConfig(**SIZES, **CONFIGS["all"]))
    given = conditions(model)
    frames = torch.cat([x, given["input_concat_cond"]], 1).mT
    close(model(x, t, **given), model.transformer.project_out(model.transformer.project_in(frames)).mT)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_learns(name):
    model = small(name)
    given = conditions(model, 3)
    whole = nn.Module()
    whole.model, whole.forward = model, lambda x: model(x, torch.rand(3), **given)
    check_gradients(whole, torch.randn(3, 4, LENGTH))


@torch.no_grad()
def test_times_keep_their_precision_in_half_precision():
    """bfloat16 knows 256 times between 0.5 and 1, and high frequencies would turn that into noise."""
    model, (x, t) = small("all"), noisy()
    given = conditions(model)
    y = model(x, t, **given)
    model.bfloat16()
    model.timestep_features.weight.copy_(torch.arange(128)[:, None] / 4)  # exact in bfloat16
    features = model.timestep_features(t)
    close(features[:, :128], (2 * torch.pi * t[:, None] * torch.arange(128) / 4).cos(), 1e-4)
    small_again = small("all").bfloat16()
    estimate = small_again(x, t, **given)
    assert estimate.dtype == x.dtype
    close(estimate, y, 0.1)


# --- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"cond_token_dim": -1}, "cond_token_dim must be at least 0"),
        ({"num_heads": 3}, "embed_dim must be a multiple of num_heads, got 64 and 3"),
        ({"num_heads": 4}, "at least 32 channels for rotary_pos_emb, got 16"),
        ({"transformer": TransformerConfig(causal=True)}, "causal: a diffusion transformer sees the whole sequence"),
        ({"cond_token_dim": 48, "project_cond_tokens": False}, "cond_token_dim must make heads of 32 channels"),
        ({"global_cond_dim": 6, "project_global_cond": False}, "global_cond_dim must be embed_dim"),
        ({"timestep_cond_type": "input_concat"}, "timestep_embed_dim must be given"),
        ({"timestep_embed_dim": 5}, "timestep_embed_dim is for timestep_cond_type input_concat"),
        (
            {"timestep_cond_type": "input_concat", "timestep_embed_dim": 5, "global_cond_type": "adaLN"},
            "adaLN needs a global vector",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DiTConfig(**SIZES | settings)


@torch.no_grad()
def test_conditions_that_cannot_be_are_refused():
    plain, patches, concat = small("plain"), small("patches"), small("all")
    x, t = noisy()
    with pytest.raises(ValueError, match="has no cond_token_dim"):
        plain(x, t, cross_attn_cond=torch.randn(2, 3, 12))
    with pytest.raises(ValueError, match="input_concat_dim is 0, and an input_concat_cond"):
        plain(x, t, input_concat_cond=torch.randn(2, 3, LENGTH))
    with pytest.raises(ValueError, match="length must be a multiple of 3, got 10"):
        patches(x[..., :10], t)
    with pytest.raises(ValueError, match="input_concat_dim is 3, and no input_concat_cond"):
        concat(x, t)
    with pytest.raises(TypeError, match="prompt"):
        plain(x, t, prompt="rain")
