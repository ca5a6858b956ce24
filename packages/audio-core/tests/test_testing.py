"""The checks that every model must pass find what they are for."""

from dataclasses import dataclass

import pytest
import torch
from audio_core import testing
from audio_core.files import InputError
from audio_core.nn.conv import Conv1d
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


def test_a_look_ahead_is_found():
    testing.check_causal(Conv1d(2, 2, 5, padding="causal"), X, 100)
    testing.check_causal(Conv1d(2, 2, 4, 2, padding="causal"), X, 100, 0.5)
    with pytest.raises(AssertionError, match="depend on later inputs"):
        testing.check_causal(Conv1d(2, 2, 5), X, 100)


def test_only_one_line_of_an_input_error_counts_as_refused():
    def fail(error):
        raise error

    assert testing.refused(fail, error=InputError("a.wav: is empty")) == "a.wav: is empty"
    with pytest.raises(AssertionError, match="more than one line"):
        testing.refused(fail, InputError("a.wav:\nis empty"))
    with pytest.raises(AssertionError, match="nothing was refused"):
        testing.refused(str, 1)
    with pytest.raises(KeyError):
        testing.refused(fail, KeyError("a"))


@pytest.mark.parametrize("kind", testing.MANGLED)
def test_a_conversion_that_trusts_its_tensors_is_found(kind):
    state = {"weight": torch.ones(2, 3), "bias": torch.ones(3)}

    def careful(tensors):
        for name, tensor in tensors.items():
            stored = tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.is_contiguous()
            alike = stored and tensor.dtype == torch.float32 and tensor.shape == state[name].shape
            if not alike or not tensor.isfinite().all():
                raise InputError(f"{name}: is another tensor")

    testing.refuses_mangled(state, state, kind, careful)
    with pytest.raises(AssertionError, match="weight: ends in AssertionError: nothing was refused"):
        testing.refuses_mangled(state, state, kind, dict)
    with pytest.raises(AssertionError, match="weight: ends in KeyError"):
        testing.refuses_mangled(state, state, kind, lambda tensors: tensors["gain"])
