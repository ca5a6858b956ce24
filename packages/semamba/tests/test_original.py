"""Checkpoints and recipes of the original program, in all the forms in which they are around."""

import re

import pytest
import torch
from audio_core import config
from audio_core.files import InputError
from audio_core.testing import MANGLED, refused, refuses_mangled
from audio_semamba import cli, original
from audio_semamba.config import DiscriminatorConfig, SEMambaConfig
from audio_semamba.discriminator import MetricDiscriminator
from audio_semamba.model import SEMamba, load
from audio_semamba.original_recipe import read_recipe
from audio_semamba.recipe import Recipe

RECIPE = """
env_setting: {num_gpus: 2, num_workers: 20, seed: 1234, stdout_interval: 10, checkpoint_interval: 500,
  validation_interval: 1000, summary_interval: 100,
  dist_cfg: {dist_backend: nccl, dist_url: tcp://localhost:19477, world_size: 1}}
data_cfg: {train_clean_json: data/train_clean.json, train_noisy_json: data/train_noisy.json,
  valid_clean_json: data/valid_clean.json, valid_noisy_json: data/valid_noisy.json,
  test_clean_json: data/test_clean.json, test_noisy_json: data/test_noisy.json}
training_cfg: {training_epochs: 200, batch_size: 4, learning_rate: 5e-4, adam_b1: 0.8, adam_b2: 0.99, lr_decay: 0.99,
  segment_size: 32000, use_PCS400: true,
  loss: {metric: 0.05, magnitude: 0.9, phase: 0.3, complex: 0.1, time: 0.2, consistancy: 0.07}}
stft_cfg: {sampling_rate: 16000, n_fft: 400, hop_size: 80, win_size: 320}
model_cfg: {hid_feature: 16, compress_factor: 0.3, num_tfmamba: 2, d_state: 16, d_conv: 4, expand: 4,
  norm_epsilon: 0.00001, beta: 1.5, input_channel: 2, output_channel: 1}
"""


@pytest.fixture
def generator(stored_case):
    """The weights of a small generator, under the original's names."""
    return stored_case("generator_small").state()


@pytest.fixture
def critic(stored_case):
    return stored_case("metric_discriminator").state()


def same(model, state, pairs):
    tensors = dict(original.renamed(state, pairs))
    return all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_generators_are_read(checkpoint, generator, prefix, wrapped):
    state = {prefix + name: tensor for name, tensor in generator.items()}
    model = original.convert(checkpoint("g_00001000.pth", {"generator": state} if wrapped else state))
    assert isinstance(model, SEMamba)
    assert model.config == SEMambaConfig(channels=16, blocks=2)
    assert not model.training
    assert same(model, generator, original.names(2))
    title, text = original.summary(model)
    assert "generator of 16 channels, 2 TF-Mamba blocks" in text
    assert "16000 Hz" in text
    assert title == "SEMamba"


@pytest.mark.parametrize("name", ["do_00001000.pth", "pretrained_discriminator.pth"])
def test_discriminators_are_read(checkpoint, critic, name):
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).state_dict()
    states = {"discriminator": critic, "optim_g": optimizer, "optim_d": optimizer, "steps": 1000, "epoch": 3}
    path = checkpoint(name, states if name.startswith("do") else critic)
    model = original.convert(path)
    assert isinstance(model, MetricDiscriminator)
    assert same(model, critic, original.discriminator_names())
    assert original.summary(model)[0] == "SEMamba's metric discriminator"
    assert original.discriminator_weights(path, model.config).keys() == model.state_dict().keys()
    with pytest.raises(InputError, match=r"has discriminator.width=16, and 4 is asked for"):
        original.discriminator_weights(path, DiscriminatorConfig(4))


def test_all_names_have_a_place(generator, critic, stored_case):
    """Nothing of the original is left out, nothing of ours is left open."""
    for state, pairs, model in (
        (generator, original.names(2), SEMamba(SEMambaConfig(channels=16, blocks=2))),
        (critic, original.discriminator_names(), original.MetricDiscriminator(original.DiscriminatorConfig())),
    ):
        assert sorted(name for names in pairs.values() for name in names) == sorted(state)
        assert sorted(pairs) == sorted(model.state_dict())


def test_the_recipe_beside_a_checkpoint_tells_what_shapes_do_not(checkpoint, generator, tmp_path, capsys):
    path = checkpoint("g_00001000.pth", {"generator": generator})
    (tmp_path / "config.yaml").write_text(RECIPE)
    model = original.convert(path)
    assert model.config == SEMambaConfig(channels=16, blocks=2, hop=80, window=320, beta=1.5)
    assert "config.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").rename(tmp_path / "other.yaml")
    assert original.convert(path).config.hop == 100
    assert original.convert(path, [f"config={tmp_path / 'other.yaml'}", "model.beta=1"]).config.beta == 1
    (tmp_path / "other.yaml").write_text(RECIPE.replace("num_tfmamba: 2", "num_tfmamba: null"))
    with pytest.raises(InputError, match=r"is not the recipe of .*g_00001000.pth: it has blocks 4 for 2"):
        original.convert(path, [f"config={tmp_path / 'other.yaml'}"])


def test_recipes_are_read_with_either_spelling(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("num_tfmamba: 2", "num_tfmamba: null"))
    recipe = read_recipe(path)
    assert recipe.model == SEMambaConfig(channels=16, blocks=4, hop=80, window=320, beta=1.5)
    training = recipe.training
    assert training["weights"]["consistency"] == 0.07
    assert training["data"]["pcs"] == "peak"
    assert training["data"]["train"] == "data/train_clean.json"
    assert training["data"]["seconds"] == 2
    assert training["optimizer"] == {"lr": 5e-4, "betas": [0.8, 0.99]}
    path.write_text(RECIPE.replace("consistancy", "consistency"))
    assert read_recipe(path).training["weights"]["consistency"] == 0.07
    assert read_recipe(path).training["discriminator"]["pretrained"] == ""
    path.write_text(RECIPE.replace("use_PCS400: true", "use_pretrainedD: true"))
    assert read_recipe(path).training["discriminator"]["pretrained"] == "pretrained_discriminator.pth"
    with pytest.raises(InputError, match=r"recipe\.yaml: is a recipe without weights"):
        original.convert(path)
    path.write_text(RECIPE.replace("d_state", "dstate"))
    with pytest.raises(InputError, match=r"unknown key model_cfg\.dstate; did you mean model_cfg\.d_state"):
        read_recipe(path)


def test_what_cannot_be_read_is_one_clear_line(checkpoint, generator, critic, tmp_path):
    first = "dense_encoder.dense_conv_1.0.weight"

    def check(data, message, settings=()):
        assert re.search(message, refused(original.convert, checkpoint("file.pth", data), settings))

    check({"generator": {**generator, "more": torch.zeros(1)}}, r"1 tensors are unknown \(more\)")
    less = {name: tensor for name, tensor in generator.items() if "tlinear" not in name}
    check(less, "4 tensors are missing")
    check({**generator, first: generator[first][:, :1]}, "1 input channels")
    check({**generator, first: generator[first] * torch.inf}, "not finite")
    bias = "dense_encoder.dense_conv_1.0.bias"
    check({**generator, bias: generator[bias][:3]}, rf"{bias}, which is encoder.first.conv.bias here, has the shape")
    check({"conv.weight": torch.zeros(3)}, "neither a generator nor a discriminator")
    check(generator, "blocks follows from its weights", ["blocks=3"])
    check(generator, "dense follows from its weights", ["dense=3"])
    check(generator, "causal follows from its weights", ["model.causal=true"])
    check(generator, "unknown key rat", ["rat=3"])
    check(critic, "discriminator, which has no settings", ["rate=3"])
    path = checkpoint("g_00000007.pth", {"generator": generator})
    with pytest.raises(InputError, match=r"is a folder, .* newest generator is .*g_00000007\.pth"):
        original.convert(tmp_path)
    with pytest.raises(InputError, match="holds a generator, where a discriminator is expected"):
        original.discriminator_weights(path, DiscriminatorConfig())
    with pytest.raises(InputError, match=r"discriminator.pretrained=none.pth: there is no such file"):
        original.discriminator_weights("none.pth", DiscriminatorConfig())


@pytest.mark.parametrize("kind", MANGLED)
def test_mangled_tensors_are_one_line(checkpoint, generator, critic, kind):
    """Each has a layout of its own, which must not be taken for granted; one tensor of each kind is tried."""
    for state in (generator, critic):
        names = {(name[-8:], tensor.ndim): name for name, tensor in state.items()}
        refuses_mangled(state, names.values(), kind, lambda tensors: original.convert(checkpoint("file.pth", tensors)))


def test_the_command_converts_checkpoints_and_recipes(checkpoint, generator, tmp_path, capsys):
    path = checkpoint("g_00001000.pth", {"generator": generator})
    assert cli.main(["convert", str(path), "-o", str(tmp_path / "bundle")]) == 0
    assert load(tmp_path / "bundle").config == SEMambaConfig(channels=16, blocks=2)
    theirs, ours = tmp_path / "theirs.yaml", tmp_path / "ours.yaml"
    theirs.write_text(RECIPE)
    assert cli.main(["convert", str(theirs), "-o", str(ours), "batch=2"]) == 0
    recipe = config.load(Recipe, ours)
    assert recipe.model.hop == 80
    assert recipe.weights.consistency == 0.07
    assert recipe.batch == 2
    assert "audio-semamba train" in capsys.readouterr().err
    assert cli.main(["convert", str(theirs), "-o", str(theirs), "--force"]) == 2
