"""Schedules, annealing and averages against stored values of the originals, and what a recipe refuses."""

from pathlib import Path

import pytest
import torch
from audio_codec_vae.recipe import (
    KL,
    DACDiscriminator,
    EncodecDiscriminator,
    LyraCosine,
    LyraInverse,
    Recipe,
    by_epochs,
)
from audio_core import config
from audio_core.files import InputError
from audio_core.testing import Case, close
from audio_core.train.average import Average, delayed
from audio_core.train.optimize import AdamW, InverseLR, Staircase
from torch import nn

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def schedules() -> Case:
    return Case.load(FIXTURES / "schedules")


@pytest.fixture(scope="module")
def lyra() -> Case:
    return Case.load(FIXTURES / "lyra_schedules")


def same(values: list[float], expected: torch.Tensor, relative: float = 1e-6) -> None:
    torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), expected, rtol=relative, atol=0)


def test_the_inverse_schedule_is_stable_audio_tools_s(schedules):
    for at, settings in enumerate(schedules.config["inverse_lr"]):
        lr, last = settings["lr"], settings.get("final_lr", 0.0)
        names = ("inv_gamma", "power", "warmup")
        rate = InverseLR(**{name: settings[name] for name in names}, final=last / lr)
        values = [lr * rate(step) for step in schedules.inputs["steps"].tolist()]
        same(values, schedules.outputs[f"inverse_lr{at}"])
        same(values[:1], schedules.outputs[f"inverse_lr{at}_initial_group_lr"])


def test_the_exponential_schedule_is_a_staircase_of_single_steps(schedules):
    lr, gamma = schedules.config["exponential"].values()
    rate = Staircase(every=1, factor=gamma)
    same([lr * rate(step) for step in schedules.inputs["steps"].tolist()], schedules.outputs["exponential"])


def test_averaged_weights_are_stable_audio_tools_s(schedules):
    largest, walk = schedules.config["ema"]["beta"], schedules.inputs["param_walk"]
    decay, calls = delayed(largest), schedules.inputs["ema_steps"]
    # The original copies in its third call before it averages, so that its decay there changes nothing: ours is 0.
    expected = torch.where(calls > 2, schedules.outputs["ema_decay_after_call"], 0)
    same([decay(call) for call in calls.tolist()], expected)
    net = nn.Linear(3, 1, bias=False)
    net.weight.data[:] = walk[0]
    average, trace = Average(net, decay), [walk[0]]
    for update, weights in enumerate(walk[1:], 1):
        net.weight.data[:] = weights
        average.update(net, update)
        trace.append(average.net.weight.data[0].clone())
    close(torch.stack(trace), schedules.outputs["ema_trace"])
    assert decay(10**9) == largest


def test_lyra_s_learning_rates_are_its_own(lyra):
    epochs, steps = lyra.inputs["epochs"].tolist(), lyra.inputs["steps"].tolist()
    warmup, total = lyra.config["fix_lr"].values()
    cosine = LyraCosine(warmup=warmup, total=total, epoch=1)
    torch.testing.assert_close(
        torch.tensor([cosine(epoch) for epoch in epochs], dtype=torch.float64),
        lyra.outputs["fix_lr_mult"],
        rtol=0,
        atol=1e-6,  # the original computes in float32 and takes pi for 3.14159
    )
    late = lyra.config["late_lr"]
    inverse = LyraInverse(warmup=late["warmup_steps"], inv_gamma=late["inv_gamma"], power=late["power"])
    same([inverse(step) for step in steps], lyra.outputs["late_lr_mult"])
    assert inverse(9999) == 0.9999 and inverse(10000) == pytest.approx(0.944, abs=5e-4)


def test_the_divergence_is_annealed_by_epochs_or_by_steps_as_lyra_s(lyra):
    for name in ("seed_kl", "fix_kl"):
        weight, anneal = lyra.config[name].values()
        kl = KL(weight=weight, convention="mean_over_channels", anneal_epochs=anneal)
        same([kl.at(7 * epoch, 7) for epoch in lyra.inputs["epochs"].tolist()], lyra.outputs[f"{name}_weight"])
        assert kl.at(13, 7) == kl.at(7, 7) > kl.at(6, 7) == 0
    weight, anneal = lyra.config["late_kl"].values()
    kl = KL(weight=weight, anneal_steps=anneal)
    same([kl.at(step, 1) for step in lyra.inputs["steps"].tolist()], lyra.outputs["late_kl_weight"])
    assert KL(weight=0.5).at(0, 1) == 0.5
    later = KL(weight=0.5, begin=3, anneal_steps=2)
    assert [later.at(step, 1) for step in range(7)] == [0, 0, 0, 0, 0.25, 0.5, 0.5]
    assert [KL(weight=0.5, begin=2).at(step, 1) for step in range(4)] == [0, 0, 0.5, 0.5]


def test_a_schedule_by_epochs_learns_their_length():
    cosine = by_epochs(LyraCosine(warmup=2, total=4), 10)
    assert [cosine(update) for update in (0, 9, 10, 20)] == [0.5, 0.5, 1.0, 1.0] and cosine(40) == 0
    assert by_epochs(cosine, 7) is cosine and by_epochs(InverseLR(), 7) == InverseLR()


def test_kinds_are_chosen_by_name_and_keep_their_defaults():
    settings = {
        "discriminator": {"kind": "DACDiscriminator", "periods": [2, 3], "warmup": 100, "warmup_mode": "full"},
        "schedule": {"kind": "InverseLR", "inv_gamma": 2e5, "power": 0.5, "warmup": 0.999},
        "optimizer": {"kind": "AdamW", "lr": 1e-4},
        "losses": {"kl": {"weight": 1e-6, "convention": "mean_over_channels", "anneal_epochs": 2}},
    }
    recipe = config.build(Recipe, settings)
    assert recipe.discriminator == DACDiscriminator(periods=(2, 3), warmup=100, warmup_mode="full")
    assert recipe.discriminator.loss == "least_squares" and EncodecDiscriminator().loss == "hinge"
    assert recipe.optimizer == AdamW(1e-4, (0.8, 0.99), weight_decay=1e-3) and recipe.losses.spectral.weight == 1
    assert config.build(Recipe, config.plain(recipe)) == recipe
    assert config.build(Recipe, {}).discriminator is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discriminator": {"width": 4}}, "expected one of EncodecDiscriminator, DACDiscriminator"),
        ({"discriminator": {"kind": "DACDiscriminator", "bands": [0.5, 0.1]}}, "rising parts between 0 and 1"),
        ({"discriminator": {"kind": "EncodecDiscriminator", "warmup": -1}}, "warmup is from 0 on"),
        ({"losses": {"kl": {"anneal_steps": 1, "anneal_epochs": 1}}}, "anneal_epochs counts from"),
        ({"losses": {"kl": {"begin": 1, "anneal_epochs": 1}}}, "anneal_epochs counts from"),
        ({"losses": {"spectral": {"begin": 5}}}, "spectral.begin: needs a loss before it"),
        ({"losses": {"spectral": {"begin": 5}, "time": {"l1": 1}, "balanced": True}}, "and no balance"),
        ({"losses": {"spectral": None}}, "one of spectral, mel, phase and time"),
        ({"losses": {"time": {"l1": 1, "decay": 0.9}, "balanced": True}}, "shares of the gradient do not decay"),
        ({"losses": {"mrstft": 1}}, "mrstft"),
        ({"schedule": {"kind": "InverseLR", "warmup": 1}}, "warmup from 0 to below 1"),
        ({"schedule": {"kind": "LyraCosine", "total": 5}}, "more epochs than the 5 of the warmup"),
        ({"average": 1.0}, "average is from 0 to below 1"),
        ({"clip": -1.0}, "both clips from 0 on"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(settings, message):
    with pytest.raises(InputError, match=message) as error:
        config.build(Recipe, settings)
    assert "\n" not in str(error.value)
