"""Codes are drawn as the settings say, the same with and without a cache, in any batch, and beyond a window."""

from dataclasses import replace

import pytest
import torch
from audio_core.testing import refused
from audio_gen.config.language import CodeSampling, MusicLMConfig
from audio_gen.models.decoding import Window, choose, generate_codes, item_draws, likeliest, windows

from .language_toys import CASES, conditioned, small, stored
from .test_patterns import PATTERNS

GREEDY = CodeSampling(temperature=0)
SAMPLED = CodeSampling(top_k=0)


# --- the original's numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_greedy_codes_equal_the_original(stored_case, name, cached):
    case = stored_case(name)
    model, conditions = stored(case, name)

    def greedy(**settings):
        prompt = settings.pop("prompt", None)
        sampling = replace(GREEDY, **settings)
        return generate_codes(model, 6, sampling, [0, 1], conditions, prompt=prompt, cached=cached)

    assert torch.equal(greedy(), case.outputs["greedy"])
    assert torch.equal(greedy(prompt=case.inputs["codes"][..., :2]), case.outputs["greedy_continue"])
    if conditions:
        assert torch.equal(greedy(guidance=3.0), case.outputs["greedy_cfg3"])


# --- the cache -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("name", PATTERNS)
def test_a_cache_changes_no_code(name, guidance):
    """With a prompt, masks of both kinds of tokens, and guidance."""
    model, conditions = conditioned(pattern=PATTERNS[name])
    prompt = torch.randint(0, 24, (2, 4, 3))
    for settings in (replace(GREEDY, guidance=guidance), replace(SAMPLED, guidance=guidance)):
        codes = [
            generate_codes(model, 10, settings, [3, 4], conditions, prompt=prompt, cached=cached)
            for cached in (True, False)
        ]
        assert torch.equal(*codes) and torch.equal(codes[0][..., :3], prompt)


def test_a_cache_computes_each_position_once():
    """And from the prompt on only what the pattern asks for: here the groups of a prompt are not drawn again."""
    model, positions = small(pattern=MusicLMConfig()), []
    model.transformer.layers[0].register_forward_hook(lambda _, __, output: positions.append(output.shape[1]))
    prompt = torch.randint(0, 24, (1, 4, 3))
    generate_codes(model, 5, GREEDY, [0], prompt=prompt)
    assert positions == [7, 1, 1, 1, 7, 1, 1, 1]  # step 0 and 3 frames of 2; 2 frames; again for the second group
    positions.clear()
    generate_codes(model, 5, GREEDY, [0], prompt=prompt, cached=False)
    assert positions == [7, 8, 9, 10, 17, 18, 19, 20]


# --- guidance ------------------------------------------------------------------------------------------------


def test_guidance_goes_away_from_zeros_or_from_negative_tokens():
    model, conditions = conditioned()
    settings = replace(GREEDY, guidance=4.0)
    plain = generate_codes(model, 12, GREEDY, [0, 1], conditions)
    guided = generate_codes(model, 12, settings, [0, 1], conditions)
    zeros = {name: torch.zeros_like(conditions[name]) for name in ("cross_attn_cond", "prepend_cond")}
    masks = {name: conditions[name] for name in ("cross_attn_mask", "prepend_cond_mask")}
    assert not torch.equal(plain, guided)
    assert torch.equal(generate_codes(model, 12, settings, [0, 1], conditions, zeros | masks), guided)
    assert torch.equal(generate_codes(model, 12, settings, [0, 1], conditions, conditions), plain)
    nothing = replace(settings, guidance=0.0)
    assert torch.equal(
        generate_codes(model, 12, nothing, [0, 1], conditions), generate_codes(model, 12, GREEDY, [0, 1], zeros | masks)
    )


def test_guidance_needs_tokens():
    with pytest.raises(ValueError, match="its scale must be 1"):
        generate_codes(small(), 4, CodeSampling(guidance=3.0), [0])


# --- drawing -------------------------------------------------------------------------------------------------


def counts(logits, draws=2000, **settings):
    """How often each code is chosen by evenly spaced draws."""
    even = ((torch.arange(draws) + 0.5) / draws)[None]
    rows = torch.tensor(logits).expand(1, draws, -1)
    return choose(rows, CodeSampling(**settings), even)[0].bincount(minlength=len(logits)).tolist()


def expected(*weights, draws=2000):
    return pytest.approx([draws * weight / sum(weights) for weight in weights], abs=1)


def test_codes_are_drawn_by_their_probabilities():
    logits = torch.tensor([0.1, 0.2, 0.4, 0.3]).log().tolist()
    assert counts(logits) == expected(1, 2, 4, 3)
    assert counts(logits, temperature=0.5) == expected(1, 4, 16, 9)
    assert counts(logits, temperature=0) == counts(logits, top_k=1) == [0, 0, 2000, 0]
    assert counts(logits, temperature=1e-30) == [0, 0, 2000, 0]


def test_unlikely_codes_are_left_out():
    logits = torch.tensor([0.1, 0.2, 0.4, 0.3]).log().tolist()
    assert counts(logits, top_k=2) == expected(0, 0, 4, 3)
    assert counts(logits, top_k=0) == counts(logits, top_k=9) == expected(1, 2, 4, 3)
    assert counts(logits, top_p=0.39) == [0, 0, 2000, 0]
    assert counts(logits, top_p=0.41) == expected(0, 0, 4, 3)
    assert counts(logits, top_p=0.71, top_k=1) == expected(0, 2, 4, 3)
    assert likeliest(torch.tensor([0.25] * 4), CodeSampling(top_p=0.5)).count_nonzero() == 2


def test_a_code_without_probability_is_never_drawn():
    """Not even where the draw is as large as it gets, or 0."""
    logits = torch.full((1, 1, 2048), -torch.inf)
    logits[..., 5:1000] = torch.randn(995)
    for draw, code in ((1 - 2**-22, 999), (0.0, 5)):
        assert choose(logits, CodeSampling(top_k=0), torch.tensor([[draw]])) == code


def test_draws_belong_to_their_code():
    """A longer item begins with the same, in any batch."""
    draws = item_draws([5, 6], 4, 3000)
    assert torch.equal(draws[1:, :, :700], item_draws([6], 4, 700))
    assert draws.min() >= 0 and draws.max() < 1
    assert (draws.mean(-1) - 0.5).abs().max() < 0.02
    rows = draws.flatten(0, 1)
    assert (rows.corrcoef() - torch.eye(8)).abs().max() < 0.07


def test_draws_are_the_same_in_every_release():
    """What a seed gives may not change: a result that somebody has noted the seed of would be lost."""
    noted = torch.tensor([[[0.9449049, 0.6841799], [0.6250954, 0.8972138]]])
    torch.testing.assert_close(item_draws([7], 2, 2), noted, rtol=0, atol=1e-6)


# --- batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PATTERNS)
def test_an_item_does_not_depend_on_its_batch(name):
    model, conditions = conditioned(pattern=PATTERNS[name])
    settings = CodeSampling(guidance=1.5, top_p=0.9)
    together = generate_codes(model, 8, settings, [3, 9], conditions)
    alone = generate_codes(model, 8, settings, [9], {key: value[1:] for key, value in conditions.items()})
    swapped = generate_codes(model, 8, settings, [9, 3], {key: value.flip(0) for key, value in conditions.items()})
    assert torch.equal(alone[0], together[1]) and torch.equal(swapped.flip(0), together)
    other = generate_codes(model, 8, settings, [3, 10], conditions)
    assert torch.equal(other[0], together[0]) and not torch.equal(other[1], together[1])


SAME_STEPS = [name for name in PATTERNS if "coarse" not in name and name != "musiclm"]


@pytest.mark.parametrize("settings", [SAMPLED, replace(SAMPLED, window=6, stride=4)])
@pytest.mark.parametrize("name", SAME_STEPS)
def test_items_of_different_lengths_share_a_batch(name, settings):
    model, lengths = small(pattern=PATTERNS[name]), (4, 11, 9)
    together = generate_codes(model, lengths, settings, [1, 2, 3])
    assert together.shape == (3, 4, 11)
    for item, (seed, length) in enumerate(zip((1, 2, 3), lengths, strict=True)):
        assert torch.equal(together[item, :, :length], generate_codes(model, length, settings, [seed])[0])
        assert not together[item, :, length:].any()


# --- beyond the window ---------------------------------------------------------------------------------------


def test_windows_cover_all_frames():
    settings = CodeSampling(window=10, stride=6)
    assert windows(0, 25, settings) == [Window(0, 0, 10), Window(6, 10, 16), Window(12, 16, 22), Window(18, 22, 25)]
    assert windows(3, 10, settings) == [Window(0, 3, 10)]
    assert windows(0, 7, settings) == [Window(0, 0, 7)]
    assert windows(13, 20, settings) == [Window(9, 13, 19), Window(15, 19, 20)]
    assert windows(3, 99, CodeSampling()) == [Window(0, 3, 99)]


@pytest.mark.parametrize("frames", [5, 6, 7, 10, 23])
def test_extension_gives_the_length_asked_for(frames):
    model, conditions = conditioned()
    settings = CodeSampling(window=6, stride=4, guidance=2.0)
    codes = generate_codes(model, frames, settings, [0, 1], conditions)
    assert codes.shape == (2, 4, frames) and codes.min() >= 0 and codes.max() < 24
    if frames > 6:  # by hand: the second window
        expected = generate_codes(model, 6, replace(GREEDY, guidance=2.0), [0, 1], conditions)
        extended = generate_codes(
            model, min(frames - 4, 6), replace(GREEDY, guidance=2.0), [0, 1], conditions, prompt=expected[..., 4:]
        )
        greedy = generate_codes(model, frames, replace(settings, temperature=0), [0, 1], conditions)
        assert torch.equal(greedy[..., :6], expected) and torch.equal(greedy[..., 4 : min(frames, 10)], extended)


def test_no_window_is_longer_than_asked_for():
    model, positions = small(), []
    model.transformer.layers[0].register_forward_hook(lambda _, __, output: positions.append(output.shape[1]))
    generate_codes(model, 30, CodeSampling(window=6, stride=2), [0], cached=False)
    assert max(positions) == 6 + 3  # frames, and the delay of the last codebook


# --- steps, and what is refused ------------------------------------------------------------------------------


def test_the_callback_sees_each_step():
    model, steps = small(), []
    codes = generate_codes(model, 10, CodeSampling(window=6, stride=4), [0], callback=steps.append)
    assert [step.index for step in steps] == [*range(9 + 7)] and {step.steps for step in steps} == {16}
    assert steps[0].codes.tolist() == [[codes[0, 0, 0].item(), *[model.special] * 3]]
    assert steps[8].codes.tolist() == [[*[model.special] * 3, codes[0, 3, 5].item()]]


def test_the_callback_may_end_the_generation():
    def end(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_codes(small(), 4, SAMPLED, [0], callback=end)


def test_what_cannot_be_generated_is_refused():
    model = small()

    def message(frames=4, seeds=(0,), prompt=None, model=model):
        return refused(generate_codes, model, frames, SAMPLED, seeds, prompt=prompt)

    prompt = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert message(0) == "frames: expected numbers from 1 on, got 0"
    assert message([3, 4]) == "frames: 2 numbers do not fit 1 items"
    assert message(4, prompt=prompt) == "prompt: has 4 frames already; ask for more than that, not 4"
    assert message(5, prompt=prompt[:, :2]) == "prompt: expected 1 items of 4 codebooks, got [1, 2]"
    assert message(5, prompt=prompt + 24) == "prompt: codes go from 0 to 23; these do not"
    musiclm = small(pattern=MusicLMConfig())
    assert message([3, 4], (0, 1), model=musiclm).startswith("frames: MusicLM has other steps for other lengths")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature must be finite and at least 0"),
        ({"guidance": float("inf")}, "guidance must be finite"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 1.5}, "top_p must be from 0 to 1"),
        ({"window": 4}, "window and stride need one another"),
        ({"window": 4, "stride": 4}, "stride must be from 1 to below window, 4, got 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CodeSampling(**settings)
