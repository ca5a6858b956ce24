"""Diffusion autoencoders of stable-audio-tools, for use and wrapped by a training, with an encoder found by name."""

import copy
import json

import pytest
import torch
from audio_core import config
from audio_core.files import InputError
from audio_core.testing import close
from audio_gen import load, model_config, original
from audio_gen.cli import main
from audio_gen.models.diffusion_autoencoder import DiffusionAutoencoder
from audio_gen.recipe import Recipe

from . import toys
from .original_toys import ADP, DAU, DIT

TOY = ["encoder.name=toy"]
NETWORKS = {  # each takes a code of four channels beside audio
    "DAU1d": {**DAU, "io_channels": 1, "cond_dim": 4},
    "adp_1d": {**ADP, "in_channels": 1, "context_channels": [4]},
    "dit": {**DIT, "io_channels": 1, "input_concat_dim": 4},
}


def stated(kind="DAU1d"):
    model = {
        "encoder": {"type": "frames", "config": {"channels": 1, "hop": 10, "width": 4}},
        "bottleneck": {"type": "vae"},
        "diffusion": {"type": kind, "config": NETWORKS[kind]},
        **{"latent_dim": 4, "downsampling_ratio": 10, "io_channels": 1},
    }
    training = {"learning_rate": 1e-4, "use_reconstruction_loss": False, "demo": {"demo_every": 2000}}
    whole = {"sample_size": 80, "sample_rate": 800, "audio_channels": 1}
    return {"model_type": "diffusion_autoencoder", **whole, "model": model, "training": training}


def changed(data, **settings):
    """With settings at places such as model__encoder; None takes one away."""
    data = copy.deepcopy(data)
    for place, value in settings.items():
        *parents, last = place.split("__")
        inner = data
        for key in parents:
            inner = inner[key]
        inner[last] = value
        if value is None:
            del inner[last]
    return data


@pytest.fixture(autouse=True)
def offered(tmp_path_factory, monkeypatch):
    toys.offer_encoders(tmp_path_factory.mktemp("installed"), monkeypatch)


def random(kind="DAU1d"):
    torch.manual_seed(3)
    model = DiffusionAutoencoder(model_config.understood(stated(kind)).settled(TOY))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


def in_their_names(model):
    """As stable-audio-tools writes it for use, with what it stores besides weights."""
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace(".ff.up.", ".ff.ff.0.proj.").replace(".ff.down.", ".ff.ff.2.")
        name = name.replace("encoder.layer.", "encoder.").replace("backbone.", "diffusion.model.")
        state[name] = value.clone()
    return state | {
        "DanceDiffusionUNetConfig": {"diffusion.model.net.3.main.0.kernel": torch.ones(8)},
        "ADPConfig": {"diffusion.model.stft.window": torch.ones(8)},
        "DiTConfig": {"diffusion.model.transformer.rotary_pos_emb.inv_freq": torch.ones(16)},
    }.get(type(model.config.backbone).__name__, {})


def wrapped(state, averaged=True):
    """As a training writes it: the last weights are others than the averaged ones, which are those of `state`."""
    last = {f"diffae.{name}": value + 1 for name, value in state.items()}
    if not averaged:
        return last
    average = {f"diffae_ema.ema_model.{name}": value for name, value in state.items()}
    other = {"diffae_ema.initted": torch.tensor(True), "diffae_ema.step": torch.tensor(7)}
    return {**last, **average, **other, "losses.losses.0.weight": torch.tensor(1.0)}


def save(folder, state, data=None):
    if data is not None:
        (folder / "model_config.json").write_text(json.dumps(data))
    torch.save({"state_dict": state}, folder / "model.ckpt")
    return folder / "model.ckpt"


def equal(model, other):
    """They make the same code of audio, see the same of it, and estimate the same."""
    torch.manual_seed(4)
    audio, x, t = torch.randn(2, 1, 80), torch.randn(2, 1, 80), torch.tensor([0.2, 0.7])
    with torch.no_grad():
        codes = model.encode(audio), other.encode(audio)
        close(*codes)
        close(model.condition(codes[0], 80), other.condition(codes[1], 80))
        close(model(x, t, audio).v, other(x, t, audio).v)


# --- round trips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORKS)
def test_models_with_every_network_come_back(tmp_path, kind):
    model = random(kind)
    converted = original.convert(save(tmp_path, in_their_names(model), stated(kind)), TOY)
    assert not converted.training and converted.config == model.config
    equal(converted, model)


@pytest.mark.parametrize("kind", NETWORKS)
def test_of_a_training_the_averaged_weights_are_taken(tmp_path, kind, capsys):
    model = random(kind)
    path = save(tmp_path, wrapped(in_their_names(model)), stated(kind))
    equal(original.convert(path, TOY), model)
    assert "the averaged weights (EMA) of a training are taken" in capsys.readouterr().err
    last = original.convert(path, [*TOY, "ema=false"])
    close(last.encoder.layer.weight, model.encoder.layer.weight + 1)
    path = save(tmp_path, wrapped(in_their_names(model), averaged=False))
    close(original.convert(path, TOY).encoder.layer.weight, last.encoder.layer.weight)


def test_the_command_makes_a_bundle(tmp_path, capsys):
    model = random()
    path = save(tmp_path, in_their_names(model), stated())
    assert main(["convert", str(tmp_path / "model_config.json"), str(path), "-o", str(tmp_path / "b"), *TOY]) == 0
    assert "from the code of its own encoder" in capsys.readouterr().err
    equal(load(tmp_path / "b"), model)


def test_a_configuration_alone_becomes_a_recipe(tmp_path):
    (tmp_path / "model_config.json").write_text(json.dumps(stated()))
    text = model_config.migrated(tmp_path / "model_config.json", ["data.root=sounds"])
    recipe = config.build(Recipe, config.parse(text, "recipe"))
    assert recipe.model == model_config.understood(stated()).settled() and recipe.model.encoder.name == "codec-vae"
    assert recipe.average == 0.9999 and recipe.optimizer.lr == 1e-4


# --- what does not fit -------------------------------------------------------------------------------------------


def refused(path, text, *settings):
    with pytest.raises(InputError) as caught:
        original.convert(path, settings or TOY)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_each_weight_is_needed_and_no_other(tmp_path):
    state = in_their_names(random())
    lacking = {name: each for name, each in state.items() if name != "encoder.weight"}
    refused(save(tmp_path, lacking, stated()), "does not fit its configuration: encoder.weight is missing")
    name = "diffusion.model.timestep_embed.weight"
    lacking = {key: each for key, each in state.items() if key != name}
    refused(
        save(tmp_path, lacking), f"1 missing ({name}); by its names it is a diffusion autoencoder with the U-Net of"
    )
    more = {**state, "decoder.weight": torch.ones(2)}
    refused(save(tmp_path, more), "does not fit its configuration: 1 unexpected (decoder.weight)")
    path = save(tmp_path, state)
    refused(path, "unexpected (encoder.bias, encoder.weight)", "encoder=null", "codec.name=none", "codec=null")


def test_what_a_configuration_may_not_say_is_refused():
    data = stated()

    def text(**settings):
        with pytest.raises(InputError) as caught:
            model_config.understood(changed(data, **settings)).settled(TOY)
        return str(caught.value)

    assert text(model__encoder=None).startswith("model.encoder: is missing")
    assert text(model__encodr={}) == "model: unknown key encodr; did you mean encoder?"
    assert text(model__decoder={"type": "oobleck"}).startswith("model.decoder: is not read here")
    assert text(audio_channels=2) == "model.io_channels: is 1, for audio with 2 channels"
    assert "model.bottleneck.requires_grad: is off" in text(model__bottleneck__requires_grad=False)
    assert "'DAU' is not one of DAU1d, adp_1d, dit; did you mean DAU1d?" in text(model__diffusion__type="DAU")
    assert "the code has 5" in text(model__latent_dim=5)


def test_an_encoder_of_other_sizes_than_stated_is_refused(tmp_path):
    path = save(tmp_path, in_their_names(random()), changed(stated(), model__downsampling_ratio=20))
    refused(path, "encoder toy: has a hop of 10, and the model needs 20")
    path = save(tmp_path, in_their_names(random()), changed(stated(), model__encoder__type="frame"))
    refused(path, "encoder toy: encoder.type: 'frame' is not one of frames")
