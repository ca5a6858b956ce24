"""Losses and schedules against the authors' numbers, recipes, and a network that learns."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from audio_acdnet.config import ACDNetConfig
from audio_acdnet.model import ACDNet
from audio_acdnet.recipe import Cosine, Distil, Recipe, Steps
from audio_acdnet.task import Classification, clip_probabilities, distillation, divergence
from audio_core import command, config
from audio_core.files import InputError
from audio_core.testing import Case, close
from audio_core.train.optimize import SGD
from audio_core.train.player import Player, set_training
from torch import nn

FIXTURES = Path(__file__).with_name("fixtures")
TINY = ACDNetConfig(rate=8000, samples=4000, channels=(4, 8, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8), labels=("a", "b", "c"))


@pytest.fixture
def losses() -> Case:
    return Case.load(FIXTURES / "losses_and_crops")


def test_the_loss_is_that_of_the_authors(losses):
    loss = divergence(losses.inputs["student_logits"], losses.inputs["target"])
    close(loss, losses.outputs["kl_softmax_log"], 1e-6)


@pytest.mark.parametrize("type", [1, 2, 3])
@pytest.mark.parametrize("temperature", [1, 2, 5])
def test_distillation_losses_are_those_of_the_authors(losses, type, temperature):
    given = (losses.inputs[name] for name in ("student_logits", "teacher_logits", "target"))
    loss = distillation(*given, type, temperature, losses.config["alpha"])
    close(loss, losses.outputs[f"kd{type}_T{temperature}"], 1e-6)


def test_the_loss_of_a_hopeless_guess_is_finite():
    """Log of a softmax that underflows would be infinite."""
    loss = divergence(torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert float(loss) == 1000


def test_the_decision_over_crops_is_that_of_the_authors(losses):
    logits, count = losses.inputs["crop_logits"], losses.config["n_crops"]
    told = clip_probabilities(nn.Flatten(1), logits.reshape(-1, count, logits.shape[-1]))  # the crops are their logits
    assert torch.equal(told.argmax(-1), losses.outputs["crop_pred"])
    truth = losses.inputs["crop_target"][::count].argmax(-1)
    accuracy = 100 * (told.argmax(-1) == truth).double().mean()
    close(accuracy, losses.outputs["crop_accuracy"], 1e-6)


def test_learning_rates_are_those_of_the_authors():
    known = Case.load(FIXTURES / "lr_schedules")

    def same(name: str, base: float, schedule: Steps, first: int = 1) -> None:
        expected = known.outputs[name]
        epochs = range(first - 1, first - 1 + len(expected))
        total = known.config.get("epochs", len(expected))
        close(torch.tensor([base * schedule(epoch, total) for epoch in epochs], dtype=torch.float64), expected, 1e-12)

    same("train_2000", 0.1, Steps())
    same("train_100", 0.1, Steps())
    same("weight_pruning_500", 0.01, Steps(warmup_epochs=0, at=(0.15, 0.3, 0.45, 0.6, 0.75)))
    same("uverd_2000", 0.1, Steps(warmup_epochs=9))
    same("keras_2000", 0.1, Steps(), first=0)  # it counts epochs from 0


def test_epochs_become_steps_at_one_place():
    recipe = Recipe(epochs=40, schedule=Steps(warmup_epochs=4))
    run = recipe.for_data(320, ("dog", "rain"), (2, 3))
    assert run.steps == 200 and run.model.labels == ("dog", "rain") and run.model.folds == (2, 3)
    assert recipe.for_data(321, ("dog",), ()).steps == 240
    assert Recipe(epochs=40, steps=7).for_data(320, ("dog",), ()).steps == 7
    factors = [round(math.log10(recipe.factor(update, 320))) for update in range(200)]
    # Warm-up of 4 epochs of 5 steps; lower after 12, 24 and 36 epochs.
    assert factors == [-1] * 20 + [0] * 40 + [-1] * 60 + [-2] * 60 + [-3] * 20


def test_several_processes_share_an_epoch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    recipe = Recipe(epochs=100)
    assert recipe.for_data(1600, ("dog",), ()).steps == 100 * 7  # of 256 clips each
    assert [recipe.factor(update, 1600) for update in (69, 70)] == [0.1, 1]  # the warm-up of 10 epochs


def test_a_cosine_rises_and_falls_to_nothing():
    schedule = Cosine(warmup_epochs=2)
    assert schedule(0, 10) == 0 and schedule(1, 10) == pytest.approx(0.5 * 0.5 * (1 + math.cos(0)))
    assert schedule(2, 10) == 1 and schedule(6, 10) == pytest.approx(0.5) and schedule(10, 10) == pytest.approx(0)


@pytest.mark.parametrize("name", command.recipes("audio_acdnet"))
def test_every_recipe_parses_survives_writing_and_builds(name):
    recipe = command.load_recipe(Recipe, "audio_acdnet", name)
    assert config.build(Recipe, config.parse(config.dump(recipe), name)) == recipe
    labels = recipe.data.labels or tuple(map(str, range(recipe.model.channels[-1])))
    settings = recipe.for_data(1600, labels, (1,)).model
    thin = tuple(min(width, 4) if at > 1 else width for at, width in enumerate(settings.channels))
    small = config.build(ACDNetConfig, config.plain(settings) | {"channels": thin})
    assert ACDNet(small)(torch.zeros(1, 1, small.samples)).shape == (1, len(labels))


def test_recipes_are_the_published_training():
    recipe = command.load_recipe(Recipe, "audio_acdnet", "esc10-micro")
    assert (recipe.epochs, recipe.batch, recipe.seed) == (2000, 64, 42)
    optimizer = recipe.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay, optimizer.nesterov) == (0.1, 0.9, 5e-4, True)
    assert recipe.model.channels == (7, 20, 10, 14, 22, 31, 35, 41, 51, 67, 69, 48) and len(recipe.data.labels) == 10


def test_folds_are_given_as_a_number_a_list_or_a_word():
    for text, value in (("all", "all"), ("none", "none"), ("2", 2), ("[1, 3]", (1, 3))):
        assert config.build(Recipe, {}, [f"folds={text}"]).folds == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mix.speed=0.5", "speed: expected 1 or more"),
        ("mix.gain_db=[6, -6]", "gain_db: expected the lower end first"),
        ("data.divide=1", "divide: expected 2 folds or more"),
        ("epochs=0", "epochs must be above 0"),
        ("average=1", "average must be from 0 to below 1"),
        ("epoch=10", "unknown key epoch; did you mean epochs"),
    ],
)
def test_wrong_settings_are_one_line(override, message):
    with pytest.raises(InputError, match=message):
        config.build(Recipe, {}, [override])


def learning(net: nn.Module, **settings) -> Classification:
    recipe = Recipe(optimizer=SGD(0.03, 0.9, 5e-4, True))
    task = Classification(Player(net, recipe.optimizer.build(net.parameters())), **settings)
    task.net.join(Accelerator(cpu=True))
    set_training(task)
    return task


def test_the_network_learns_a_batch_by_heart():
    task = learning(ACDNet(TINY))
    x, y = torch.randn(6, 1, 4000), torch.eye(3).repeat(2, 1)
    losses = [task.step((x, y), at)["loss"] for at in range(150)]
    assert losses[0] > 0.9 and sum(losses[-20:]) / 20 < 0.3  # dropout makes single ones jump
    task.net.raw.eval()
    with torch.no_grad():
        told = task.evaluate((x.expand(-1, 2, -1), y.argmax(-1)))
    assert told["accuracy"] == 1 and told["loss"] < 0.5


def test_the_gain_of_another_normalisation_reaches_the_network():
    heard = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x):
            heard.append(float(x.abs().max()))
            return self.scale * x.mean((1, 2))[:, None]

    task = learning(Spy(), gain=0.5)
    task.step((torch.ones(2, 1, 8), torch.eye(3)[:2]), 0)
    task.evaluate((torch.ones(2, 4, 8), torch.tensor([0, 1])))
    assert heard == [0.5, 0.5]


def test_a_student_comes_closer_to_its_teacher_who_does_not_learn():
    teacher = ACDNet(TINY)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task = learning(ACDNet(TINY), teacher=teacher, distil=Distil(teacher="-", temperature=2.0, alpha=0.0))
    x, y = torch.randn(6, 1, 4000), torch.eye(3).repeat(2, 1)
    first, *_, last = (task.step((x, y), at)["loss"] for at in range(20))
    assert last < 0.1 * first
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    with pytest.raises(ValueError, match="belong together"):
        learning(ACDNet(TINY), teacher=teacher)


def test_labels_of_mixes_count_whole_shares():
    """The divergence of a guess that is the mix itself is 0."""
    y = torch.tensor([[0.3, 0.7, 0.0]])
    assert float(divergence((y + 1e-12).log(), y)) == pytest.approx(0, abs=1e-6)
    assert np.isclose(float(divergence(torch.zeros(1, 3), y)), math.log(3) + 0.3 * math.log(0.3) + 0.7 * math.log(0.7))
