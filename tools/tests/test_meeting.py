"""Where packages meet: what one offers by a name in its pyproject.toml serves the model of another."""

import json
from importlib.metadata import EntryPoint

import pytest
import torch
from accelerate import Accelerator
from audio_core import codec, config
from audio_core.testing import Case, close, noise
from audio_gen import PACKAGE, load, model_config, original
from audio_gen.data import Batch
from audio_gen.models.diffusion_autoencoder import DiffusionAutoencoder
from audio_gen.recipe import Recipe
from audio_gen.task import learning
from workspace import ROOT, packages, read_toml

CASES = {
    "oobleck": ("codec-vae", "oobleck_vae"),
    "dac": ("codec-vae", "dac_vae"),
    "seanet": ("codec-vae", "seanet_rvq"),
    "taae": ("codec-vae", "taae"),
    "net": ("gen", "dance_diffusion_unet"),
}


@pytest.fixture(autouse=True)
def _offered(monkeypatch):
    """All that the packages of the workspace offer, as after their installation."""
    entries = [
        EntryPoint(name, value, group)
        for package in packages(ROOT)
        for group, table in read_toml(package.folder / "pyproject.toml")["project"].get("entry-points", {}).items()
        for name, value in table.items()
    ]

    def entry_points(**wanted):
        return [each for each in entries if all(getattr(each, key) == value for key, value in wanted.items())]

    monkeypatch.setattr(codec, "entry_points", entry_points)


def case(name):
    package, file = CASES[name]
    return Case.load(ROOT / "packages" / package / "tests/fixtures" / file)


def stated(name):
    """A model_config.json with the encoder of a stored case, and the stored U-Net, as wide as the code.

    Only Oobleck's code has the 6 channels that the stored weights of the U-Net are for.
    """
    stored = case(name).config
    model = {key: each for key, each in stored["model"].items() if key != "decoder"}
    net = {**case("net").config["cond"], "io_channels": model["io_channels"], "cond_dim": model["latent_dim"]}
    return {
        "model_type": "diffusion_autoencoder",
        "sample_rate": stored["sample_rate"],
        "sample_size": 8 * model["downsampling_ratio"],
        "model": {**model, "diffusion": {"type": "DAU1d", "config": net}},
        "training": {"learning_rate": 1e-4},
    }


def checkpoint(name):
    """Of a training: the encoder's stored weights, and those of the network."""
    state = {key: each for key, each in case(name).state().items() if not key.startswith("decoder.")}
    if name == "oobleck":
        net = {key.removeprefix("cond."): each for key, each in case("net").state().items() if key.startswith("cond.")}
    else:
        net = DiffusionAutoencoder(model_config.understood(stated(name)).settled()).backbone.state_dict()
    state |= {f"diffusion.model.{key}": each for key, each in net.items()}
    averaged = {f"diffae_ema.ema_model.{key}": each for key, each in state.items()}
    return {f"diffae.{key}": torch.zeros_like(each) for key, each in state.items()} | averaged


@pytest.mark.parametrize("name", ["oobleck", "dac", "seanet", "taae"])
@torch.no_grad()
def test_a_diffusion_autoencoder_is_converted_with_the_encoder_of_another_package(tmp_path, name):
    """Encoder, code and network give the original's numbers, before and after they are a bundle."""
    (tmp_path / "model_config.json").write_text(json.dumps(stated(name)))
    torch.save({"state_dict": checkpoint(name)}, tmp_path / "training.ckpt")
    PACKAGE.save(original.convert(tmp_path / "training.ckpt"), tmp_path / "bundle", "")
    model, stored = load(tmp_path / "bundle"), case(name)
    before = "x0.pre_bottleneck" + ("_windowed" if name == "taae" else "")
    expected = stored.outputs[before]
    close(model.encoder.encoder(stored.inputs["x0"]), expected, stored.tolerance(before))
    code = model.encode(stored.inputs["x0"])
    if name in ("oobleck", "dac"):  # the means of a Gaussian
        close(code, expected.chunk(2, 1)[0], stored.tolerance(before))
    if name == "oobleck":
        net = case("net")
        estimate = model.backbone(net.inputs["x"], net.inputs["t"], input_concat_cond=net.inputs["cond"])
        close(estimate, net.outputs["cond"])


@pytest.mark.parametrize("name", ["oobleck", "seanet"])
def test_the_encoder_of_another_package_learns_with_the_network(name):
    model_settings = model_config.understood(stated(name)).model
    recipe = config.build(Recipe, {"model": model_settings, "average": 0.0, "optimizer": {"kind": "Adam", "lr": 1e-3}})
    torch.manual_seed(0)
    model = DiffusionAutoencoder(recipe.model)
    task = learning(recipe, model, encodes=True)
    task.player.join(Accelerator(cpu=True))
    length, channels = recipe.model.samples, recipe.model.channels
    audio = torch.stack([noise(at, length / recipe.model.rate, recipe.model.rate, channels) for at in range(2)])
    batch = Batch(torch.arange(2), audio, torch.ones(2, length, dtype=torch.bool), [{}, {}])
    begun = {key: each.detach().clone() for key, each in model.named_parameters() if key.startswith("encoder.")}
    metrics = task.step(batch, 0)
    assert {"loss", "mse", "kl" if name == "oobleck" else "quantizer"} <= {*metrics}
    assert all(each.isfinite() for each in metrics.values())
    still = [key for key, each in model.named_parameters() if key in begun and torch.equal(each, begun[key])]
    assert not still
