"""Optimizers, schedules of their learning rates, and averages of weights."""

import pytest
import torch
from audio_core import config
from audio_core.files import InputError
from audio_core.train.average import Average, delayed, warming
from audio_core.train.optimize import SGD, Adam, AdamW, Constant, Cosine, InverseLR, Milestones, Staircase
from torch import nn


def test_schedules_are_functions_of_the_update():
    assert [Constant(warmup=4)(u) for u in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert [Staircase(every=2, factor=0.5)(u) for u in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert [Milestones(at=(2, 3), factor=0.1)(u) for u in range(4)] == pytest.approx([1, 1, 0.1, 0.01])
    assert Cosine(total=10, final=0.1)(0) == 1 and Cosine(total=10, final=0.1)(99) == pytest.approx(0.1)
    assert Cosine(total=10)(5) == pytest.approx(0.5)


def test_optimizers_take_what_the_recipe_says():
    weight = [nn.Parameter(torch.zeros(2))]
    adam = AdamW(lr=2e-4, betas=(0.8, 0.99)).build(weight)
    assert type(adam) is torch.optim.AdamW and adam.defaults["betas"] == (0.8, 0.99)
    assert adam.defaults["weight_decay"] == 0.01 and not adam.defaults["amsgrad"]
    assert SGD(lr=0.1, nesterov=True).build(weight).defaults["nesterov"] is True


def test_average_follows_by_its_decay():
    net = nn.BatchNorm1d(1)
    average = Average(net, 0.75)
    with torch.no_grad():
        net.weight.fill_(5)
        net.running_mean.fill_(8)
        net.num_batches_tracked.fill_(3)
    average.update(net, 1)
    assert average.net.weight.item() == 2.0 and average.net.running_mean.item() == 2.0
    assert average.net.num_batches_tracked.item() == 3
    assert warming(0.999)(1) == pytest.approx(1 - 2 ** (-2 / 3)) and warming(0.999)(10**9) == 0.999


def test_a_delayed_average_copies_before_it_averages():
    decay = delayed(0.9, power=0.5, every=5, after=12)
    assert [update for update in range(30) if decay(update) != 1] == [0, 5, 10, 15, 20, 25]
    assert [decay(update) for update in (0, 10, 15)] == [0, 0, 0]  # 15 is the first one after 12
    assert decay(20) == pytest.approx(1 - 1 / 3) and decay(25) == pytest.approx(1 - 14**-0.5) and decay(10**9) == 0.9


def test_an_inverse_rate_rises_and_falls():
    rate = InverseLR(inv_gamma=10, power=1, warmup=0.5, final=0.25)
    assert [rate(update) for update in (0, 10, 10**6)] == pytest.approx([0.5, (1 - 0.5**11) / 2, 0.25])
    with pytest.raises(ValueError, match="inv_gamma above 0 and warmup from 0 to below 1"):
        InverseLR(warmup=1)


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
def test_rates_below_zero_are_refused(kind):
    for name in ("lr", "weight_decay"):
        with pytest.raises(InputError, match=f"{name} must be at least 0, got -1"):
            config.build(kind, {name: -1})
