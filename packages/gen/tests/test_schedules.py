"""Times and noise levels are stable-audio-tools', and so is the shift of times for long latents."""

import math
from itertools import pairwise

import pytest
import torch
from audio_core.config import build
from audio_core.files import InputError
from audio_core.testing import close
from audio_gen.config.guidance import default_guidance
from audio_gen.config.sampling import FlowSampling, VSampling, default_sampling
from audio_gen.config.timesteps import DistributionShiftConfig
from audio_gen.diffusion import objectives, samplers_v, schedules
from audio_gen.diffusion.timesteps import shift

EXACT = 1e-6
SHIFT = DistributionShiftConfig()


@pytest.fixture
def case(stored_case):
    return stored_case("schedules")


def test_levels_fall_polyexponentially_and_end_at_0(case):
    for name, settings in (("8_0p3_500_rho1", (8, 0.3, 500, 1)), ("10_0p01_100_rho3", (10, 0.01, 100, 3))):
        sigmas = torch.tensor(schedules.polyexponential(*settings))
        close(sigmas / case.outputs[f"polyexp_{name}"].clamp(min=1e-9), (sigmas > 0).float(), EXACT)
    assert schedules.polyexponential(1, 0.3, 500) == pytest.approx([500, 0])


@pytest.mark.parametrize(("name", "level"), [("1", 1.0), ("0p6", 0.6), ("5", 5.0)])
def test_flow_times_are_even_in_log_snr(case, name, level):
    expected = case.outputs[f"rf_times_sigma_max_{name}"]
    times = schedules.logsnr_times(len(expected), level)
    assert len(times) == len(expected) + 1 and times[-1] == 0
    close(torch.tensor(times[:-1]), expected, EXACT)


def test_first_times_just_below_1_stay_away_from_infinity():
    middle = schedules.logsnr_times(2, 1 - 1e-12)[1]
    assert math.log(1 / middle - 1) == pytest.approx((math.log(1e-6) + 2) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "length", "settings"),
    [
        *((f"shift_{length}", length, SHIFT) for length in (64, 256, 1024, 4096, 9000)),
        ("shift_sine_1024", 1024, DistributionShiftConfig(use_sine=True)),
        (
            "shift_custom_500",
            500,
            DistributionShiftConfig(base_shift=0.3, max_shift=2.0, min_length=100, max_length=1000),
        ),
    ],
)
def test_times_of_long_latents_are_shifted(case, name, length, settings):
    close(shift(case.inputs["t"], length, settings), case.outputs[name], EXACT)


def test_a_shift_keeps_both_ends_and_takes_a_length_for_each_item(case):
    t = torch.tensor([0.0, 0.5, 0.5, 1.0])
    moved = shift(t, torch.tensor([256, 256, 4096, 4096]), SHIFT)
    assert moved[0] == 0 and moved[3] == 1
    assert moved[1] == shift(t, 256, SHIFT)[1] and moved[2] == shift(t, 4096, SHIFT)[2] and moved[1] < moved[2]


def test_alpha_and_sigma_of_v_lie_on_a_circle(case):
    alpha, sigma = (scale(case.inputs["t"]) for scale in (objectives.V().alpha, objectives.V().sigma))
    close(alpha, case.outputs["alphas"], EXACT)
    close(sigma, case.outputs["sigmas"], EXACT)
    back = [samplers_v.time_of(level) for level in (sigma / alpha).tolist()]
    close(torch.tensor(back), case.outputs["t_back"], EXACT)


def test_a_model_of_v_is_a_denoiser_at_any_level(case):
    values = [samplers_v.scalings(sigma) for sigma in case.inputs["sigma"].tolist()]
    names = ("v_c_skip", "v_c_out", "v_c_in", "v_sigma_to_t")
    for name, column in zip(names, torch.tensor(values).T, strict=True):
        close(column / case.outputs[name], torch.ones_like(column), EXACT)


def test_a_schedule_is_chosen_openly():
    """stable-audio-tools shifts the times of rk4 alone, whatever it is told. Here any sampler takes any schedule."""
    linear, logsnr = schedules.linear_times(4), schedules.logsnr_times(4)
    shifted = shift(torch.tensor(linear, dtype=torch.float64), 2048, SHIFT).tolist()
    for sampler in ("euler", "rk4", "dpmpp", "pingpong"):
        own, expected = FlowSampling(sampler=sampler, steps=4), logsnr if sampler != "rk4" else shifted
        assert schedules.flow_times(own, 2048, SHIFT) == expected
        assert schedules.flow_times(own, 2048) == (linear if sampler == "rk4" else logsnr)
        for name, times in (("linear", linear), ("logsnr", logsnr), ("shifted", shifted)):
            chosen = FlowSampling(sampler=sampler, steps=4, schedule=name)
            assert schedules.flow_times(chosen, 2048, SHIFT) == times
    with pytest.raises(ValueError, match="shifted needs a model with a distribution shift"):
        schedules.flow_times(FlowSampling(schedule="shifted"), 2048)


@pytest.mark.parametrize("first", [1.0, 0.6, 0.12, 0.1, 0.01])
def test_times_fall_from_the_first_to_0(first):
    """stable-audio-tools' rise at first where they start below 0.12, which adds noise to init audio of low levels."""
    for steps in (1, 2, 50):
        for times in (schedules.linear_times(steps, first), schedules.logsnr_times(steps, first)):
            assert len(times) == steps + 1 and times[0] == first and times[-1] == 0
            assert all(to < t for t, to in pairwise(times))


def test_each_objective_has_the_published_defaults():
    v, flow, few = map(default_sampling, ("v", "rectified_flow", "rf_denoiser"))
    assert (v.sampler, v.steps, v.sigma_min, v.sigma_max, v.rho) == ("dpmpp-3m-sde", 100, 0.01, 100, 1)
    assert (flow.sampler, flow.steps, flow.sigma_max) == ("euler", 50, 1)
    assert (few.sampler, few.steps) == ("pingpong", 8)
    assert [default_guidance(name).scale for name in ("v", "rectified_flow", "rf_denoiser")] == [7, 7, 1]


@pytest.mark.parametrize(
    ("settings", "wrong", "message"),
    [
        (FlowSampling, {"steps": 0}, "steps must be 1 at least, got 0"),
        (FlowSampling, {"sigma_max": 0}, "sigma_max must be above 0, got 0"),
        (FlowSampling, {"sampler": "dpmpp-2m"}, "sampler"),
        (VSampling, {"sigma_min": 200}, "sigma_max must be above sigma_min, 200.0, got 100.0"),
        (VSampling, {"eta": 0.5}, "dpmpp-3m-sde has no such setting"),
        (VSampling, {"eta": 2, "sampler": "v-ddim"}, "eta must be from 0 to 1"),
        (DistributionShiftConfig, {"max_length": 256}, "max_length must be above min_length"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, wrong, message):
    with pytest.raises(InputError, match=message):
        build(settings, wrong)


def test_ddim_may_start_below_the_least_level_of_the_others():
    assert VSampling(sampler="v-ddim", sigma_max=0.005).sigma_max < VSampling().sigma_min
    assert math.isclose(schedules.linear_times(2, 0.005)[0], 0.005)
