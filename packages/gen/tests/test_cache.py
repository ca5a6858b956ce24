"""A causal transformer goes on from its cache as if it had seen the whole sequence at once."""

import pytest
import torch
from audio_core.testing import close

from .test_transformer import CONFIGS, LOOK_AHEAD, inputs, small

CAUSAL = [name for name in CONFIGS if name not in LOOK_AHEAD]


def in_parts(model, x, sizes, prepended=None, context=None, valid=None, **masks):
    """The outputs of one call for each part, joined."""
    cache, outputs, start = model.start(), [], 0
    for size in sizes:
        mask = None if valid is None else valid[:, start : start + size]
        outputs.append(model(x[:, start : start + size], prepended, context, valid=mask, cache=cache, **masks))
        prepended, context, masks, start = None, None, {}, start + size
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("sizes", [(1,) * 9, (4, 1, 1, 3), (3, 6), (9,)])
@pytest.mark.parametrize("name", CAUSAL)
@torch.no_grad()
def test_parts_equal_the_whole(name, sizes):
    """Whatever comes before the sequence, and whatever is seen beside it."""
    model, (x, prepended, context) = small(name, causal=True), inputs()
    close(in_parts(model, x, sizes), model(x))
    close(in_parts(model, x, sizes, prepended, context), model(x, prepended, context))


@pytest.mark.parametrize("name", ["plain", "memory", "window", "differential"])
@torch.no_grad()
def test_parts_equal_the_whole_with_masks(name):
    """Prompts of several lengths in a batch, padded on the left."""
    model, (x, prepended, context) = small(name, causal=True), inputs()
    prepended_valid = torch.tensor([[False, True], [True, True]])
    context_valid = torch.tensor([[True, False, True, True], [True, True, True, False]])
    masks = {"prepended_valid": prepended_valid, "context_valid": context_valid}
    whole = model(x, prepended, context, **masks)
    close(in_parts(model, x, (2, 1, 6), prepended, context, **masks), whole)
    assert (whole - model(x, prepended, context)).abs().max() > 1e-3
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[0, 3] = valid[1, 5] = False
    close(in_parts(model, x, (4, 1, 4), context=context, valid=valid), model(x, context=context, valid=valid))


@torch.no_grad()
def test_a_mask_may_come_later():
    model, (x, _, _) = small("plain", causal=True), inputs()
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[0, 6] = False
    cache = model.start()
    parts = [model(x[:, :5], cache=cache), model(x[:, 5:], valid=valid[:, 5:], cache=cache)]
    close(torch.cat(parts, 1), model(x, valid=valid))


@torch.no_grad()
def test_the_context_is_projected_once():
    model, (x, _, context) = small("plain", causal=True), inputs()
    calls = []
    for layer in model.layers:
        layer.cross_attn.to_kv.register_forward_hook(lambda *_: calls.append(1))
    in_parts(model, x, (1,) * 9, context=context)
    assert len(calls) == len(model.layers)


@torch.no_grad()
def test_a_step_computes_one_position():
    """However much went before."""
    model, (x, _, _) = small("plain", causal=True), inputs()
    rows = []
    model.layers[0].self_attn.to_qkv.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[1]))
    in_parts(model, x, (4, 1, 1, 3))
    assert rows == [4, 1, 1, 3]


@torch.no_grad()
def test_caches_are_independent():
    model, (x, _, context) = small("plain", causal=True), inputs()
    caches = model.start(), model.start()
    for at in range(9):
        ours = model(x[:, at : at + 1], context=None if at else context, cache=caches[0])
        model(-x[:, at : at + 1], context=None if at else -context, cache=caches[1])
    close(ours, model(x, context=context)[:, -1:])


@torch.no_grad()
def test_what_a_cache_cannot_do_is_refused():
    model, (x, prepended, context) = small("plain", causal=True), inputs()
    with pytest.raises(ValueError, match="only a causal transformer"):
        small("plain").start()
    with pytest.raises(ValueError, match="a cache needs all blocks"):
        model(x, exit_layer=0, cache=model.start())
    cache = model.start()
    model(x, cache=cache)
    for late in ({"prepended": prepended}, {"context": context}):
        with pytest.raises(ValueError, match="come with the first call"):
            model(x, **late, cache=cache)
