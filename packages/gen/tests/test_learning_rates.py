"""Averages of weights and learning rates are stable-audio-tools', as the core has them."""

import pytest
import torch
from audio_core.testing import close
from audio_core.train.average import Average, delayed
from audio_core.train.optimize import InverseLR
from torch import nn


@pytest.fixture
def case(stored_case):
    return stored_case("ema_inverse_lr")


@pytest.mark.parametrize("name", ["diffusion", "lm"])
def test_weights_are_averaged_as_the_original_s(case, name):
    settings, values = case.config[f"ema_{name}"], case.inputs["values"].float()
    decay = delayed(settings["beta"], settings["power"], settings["update_every"], settings["update_after_step"])
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(values[0])
    average, trace = Average(net, decay), [values[0].item()]  # the original's first call copies the weights, too
    for update, value in enumerate(values[1:], 1):
        net.weight.data.fill_(value)
        average.update(net, update)
        trace.append(average.net.weight.item())
    close(torch.tensor(trace), case.outputs[f"ema_{name}"], 1e-6)
    stored = case.outputs[f"decay_{name}"]
    acting = [update for update in range(240) if 0 < decay(update) < 1]
    assert acting == (list(range(3, 240)) if name == "diffusion" else list(range(120, 240, 10)))
    torch.testing.assert_close(torch.tensor([decay(at) for at in acting]).double(), stored[acting], rtol=1e-6, atol=0)


def test_the_decay_of_long_runs_is_the_original_s(case):
    steps = [10, 100, 1000, 10002, 100000, 215445, 1000000]
    decays = [delayed(0.9999)(step - 1) for step in steps]  # the original counts a call before it uses the number
    torch.testing.assert_close(torch.tensor(decays).double(), case.outputs["decay_at_steps"][1:], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["published", "fast"])
def test_inverse_learning_rates_are_the_original_s(case, name):
    settings = dict(case.config[f"inverse_lr_{name}"])
    lr, last = settings.pop("lr"), settings.pop("final_lr", 0.0)
    rate = InverseLR(**settings, final=last / lr)
    rates = [lr * rate(update) for update in case.outputs["lr_epochs"].tolist()]
    expected = case.outputs[f"inverse_lr_{name}"]
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), expected, rtol=1e-12, atol=0)
