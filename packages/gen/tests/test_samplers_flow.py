"""Samplers of rectified flows give stable-audio-tools' numbers, with and without init audio, step for step."""

from functools import partial

import pytest
import torch
from audio_core.testing import close
from audio_gen.config.sampling import FlowSampling
from audio_gen.config.timesteps import DistributionShiftConfig
from audio_gen.diffusion import sample
from audio_gen.diffusion.samplers_flow import rk4
from audio_gen.diffusion.schedules import linear_times
from audio_gen.diffusion.timesteps import shift

from .diffusion_toys import drawn, toy, trajectory

six = partial(FlowSampling, steps=6)


@pytest.fixture
def case(stored_case):
    return stored_case("samplers_flow")


@pytest.mark.parametrize("sampler", ["euler", "rk4", "dpmpp", "pingpong"])
def test_noise_becomes_the_original_s_result(case, sampler):
    result = sample(toy, case.inputs["noise"], six(sampler=sampler), drawn(case))
    close(result, case.outputs[sampler])


@pytest.mark.parametrize("sampler", ["euler", "rk4", "dpmpp"])
def test_init_audio_is_varied_as_far_as_its_noise_level_says(case, sampler):
    settings, init = six(sampler=sampler, sigma_max=0.6), case.inputs["init"]
    close(sample(toy, case.inputs["noise"], settings, drawn(case), init), case.outputs[f"{sampler}_init_0p6"])
    little = sample(toy, case.inputs["noise"], six(sampler=sampler, sigma_max=0.01), drawn(case), init)
    close(little, init, 0.02)


def test_linear_and_shifted_times_are_the_training_s(case):
    noise = case.inputs["noise"]
    euler = sample(toy, noise, six(schedule="linear"), drawn(case))
    close(euler, case.outputs["euler_linear_times"])
    moved = shift(torch.tensor(linear_times(6), dtype=torch.float64), 2048, DistributionShiftConfig())
    shifted = rk4(toy, noise, moved.tolist(), drawn(case), lambda step: None)
    close(shifted, case.outputs["rk4_shifted_2048"])


def test_rk4_takes_the_model_s_shift_by_itself(case):
    """16 frames are below the shortest length, whose shift is the least; the stored case is for 2048."""
    noise, own = case.inputs["noise"], DistributionShiftConfig(base_shift=0.7, max_shift=0.9)
    as_if = DistributionShiftConfig(base_shift=0.7, max_shift=3.0)
    by_model = sample(toy, noise, six(sampler="rk4"), drawn(case), shift=own)
    assert torch.equal(by_model, sample(toy, noise, six(sampler="rk4"), drawn(case), shift=as_if))
    assert not torch.equal(by_model, sample(toy, noise, six(sampler="rk4"), drawn(case)))


def test_each_step_is_reported_before_it_is_taken(case):
    """euler and rk4 reported the state after it in stable-audio-tools, counted from 1; the others as here."""
    noise = case.inputs["noise"]
    steps, result = trajectory(six(), noise, drawn(case))
    states = torch.stack([*(step.x for step in steps[1:]), result])
    close(states, case.outputs["euler_trajectory"])
    assert torch.equal(steps[0].x, noise)
    for sampler in ("dpmpp", "pingpong"):
        steps, _ = trajectory(six(sampler=sampler), noise, drawn(case))
        close(torch.stack([step.denoised for step in steps]), case.outputs[f"{sampler}_denoised"])
    for sampler in ("euler", "rk4", "dpmpp", "pingpong"):
        steps, _ = trajectory(six(sampler=sampler), noise, drawn(case))
        assert [step.index for step in steps] == list(range(6)) and {step.steps for step in steps} == {6}
        assert all(step.t == step.sigma for step in steps) and steps[0].t == 1
        times = torch.tensor([step.t for step in steps])
        estimates = [step.x - step.t * toy(step.x, torch.full((2,), step.t)) for step in steps]
        close(torch.stack([step.denoised for step in steps]), torch.stack(estimates))
        assert (times.diff() < 0).all()


def test_one_step_goes_to_the_estimate(case):
    noise = case.inputs["noise"]
    expected = noise - toy(noise, torch.ones(2))
    for sampler in ("euler", "dpmpp", "pingpong"):
        close(sample(toy, noise, FlowSampling(sampler=sampler, steps=1), drawn(case)), expected)


def test_levels_above_1_count_as_1(case):
    noise, init = case.inputs["noise"], case.inputs["init"]
    results = [sample(toy, noise, six(sigma_max=level), drawn(case), init) for level in (1.0, 5.0)]
    assert torch.equal(*results)
