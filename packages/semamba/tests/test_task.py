"""The training step, equal to the original's, and what a batch may hold."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from audio_core.train.player import Player
from audio_semamba import original
from audio_semamba.config import DiscriminatorConfig, SEMambaConfig
from audio_semamba.discriminator import MetricDiscriminator
from audio_semamba.model import SEMamba
from audio_semamba.recipe import Discriminator, Recipe
from audio_semamba.task import Enhancement

SMALL = SEMambaConfig(n_fft=64, hop=16, window=64, channels=4, blocks=1, state=4, expand=2)
# Which phases of frame 0 are negative where they are close to half a turn: their sign is rounding of the FFT, and the
# outputs depend on it. Bits of bin 0 first, of both items.
SIGNS = (
    "688191a008122c1003571029024022090190040c040045009500",
    "04a2055001426806c0800c800948280080042801800289152400",
)


class Given:
    """Stands in for the pool: the scores of each step are known."""

    def __init__(self, scores: Iterator[torch.Tensor]):
        self.scores = scores

    def submit(self, estimate, clean):
        return self

    def result(self):
        return next(self.scores)


def enhancement(generator, discriminator, recipe, scores):
    players = [
        Player(net, settings.build(net.parameters()))
        for net, settings in ((generator, recipe.optimizer), (discriminator, recipe.discriminator_optimizer))
    ]
    for player in players:
        player.join(Accelerator(cpu=True))
        player.net.train()
    return Enhancement(*players, recipe, Given(iter(scores)))


def signed(noisy: torch.Tensor) -> torch.Tensor:
    """Phases (2, F, T) with the signs of the original's FFT in frame 0."""
    for item, digits in enumerate(SIGNS):
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[: noisy.shape[1]]
        first = noisy[item, :, 0]
        negative = torch.from_numpy(bits.astype(bool))
        near = first.abs() > 3.1
        noisy[item, :, 0] = torch.where(near, torch.where(negative, -first.abs(), first.abs()), first)
    return noisy


LOSSES = ("real", "fake", "metric", "magnitude", "ip", "gd", "iaf", "complex", "time", "consistency", "total")
PARTS = {"generator": original.names(1), "discriminator": original.discriminator_names()}


def test_two_steps_equal_the_original(stored_case, monkeypatch):
    case, config = stored_case("train_step"), SEMambaConfig(channels=8, blocks=1, state=8, expand=2)
    nets = {"generator": SEMamba(config), "discriminator": MetricDiscriminator(DiscriminatorConfig())}
    for side, net in nets.items():
        state = {k.removeprefix(f"{side}."): v for k, v in case.state().items() if k.startswith(side)}
        net.load_state_dict(dict(original.renamed(state, PARTS[side])))
    nets["discriminator"].dropout.p = 0.0
    clean, noisy = case.inputs["clean_audio"], case.inputs["noisy_audio"]
    transform = nets["generator"].stft.forward

    def with_signs(x, eps=0.0):
        spectrum = transform(x, eps)
        return spectrum._replace(phase=signed(spectrum.phase)) if torch.equal(x, noisy) else spectrum

    monkeypatch.setattr(nets["generator"].stft, "forward", with_signs)
    task = enhancement(*nets.values(), Recipe(model=config), case.inputs["pesq"].unbind())
    for step, bound in enumerate((1e-5, 1e-3)):
        values = task.step({"clean": clean[:, None], "noisy": noisy[:, None]}, step)
        expected = dict(zip(LOSSES, case.outputs["losses"][step].tolist(), strict=True))
        expected["phase"] = sum(expected.pop(name) for name in ("ip", "gd", "iaf"))
        for name, value in expected.items():
            assert float(values[name]) == pytest.approx(value, rel=bound), (step, name)
    compared = 0
    for side, net in nets.items():
        for ours, theirs in PARTS[side].items():
            for at, name in enumerate(theirs):
                if (after := case.outputs.get(f"after.{side}.{name}")) is None:
                    continue
                value = net.state_dict()[ours].detach().chunk(len(theirs))[at].reshape(after.shape)
                difference = (value - after).abs()
                assert difference.mean() < 1e-4 and difference.max() < 2e-3, name
                compared += 1
    assert compared == len(case.outputs) - 1


def test_items_without_a_pesq_are_left_out_and_counted():
    torch.manual_seed(0)
    recipe = Recipe(model=SMALL, batch=2)
    scores = [torch.tensor([2.0, float("nan")]), torch.full((2,), float("nan"))]
    task = enhancement(SEMamba(SMALL), MetricDiscriminator(DiscriminatorConfig(4)), recipe, scores)
    batch = {"clean": torch.randn(2, 1, 1600), "noisy": torch.randn(2, 1, 1600)}
    some, none = (task.step(batch, step) for step in (0, 1))
    assert (float(some["unscored"]), float(none["unscored"]), float(none["fake"])) == (0.5, 1.0, 0.0)
    assert all(value.isfinite() for value in (*some.values(), *none.values()))


def test_the_discriminator_is_not_heard_before_it_begins():
    recipe = Recipe(model=SMALL, discriminator=Discriminator(begin=1))
    task = enhancement(SEMamba(SMALL), MetricDiscriminator(DiscriminatorConfig(4)), recipe, [torch.tensor([2.0])])
    batch = {"clean": torch.randn(1, 1, 1600), "noisy": torch.randn(1, 1, 1600)}
    before = [parameter.clone() for parameter in task.discriminator.raw.parameters()]
    assert "metric" not in task.step(batch, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, task.discriminator.raw.parameters(), strict=True))
    assert "metric" in task.step(batch, 1)
    assert not all(torch.equal(a, b) for a, b in zip(before, task.discriminator.raw.parameters(), strict=True))


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    model, x = SEMamba(SMALL).train(), torch.rand(2, 33, 20)
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(x, x).parts.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
