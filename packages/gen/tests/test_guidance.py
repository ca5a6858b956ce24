"""Guidance computes what the original computed, and its kinds do what they say."""

import pytest
import torch
from audio_core.testing import close
from audio_gen.config.guidance import Guidance
from audio_gen.diffusion.objectives import RectifiedFlow, V
from audio_gen.models.guidance import Guided, dropped, guided

EXACT = 1e-6


class Recorder:
    """A backbone that gives the mean of its tokens, and remembers how it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, **conditions):
        self.calls.append((x, t, conditions))
        return x + sum(conditions[name].mean((1, 2))[:, None, None] for name in ("cross_attn_cond", "prepend_cond"))


def tokens(batch=3):
    return {"cross_attn_cond": torch.rand(batch, 5, 4) + 1, "prepend_cond": torch.rand(batch, 2, 4) + 1}


def called(guidance, conditions, negative=None, objective=None, **settings):
    """A recorder and what it gives under guidance for three items, at times 0.1, 0.5 and 0.9."""
    backbone, x = Recorder(), torch.randn(3, 8, 6)
    denoise = Guided(backbone, conditions, guidance, objective or RectifiedFlow(), negative, **settings)
    return backbone, x, denoise.pair(x, torch.tensor([0.1, 0.5, 0.9]))


# --- the original's numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 3.0, 7.0])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_guidance_equals_the_original(stored_case, scale, share):
    case = stored_case("cfg")
    conditioned, unconditioned = case.inputs["cond"], case.inputs["uncond"]
    settings = Guidance(scale=scale, rescale=share)
    y = guided(conditioned, unconditioned, settings, RectifiedFlow(), torch.randn(2, 8, 6), torch.rand(2))
    close(y, case.outputs[f"cfg_{scale}" + (f"_phi_{share}" if share else "")], EXACT)


# --- which conditions are left out ---------------------------------------------------------------------------


def test_without_guidance_there_is_one_pass():
    conditions = tokens()
    backbone, x, prediction = called(Guidance(), conditions | {"global_cond": None})
    assert [len(call[0]) for call in backbone.calls] == [3]
    assert torch.equal(prediction.output, Recorder()(x, None, **conditions))
    assert prediction.unconditioned is prediction.output


def test_tokens_are_left_out_and_other_conditions_stay():
    conditions = tokens() | {"global_cond": torch.randn(3, 7), "padding_mask": torch.ones(3, 6, dtype=torch.bool)}
    backbone, x, prediction = called(Guidance(scale=3), conditions)
    ((both_x, both_t, both),) = backbone.calls
    assert torch.equal(both_x, torch.cat([x, x])) and torch.equal(both_t[:3], both_t[3:])
    for name, value in conditions.items():
        other = torch.zeros_like(value) if name in tokens() else value
        assert torch.equal(both[name], torch.cat([value, other])), name
    close(prediction.unconditioned, x)
    close(prediction.output, x + 3 * (Recorder()(x, None, **conditions) - x))


def test_negative_tokens_take_the_place_of_none():
    """Zero where they are padding; with masks of the model, these are the negative ones'."""
    conditions, mask = tokens(), torch.tensor([[True, True, False, False, False]] * 3)
    negative = {"cross_attn_cond": torch.rand(3, 5, 4), "cross_attn_mask": mask}
    ((_, _, both),) = called(Guidance(scale=3), conditions, negative)[0].calls
    assert torch.equal(both["cross_attn_cond"][3:], negative["cross_attn_cond"] * mask[..., None])
    assert not both["prepend_cond"][3:].any()
    assert "cross_attn_mask" not in both
    real = {"cross_attn_mask": torch.ones(3, 5, dtype=torch.bool)}
    ((_, _, both),) = called(Guidance(scale=3), conditions | real, negative)[0].calls
    assert torch.equal(both["cross_attn_mask"], torch.cat([real["cross_attn_mask"], mask]))
    whole = {"cross_attn_cond": negative["cross_attn_cond"]}
    ((_, _, both),) = called(Guidance(scale=3), conditions | {"cross_attn_mask": mask}, whole)[0].calls
    assert torch.equal(both["cross_attn_mask"], torch.cat([mask, real["cross_attn_mask"]]))


def test_a_model_may_have_learnt_what_stands_for_none():
    ((_, _, both),) = called(Guidance(scale=3), tokens(), null=lambda value: torch.full_like(value, 0.5))[0].calls
    assert (both["cross_attn_cond"][3:] == 0.5).all()


@pytest.mark.parametrize(
    ("conditions", "negative", "message"),
    [
        ({"global_cond": torch.ones(3, 4)}, None, "there is neither; its scale must be 1"),
        (tokens(), {"global_cond": torch.ones(3, 4)}, "guidance keeps global_cond, so it cannot be negative"),
        (tokens(), {"cross_attn_cond": torch.ones(3, 4, 4)}, r"is \(3, 4, 4\), and cross_attn_cond \(3, 5, 4\)"),
        (tokens(), {"cross_attn_mask": torch.ones(3, 5)}, "guidance keeps cross_attn_mask"),
    ],
)
def test_what_cannot_be_guided_is_refused(conditions, negative, message):
    with pytest.raises(ValueError, match=message):
        called(Guidance(scale=3), conditions, negative)


# --- when and how strongly -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "interval", "inside"),
    [
        (RectifiedFlow(), (0.4, 0.95), [False, True, True]),
        (RectifiedFlow(), (0.0, 0.5), [True, True, False]),
        (V(), (0.16, 0.8), [False, True, False]),  # sigma is 0.156, 0.707 and 0.988
        (V(), (0.15, 0.7), [True, False, False]),
    ],
)
def test_each_item_is_guided_within_the_interval(objective, interval, inside):
    """The original looked at the first item alone."""
    conditions = tokens()
    _, x, prediction = called(Guidance(scale=3, interval=interval), conditions, objective=objective)
    conditioned = Recorder()(x, None, **conditions)
    for item, guided_item in enumerate(inside):
        close(prediction.output[item], x[item] + (3 if guided_item else 1) * (conditioned - x)[item])
        close(prediction.unconditioned[item], (x if guided_item else conditioned)[item])


def test_outside_the_interval_there_is_one_pass():
    backbone, _, _ = called(Guidance(scale=3, interval=(0.2, 0.4)), tokens())
    assert [len(call[0]) for call in backbone.calls] == [3]


def pair():
    """Conditioned and unconditioned output for x at t."""
    return *torch.randn(3, 2, 8, 6), torch.tensor([0.3, 0.8])


@pytest.mark.parametrize("objective", [V(), RectifiedFlow()])
def test_projected_guidance_does_not_strengthen_the_estimate(objective):
    """What is added to the clean estimate stands at a right angle to it."""
    conditioned, unconditioned, x, t = pair()
    y = guided(conditioned, unconditioned, Guidance(scale=5, apg=1), objective, x, t)
    clean = objective.denoised(x, conditioned, t)
    added = objective.denoised(x, y, t) - clean
    assert (added * clean).sum((1, 2)).abs().max() < 1e-4 * added.norm() * clean.norm()
    plain = guided(conditioned, unconditioned, Guidance(scale=5), objective, x, t)
    half = guided(conditioned, unconditioned, Guidance(scale=5, apg=0.5), objective, x, t)
    close(half, (y + plain) / 2)
    # The definition: of the difference of both clean estimates, 4 times the part at a right angle is added.
    difference = clean - objective.denoised(x, unconditioned, t)
    share = (difference * clean).sum((1, 2), keepdim=True) / clean.square().sum((1, 2), keepdim=True)
    close(added, 4 * (difference - share * clean), 1e-4)


@pytest.mark.parametrize("objective", [V(), RectifiedFlow()])
def test_the_threshold_limits_the_difference_of_clean_estimates(objective):
    conditioned, unconditioned, x, t = pair()
    clean = [objective.denoised(x, output, t) for output in (conditioned, unconditioned)]
    norms = (clean[0] - clean[1]).flatten(1).norm(dim=1)
    limit = float(norms.mean())
    y = guided(conditioned, unconditioned, Guidance(scale=2, norm_threshold=limit), objective, x, t)
    added = (objective.denoised(x, y, t) - clean[0]).flatten(1).norm(dim=1)
    close(added, norms.clamp(max=limit), 1e-4)


def test_padding_does_not_count():
    """Neither for the norm nor for the projection."""
    conditioned, unconditioned, x, t = pair()
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[:, 4:] = False
    settings = Guidance(scale=3, apg=0.8, norm_threshold=2.0)
    whole = guided(conditioned, unconditioned, settings, RectifiedFlow(), x, t, valid)
    short = guided(*(each[..., :4] for each in (conditioned, unconditioned)), settings, RectifiedFlow(), x[..., :4], t)
    close(whole[..., :4], short)


def test_the_deviation_of_silence_is_no_division_by_zero():
    zeros = torch.zeros(2, 8, 6)
    settings = Guidance(scale=3, rescale=0.7, apg=1, norm_threshold=1)
    assert not guided(zeros, zeros, settings, RectifiedFlow(), zeros, torch.zeros(2)).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": -1.0}, "scale must be finite and at least 0, got -1.0"),
        ({"scale": float("nan")}, "scale must be finite"),
        ({"rescale": 1.5}, "rescale must be from 0 to 1, got 1.5"),
        ({"apg": -0.1}, "apg must be from 0 to 1"),
        ({"norm_threshold": float("inf")}, "norm_threshold must be finite"),
        ({"interval": (0.5, 0.2)}, r"interval goes from a sigma of at least 0 to a greater one, got \[0.5, 0.2\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**settings)


# --- learning to do without ----------------------------------------------------------------------------------


def test_tokens_are_dropped_item_by_item_and_kind_by_kind():
    conditions = tokens(4) | {"global_cond": torch.ones(4, 3), "input_concat_cond": None}
    chosen = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    result = dropped(conditions, chosen)
    assert result["global_cond"] is conditions["global_cond"] and result["input_concat_cond"] is None
    for kind, name in enumerate(tokens()):
        for item in range(4):
            expected = torch.zeros_like(conditions[name][item]) if chosen[item, kind] else conditions[name][item]
            assert torch.equal(result[name][item], expected)


def test_a_network_with_a_null_of_its_own_gets_that_in_their_place():
    conditions = tokens(2)
    result = dropped(conditions, torch.ones(2, 2, dtype=torch.bool), lambda each: torch.full_like(each, 7.0))
    assert all((result[name] == 7).all() for name in tokens())
