"""Small models to save and load, and what is said of those that cannot be."""

from dataclasses import dataclass
from typing import Literal

import torch
from audio_core import bundle, testing
from torch import nn

CARD = bundle.card(
    "Tiny | net",
    "Doubles audio.",
    "MIT",
    "One tone.",
    {"SI-SDR (dB)": 8.91234, "a|b": float("nan"), "set": "dev"},
    "import audio_x\nmodel = audio_x.load('o/n')",
    ["speech"],
)


@dataclass(frozen=True)
class Front:
    widths: tuple[int, ...] = (4, 4)
    act: Literal["elu", "no"] = "no"


class Net(nn.Module):
    """Tied weights, a weight norm, a buffer that is saved, one that is not, and a value computed from a tensor."""

    @dataclass(frozen=True)
    class Config:
        front: Front = Front()
        bias: bool = True

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        first, second = config.front.widths
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(1, first, 3, bias=config.bias))
        self.inner = nn.Linear(first, second, bias=False)
        self.outer = nn.Linear(second, first, bias=False)
        self.outer.weight = self.inner.weight
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("window", torch.hann_window(8), persistent=False)
        self.drop = nn.Dropout()

    def forward(self, x):
        return self.drop(self.outer(self.inner(self.conv(x).mT))) + self.window.sum() + self.mean.sum()


class Awkward(Net):
    """Cannot be built without values: its constructor reads a number out of a tensor."""

    Config = Net.Config

    def __init__(self, config):
        super().__init__(config)
        self.length = float(self.window.sum())


def make(folder, cls=Net, **settings):
    model = cls(Net.Config(Front((3, 3)), **settings))
    model.mean += 0.5
    bundle.save(model, folder, "audio-x", "0.1.0", CARD)
    return model


def refused(*arguments, call=bundle.load, **more):
    return testing.refused(call, *arguments, **more)
