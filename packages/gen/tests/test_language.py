"""The language model computes what the original computed, corrected where that could not run, and learns a grammar."""

import itertools
import math

import pytest
import torch
from audio_core import config as recipes
from audio_core.testing import close, refused
from audio_gen.config.language import DelayConfig, LanguageModelConfig, ParallelConfig
from audio_gen.config.transformer import TransformerConfig
from audio_gen.models.language import LanguageModel, cross_entropies

from .language_toys import CASES, conditioned, small, stored

PLAIN = 5e-6  # relative to the largest output


def codes_of(model, items=2, frames=9):
    return torch.randint(0, model.config.codebook_size, (items, model.config.codebooks, frames))


# --- the original's numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_logits_and_losses_equal_the_original(stored_case, name):
    case = stored_case(name)
    model, conditions = stored(case, name)
    codes = case.inputs["codes"]
    logits, mask = model(codes, **conditions)
    assert torch.equal(mask.expand_as(codes), case.outputs["mask"])
    close(logits, case.outputs["logits"], PLAIN)
    loss = model.loss(codes, **conditions)
    close(loss.codebooks, case.outputs["ce_per_codebook"], PLAIN)
    close(loss.total, case.outputs["ce"], PLAIN)


# --- defects of the original ---------------------------------------------------------------------------------


def test_the_model_runs_with_masks_and_tokens_that_keep_their_width():
    """Defect 2: the original's blocks refuse the masks which it passes, and its unprojected tokens end in an error."""
    projected, conditions = conditioned()
    unprojected = small(cross_attn_cond_dim=32, prepend_cond_dim=12)
    wide = conditions | {"cross_attn_cond": torch.randn(2, 5, 32)}
    for model, given in ((projected, conditions), (unprojected, wide)):
        model.loss(codes_of(model), **given).total.backward()
        silent = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert silent == []


@torch.no_grad()
def test_masked_tokens_change_nothing():
    model, conditions = conditioned()
    codes = codes_of(model)
    logits, _ = model(codes, **conditions)
    changed = dict(conditions)
    for name, mask in (("cross_attn_cond", "cross_attn_mask"), ("prepend_cond", "prepend_cond_mask")):
        changed[name] = torch.where(conditions[mask][..., None], conditions[name], 9.0)
    close(model(codes, **changed)[0], logits)
    changed["prepend_cond_mask"] = torch.ones(2, 3, dtype=torch.bool)
    assert (model(codes, **changed)[0] - logits).abs().max() > 1e-2


@torch.no_grad()
def test_the_first_code_sees_the_last_token_of_the_text():
    """Defect 3: the original hides all but the first tokens from cross-attention at the beginning."""
    model, conditions = conditioned()
    del conditions["cross_attn_mask"]
    codes = codes_of(model)
    changed = dict(conditions, cross_attn_cond=conditions["cross_attn_cond"].clone())
    changed["cross_attn_cond"][:, -1] += 1
    difference = (model(codes, **changed)[0] - model(codes, **conditions)[0]).abs()
    assert difference[:, 0, 0].max() > 1e-3


# --- what the model sees, and what it learns from ------------------------------------------------------------


@torch.no_grad()
def test_a_code_is_predicted_from_what_is_before_it_alone():
    model = small()
    codes = codes_of(model)
    later = codes.clone()
    later[:, 1, 4] = (later[:, 1, 4] + 1) % 24  # in step 1 + 4 + 1
    change = (model(later)[0] - model(codes)[0]).abs().amax((0, 3)) > 0  # (K, T)
    step = model.pattern(9).step
    assert torch.equal(change, (step > 6) & (step < 10))


@torch.no_grad()
def test_the_loss_is_that_of_real_frames():
    """An item that is padded in a batch has the loss which its codes have, whatever the padding holds."""
    model = small(pattern=ParallelConfig())
    codes, valid = codes_of(model), torch.ones(2, 9, dtype=torch.bool)
    valid[1, 5:] = False
    logits, mask = model(codes)
    assert mask.all()
    each = -logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0]  # (B, K, T)
    expected = (each[0].sum(1) + each[1, :, :5].sum(1)) / 14
    close(model.loss(codes, valid).codebooks, expected)
    assert (model.loss(codes).codebooks - expected).abs().max() > 1e-3


@torch.no_grad()
def test_no_real_frame_sees_padding():
    """With delays the later codebooks of the last real frames are predicted behind the first codes of padding."""
    model, valid = small(), torch.ones(2, 9, dtype=torch.bool)
    valid[1, 5:] = False
    codes = codes_of(model)
    loss = model.loss(codes, valid)
    for padding in (0, model.special, 1000):  # even what is no code
        padded = torch.where(valid[:, None], codes, padding)
        assert torch.equal(model.loss(padded, valid).codebooks, loss.codebooks)
    first = torch.where(valid[:, None], codes, model.special)
    logits, mask = model(first)
    expected = cross_entropies(logits, codes, mask & valid[:, None])
    close(loss.total, expected.total)


def test_a_codebook_without_positions_has_no_loss():
    """Shorter than the delay, as the last codebook of a very short item."""
    model = small(pattern=DelayConfig(delays=(0, 1, 2, 6)))
    loss = model.loss(codes_of(model, frames=3))
    loss.total.backward()
    assert loss.codebooks[3] == 0 and (loss.codebooks[:3] > 1).all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


@torch.no_grad()
def test_tokens_that_are_left_out_are_zeros():
    """Each kind by itself, in the items that are chosen."""
    model, conditions = conditioned()
    codes = codes_of(model)
    zeros = {name: torch.zeros_like(value) if value.ndim == 3 else value for name, value in conditions.items()}
    everything = torch.ones(len(codes), 2, dtype=torch.bool)
    close(model.loss(codes, chosen=everything, **conditions).total, model.loss(codes, **zeros).total)
    losses = {
        round(model.loss(codes, chosen=torch.tensor(bits).view(-1, 2), **conditions).total.item(), 4)
        for bits in itertools.product([False, True], repeat=2 * len(codes))
    }
    assert len(losses) == 16  # two items, two kinds


@torch.no_grad()
def test_cross_entropy_is_computed_in_float32():
    logits, codes = torch.randn(1, 2, 400, 24), torch.randint(0, 24, (1, 2, 400))
    half = cross_entropies(logits.bfloat16(), codes, torch.ones(1, 2, 400, dtype=torch.bool))
    assert half.total.dtype == torch.float32
    close(half.total, cross_entropies(logits.bfloat16().float(), codes, torch.ones_like(codes, dtype=torch.bool)).total)


# --- configurations ------------------------------------------------------------------------------------------


def test_a_configuration_is_built_from_plain_data():
    config = recipes.build(
        LanguageModelConfig, {"pattern": {"kind": "Unroll"}, "transformer": {"num_memory_tokens": 2}}
    )
    assert config.transformer == TransformerConfig(causal=True, num_memory_tokens=2)
    assert type(config.pattern).__name__ == "UnrollConfig"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed_dim": 100}, "embed_dim must be a multiple of dim_heads"),
        ({"dim_heads": 16}, "at least 32 channels for rotary_pos_emb"),
        ({"transformer": TransformerConfig()}, "transformer.causal must be on"),
        ({"cross_attn_cond_dim": 48}, "cross_attn_cond_dim must make heads of 32 channels that divide the 2 heads"),
        ({"codebook_size": 0}, "codebook_size must be at least 1"),
        ({"prepend_cond_dim": -1}, "prepend_cond_dim must be at least 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_conditions_that_do_not_fit_are_refused():
    model, conditions = conditioned()
    assert "takes none" in refused(small(), codes_of(model), **conditions)
    narrow = conditions | {"prepend_cond": torch.randn(2, 3, 4)}
    assert refused(model, codes_of(model), **narrow) == "prepend_cond: has 4 channels, and this model needs 12"


# --- learning ------------------------------------------------------------------------------------------------


def test_a_small_model_learns_a_grammar():
    """q0 goes up by 3, and q1 = 5 q0 + 1, all modulo 16. Only the first code of each item cannot be foreseen."""
    config = LanguageModelConfig(codebooks=2, codebook_size=16, embed_dim=64, depth=2)
    model, frames = LanguageModel(config), 12
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    steps = torch.arange(frames)
    for _ in range(100):
        first = (torch.randint(0, 16, (32, 1)) + 3 * steps) % 16
        loss = model.loss(torch.stack([first, (5 * first + 1) % 16], 1)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    floor = math.log(16) / (2 * frames)
    assert 0.97 * floor < loss.item() <= 0.13
