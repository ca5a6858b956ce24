"""The times of training have the original's distributions, and a run's times depend on nothing but its numbers."""

from functools import partial

import pytest
import torch
from audio_core.config import build
from audio_core.files import InputError
from audio_core.testing import close
from audio_gen.config import timesteps as configs
from audio_gen.diffusion import timesteps
from audio_gen.diffusion.timesteps import Sobol, Timesteps
from torch.quasirandom import SobolEngine

EXACT = 1e-6


@pytest.fixture
def case(stored_case):
    return stored_case("timestep_samplers")


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("logit_normal", configs.LogitNormalConfig()),
        ("trunc_logit_normal", configs.TruncLogitNormalConfig()),
        ("log_snr_default", configs.LogSNRConfig()),
        ("log_snr_m0_s1", configs.LogSNRConfig(0.0, 1.0)),
        ("arc_logsnr_uniform", configs.LogSNRUniformConfig()),
    ],
)
def test_draws_become_the_original_s_times(case, monkeypatch, name, distribution):
    monkeypatch.setattr(torch, "randn", lambda items, generator: case.inputs["normal"][:items])
    monkeypatch.setattr(torch, "rand", lambda items, generator: case.inputs["uniform"][:items])
    times = Timesteps(configs.TimestepsConfig(distribution=distribution))(64)
    close(times, case.outputs[name], EXACT)
    if name == "trunc_logit_normal":
        close(1 - times, case.outputs["trunc_logit_normal_raw"], EXACT)


def test_some_items_learn_from_noise_alone(case, monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda items, generator: case.inputs["normal"])
    monkeypatch.setattr(torch, "rand", lambda items, generator: case.inputs["uniform"])
    settings = configs.TimestepsConfig(distribution=configs.LogitNormalConfig(), p_one_shot=0.25)
    times = Timesteps(settings)(64)
    close(times, case.outputs["one_shot_p0p25"], EXACT)
    assert 0 < (times == 1).sum() < 64


def test_times_are_shifted_after_they_are_drawn(case):
    times = timesteps.shift(case.inputs["normal"].sigmoid(), 1024, configs.DistributionShiftConfig())
    close(times, case.outputs["shifted_logit_normal_1024"], EXACT)


def test_log_snr_times_stay_off_both_ends():
    times = timesteps.log_snr(torch.tensor([-50.0, 50.0]))
    close(times, torch.tensor([1 - 1e-4, 1e-4]), EXACT)


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_uniform_times_are_pytorch_s_sobol_sequence_from_any_place(seed):
    """Its engine has to draw all that comes before: 20 million points for a run's millionth step of 20 items."""
    expected, points = SobolEngine(1, scramble=True, seed=seed).draw(1000)[:, 0], Sobol(seed)
    for first, items in ((0, 1), (0, 1000), (1, 5), (511, 2), (999, 1)):
        assert torch.equal(points(items, first), expected[first : first + items])


def test_uniform_times_stay_below_1():
    """The greatest points are nearer to 1 than any float32 is."""
    points = Sobol(0)
    points.shift = torch.tensor(2**points.bits - 1)
    assert points(1).item() == 1 - 2**-24


def test_uniform_times_of_a_batch_fill_the_range():
    """Of 64 consecutive points, each 64th of the range has one, wherever a batch of a power of two begins."""
    draw = Timesteps(configs.TimestepsConfig(), seed=3)
    for first in (0, 64, 2**20, 2**30 - 64, 2**34):
        assert torch.equal((draw(64, first) * 64).long().sort().values, torch.arange(64))
    small = torch.cat([draw(4, first) for first in range(0, 64, 4)])
    assert torch.equal(small, draw(64)) and not torch.equal(small, Timesteps(configs.TimestepsConfig(), seed=4)(64))


def test_a_constant_time_is_that_of_arc():
    constant = partial(configs.TimestepsConfig, p_one_shot=0.0)
    assert torch.equal(Timesteps(constant(distribution=configs.ConstantConfig()))(3), torch.ones(3))
    assert torch.equal(Timesteps(constant(distribution=configs.ConstantConfig(0.0)))(3), torch.zeros(3))


@pytest.mark.parametrize("kind", ["Uniform", "LogitNormal", "TruncLogitNormal", "LogSNR", "LogSNRUniform", "Constant"])
def test_every_distribution_is_chosen_by_name_and_repeats_by_generator(kind):
    settings = build(configs.TimestepsConfig, {"distribution": {"kind": kind}, "p_one_shot": 0.1})
    draw = Timesteps(settings)
    before = torch.get_rng_state()
    first, again = (draw(512, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again) and first.dtype == torch.float32 and first.min() >= 0 and first.max() == 1
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distribution": {"kind": "LogitNormall"}}, "LogitNormal"),
        ({"distribution": {"kind": "LogSNR", "std_logsnr": 0}}, "std_logsnr must be above 0"),
        ({"distribution": {"kind": "LogSNRUniform", "max_logsnr": -7}}, "max_logsnr must be above min_logsnr"),
        ({"distribution": {"kind": "TruncLogitNormal", "left": 1}}, "left must be between 0 and 1"),
        ({"distribution": {"kind": "Constant", "t": 2}}, "t must be from 0 to 1"),
        ({"p_one_shot": 1.5}, "p_one_shot must be from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build(configs.TimestepsConfig, settings)
