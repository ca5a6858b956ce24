"""Diffusion autoencoders whose encoder is a part of them: it learns, is stored, averaged, and found by its name."""

from dataclasses import replace

import pytest
import torch
import warm
from accelerate import Accelerator
from audio_core import audio, config
from audio_core import codec as codecs
from audio_core.files import InputError
from audio_core.testing import check_bundle, close, noise
from audio_core.train.optimize import SGD
from audio_gen import PACKAGE, load
from audio_gen.cli import main
from audio_gen.config.conditioners import CodecSource
from audio_gen.config.diffusion_autoencoder import PartConfig
from audio_gen.cost import describe
from audio_gen.data import Batch
from audio_gen.diffusion.objectives import mse, noised
from audio_gen.models.diffusion_autoencoder import DiffusionAutoencoder
from audio_gen.recipe import Recipe
from audio_gen.task import LEVELS, learning
from audio_gen.train import train, trained

from . import toys
from .toys import ENCODER


@pytest.fixture(autouse=True)
def offered(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("installed")
    toys.offer_encoders(folder, monkeypatch)
    return folder


def built(**encoder):
    torch.manual_seed(1)
    return DiffusionAutoencoder(toys.autoencoder_config(encoder=replace(ENCODER, **encoder)))


def batch_of(*indices):
    length = toys.FRAMES * toys.HOP
    values = torch.stack([0.3 * noise(at, length / toys.RATE, toys.RATE) for at in indices])
    return Batch(torch.tensor(indices), values, torch.ones(len(indices), length, dtype=torch.bool), [{}] * len(indices))


def task_of(model=None, **settings):
    model = built() if model is None else model
    recipe = Recipe(model=model.config, **{"average": 0.0, **settings})
    task = learning(recipe, model, encodes=True)
    task.player.join(Accelerator(cpu=True))
    return task


# --- a part of the model -----------------------------------------------------------------------------------------


def test_it_is_stored_with_the_model(tmp_path):
    model = built()
    assert {"encoder.layer.weight", "encoder.layer.bias"} <= {*model.state_dict()}
    check_bundle(model.eval(), tmp_path / "bundle")
    PACKAGE.save(model, tmp_path / "ours", "")
    sound = batch_of(3).values
    close(load(tmp_path / "ours").encode(sound), model.encode(sound))
    assert describe(model.config)["parameters"] == sum(each.numel() for each in model.parameters())


def test_a_setting_of_its_parts_can_be_given():
    plain = {"model": {"kind": "DiffusionAutoencoder", **config.plain(built().config)}}
    recipe = config.build(Recipe, plain, ["model.encoder.parts.encoder.config.width=3", "model.encoder.weights.kl=0"])
    assert recipe.model.encoder.parts["encoder"].config["width"] == 3 and recipe.model.encoder.weights == {"kl": 0}


# --- learning ----------------------------------------------------------------------------------------------------


def test_a_step_learns_by_the_bottleneck_s_losses_too():
    losses = {}
    for weight in (None, 0.0, 2.0):
        model = built(weights={} if weight is None else {"kl": weight})
        task = task_of(model)
        task.player.update = lambda loss: loss.backward()
        losses[weight] = metrics = task.step(batch_of(0, 1), 0)
        assert [*metrics] == ["loss", "mse", "kl", "latent_std"]
        assert float(metrics["loss"]) == pytest.approx(
            float(metrics["mse"] + (0.01 if weight is None else weight) * metrics["kl"])
        )
        grads = {name: each.grad for name, each in model.named_parameters()}
        assert all(each is not None for each in grads.values()) and grads["encoder.layer.weight"].abs().max() > 0
    assert losses[None]["mse"] == losses[0.0]["mse"]


def test_an_item_learns_the_same_alone_and_in_a_batch():
    def gradients(*batches):
        model = built()
        with torch.no_grad():  # so that all weights count
            for at, parameter in enumerate(model.parameters()):
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(at))
        task = task_of(model)
        task.player.update = lambda loss: (loss / len(batches)).backward()
        codes = [float(task.step(batch, 0)["mse"]) for batch in batches]
        return torch.cat([each.grad.flatten() for each in model.parameters()]), sum(codes) / len(codes)

    whole, error = gradients(batch_of(0, 1))
    halves, mean = gradients(batch_of(0), batch_of(1))
    torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-7)
    assert mean == pytest.approx(error)
    others, _ = gradients(batch_of(0), batch_of(2))
    assert not torch.allclose(others, whole, rtol=1e-2, atol=1e-5)


def test_it_is_averaged_with_the_rest():
    task = task_of(average=0.9, optimizer=SGD(lr=0.1))
    begun = task.player.raw.encoder.layer.weight.detach().clone()
    for at in range(4):
        task.step(batch_of(0, 1), at)
    averaged, last = (each.encoder.layer.weight.detach() for each in (task.release(), task.player.raw))
    assert task.release() is not task.player.raw
    assert 0 < (averaged - begun).norm() < (last - begun).norm()


@torch.no_grad()
def test_an_evaluation_takes_the_mean_of_the_code():
    task = task_of()
    task.player.raw.eval()
    first, second = task.evaluate(batch_of(3, 5)), task.evaluate(batch_of(3, 5))
    assert first == second and [*first] == ["loss", *(f"loss_{level}" for level in LEVELS), "kl"]
    seen = []
    task.player.raw.backbone.register_forward_hook(lambda _, __, kwargs, ___: seen.append(kwargs), with_kwargs=True)
    task.evaluate(batch_of(3, 5))
    model = task.player.raw
    expected = model.condition(model.encode(batch_of(3, 5).values), toys.FRAMES * toys.HOP)
    assert len(seen) == len(LEVELS) and all(torch.equal(each["input_concat_cond"], expected) for each in seen)


@pytest.fixture
def sounds(tmp_path):
    for at, tone in enumerate(batch_of_tones()):
        audio.write(tmp_path / f"in/{at}.wav", tone.numpy(), toys.RATE)
    return tmp_path / "in"


def batch_of_tones():
    """Four, of 0.5 s."""
    time = torch.arange(toys.FRAMES * toys.HOP) / toys.RATE
    return torch.stack([0.8 * torch.sin(2 * torch.pi * (20 + 10 * at) * time)[None] for at in range(4)])


def plan(sounds, **settings):
    model = {"kind": "DiffusionAutoencoder", **config.plain(built().config)}
    values = {"data": {"root": str(sounds)}, "model": model, "average": 0.9, "batch": 4, "workers": 0, "save_every": 2}
    optimizer = {"kind": "Adam", "lr": 0.003}
    return config.build(Recipe, {**values, "optimizer": optimizer, "schedule": {"kind": "Constant"}, **settings})


def test_a_tiny_one_learns_and_goes_on_where_it_stood(sounds, tmp_path):
    for folder, parts in (("once", (4,)), ("twice", (2, 4))):
        for steps in parts:
            train(plan(sounds, steps=steps), tmp_path / folder, "cpu", quiet=True)
    first, second = (tmp_path / folder / "bundle/model.safetensors" for folder in ("once", "twice"))
    assert first.read_bytes() == second.read_bytes()

    train(plan(sounds, steps=200, data={"root": str(sounds), "flip": False}), tmp_path / "long", "cpu", quiet=True)
    _, model = trained(tmp_path / "long")
    begun, errors = built(), []
    assert not torch.allclose(begun.encoder.layer.weight, model.encoder.layer.weight, atol=0.01)
    with torch.no_grad():
        for each in (begun.eval(), model):
            errors.append(float(task_of(each).evaluate(batch_of(0, 1, 2, 3))["loss"]))
    assert errors[1] < 0.9 * errors[0]
    assert error_by_code(model, 0) < 0.8 * error_by_code(model, 1)  # the network has learnt to see the code


@torch.no_grad()
def error_by_code(model, turns):
    """Of v at half of the way, where each item has the code of itself, or of the one so many places before."""
    audio, t = batch_of_tones(), torch.full((4,), 0.5)
    noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    estimate = model.v(noised(model.objective, audio, noise, t), t, model.encode(audio).roll(turns, 0))
    return float(mse(estimate, model.objective.target(audio, noise, t)))


def test_a_run_ends_in_a_bundle_that_reconstructs(sounds, tmp_path):
    train(plan(sounds, steps=3), tmp_path / "run", "cpu", quiet=True)
    assert torch.equal(load(tmp_path / "run").encoder.layer.weight, trained(tmp_path / "run")[1].encoder.layer.weight)
    assert "from the code of its own encoder" in (tmp_path / "run/bundle/README.md").read_text()
    line = ["reconstruct", str(sounds / "0.wav"), "-o", str(tmp_path / "out.wav"), "--model", str(tmp_path / "run")]
    assert main([*line, "--seed", "3", "--quiet"]) == 0
    assert audio.read(tmp_path / "out.wav").samples.shape == (1, toys.FRAMES * toys.HOP)
    for steps, name in (("1", "quick.wav"), ("1", "again.wav")):
        assert main([*line[:3], str(tmp_path / name), *line[4:], "--seed", "3", "--quiet", "--steps", steps]) == 0
    quick, again, whole = ((tmp_path / name).read_bytes() for name in ("quick.wav", "again.wav", "out.wav"))
    assert quick == again != whole
    assert main([*line[:3], str(tmp_path / "none.wav"), *line[4:], "--quiet", "--steps", "0"]) == 2


def test_two_processes_train_as_one(sounds, tmp_path, offered):
    plain = {"optimizer": {"kind": "SGD", "lr": 0.1}, "average": 0.0, "steps": 3}
    plain["data"] = {"root": str(sounds), "held_out": 0}
    (tmp_path / "toy.yaml").write_text(config.dump(plan(sounds, batch=2, **plain)))
    line = ["train", str(tmp_path / "toy.yaml"), "-o", str(tmp_path / "two"), "--device", "cpu"]
    code = f"import sys; sys.path.insert(0, {str(offered)!r}); from audio_gen.cli import main; sys.exit(main({line!r}))"
    result = warm.run("-c", code, processes=2)
    assert result.returncode == 0, result.stderr[-2000:]
    train(plan(sounds, batch=4, **plain), tmp_path / "one", "cpu", quiet=True)
    two, one = (trained(tmp_path / name)[1].state_dict() for name in ("two", "one"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


# --- what does not fit -------------------------------------------------------------------------------------------


def refused(**encoder):
    with pytest.raises(InputError) as caught:
        built(**encoder)
    return str(caught.value)


def parts(kind="frames", **settings):
    return {"encoder": PartConfig(type=kind, config={"channels": 1, "hop": toys.HOP, "width": toys.WIDTH, **settings})}


def test_an_encoder_that_does_not_fit_is_refused_in_a_line():
    assert refused(parts=parts(hop=5)) == "encoder toy: has a hop of 5, and the model needs 10"
    assert refused(parts=parts(width=5)) == "encoder toy: has a width of 5, and the model needs 4"
    assert refused(parts=parts(channels=2)) == "encoder toy: has a channels of 2, and the model needs 1"
    assert refused(parts=parts("fourier")) == "encoder toy: encoder.type: 'fourier' is not one of frames"
    text = "encoder toy: weights: mmd is no loss of its bottlenecks; there are kl"
    assert refused(weights={"mmd": 1.0}) == text


def test_an_encoder_whose_package_is_missing_names_it(monkeypatch):
    monkeypatch.setattr(codecs, "entry_points", lambda **_: ())
    text = "encoder 'codec-vae' is not installed (none is installed); try: pip install audio-codec-vae"
    assert refused(name="codec-vae") == text


def test_padding_cannot_be_masked(sounds):
    with pytest.raises(InputError, match="mask_padding: autoencoders learn all frames; leave it out"):
        plan(sounds, mask_padding=True)


def test_there_is_a_codec_or_an_encoder():
    with pytest.raises(ValueError, match=r"weights.kl must be at least 0, got -1"):
        replace(ENCODER, weights={"kl": -1})
    with pytest.raises(ValueError, match="neither codec nor scale"):
        toys.autoencoder_config(encoder=ENCODER, codec=CodecSource(name="toy"))
    with pytest.raises(ValueError, match="neither codec nor scale"):
        toys.autoencoder_config(encoder=ENCODER, scale=2.0)
