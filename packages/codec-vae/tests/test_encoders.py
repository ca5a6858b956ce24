"""Encoders that learn as a part of another package's model: built from plain data, drawn item by item, converted."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from audio_codec_vae import encoders
from audio_codec_vae.models.dac import DACEncoder
from audio_codec_vae.models.weight_norm import NEW, OLD
from audio_core.files import InputError
from audio_core.testing import close, noise

OOBLECK = {"in_channels": 2, "channels": 4, "c_mults": [1, 2], "strides": [2, 4], "latent_dim": 6, "use_snake": True}
DAC = {"in_channels": 2, "d_model": 4, "strides": [2, 4], "latent_dim": 4}
SEANET = {"channels": 2, "dimension": 4, "n_filters": 4, "ratios": [2, 4], "lstm": 1}
TAAE = {"in_channels": 2, "channels": 8, "c_mults": [1, 1], "strides": [2, 4], "latent_dim": 4}
TAAE |= {"transformer_depths": [1, 1], "sliding_window": [3, 2]}
NETWORKS = {"oobleck": OOBLECK, "dac": DAC, "seanet": SEANET, "taae": TAAE}
RVQ = {"dim": 4, "codebook_size": 8, "num_quantizers": 3}
DAC_RVQ = {"input_dim": 4, "n_codebooks": 3, "codebook_dim": 4, "codebook_size": 8}
NECKS = {
    "vae": {},
    "tanh": {},
    "l2_norm": {},
    "wasserstein": {},
    "softnorm": {"dim": 4},
    "rvq": RVQ,
    "rvq_vae": RVQ,
    "dac_rvq": DAC_RVQ,
    "dac_rvq_vae": DAC_RVQ,
    "fsq": {"levels": [5, 4], "num_codebooks": 2},
    "dithered_fsq": {"dim": 2, "levels": 5, "num_codebooks": 2},
}
HALVED = ("vae", "rvq_vae", "dac_rvq_vae")  # of mean and deviation the code has one


def parts(network, neck=None):
    """With four channels before the bottleneck, or twice as many where it halves them."""
    config = dict(NETWORKS[network])
    width = {"oobleck": "latent_dim", "dac": "latent_dim", "seanet": "dimension", "taae": "latent_dim"}[network]
    config[width] = 8 if neck in HALVED else 4
    data = {"encoder": {"type": network, "config": config}}
    return data | ({"bottleneck": {"type": neck, "config": NECKS[neck]}} if neck else {})


def built(network="oobleck", neck=None, seed=1):
    torch.manual_seed(seed)
    return encoders.build(parts(network, neck))


def audio(items=2, samples=64):
    return torch.stack([noise(at, samples / 800, 800, 2) for at in range(items)])


def refused(data):
    with pytest.raises(InputError) as caught:
        encoders.build(data)
    return str(caught.value)


def test_the_package_offers_them_by_name():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    value = re.search(r'"audio_core\.encoders"\]\ncodec-vae = "(.*)"', text)[1]
    assert EntryPoint("codec-vae", value, "audio_core.encoders").load() is encoders.build


@pytest.mark.parametrize("network", NETWORKS)
def test_each_network_has_the_sizes_it_says(network):
    model = built(network, "vae")
    code, losses = model(audio(samples=61))
    assert (model.channels, model.hop, model.width) == (2, 8, 4) and code.shape == (2, 4, 8)
    assert [*losses] == ["kl"] and model.weights["kl"] == 1e-6


@pytest.mark.parametrize("neck", NECKS)
def test_each_bottleneck_learns_and_its_losses_have_weights(neck):
    model = built("oobleck", neck).train()
    code, losses = model(audio(4), range(4))
    assert code.shape == (4, model.width, 8) and {*losses} <= {*model.weights}
    ((code - 1).square().mean() + sum(losses.values())).backward()
    still = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert not still and model.encoder.layers[0].parametrizations.weight.original1.grad.abs().max() > 0
    first, second = (model.eval()(audio(4))[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("neck", ["vae", "dithered_fsq"])
def test_a_draw_follows_from_the_seed_of_its_item(neck):
    model = built("oobleck", neck).train()
    together = model(audio(3), [5, 6, 7])[0]
    close(model(audio(3)[1:2], [6])[0], together[1:2], 1e-5)
    assert not torch.allclose(model(audio(3)[1:2], [8])[0], together[1:2], atol=1e-3)
    mean = model.eval()(audio(3))[0]
    assert not torch.allclose(mean, together, atol=1e-3)
    if neck == "vae":  # in eval mode only what is seeded is drawn
        close(model(audio(3), [5, 6, 7])[0], together, 1e-5)


def test_how_many_codebooks_an_item_has_follows_from_its_seed():
    data = parts("oobleck", "dac_rvq")
    data["bottleneck"] = {"type": "dac_rvq", "config": {**DAC_RVQ, "quantizer_dropout": 0.5}}
    torch.manual_seed(1)
    model, seeds = encoders.build(data).train(), range(20, 32)
    together = model(audio(12), seeds)[0]
    for at, seed in enumerate(seeds):
        close(model(audio(12)[at : at + 1], [seed])[0], together[at : at + 1], 1e-5)
    whole = model.eval()(audio(12))[0]
    fewer = [not torch.allclose(one, other, atol=1e-4) for one, other in zip(whole, together, strict=True)]
    assert 2 <= sum(fewer) <= 10


def test_the_encoder_begins_with_half_of_its_weights():
    """As in the original, whose bottlenecks are then not saturated. The bottleneck's own stay as they are."""
    model = built("dac", "softnorm")
    torch.manual_seed(1)
    usual = DACEncoder(model.config.encoder)
    for name, each in usual.named_parameters():
        assert torch.equal(model.encoder.get_parameter(name), each / 2), name
    assert torch.equal(model.bottleneck.scaling_factor, torch.ones(1, 4, 1))


def test_the_weight_of_a_quantizer_may_be_stated():
    data = parts("seanet", "rvq")
    data["bottleneck"] = {"type": "rvq", "config": {**RVQ, "commitment_weight": 0.3}}
    assert encoders.build(data).weights["quantizer"] == 0.3 and built("seanet", "rvq").weights["quantizer"] == 1
    data["bottleneck"]["config"]["commitment_weight"] = -1
    assert refused(data) == "bottleneck.config.commitment_weight: is at least 0, got -1"


# --- checkpoints -------------------------------------------------------------------------------------------------


def as_published(model):
    """By stable-audio-tools' names, with the older layout of weight norm."""
    state = {}
    for name, value in model.state_dict().items():
        state[name.replace(NEW[0], OLD[0]).replace(NEW[1], OLD[1])] = value.clone()
    return state


def test_a_checkpoint_gives_every_weight(tmp_path):
    model, other = built("oobleck", "vae"), built("oobleck", "vae", seed=2)
    other.load_original(as_published(model), tmp_path / "a.ckpt")
    close(other.eval()(audio())[0], model.eval()(audio())[0], 1e-6)


@pytest.mark.parametrize(("name", "case"), [("oobleck", "oobleck_vae"), ("dac", "dac_vae"), ("seanet", "seanet_rvq")])
@torch.no_grad()
def test_checkpoints_give_the_original_s_numbers(stored_case, tmp_path, name, case):
    case = stored_case(case)
    stated = case.config["model"]
    model = encoders.build({key: stated[key] for key in ("encoder", "bottleneck")}).eval()
    state = {key: each for key, each in case.state().items() if not key.startswith("decoder.")}
    model.load_original(state, tmp_path / "a.ckpt")
    close(model.encoder(case.inputs["x0"]), case.outputs["x0.pre_bottleneck"], case.tolerance("x0.pre_bottleneck"))
    assert name == stated["encoder"]["type"]


def test_what_is_missing_or_too_much_is_named_as_the_file_does(tmp_path):
    model = built("oobleck", "vae")
    state, file = as_published(model), tmp_path / "a.ckpt"
    name = next(each for each in state if each.endswith(OLD[1]))
    layer = name.removesuffix(OLD[1])
    for changed, text in (
        ({key: each for key, each in state.items() if not key.startswith(layer)}, f"are missing ({layer}"),
        ({**state, "encoder.more": torch.zeros(1)}, "1 tensors are unknown (encoder.more)"),
        ({**state, name: torch.zeros(1, 1, 1)}, "has the shape (1, 1, 1)"),
    ):
        with pytest.raises(InputError) as caught:
            model.load_original(changed, file)
        assert text in str(caught.value) and str(caught.value).startswith(f"{file}: ")


# --- what is refused ---------------------------------------------------------------------------------------------


def test_what_cannot_be_built_is_one_line():
    data = parts("oobleck", "vae")
    assert "did you mean oobleck?" in refused({**data, "encoder": {"type": "ooblek"}})
    assert "encoder is missing" in refused({"bottleneck": data["bottleneck"]})
    assert refused({**data, "decoder": {}}).startswith("unknown key decoder")
    assert "requires_grad" in refused({**data, "encoder": {**data["encoder"], "requires_grad": False}})
    assert "RVQ takes 4 channels" in refused({**data, "bottleneck": {"type": "rvq", "config": RVQ}})
    noisy = {"type": "wasserstein", "config": {"noise_augment_dim": 2}}
    assert "noise_augment_dim" in refused({**data, "bottleneck": noisy})
