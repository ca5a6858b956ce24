"""The learning task: it learns, its draws belong to items, and the loss counts what it should."""

import math

import pytest
import torch
from accelerate import Accelerator
from audio_core import config
from audio_core.files import InputError
from audio_core.train.fit import fit
from audio_core.train.run import Run
from audio_core.train.watch import Save
from audio_gen.config import DiffusionConfig
from audio_gen.data import Batch, Sample, collate
from audio_gen.generate import generate
from audio_gen.models.diffusion import Diffusion
from audio_gen.models.diffusion_autoencoder import Estimate
from audio_gen.recipe import Recipe
from audio_gen.task import build, learning
from audio_gen.train import trained

from . import toys

CLASSES, CHANNELS, FRAMES = ("one", "three", "five", "seven"), 8, 32
TINY = {
    "rate": 32,
    "channels": CHANNELS,
    "samples": FRAMES,
    "objective": "rectified_flow",
    "conditioning": {"cond_dim": 32, "conditioners": {"class": {"kind": "List", "options": list(CLASSES)}}},
    "cross_attention_cond_ids": ["class"],
    "backbone": {
        "kind": "DiT",
        "io_channels": CHANNELS,
        "embed_dim": 64,
        "depth": 3,
        "num_heads": 1,
        "cond_token_dim": 32,
        "transformer": {"attention": {"qk_norm": "ln"}},
    },
}


class Sinusoids:
    """Latents (8, 32) of four classes: odd frequencies, a random phase in each channel, and a little noise."""

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        kind = index % len(CLASSES)
        phase = 2 * math.pi * torch.rand(CHANNELS, 1, generator=generator)
        wave = 1.3 * torch.sin(2 * math.pi * (2 * kind + 1) * torch.arange(FRAMES) / FRAMES + phase)
        values = wave + 0.1 * torch.randn(CHANNELS, FRAMES, generator=generator)
        return Sample(index, values, torch.ones(FRAMES, dtype=torch.bool), {"class": CLASSES[kind]})

    collate = staticmethod(collate)


def classes(latents):
    """The class of each by its strongest odd frequency."""
    spectrum = torch.fft.rfft(latents, dim=2).abs().sum(1)
    return spectrum[:, 1:8:2].argmax(1)


@pytest.fixture(scope="module")
def sinusoids(tmp_path_factory):
    """400 steps on two cores or one, about 10 CPU seconds."""
    settings = {"lr": 2e-3, "weight_decay": 0.01}
    recipe = config.build(
        Recipe,
        {
            "model": TINY,
            "timesteps": {"distribution": {"kind": "LogitNormal"}},
            "optimizer": settings,
            "schedule": {"kind": "Constant", "warmup": 50},
            "average": 0.99,
            **{"steps": 400, "batch": 32, "workers": 0, "seed": 0},
        },
    )
    folder = tmp_path_factory.mktemp("sinusoids")
    run = Run(folder, recipe, "cpu", quiet=True)
    torch.manual_seed(0)
    losses = []
    fit(
        learning(recipe, Diffusion(recipe.model)),
        Sinusoids(),
        run,
        [lambda task, metrics, run: losses.append(float(metrics["loss"])), Save()],
    )
    run.close()
    return folder, losses


def test_a_tiny_transformer_learns_four_classes(sinusoids):
    """The original's network reaches 0.56 in as many steps, and 97 % with guidance of 2."""
    folder, losses = sinusoids
    assert sum(losses[:5]) / 5 > 1.5 and sum(losses[-50:]) / 50 <= 0.60
    _, model = trained(folder)
    wanted = [kind for kind in range(4) for _ in range(16)]
    prompts = [{"class": CLASSES[kind]} for kind in wanted]
    made = generate(model, prompts, seed=0, steps=20, cfg=2.0, batch=64).latents
    assert (classes(made) == torch.tensor(wanted)).float().mean() >= 0.95
    assert 0.75 < made.std() < 1.15  # of the data 0.93


# --- draws ---------------------------------------------------------------------------------------------------


def recipe_of(**settings):
    plain = config.plain(toys.config(**settings.pop("model", {})))
    return config.build(Recipe, {"model": plain, "average": 0.0, "batch": 4, **settings})


def task_of(recipe):
    torch.manual_seed(0)
    task = learning(recipe, Diffusion(recipe.model))
    for player in task.players.values():
        player.join(Accelerator(cpu=True))
    return task


def batch_of(indices, real=toys.FRAMES):
    samples = []
    for index in indices:
        generator = torch.Generator().manual_seed(index)
        values = torch.randn(toys.WIDTH, toys.FRAMES, generator=generator)
        facts = {"prompt": f"sound {index}", "seconds_total": 1.0}
        samples.append(Sample(index, values, torch.arange(toys.FRAMES) < real, facts))
    return collate(samples)


def gradients(task, batches):
    for batch in batches:
        task.player.accelerator.gradient_accumulation_steps = len(batches)
        x = task._latents(batch)
        draws = [task._drawn(int(index), item) for index, item in zip(batch.index, x, strict=True)]
        t, noise, chosen = (torch.stack(each) for each in zip(*draws, strict=True))
        (task._loss(task.player.raw, x, t, noise, batch, chosen, 0) / len(batches)).backward()
    return torch.cat([each.grad.flatten() for each in task.player.raw.parameters() if each.grad is not None])


@pytest.mark.parametrize("inpaints", [False, True])
def test_two_halves_of_a_batch_have_its_gradient(inpaints):
    """As two processes, or two accumulated passes, would have it."""
    recipe = recipe_of(model={"inpaints": inpaints}, cfg_dropout=0.5)
    whole = gradients(task_of(recipe), [batch_of([0, 1, 2, 3])])
    halves = gradients(task_of(recipe), [batch_of([0, 1]), batch_of([2, 3])])
    torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-7)
    others = gradients(task_of(recipe), [batch_of([0, 1]), batch_of([4, 5])])
    assert not torch.allclose(others, whole, rtol=1e-2, atol=1e-5)


def test_only_real_frames_count_where_padding_is_masked():
    counted = task_of(recipe_of(mask_padding=True, model={"masks": False}))
    plain = task_of(recipe_of(model={"masks": False}))
    short = batch_of([0, 1], real=10)
    changed = short._replace(values=short.values.clone())
    changed.values[..., 10:] += 3.0
    for task, equal in ((counted, True), (plain, False)):
        losses = []
        for batch in (short, changed):
            x = batch.values
            t, noise = torch.full((2,), 0.5), torch.zeros_like(x)
            # The network sees the padding all the same; a target of its own tells whether it counts.
            output = torch.zeros_like(x)
            network = lambda *args, output=output: output  # noqa: E731
            losses.append(float(task._loss(network, x, t, noise, batch, None, 0)))
        assert (losses[0] == losses[1]) is equal


def test_an_evaluation_repeats_itself_and_tells_the_loss_at_each_level():
    task = task_of(recipe_of())
    with torch.no_grad():
        first, second = (task.evaluate(batch_of([3, 5])) for _ in range(2))
    assert first == second and [*first] == ["loss", *(f"loss_{level}" for level in (0.1, 0.3, 0.5, 0.7, 0.9))]
    mean = sum(float(first[name]) for name in first if name != "loss") / 5
    assert float(first["loss"]) == pytest.approx(mean, rel=1e-5)


def test_audio_is_encoded_by_the_codec(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: toys.ToyCodec)
    recipe = recipe_of()
    torch.manual_seed(0)
    task = learning(recipe, Diffusion(recipe.model), encodes=True)
    task.player.join(Accelerator(cpu=True))
    audio = torch.randn(2, 1, toys.FRAMES * toys.HOP)
    real = torch.ones(2, toys.FRAMES, dtype=torch.bool)
    facts = [{"prompt": "a", "seconds_total": 1}] * 2
    values = task.step(Batch(torch.arange(2), audio, real, facts), 0)
    assert values["loss"].isfinite()
    close = toys.ToyCodec().encode(audio)
    torch.testing.assert_close(values["latent_std"], close.std())


def test_a_distribution_shift_moves_the_times_of_learning_alone():
    settings = {"model": {}, "timesteps": {"distribution": {"kind": "Constant", "t": 0.5}}}
    plain = config.plain(toys.config())
    shifted = {**plain, "distribution_shift": {"base_shift": 2.0, "max_shift": 3.0}}
    times = []
    for model in (plain, shifted):
        recipe = config.build(Recipe, {**settings, "model": model, "average": 0.0})
        task = task_of(recipe)
        seen = []
        net = lambda x, t, *rest, seen=seen: (seen.append(float(t[0])), torch.zeros_like(x))[1]  # noqa: E731
        batch = batch_of([0])
        task._loss(net, batch.values, torch.tensor([0.5]), torch.zeros_like(batch.values), batch, None, 0)
        task._loss(net, batch.values, torch.tensor([0.5]), torch.zeros_like(batch.values), batch)
        times.append(seen)
    assert times[0] == [0.5, 0.5] and times[1][0] > 0.8 and times[1][1] == 0.5


def test_the_configuration_names_what_does_not_fit():
    plain = config.plain(toys.config())
    with pytest.raises(InputError, match=r"backbone\.cond_token_dim: conditions make 32, got 16"):
        backbone = {**plain["backbone"], "cond_token_dim": 16}
        config.build(DiffusionConfig, {**plain, "backbone": backbone})


# --- autoencoders that decode by diffusion ---------------------------------------------------------------------


def test_a_diffusion_autoencoder_learns_v_of_audio_under_its_code(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: toys.ToyCodec)
    recipe = Recipe(model=toys.autoencoder_config(), average=0.0, batch=2)
    torch.manual_seed(0)
    model = build(recipe.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    task = learning(recipe, model, encodes=True)
    task.player.join(Accelerator(cpu=True))
    task.player.update = lambda loss: loss.backward()
    audio = torch.randn(2, 1, toys.FRAMES * toys.HOP)
    batch = Batch(torch.arange(2), audio, torch.ones(2, toys.FRAMES * toys.HOP, dtype=torch.bool), [{}, {}])
    assert task.step(batch, 0)["loss"].isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    t, noise = torch.tensor([0.2, 0.7]), torch.randn_like(audio)
    angle = (t * math.pi / 2)[:, None, None]
    expected = (angle.cos() * noise - angle.sin() * audio).square().mean()
    silent = lambda x, t, code, seeds: Estimate(torch.zeros_like(x), code, {})  # noqa: E731
    error, estimate = task.estimated(silent, audio, t, noise)
    torch.testing.assert_close(error, expected)
    torch.testing.assert_close(estimate.code, toys.ToyCodec().encode(audio))
