"""The checks that every model must pass find what they are for."""

from dataclasses import dataclass

import pytest
import torch
from audio_core import testing
from audio_core.nn.conv import Conv1d
from audio_core.nn.stream import Sequential
from torch import nn

X = testing.noise(3, 0.05, 8000, 2)[None].repeat(3, 1, 1) * torch.tensor([1.0, 2.0, -1.0])[:, None, None]


class Model(nn.Module):
    @dataclass(frozen=True)
    class Config:
        width: int = 4

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.net = nn.Sequential(Conv1d(2, config.width, 5), nn.ELU(), Conv1d(config.width, 2, 3))

    def forward(self, x):
        return self.net(x)


def test_a_sound_model_passes(tmp_path):
    model = Model(Model.Config(width=3))
    testing.check_repeats(model, X)
    testing.check_gradients(model, X)
    testing.check_bundle(model, tmp_path / "model")


def test_a_model_that_mixes_its_batch_or_draws_is_found():
    class Mixing(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    class Drawing(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    with pytest.raises(AssertionError, match="off by"):
        testing.check_repeats(Mixing(), X)
    with pytest.raises(AssertionError, match="two calls differ"):
        testing.check_repeats(Drawing(), X)


def test_a_parameter_that_nothing_uses_is_found():
    model = Model(Model.Config())
    model.spare = nn.Parameter(torch.ones(1))
    with pytest.raises(AssertionError, match="spare gets no gradient"):
        testing.check_gradients(model, X)


def test_a_stream_that_forgets_is_found():
    class Forgetting(Conv1d):
        def stream(self, chunk, state, last=False):
            return super().stream(chunk, self.start(chunk.shape[0]), last)

    testing.check_streaming(Sequential(Conv1d(2, 2, 5, 2), nn.ELU()), X, (1, 7, 400))
    with pytest.raises(AssertionError, match="chunks of 7"):
        testing.check_streaming(Forgetting(2, 2, 5, padding="causal"), X, (400, 7))


def test_a_look_ahead_is_found():
    testing.check_causal(Conv1d(2, 2, 5, padding="causal"), X, 100)
    testing.check_causal(Conv1d(2, 2, 4, 2, padding="causal"), X, 100, 0.5)
    with pytest.raises(AssertionError, match="depend on later inputs"):
        testing.check_causal(Conv1d(2, 2, 5), X, 100)
