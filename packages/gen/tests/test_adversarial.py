"""Adversarial post-training: its losses, what the discriminator compares, and that a model learns by it."""

import copy
import dataclasses
import math

import pytest
import torch
from accelerate import Accelerator
from audio_core import config
from audio_core.data.seeds import mix
from audio_core.files import InputError
from audio_core.testing import close
from audio_gen.adversarial import post_training
from audio_gen.config.timesteps import DistributionShiftConfig
from audio_gen.data import Sample, collate
from audio_gen.diffusion.timesteps import shift
from audio_gen.models.diffusion import Diffusion, inpainting
from audio_gen.recipe import Recipe

from . import toys

SGD = {"kind": "SGD", "lr": 10.0}  # so that a step shows the gradient
HEAD = {"kind": "ConvNeXtHead", "channels": 8, "c_mults": [1], "strides": [4], "num_blocks": [1]}
ARC = {
    "discriminator": {
        "dit_hidden_layer": 1,
        "head": HEAD,
        "contrastive": True,
        "include_grad_penalties": True,
        "weights": {"generator": 0.5, "discriminator": 2.0, "contrastive": 3.0},
    },
    "noise_dist": {"generator": {"kind": "LogSNRUniform"}, "discriminator": {"kind": "LogitNormal"}},
    "optimizer": SGD,
    "schedule": {"kind": "Constant"},
}


def recipe_of(arc=ARC, **settings):
    plain = config.plain(toys.config(depth=3, objective="rf_denoiser", **settings.pop("model", {})))
    values = {"model": plain, "average": 0.0, "batch": 4, "optimizer": SGD, "arc": arc}
    return config.build(Recipe, {**values, "schedule": {"kind": "Constant"}, "cfg_dropout": 0.0, **settings})


def task_of(recipe):
    """Of a model and a discriminator without weights of zero."""
    torch.manual_seed(0)
    task = post_training(recipe, Diffusion(recipe.model))
    for player in task.players.values():
        with torch.no_grad():
            for parameter in player.raw.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        player.join(Accelerator(cpu=True))
    return task


def batch_of(indices, real=(toys.FRAMES, 20, 30, 10)):
    samples = []
    for index, length in zip(indices, real, strict=False):
        values = torch.randn(toys.WIDTH, toys.FRAMES, generator=torch.Generator().manual_seed(index))
        facts = {"prompt": f"sound {index}", "seconds_total": 1.0 + index % 3}
        samples.append(Sample(index, values, torch.arange(toys.FRAMES) < length, facts))
    return collate(samples)


# --- the losses, by formulas of their own ----------------------------------------------------------------------


def drawn(recipe, index):
    """The times and the noise of an item."""
    generator = torch.Generator().manual_seed(mix(recipe.seed, index))
    torch.rand(2, generator=generator)  # which tokens are left out
    t = 1 / (1 + torch.exp(-6 + 8 * torch.rand(1, generator=generator)))
    compared = 1 / (1 + torch.exp(-torch.randn(1, generator=generator)))
    shape = toys.WIDTH, toys.FRAMES
    return t, compared, *(torch.randn(shape, generator=generator)[None] for _ in range(2))


def test_a_distribution_shift_moves_both_times():
    plain, shifted = recipe_of(), recipe_of()
    settings = DistributionShiftConfig(base_shift=2.0, max_shift=3.0)
    shifted = dataclasses.replace(shifted, model=dataclasses.replace(shifted.model, distribution_shift=settings))
    like = torch.zeros(toys.WIDTH, toys.FRAMES)
    one, other = (task_of(recipe)._drawn_for(3, like) for recipe in (plain, shifted))
    for name in ("t", "compared_t"):
        expected = shift(getattr(one, name), toys.FRAMES, settings)
        assert torch.equal(getattr(other, name), expected) and expected > getattr(one, name)
    assert torch.equal(one.noise, other.noise)


def scored(task, batch, estimates=True):
    """Of each item alone: what scores an input under a prompt, the item and its estimate with noise, what counts."""
    recipe, model = task.recipe, task.player.raw
    for at, index in enumerate(batch.index.tolist()):
        x, real, facts = batch.values[at : at + 1], batch.real[at : at + 1], batch.facts[at]
        t, compared, noise, again = drawn(recipe, index)
        extra = None
        if recipe.model.inpaints:
            extra = inpainting(x, task._masks(batch._replace(index=batch.index[at : at + 1], real=real), x))
        noisy = (1 - t) * x + t * noise
        estimate = noisy - t * model(noisy, t, [facts], extra, None, real)
        pair = [(1 - compared) * each + compared * again for each in (x, estimate)]

        def score(y, prompt, facts=facts, compared=compared, extra=extra, real=real):
            return task.discriminator.raw(y, compared, [{**facts, "prompt": prompt}], extra, None, real)[0, 0]

        counted = torch.tensor([bool(real[0, 8 * each : 8 * each + 8].any()) for each in range(5)])
        yield index, facts["prompt"], score, pair, counted


def means(values, counted):
    """Over the scores of all items that count."""
    return (torch.stack(values) * torch.stack(counted)).sum() / torch.stack(counted).sum()


def expect_step(weights, before, gradients):
    """Of SGD, along these gradients."""
    assert max(float((10 * each).abs().max()) for each in gradients) > 1e-3
    for weight, old, gradient in zip(weights, before, gradients, strict=True):
        torch.testing.assert_close(weight.detach(), old - 10 * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("inpaints", [False, True])
def test_the_model_learns_by_the_relativistic_loss(inpaints):
    task, batch = task_of(recipe_of(model={"inpaints": inpaints})), batch_of([5, 6, 7, 8])
    losses, counts = [], []
    for _, prompt, score, (x, estimate), counted in scored(task, batch):
        losses.append((1 + torch.exp(score(x, prompt) - score(estimate, prompt))).log())
        counts.append(counted)
    expected = means(losses, counts)
    weights = [each for each in task.player.raw.parameters() if each.requires_grad]
    gradients = torch.autograd.grad(0.5 * expected, weights)
    before = [each.detach().clone() for each in weights]
    other = [each.detach().clone() for each in task.discriminator.raw.parameters()]
    metrics = task.step(batch, 4)
    close(metrics["generator"], expected.detach(), 1e-5)
    expect_step(weights, before, gradients)
    for weight, old in zip(task.discriminator.raw.parameters(), other, strict=True):
        assert torch.equal(weight, old)


def test_the_discriminator_learns_by_its_three_losses():
    task, batch = task_of(recipe_of()), batch_of([5, 6, 7, 8])
    plain, others, changes, counts = [], [], [], []
    prompts = [each["prompt"] for each in batch.facts]
    for at, (index, prompt, score, pair, counted) in enumerate(scored(task, batch)):
        x, estimate = (each.detach() for each in pair)
        real, fake = score(x, prompt), score(estimate, prompt)
        plain.append((1 + torch.exp(fake - real)).log())
        others.append((1 + torch.exp(score(x, prompts[(at + 1) % 4]) - real)).log())
        for kind, (each, before) in enumerate(((x, real), (estimate, fake))):
            seed = mix(task.recipe.seed, index, 3, kind)
            noise = 0.05 * torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed))
            changes.append(((score(each + noise, prompt) - before)[counted] ** 2).sum())
        counts.append(counted)
    expected = {
        "discriminator": means(plain, counts),
        "contrastive": means(others, counts),
        "grad_penalty": torch.stack(changes).sum() / 4 / 2,
    }
    total = 2 * expected["discriminator"] + 3 * expected["contrastive"] + expected["grad_penalty"]
    weights = [each for each in task.discriminator.raw.parameters() if each.requires_grad]
    gradients = torch.autograd.grad(total, weights)
    before = [each.detach().clone() for each in weights]
    other = [each.detach().clone() for each in task.player.raw.parameters()]
    metrics = task.step(batch, 5)
    assert {*metrics} == {*expected} and metrics["grad_penalty"] > 1e-6
    for name, value in expected.items():
        close(metrics[name], value.detach(), 1e-5)
    expect_step(weights, before, gradients)
    for weight, old in zip(task.player.raw.parameters(), other, strict=True):
        assert torch.equal(weight, old)


@pytest.mark.parametrize("at", [0, 1])
def test_padding_does_not_count_in_a_model_with_masks(at):
    batch = batch_of([0, 1, 2, 3])
    changed = batch._replace(values=torch.where(batch.real[:, None], batch.values, batch.values + 3))
    for masks, equal in ((True, True), (False, False)):
        metrics = [task_of(recipe_of(model={"masks": masks})).step(each, at) for each in (batch, changed)]
        names = {*metrics[0]} - {"latent_std", "estimate_std"}
        assert (
            names
            and all(math.isclose(*(float(each[name]) for each in metrics), rel_tol=1e-5) for name in names) is equal
        )


# --- contrastive pairs -----------------------------------------------------------------------------------------


def test_contrastive_pairs_have_the_prompts_of_their_neighbours(monkeypatch):
    task, batch = task_of(recipe_of()), batch_of([5, 6, 7, 8])
    before, seen = copy.deepcopy(batch.facts), []
    condition = type(task.discriminator.raw).conditions
    spy = lambda self, items, *rest: (seen.append(items), condition(self, items, *rest))[1]  # noqa: E731
    monkeypatch.setattr(type(task.discriminator.raw), "conditions", spy)
    task.step(batch, 1)
    assert batch.facts == before
    pairs = seen[-1][-4:]
    assert [each["prompt"] for each in pairs] == ["sound 6", "sound 7", "sound 8", "sound 5"]
    assert [each["seconds_total"] for each in pairs] == [each["seconds_total"] for each in before]
    assert [*seen[-1][:4]] == before


# --- learning --------------------------------------------------------------------------------------------------


class Two:
    """Latents around 2 in one half of the channels and around -1 in the other."""

    MEANS = torch.tensor([2.0, 2.0, -1.0, -1.0])[:, None]

    def __getitem__(self, index):
        noise = torch.randn(toys.WIDTH, toys.FRAMES, generator=torch.Generator().manual_seed(index))
        facts = {"prompt": "a", "seconds_total": 1.0}
        return Sample(index, self.MEANS + 0.3 * noise, torch.ones(toys.FRAMES, dtype=torch.bool), facts)


@torch.no_grad()
def distance(model):
    """Of the mean of samples in one step from the mean of the data."""
    noise = torch.randn(64, toys.WIDTH, toys.FRAMES, generator=torch.Generator().manual_seed(9))
    items = [{"prompt": "a", "seconds_total": 1.0}] * 64
    estimate = noise - model(noise, torch.ones(64), items, None, None, torch.ones(64, toys.FRAMES, dtype=torch.bool))
    return float((estimate.mean((0, 2))[:, None] - Two.MEANS).square().mean().sqrt())


ADAM = {"kind": "Adam", "lr": 2e-3, "betas": [0.0, 0.9]}
ONE_STEP = {
    "discriminator": {"dit_hidden_layer": 1, "head": HEAD, "include_grad_penalties": True},
    "noise_dist": {"generator": {"kind": "Constant"}, "discriminator": {"kind": "LogSNRUniform"}},
    "optimizer": ADAM,
    "schedule": {"kind": "Constant"},
}


def trained(steps):
    """A new task after `steps`, and the discriminator's losses."""
    recipe = recipe_of(ONE_STEP, optimizer=ADAM, batch=16)
    torch.manual_seed(0)
    task = post_training(recipe, Diffusion(recipe.model))
    for player in task.players.values():
        player.join(Accelerator(cpu=True))
    before, losses = distance(task.player.raw), []
    for count, at in enumerate(steps):
        metrics = task.step(collate([Two()[index] for index in range(16 * count, 16 * count + 16)]), at)
        losses += [float(metrics["discriminator"])] if at % 2 else []
    return before, distance(task.player.raw), losses


def test_a_discriminator_learns_to_tell_items_from_estimates():
    before, after, losses = trained([1] * 40)
    assert losses[0] > 0.6 and sum(losses[-5:]) / 5 < 0.5 * math.log(2)
    assert after == before


def test_a_tiny_model_learns_to_generate_in_one_step():
    before, after, losses = trained(range(160))
    assert before > 1.5 and after < 0.1 * before
    assert min(losses) < 0.8 * math.log(2)


# --- what cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"objective": "v"}}, "arc: post-trains rectified flows"),
        ({"arc": {"discriminator": {"dit_hidden_layer": 3}}}, "dit_hidden_layer: is 3, and the last block is 2"),
        ({"arc": {"discriminator": {"head": {"kind": "ConvHead"}}}}, "head: needs 64 positions, and there are 20"),
        ({"arc": {"discriminator": {"head": {**HEAD, "strides": [-4]}}}}, "strides must be at least 1, got [-4]"),
        ({"start": "default", "adapter": {"rank": 2}}, "arc: trains all weights; leave out adapter"),
        ({"model": {"kind": "LM"}}, "arc: post-trains rectified flows"),
        ({"model": {"kind": "Diffusion", "objective": "rectified_flow"}}, "model.backbone must be a DiT"),
        (
            {"model": {"kind": "Diffusion", **config.plain(toys.config(conditioned=False, depth=3))}},
            "arc.discriminator.contrastive: takes other prompts, and no conditioner is 'prompt'",
        ),
    ],
)
def test_what_cannot_be_post_trained_is_one_line(changes, message):
    plain = config.plain(recipe_of())
    plain["model"] = {"kind": "Diffusion", **plain["model"]}
    discriminator = {**plain["arc"]["discriminator"], **changes.get("arc", {}).get("discriminator", {})}
    model = changes.get("model", {})
    model = model if "kind" in model else {**plain["model"], **model}
    values = {**plain, **changes, "model": model, "arc": {**plain["arc"], "discriminator": discriminator}}
    with pytest.raises(InputError) as caught:
        config.build(Recipe, values)
    assert message in str(caught.value) and "\n" not in str(caught.value)
