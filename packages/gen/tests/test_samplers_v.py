"""Samplers of v-models give the original's numbers, with and without init audio and fresh noise."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from audio_core.testing import close
from audio_gen.config.sampling import VSampling
from audio_gen.diffusion import sample
from audio_gen.diffusion.samplers_v import multistep_weights
from numpy.polynomial import Polynomial

from .diffusion_toys import drawn, few_levels, model_of, toy, trajectory

NAMES = ["dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m-sde", "k-heun", "k-lms", "k-dpm-2", "k-dpmpp-2s-ancestral", "k-dpm-fast"]
STOCHASTIC = {"dpmpp-2m-sde": 7, "dpmpp-3m-sde": 7, "k-dpmpp-2s-ancestral": 7}  # fresh draws in 8 steps
# Rounding decides which steps k-dpm-adaptive takes from sigma 500 down.
TOLERANCE = {"k-dpm-adaptive": 1e-2}
ddim = partial(VSampling, steps=8)


@pytest.fixture
def case(stored_case):
    return stored_case("samplers_v")


@pytest.mark.parametrize("sampler", [*NAMES, "k-dpm-adaptive"])
def test_noise_becomes_the_original_s_result(case, sampler):
    """In double precision: from sigma 500 down the stored rounding alone is 4.6e-6 for k-dpm-fast."""
    result = sample(toy, case.inputs["noise"].double(), few_levels(sampler), drawn(case))
    close(result, case.outputs[sampler], TOLERANCE.get(sampler, 1e-5))


@pytest.mark.parametrize("sampler", [*NAMES, "k-dpm-adaptive"])
def test_init_audio_gets_noise_on_top(case, sampler):
    init, settings = case.inputs["init"], few_levels(sampler, sigma_max=3.0)
    close(sample(toy, case.inputs["noise"], settings, drawn(case), init), case.outputs[f"{sampler}_init"])


@pytest.mark.parametrize(
    ("name", "settings", "varied"),
    [
        ("v-ddim", ddim(sampler="v-ddim"), False),
        ("v-ddim_init_0p7", ddim(sampler="v-ddim", sigma_max=0.7), True),
        ("v-ddim_eta0p5", ddim(sampler="v-ddim", eta=0.5), False),
        ("v-ddim-cfgpp", ddim(sampler="v-ddim-cfgpp"), False),
    ],
)
def test_ddim_goes_by_time(case, name, settings, varied):
    init = case.inputs["init"] if varied else None
    result = sample(model_of(settings), case.inputs["noise"], settings, drawn(case), init)
    close(result, case.outputs[name])


def test_each_step_is_reported_before_it_is_taken(case):
    steps, _ = trajectory(few_levels("dpmpp-3m-sde"), case.inputs["noise"], drawn(case))
    states = torch.stack([torch.stack([step.x, step.denoised]) for step in steps])
    for stored, state in zip(case.outputs["dpmpp-3m-sde_trajectory"], states, strict=True):
        close(state, stored)
    for settings in (*map(few_levels, NAMES), ddim(sampler="v-ddim"), ddim(sampler="v-ddim-cfgpp")):
        steps, _ = trajectory(settings, case.inputs["noise"], drawn(case))
        expected = 3 if settings.sampler == "k-dpm-fast" else 8  # 3 + 3 + 2 evaluations
        assert [step.index for step in steps] == list(range(expected)) and {step.steps for step in steps} == {expected}
        angles = [math.sin(step.t * math.pi / 2) for step in steps]
        ratios = angles if "ddim" in settings.sampler else [step.sigma / math.hypot(1, step.sigma) for step in steps]
        assert angles == pytest.approx(ratios)
        assert all(later.sigma < step.sigma for step, later in pairwise(steps))


def test_the_adaptive_solver_reports_the_steps_it_keeps(case):
    steps, result = trajectory(few_levels("k-dpm-adaptive"), case.inputs["noise"], drawn(case))
    assert [step.index for step in steps] == list(range(len(steps))) and {step.steps for step in steps} == {None}
    assert steps[0].sigma == pytest.approx(500) and steps[-1].sigma > 0.3 and result.isfinite().all()


@pytest.mark.parametrize("sampler", [*NAMES, "k-dpm-adaptive", "v-ddim", "v-ddim-cfgpp"])
def test_only_stochastic_samplers_draw_noise(case, sampler):
    draws = 0

    def fresh(like):
        nonlocal draws
        draws += 1
        return torch.zeros_like(like)

    settings = ddim(sampler=sampler) if "ddim" in sampler else few_levels(sampler)
    sample(model_of(settings), case.inputs["noise"], settings, fresh)
    assert draws == STOCHASTIC.get(sampler, 0)


@pytest.mark.parametrize("steps", range(1, 8))
def test_fast_evaluates_as_often_as_it_has_steps(case, steps):
    calls = []

    def counting(x, t):
        calls.append(float(t[0]))
        return toy(x, t)

    settings, taken = VSampling(sampler="k-dpm-fast", steps=steps, sigma_min=0.3, sigma_max=5), []
    sample(counting, case.inputs["noise"], settings, drawn(case), callback=taken.append)
    assert len(calls) == steps and len(taken) == steps // 3 + 1


def test_what_is_not_finite_ends_the_adaptive_solver(case):
    """It never gets over such a step in k-diffusion and goes on for ever."""

    def broken(x, t):
        return toy(x, t) + (math.nan if float(t[0]) < 0.9 else 0)

    with pytest.raises(FloatingPointError, match=r"the network's output is not finite at sigma \d"):
        sample(broken, case.inputs["noise"], few_levels("k-dpm-adaptive"), drawn(case))


def test_what_no_step_fits_ends_the_adaptive_solver(case):
    """Outputs so far apart are refused at every size of the step, until it is too small to be added."""
    calls = 0

    def jumping(x, t):
        nonlocal calls
        calls += 1
        return toy(x, t) + (0 if float(t[0]) > 0.9 else 1e12 * (-1) ** calls)

    with pytest.raises(FloatingPointError, match=r"changes too abruptly at sigma \d.* take another sampler"):
        sample(jumping, case.inputs["noise"], few_levels("k-dpm-adaptive"), drawn(case))
    assert calls < 1000


@pytest.mark.parametrize("to", [0.5, 0.0])
def test_multistep_weights_integrate_the_lagrange_polynomials(to):
    sigmas = [20.0, 7.0, 3.0, 1.0]
    for order in range(1, 5):
        used, exact = sigmas[-order:], []
        for one in used:
            others = [other for other in used if other != one]
            basis = math.prod((Polynomial([-other, 1]) / (one - other) for other in others), start=Polynomial([1.0]))
            exact.append(basis.integ()(to) - basis.integ()(used[-1]))
        assert multistep_weights(used, to) == pytest.approx(exact)
