"""Checkpoints of the original programs, in all the forms in which they are around."""

import copy
import json
from pathlib import Path

import pytest
import torch
from audio_codec_vae import model_config, original
from audio_codec_vae.config import LyraDecoderConfig, LyraEncoderConfig
from audio_codec_vae.models.autoencoder import Autoencoder
from audio_codec_vae.models.weight_norm import NEW, OLD
from audio_codec_vae.original.names import our_name
from audio_core.files import InputError
from audio_core.testing import MANGLED, close, refuses_mangled
from audio_core.weights import no_values
from safetensors.torch import save_file

STABLE_AUDIO = ("oobleck_vae", "oobleck_nearest_antialias", "oobleck_odd_stride", "dac_vae", "seanet_rvq", "taae")
LYRA = ("lyra_vae", "lyra_vae_odd_strides", "lyra_vae_2026")
LAYOUTS = ("old", "new", "folded")


def config_of(case):
    return copy.deepcopy({"model_type": "autoencoder", **{key: case.config[key] for key in ("sample_rate", "model")}})


def in_layout(state, layout):
    """The same weights with weight norm stored in another way."""
    changed = dict(state)
    for name in [name for name in state if name.endswith("." + OLD[0])] if layout != "old" else []:
        layer = name.removesuffix(OLD[0])
        gain, direction = changed.pop(layer + OLD[0]), changed.pop(layer + OLD[1])
        if layout == "new":
            changed |= {layer + NEW[0]: gain, layer + NEW[1]: direction}
        else:
            norm = direction.flatten(1).norm(dim=1).reshape(gain.shape)
            changed[layer + "weight"] = gain * direction / norm
    return changed


def plain(name):
    """With the older names of a weight norm."""
    return name.replace(NEW[0], OLD[0]).replace(NEW[1], OLD[1])


@pytest.fixture
def save(tmp_path):
    """Writes a checkpoint, and a configuration beside it."""

    def write(data, settings=None, name="model.ckpt"):
        if settings is not None:
            (tmp_path / "model_config.json").write_text(json.dumps(settings))
        if name.endswith(".safetensors"):
            save_file({key: value.contiguous() for key, value in data.items()}, tmp_path / name)
        else:
            torch.save(data, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def oobleck(stored_case):
    """A small one."""
    return stored_case("preprocess")


def same(model, other):
    states = model.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


# --- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", STABLE_AUDIO)
def test_checkpoints_of_stable_audio_tools_give_its_numbers(stored_case, save, name, layout):
    case = stored_case(name)
    model = original.convert(save({"state_dict": in_layout(case.state(), layout)}, config_of(case)))
    assert not model.training
    with torch.no_grad():
        encoded = model.encoder(case.inputs["x0"])
        decoded = model.decoder(case.inputs["z0"])
    windowed = "_windowed" if name == "taae" else ""
    for actual, output in ((encoded, f"x0.pre_bottleneck{windowed}"), (decoded, f"z0.decoded{windowed}")):
        close(actual, case.outputs[output], case.tolerance(output))
    if name == "seanet_rvq":
        codes = model.bottleneck.encode(case.inputs["q0"]).codes
        assert torch.equal(codes, case.outputs["q0.indices"].transpose(1, 2))


@pytest.mark.parametrize("name", LYRA)
def test_both_revisions_of_lyracodec_give_its_numbers(stored_case, save, name, capsys):
    case = stored_case(name)
    settings = {"model": case.config["model"], "data": {"target_sr": 48000}}
    state = {"model_state_dict": case.state(), "epoch": 2, "optimizer_state_dict": {}, "val_loss": 0.5}
    model = original.convert(save({**state, "config": settings}, name="best_model.pt"))
    assert capsys.readouterr().err == "" and model.config.rate == 48000
    mean, log_variance = model.encoder(case.inputs["x0"]).chunk(2, 1)
    close(mean, case.outputs["x0.mu"], case.tolerance("x0.mu"))
    close(log_variance.clamp(-10, 10), case.outputs["x0.logvar"], case.tolerance("x0.logvar"))
    audio = model.decode(case.inputs["z1"] if "z1" in case.inputs else case.inputs["z0"], case.inputs["x1"].shape[-1])
    close(audio, case.outputs["x1.recon"], case.tolerance("x1.recon"))


def test_the_codec_of_descript_gives_its_numbers(stored_case, save):
    case = stored_case("dac_codec")
    arguments = {key: value for key, value in case.config.items() if key != "float32_noise"}
    data = {"state_dict": case.state(), "metadata": {"kwargs": arguments, "logs": {}}}
    model = original.convert(save(data, name="weights.pth"))
    audio = torch.nn.functional.pad(case.inputs["x"], (0, -case.inputs["x"].shape[-1] % model.hop))
    close(model.encoder(audio), case.outputs["encoder"], case.tolerance("encoder"))
    encoded = model.bottleneck.encode(case.inputs["z"])
    assert torch.equal(encoded.codes, case.outputs["z.codes"])
    close(encoded.latents, case.outputs["z.quantized"], case.tolerance("z.quantized"))
    close(model.decode(encoded.latents), case.outputs["z.decoded"], case.tolerance("z.decoded"))


# --- forms of files ----------------------------------------------------------------------------------------


def test_averaged_weights_of_a_training_are_taken(oobleck, save, capsys):
    state = oobleck.state()
    last = {name: values + 1 for name, values in state.items()}
    wrapped = {
        **{f"autoencoder.{name}": values for name, values in last.items()},
        **{f"autoencoder_ema.online_model.{name}": values for name, values in last.items()},
        **{f"autoencoder_ema.ema_model.{name}": values for name, values in state.items()},
        "autoencoder_ema.initted": torch.tensor(True),
        "autoencoder_ema.step": torch.tensor(7),
        "discriminator.discriminators.discriminators.0.convs.0.conv.weight_g": torch.zeros(3, 1, 1, 1),
        "losses_gen.losses.0.weight": torch.tensor(1.0),
        "sdstft.prefilter.fir.weight": torch.zeros(1, 1, 101),
    }
    data = {"state_dict": wrapped, "global_step": 9, "pytorch-lightning_version": "2.4.0", "optimizer_states": [{}]}
    model = original.convert(save({**data, "model_config": config_of(oobleck)}))
    assert "the averaged weights (EMA) of a training are taken" in capsys.readouterr().err
    assert same(model, original.convert(save(state, config_of(oobleck), "alone.ckpt")))
    without = {name: values for name, values in wrapped.items() if "_ema" not in name}
    other = original.convert(save({**data, "state_dict": without}, config_of(oobleck), "without.ckpt"))
    assert "the last weights of a training are taken" in capsys.readouterr().err
    assert not same(model, other)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize("place", ["", "pretransform.model.", "diffusion.pretransform.model.", "_orig_mod.module."])
def test_autoencoders_are_found_where_programs_put_them(oobleck, save, place, name):
    state = {place + key: values for key, values in oobleck.state().items()}
    more = {"model.model.transformer.project_in.weight": torch.zeros(3, 3)} if "pretransform" in place else {}
    model = original.convert(save({**state, **more}, config_of(oobleck), name))
    assert same(model, original.convert(save({"state_dict": oobleck.state()}, name="alone.ckpt")))


def test_the_autoencoder_of_a_diffusion_model_is_built_by_its_configuration(oobleck, save, capsys):
    inner = config_of(oobleck)
    pretransform = {"type": "autoencoder", "config": inner["model"], "scale": 2.0}
    outer = {"model_type": "diffusion_cond", "sample_rate": 16000, "model": {"pretransform": pretransform}}
    state = {f"pretransform.model.{key}": values for key, values in oobleck.state().items()}
    model = original.convert(save(state, outer, "model.safetensors"))
    text = capsys.readouterr().err
    assert "the autoencoder of a model that generates is taken" in text and "divides the latents by 2" in text
    assert same(model, original.convert(save(oobleck.state(), inner, "alone.ckpt")))


def test_half_precision_becomes_single(oobleck, save):
    state = {name: values.half() for name, values in oobleck.state().items()}
    model = original.convert(save(state, config_of(oobleck)))
    assert {values.dtype for values in model.state_dict().values()} == {torch.float32}
    assert torch.equal(model.encoder.layers[0].bias, oobleck.state()["encoder.layers.0.bias"].half().float())


def in_diffusers(state, blocks):
    """The state under the names of diffusers, whose Snake has the shape (1, C, 1)."""
    units, whole = ("res_unit1", "res_unit2", "res_unit3"), {0: "conv1", blocks + 1: "snake1", blocks + 2: "conv2"}
    parts = {"encoder": (*units, "snake1", "conv1"), "decoder": ("snake1", "conv_t1", *units)}
    renamed = {}
    for name, values in state.items():
        side, _, at, *leaf = name.split(".")
        path = [side, whole.get(int(at), f"block.{int(at) - 1}")]
        if int(at) not in whole:
            path.append(parts[side][int(leaf[1])])
            leaf = leaf[2:]
            if path[-1] in units:
                path.append(("snake1", "conv1", "snake2", "conv2")[int(leaf[1])])
                leaf = leaf[2:]
        snake = leaf[-1] in ("alpha", "beta")
        renamed[".".join([*path, *leaf])] = values[None, :, None] if snake else values
    return renamed


def test_the_autoencoder_of_diffusers_is_read(oobleck, save, tmp_path):
    shape = {"encoder_hidden_size": 6, "decoder_input_channels": 3, "decoder_channels": 4}
    shape |= {"channel_multiples": [1, 2], "downsampling_ratios": [4, 8], "sampling_rate": 16000}
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderOobleck", **shape}))
    data = config_of(oobleck)
    data["model"]["encoder"]["config"] |= {"channels": 6, "latent_dim": 6, "use_snake": True}
    data["model"]["decoder"]["config"] |= {"use_snake": True, "final_tanh": False}
    data["model"]["bottleneck"] = {"type": "vae"}
    with no_values():
        shapes = Autoencoder(model_config.understood(data).model).state_dict()
    state = {plain(name): torch.randn(values.shape) for name, values in shapes.items()}
    model = original.convert(save(in_diffusers(state, 2), name="diffusion_pytorch_model.safetensors"))
    assert same(model, original.convert(save(state, data, "alone.ckpt"), [f"config={tmp_path / 'model_config.json'}"]))
    with pytest.raises(InputError, match=r"1 tensors are unknown \(encoder\.block\.0\.res_unit4\.conv1\.bias\)"):
        odd = {**in_diffusers(state, 2), "encoder.block.0.res_unit4.conv1.bias": torch.zeros(6)}
        original.convert(save(odd, name="diffusion_pytorch_model.safetensors"), [f"config={tmp_path / 'config.json'}"])


def test_nothing_of_a_case_is_left_out(stored_case):
    """Each name has a place of its own."""
    for name in ("oobleck_nearest_antialias", "dac_vae", "taae"):
        case = stored_case(name)
        settled = model_config.understood(config_of(case)).model
        ours = [our_name(key, "stable-audio-tools", settled) for key, _, _ in case.keys]
        with no_values():
            expected = Autoencoder(settled).state_dict()
        assert sorted(ours) == sorted(map(plain, expected))


def test_constants_are_left_out(stored_case, save):
    case = stored_case("taae")
    state = case.state()
    block = "encoder.layers.1.layers.5.1."
    constant = {block + "pre_norm.beta": torch.zeros(16), block + "self_attn.rotary.inv_freq": torch.ones(4)}
    constant["encoder.layers.4.upsample.filter"] = torch.ones(1, 1, 12)
    model = original.convert(save({**state, **constant}, config_of(case)))
    assert same(model, original.convert(save(state, name="alone.ckpt")))
    with pytest.raises(InputError, match="holds shifts of a norm, which these networks have not"):
        original.convert(save({**state, block + "pre_norm.beta": torch.ones(16)}))


# --- configurations ----------------------------------------------------------------------------------------


def test_the_configuration_is_named_or_lies_inside_or_beside(oobleck, save, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**config_of(oobleck), "sample_rate": 48000}))
    path = save({"state_dict": oobleck.state()}, config_of(oobleck))
    inside = save(
        {"state_dict": oobleck.state(), "model_config": {**config_of(oobleck), "sample_rate": 8000}}, None, "i.pt"
    )
    assert original.convert(path).config.rate == 16000
    assert original.convert(inside).config.rate == 8000
    for model in (
        original.convert(path, [f"config={other}"]),
        original.convert(inside, [f"config={other}"]),
        original.convert(other, [str(path)]),
        original.convert(path, [str(other)]),
        original.convert(path, ["rate=48000"]),
        original.convert(path, ["model.rate=48000"]),
    ):
        assert model.config.rate == 48000
    (tmp_path / "model_config.json").unlink()
    with pytest.raises(InputError, match=r"model\.ckpt: does not say how its network is built; give config=model_con"):
        original.convert(path)
    with pytest.raises(InputError, match="expected one checkpoint and at most one configuration"):
        original.convert(other)
    with pytest.raises(InputError, match="unknown key raet; did you mean rate"):
        original.convert(path, [f"config={other}", "raet=3"])


def test_a_reversed_list_in_a_checkpoint_is_set_right(stored_case, save, capsys):
    """The original reverses it in its configuration whenever it builds a SEANet, and saves it so."""
    case = stored_case("seanet_rvq")
    right, wrong = config_of(case), config_of(case)
    wrong["model"]["encoder"]["config"]["ratios"].reverse()
    model = original.convert(save({"state_dict": case.state(), "model_config": wrong}))
    assert "by its weights they are [4, 4, 5, 8]" in capsys.readouterr().err
    assert same(model, original.convert(save({"state_dict": case.state(), "model_config": right})))
    assert capsys.readouterr().err == ""


def test_lyracodec_tells_its_network_and_not_its_rate(stored_case, save, capsys):
    case = stored_case("lyra_vae")
    path = save({"model_state_dict": case.state()}, name="checkpoint_epoch_10.pt")
    model = original.convert(path)
    assert "44100 Hz are assumed" in capsys.readouterr().err
    size = {"base_channels": 6, "latent_dim": 8}
    assert (model.config.encoder, model.config.decoder) == (LyraEncoderConfig(**size), LyraDecoderConfig(**size))
    assert original.convert(path, ["rate=48000"]).config.rate == 48000
    settings = {"model": {**case.config["model"], "latent_dim": 9}}
    with pytest.raises(InputError, match=r"are of another network than its configuration, .* encoder\.latent_dim"):
        original.convert(save({"model_state_dict": case.state(), "config": settings}, name="x.pt"))


def test_parts_of_lyracodec_that_no_audio_passes_are_left_out(stored_case, save):
    case = stored_case("lyra_vae_2026")
    more = {"singer_identity_encoder.net.weight": torch.ones(3), "singer_identity_projection.0.bias": torch.ones(3)}
    assert original.convert(save({"model_state_dict": {**case.state(), **more}})).config.encoder.group_norm
    more["singer_conditioning.blocks.0.weight"] = torch.ones(3)
    with pytest.raises(InputError, match=r"1 tensors are unknown \(singer_conditioning"):
        original.convert(save({"model_state_dict": {**case.state(), **more}}))


def test_filters_of_a_pretransform_are_left_out_and_no_others(stored_case, save, oobleck):
    settings = config_of(oobleck)
    state = {**oobleck.state(), "pretransform.encoder.kernel": torch.ones(8, 2, 9)}
    with pytest.raises(InputError, match=r"1 tensors are unknown \(pretransform\.encoder\.kernel\)"):
        original.convert(save(state, settings))
    settings["model"]["pretransform"] = {
        "type": "wavelet",
        "config": {"channels": 2, "levels": 1, "wavelet": "bior4.4"},
    }
    settings["model"]["encoder"]["config"]["in_channels"] = settings["model"]["decoder"]["config"]["out_channels"] = 4
    settings["model"]["downsampling_ratio"] = 64
    for name, axis in (
        ("encoder.layers.0.weight_v", 1),
        ("decoder.layers.4.weight_v", 0),
        ("decoder.layers.4.weight_g", 0),
    ):
        state[name] = torch.cat([state[name]] * 2, axis)
    assert original.convert(save(state, settings)).hop == 64


# --- what is wrong -----------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_one_clear_line(oobleck, save, tmp_path):
    state, settings = oobleck.state(), config_of(oobleck)

    def refused(data, text, changes=(), name="model.ckpt"):
        with pytest.raises(InputError, match=text) as caught:
            original.convert(save(data, settings, name), changes)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)

    refused({**state, "encoder.more": torch.zeros(1)}, r"1 tensors are unknown \(encoder.more\)")
    refused({name: each for name, each in state.items() if "layers.3" not in name}, "tensors are missing")
    less = {name: each for name, each in state.items() if name != "decoder.layers.4.weight_g"}
    refused(less, r"tensors are missing \(decoder\.layers\.4\.weight_g.* and 1 tensors are unknown")
    shape = r"encoder\.layers\.0\.bias has the shape \(6,\), expected \(4,\)"
    refused({**state, "encoder.layers.0.bias": torch.zeros(6)}, f"does not fit its configuration: {shape}")
    refused(state, r"does not fit its configuration: .* \(4,\), expected \(7,\)", ["encoder.channels=7"])
    refused({f"vae.{name}": each for name, each in state.items()}, r"under names that begin with 'vae\.'")
    refused({name: each for name, each in state.items() if name.startswith("decoder")}, "holds a decoder without an en")
    refused({"discriminators.0.weight": torch.ones(1)}, "is a discriminator without its autoencoder")
    refused({"model.model.weight": torch.ones(1)}, "is a diffusion model without its autoencoder")
    double = {**state, "encoder.module.layers.0.bias": state["encoder.layers.0.bias"]}
    refused(double, r"holds encoder\.layers\.0\.bias twice, once as encoder\.module\.layers\.0\.bias")
    refused({"conv.weight": torch.ones(1)}, "is no autoencoder of LyraCodec, diffusers.*; it holds conv.weight")
    dac = dict.fromkeys(("encoder.block.0.bias", "decoder.model.0.bias", "quantizer.a"), torch.ones(1))
    refused(dac, "lacks the `metadata` that say how its network is built")
    with pytest.raises(InputError, match=r"is a folder, and a checkpoint is a file; it holds model\.ckpt"):
        original.convert(tmp_path)
    (tmp_path / "config.yaml").write_text("model: {base_channels: 6}")
    refused(
        state, r"config\.yaml: is of LyraCodec, and .* of stable-audio-tools", [f"config={tmp_path / 'config.yaml'}"]
    )


def test_a_configuration_of_a_far_larger_network_is_stopped_early(stored_case, save):
    case = stored_case("taae")
    settings = config_of(case)
    settings["model"]["encoder"]["config"]["transformer_depths"] = [10**9, 1]
    with pytest.raises(InputError, match="holds far fewer weights than its configuration describes"):
        original.convert(save(case.state(), settings))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", MANGLED)
def test_mangled_tensors_are_one_line(stored_case, kind, layout):
    """One of each number of axes, and a codebook."""
    case = stored_case("seanet_rvq")
    state = in_layout(case.state(), layout)
    settled = model_config.understood(config_of(case)).model
    names = {values.ndim: name for name, values in state.items()} | {9: "bottleneck.quantizer.layers.0._codebook.embed"}

    def convert(tensors):
        return original.filled(original.checkpoint_of(Path("file"), tensors), settled)

    refuses_mangled(state, names.values(), kind, convert)
