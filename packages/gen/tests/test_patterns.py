"""Codebook patterns lay codes out as the originals do, and give them back."""

import pytest
import torch
from audio_gen.config.language import (
    CoarseFirstConfig,
    DelayConfig,
    LanguageModelConfig,
    MusicLMConfig,
    ParallelConfig,
    UnrollConfig,
)
from audio_gen.models.patterns import pattern

ORIGINALS = {
    "DelayedPatternProvider": DelayConfig,
    "ParallelPatternProvider": ParallelConfig,
    "UnrolledPatternProvider": UnrollConfig,
    "MusicLMPattern": MusicLMConfig,
    "CoarseFirstPattern": CoarseFirstConfig,
}
STORED = (
    *("delay_4", "delay_custom", "delay_flat2", "delay_empty1", "parallel_3", "unroll_3", "unroll_partial"),
    *("musiclm_4", "coarse_4"),
)
PATTERNS = {  # of four codebooks
    "delay": DelayConfig(),
    "uneven delay": DelayConfig(delays=(3, 0, 1, 1), flatten_first=3, empty_initial=2),
    "parallel": ParallelConfig(empty_initial=1),
    "coarse first": CoarseFirstConfig(),
    "coarse first, delayed": CoarseFirstConfig(delays=(2, 0, 5)),
    "musiclm": MusicLMConfig(),
    "unroll": UnrollConfig(),
    "unroll, in groups": UnrollConfig(flattening=(1, 0, 1, 2), delays=(2, 0, 2, 4)),
}
SPECIAL = -9


# --- the originals' numbers ----------------------------------------------------------------------------------


def original(case, name):
    settings = dict(case.config["patterns"][name])
    cls, codebooks = ORIGINALS[settings.pop("class")], settings.pop("n_q")
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    return pattern(cls(**settings), codebooks, case.config["timesteps"])


def test_all_patterns_of_the_case_are_tested(stored_case):
    assert set(stored_case("codebook_patterns").config["patterns"]) == {*STORED}


@pytest.mark.parametrize("name", STORED)
def test_sequences_equal_the_original(stored_case, name):
    case = stored_case("codebook_patterns")
    ours, expected = original(case, name), case.outputs
    codes = case.inputs["codes"][:, : len(ours.step), : case.config["timesteps"]]
    for whole, kind in ((True, ""), (False, "valid_")):
        assert torch.equal(ours.build(codes, SPECIAL, whole), expected[f"{name}_{kind}seq"])
        assert torch.equal(ours.mask(whole), expected[f"{name}_{kind}mask"])
    assert torch.equal(ours.codes(expected[f"{name}_seq"]), expected[f"{name}_reverted"])
    assert expected[f"{name}_reverted_mask"].all()
    assert ours.trailing == expected[f"{name}_max_delay"]
    firsts = [ours.first_step(frame) for frame in range(case.config["timesteps"])]
    assert firsts == expected[f"{name}_first_step"].tolist()


@pytest.mark.parametrize("name", STORED)
def test_logits_are_aligned_with_codes_as_the_original_does(stored_case, name):
    case = stored_case("codebook_patterns")
    ours = original(case, name)
    codebooks, steps = len(ours.step), ours.steps - ours.trailing
    source = 100.0 * torch.arange(codebooks)[:, None] + torch.arange(steps)
    logits, mask = ours.revert(source[None, :, :, None])
    assert torch.equal(mask, case.outputs[f"{name}_logit_mask"])
    assert torch.equal(torch.where(mask, logits[0, :, :, 0], -1.0), case.outputs[f"{name}_logit_source"])
    assert (logits[0, :, :, 0][~mask] == 0).all()


# --- what all patterns have in common ------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 11])
@pytest.mark.parametrize("name", PATTERNS)
def test_codes_come_back(name, frames):
    laid_out = pattern(PATTERNS[name], 4, frames)
    codes = torch.randint(0, 50, (3, 4, frames))
    sequence = laid_out.build(codes, SPECIAL)
    assert torch.equal(laid_out.codes(sequence), codes)
    assert torch.equal(sequence != SPECIAL, laid_out.mask().expand(3, -1, -1))
    assert int(laid_out.mask().sum()) == 4 * frames and not laid_out.mask()[:, 0].any()


@pytest.mark.parametrize("name", PATTERNS)
def test_logits_come_from_the_step_before(name):
    """Those of the whole sequence for all codes."""
    laid_out = pattern(PATTERNS[name], 4, 6)
    codes = torch.randint(0, 50, (2, 4, 6))
    ahead = laid_out.build(codes, SPECIAL).roll(-1, 2)  # what each step predicts
    logits, mask = laid_out.revert(ahead[..., None].float())
    assert mask.all() and torch.equal(logits[..., 0].long(), codes)


@pytest.mark.parametrize("name", PATTERNS)
def test_nothing_is_predicted_from_a_later_frame_of_its_codebook(name):
    steps = pattern(PATTERNS[name], 4, 6).step
    assert (steps.diff(dim=1) > 0).all()


def test_the_drawing_of_the_docstring():
    codes = torch.tensor([[[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]])
    laid_out = pattern(DelayConfig(), 2, 5)
    expected = [[0, 1, 2, 3, 4, 5, 0], [0, 0, 6, 7, 8, 9, 10]]
    assert laid_out.build(codes, 0)[0].tolist() == expected
    assert laid_out.build(codes, 0, whole=False)[0].tolist() == [row[:6] for row in expected]


@pytest.mark.parametrize(
    ("config", "codebooks", "message"),
    [
        (lambda: DelayConfig(delays=(0, 1)), 3, "delays needs 3 numbers, got 2"),
        (lambda: DelayConfig(delays=(0, -1)), 2, "delays must be at least 0"),
        (lambda: DelayConfig(flatten_first=-1), 2, "flatten_first must be at least 0"),
        (lambda: ParallelConfig(empty_initial=-1), 2, "empty_initial must be at least 0"),
        (lambda: CoarseFirstConfig(delays=(0, 1)), 2, "delays needs 1 numbers, got 2"),
        (CoarseFirstConfig, 1, "CoarseFirst needs two codebooks or more"),
        (MusicLMConfig, 3, "group_by must divide the number of codebooks, 3, got 2"),
        (lambda: UnrollConfig(flattening=(0, 2)), 2, "flattening must use every group from 0 on"),
        (lambda: UnrollConfig(flattening=(0, 0)), 3, "flattening needs 3 numbers, got 2"),
        (lambda: UnrollConfig(flattening=(0, 0), delays=(0, 1)), 2, "delays must be the same within a group"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(config, codebooks, message):
    with pytest.raises(ValueError, match=message):
        LanguageModelConfig(codebooks=codebooks, pattern=config())


def test_a_pattern_has_frames():
    with pytest.raises(ValueError, match="needs one frame or more"):
        pattern(DelayConfig(), 2, 0)
