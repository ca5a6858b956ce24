"""Checkpoints of stable-audio-tools, in all the forms in which they are around."""

import json

import pytest
import torch
from audio_core import codec as codecs
from audio_core.testing import MANGLED, close, refuses_mangled
from audio_gen import original
from safetensors.torch import save_file

from .language_toys import CASES
from .original_toys import (
    DIT,
    KINDS,
    SETTINGS,
    alone,
    conditioned,
    in_their_names,
    language,
    random,
    refused,
    same,
    wrapped,
)
from .published_models import one

NO_CODEC = ["codec=null"]


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


# --- round trips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["model.safetensors", "model.ckpt", "model.pt"])
@pytest.mark.parametrize("name", KINDS)
def test_models_of_every_kind_come_back(save, name, ending):
    model = random(name)
    state = in_their_names(model)
    data = state if ending == "model.safetensors" else {"state_dict": state}
    found = original.convert(save(data, KINDS[name], ending), NO_CODEC)
    assert not found.training and found.config == model.config and same(found, model)


STATED = (
    *("timestep_features.weight", "to_timestep_embed.0.weight", "to_timestep_embed.2.bias", "to_cond_embed.0.weight"),
    *("to_cond_embed.2.weight", "to_global_embed.0.weight", "to_global_embed.2.weight", "preprocess_conv.weight"),
    *("postprocess_conv.weight", "transformer.project_in.weight", "transformer.project_out.weight"),
    *(
        f"transformer.layers.1.{name}"
        for name in (
            *("pre_norm.gamma", "pre_norm.beta", "self_attn.to_qkv.weight", "self_attn.to_out.weight"),
            *(
                "cross_attend_norm.gamma",
                "cross_attn.to_q.weight",
                "cross_attn.to_kv.weight",
                "cross_attn.to_out.weight",
            ),
            *("ff_norm.gamma", "ff.ff.0.proj.weight", "ff.ff.0.proj.bias", "ff.ff.2.weight", "ff.ff.2.bias"),
        )
    ),
)
OF_CONDITIONERS = (
    *("prompt.proj_out.weight", "prompt.proj_out.bias", "clap.proj_out.weight", "sound.proj_out.bias"),
    *("start.int_embedder.weight", "total.embedder.embedding.0.weights", "total.embedder.embedding.1.weight"),
    *("genre.embedder.weight", "lyrics.phoneme_embedder.weight", "words.token_embedder.weight"),
    *("words.abs_pos_emb.emb.weight", "words.proj_out.weight", "like.proj_out.weight", "mix.source_heads.1.weight"),
    "mix.null_source",
)


def test_names_are_those_of_the_original(save):
    """Each of them is needed: with a single one missing, the file is refused under its name."""
    state = in_their_names(random("all_conditioners"))
    names = [f"model.model.{name}" for name in STATED] + [
        f"conditioner.conditioners.{name}" for name in OF_CONDITIONERS
    ]
    assert not {*names} - {*state}
    for name in names:
        lacking = {key: value for key, value in state.items() if key != name}
        settings = [*NO_CODEC, *SETTINGS["all_conditioners"]]
        refused(
            save(lacking, KINDS["all_conditioners"]), f"does not fit its configuration: 1 missing ({name})", *settings
        )


# --- the original's numbers --------------------------------------------------------------------------------------


def stated_as(kwargs):
    """A configuration whose conditions have the widths of a stored network: a list for each of them."""
    places = {
        "cross_attention_cond_ids": ("cond_token_dim", "text"),
        "global_cond_ids": ("global_cond_dim", "vector"),
        "prepend_cond_ids": ("prepend_cond_dim", "before"),
        "input_concat_ids": ("input_concat_dim", "beside"),
    }
    used = {place: (kwargs[size], key) for place, (size, key) in places.items() if kwargs.get(size)}
    conditioners = [one(key, "list", options=["a"], output_dim=size) for size, key in used.values()]
    data = conditioned(conditioners, "dit", {place: [key] for place, (_, key) in used.items()}, **kwargs)
    data["model"]["diffusion"]["diffusion_objective"] = kwargs["diffusion_objective"]
    data["model"]["io_channels"] = data["audio_channels"] = kwargs["io_channels"]
    tables = {f"conditioner.conditioners.{key}.embedder.weight": torch.zeros(2, size) for size, key in used.values()}
    return data, tables


@pytest.mark.parametrize("name", ["dit_open_small", "dit_adaln_inpaint", "dit_prepend_gqa"])
@torch.no_grad()
def test_transformers_give_the_original_s_numbers(stored_case, save, name):
    case = stored_case(name)
    data, tables = stated_as(case.config["kwargs"])
    state = {f"model.model.{key}": value for key, value in case.state().items()}
    model = original.convert(save(state | tables, data, "model.safetensors"))
    names = {"global_embed": "global_cond"}
    given = ("cross_attn_cond", "global_embed", "input_concat_cond", "prepend_cond")
    conditions = {names.get(key, key): case.inputs[key] for key in given if key in case.inputs}
    close(model.backbone(case.inputs["x"], case.inputs["t"], **conditions), case.outputs["out"], 5e-6)


@torch.no_grad()
def test_the_u_net_of_dance_diffusion_gives_its_numbers(stored_case, save):
    case = stored_case("dance_diffusion_unet")
    state = {
        f"model.{key.removeprefix('plain.')}": each for key, each in case.state().items() if key.startswith("plain.")
    }
    settings = case.config["plain"]
    data = alone("DAU1d", settings.get("io_channels", 2), **settings)
    model = original.convert(save(state, data))
    close(model.backbone(case.inputs["x"], case.inputs["t"]), case.outputs["plain"])


@torch.no_grad()
def test_the_u_net_of_stable_audio_1_gives_its_numbers(stored_case, save):
    case = stored_case("adp_unet_cfg")
    data = conditioned([], "adp_cfg_1d", **case.config["kwargs"])
    data["model"]["io_channels"] = data["audio_channels"] = 8
    model = original.convert(save({f"model.model.{key}": value for key, value in case.state().items()}, data))
    names = {"x": "x", "t": "t", "embedding": "cross_attn_cond", "features": "global_cond"}
    close(model.backbone(**{ours: case.inputs[theirs] for theirs, ours in names.items()}), case.outputs["out"], 3e-6)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_language_models_give_their_numbers(stored_case, save, name):
    case = stored_case(name)
    places = {"cross_attn_cond": "cross_attention_cond_ids", "prepend_cond": "prepend_cond_ids"}
    width = case.config["backbone"].get(f"{CASES[name]}_dim")
    conditioners = [one("text", "list", options=["a"], output_dim=width)] if width else []
    ids = {places[CASES[name]]: ["text"]} if width else {}
    sizes = case.config["num_quantizers"], case.config["codebook_size"], case.config["pattern"]
    data = language(conditioners, ids, *sizes, **case.config["backbone"])
    state = {f"lm.{key}": value for key, value in case.state().items()}
    if width:
        state["conditioner.conditioners.text.embedder.weight"] = torch.zeros(2, width)
    model = original.convert(save(state, data), NO_CODEC)
    logits, _ = model.lm(case.inputs["codes"], **({CASES[name]: case.inputs["text"]} if width else {}))
    close(logits, case.outputs["logits"], 5e-6)


# --- trainings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lm", "lm_tokens"])
def test_of_language_models_all_weights_are_averaged(save, name, capsys):
    model = random(name)
    path = save({"state_dict": wrapped(in_their_names(model)), "model_config": KINDS[name]})
    assert same(original.convert(path, NO_CODEC), model)
    assert "the averaged weights (EMA) of a training are taken" in capsys.readouterr().err
    last = original.convert(path, ["ema=false", *NO_CODEC])
    assert all(torch.equal(value, model.state_dict()[key] + 1) for key, value in last.state_dict().items())


@pytest.mark.parametrize("name", ["dit", "all_conditioners", "DAU1d", "adp_cfg_1d"])
def test_averaged_weights_of_a_training_are_taken(save, name, capsys):
    """Its configuration is inside. Of diffusion models conditioners are not averaged."""
    model = random(name)
    state = in_their_names(model)
    path = save({"state_dict": wrapped(state), "global_step": 9, "model_config": KINDS[name]})
    found = original.convert(path, NO_CODEC)
    assert "the averaged weights (EMA) of a training are taken" in capsys.readouterr().err
    assert all(
        torch.equal(value, model.backbone.state_dict()[key]) for key, value in found.backbone.state_dict().items()
    )
    for key, value in found.conditioner.state_dict().items():
        assert torch.equal(value, model.conditioner.state_dict()[key] + 1)
    last = original.convert(path, ["ema=false", *NO_CODEC])
    assert "and not the averaged ones" in capsys.readouterr().err
    assert all(torch.equal(value, model.state_dict()[key] + 1) for key, value in last.state_dict().items())


def test_a_training_without_averages_gives_its_last_weights(save, capsys):
    model = random("dit")
    state = {f"diffusion.{name}": value for name, value in in_their_names(model).items()}
    assert same(original.convert(save({"state_dict": state, "model_config": KINDS["dit"]})), model)
    assert "the last weights of a training are taken, which has no averaged ones" in capsys.readouterr().err


def test_layers_of_parallel_and_compiled_trainings(save):
    model = random("dit")
    state = {
        f"_orig_mod.{name.replace('model.model.', 'model.model.module.')}": each
        for name, each in in_their_names(model).items()
    }
    assert same(original.convert(save(state, KINDS["dit"])), model)


def test_weights_in_half_precision_become_float32(save):
    state = {name: value.half() for name, value in in_their_names(random("dit")).items()}
    found = original.convert(save(state, KINDS["dit"], "model.safetensors"))
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}


# --- configurations ----------------------------------------------------------------------------------------------


def test_a_configuration_is_given_in_any_way(save, tmp_path):
    model = random("dit")
    path = save(in_their_names(model))
    refused(path, "does not say how its network is built; give config=model_config.json")
    settings = tmp_path / "other.json"
    settings.write_text(json.dumps(KINDS["dit"]))
    for arguments in ((path, [f"config={settings}"]), (settings, [str(path)]), (path, [str(settings), "samples=128"])):
        assert same(original.convert(*arguments), model)
    assert original.convert(path, [str(settings), "model.samples=128"]).config.samples == 128
    refused(path, "at most one model_config.json", str(settings), str(settings))
    refused(path, "unknown key sampls; did you mean samples?", str(settings), "sampls=1")
    settings.rename(path.with_suffix(".json"))
    assert same(original.convert(path), model)
    refused(tmp_path, "is a folder, and a checkpoint is a file; it holds model.ckpt")


def test_the_summary_tells_what_was_converted():
    title, text = original.summary(random("adp_cfg_1d"))
    assert title == "Diffusion of latents, 8 kHz"
    assert text.startswith("ADP with objective v, generates up to 0.008 s of 2 channels from total, ")
    title, text = original.summary(random("lm"))
    assert title == "Language model of codes, 8 kHz" and text.startswith(
        "2 codebooks in a Delay pattern, generates up to"
    )


# --- codecs ------------------------------------------------------------------------------------------------------


class Codec:
    sample_rate, channels, hop, width, codebooks = 8000, 2, 8, 4, (6, 6, 6)

    def fingerprint(self):
        return bytes(range(8))


def test_a_model_of_latents_needs_a_word_on_its_codec(save):
    """Without a codec, or with another one, its users heard noise and were told nothing."""
    data = KINDS["adp_cfg_1d"]
    state = in_their_names(random("adp_cfg_1d"))
    refused(
        save(state, data), "holds no codec (no pretransform.*) for what it generates, and with another one it would"
    )
    for name in ("model.ckpt", "model.safetensors"):
        path = save({**state, "pretransform.model.encoder.weight": torch.ones(2)}, data, name)
        refused(path, f"holds a codec, a model of its own: first `audio-codec-vae convert {path} -o codec`")
        assert original.convert(path, NO_CODEC).config.codec is None
    path = save({**in_their_names(random("dit")), "pretransform.model.encoder.weight": torch.ones(2)}, KINDS["dit"])
    refused(path, "holds a codec, and its configuration has no model.pretransform")


def test_a_named_codec_is_checked_and_remembered(save, monkeypatch):
    found = []
    monkeypatch.setattr(codecs, "find", lambda name: lambda path: found.append((name, path)) or Codec())
    path = save(in_their_names(random("adp_cfg_1d")), KINDS["adp_cfg_1d"])
    named = ["codec.name=codec-vae", "codec.path=some/folder"]
    model = original.convert(path, named)
    assert found == [("codec-vae", "some/folder")] and model.config.codec.fingerprint == "0001020304050607"
    assert model.config.scale == 2
    monkeypatch.setattr(Codec, "width", 5)
    refused(path, "codec codec-vae some/folder: has a width of 5, and the model needs 4", *named)


def test_the_codec_of_a_language_model_has_its_codebooks(save, monkeypatch):
    monkeypatch.setattr(codecs, "find", lambda name: lambda path: Codec())
    path = save(in_their_names(random("lm")), KINDS["lm"])
    named = ["codec.name=codec-vae", "codec.path=some/folder"]
    assert original.convert(path, named).config.codec.fingerprint
    monkeypatch.setattr(Codec, "codebooks", (6, 7))
    refused(path, "some/folder: has codebooks of [6, 7] codes, and the model needs 2 of 6 codes", *named)
    monkeypatch.setattr(Codec, "codebooks", (6,))
    refused(path, "some/folder: has codebooks of [6] codes, and the model needs 2 of 6 codes", *named)


# --- other files -------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_one_clear_line(save):
    state = in_their_names(random("dit"))
    deeper = alone("dit", **DIT | {"depth": 3})
    refused(save(state, deeper), "model.model.transformer.layers.2.")
    refused(
        save(state, deeper), "; by its names it is a transformer (dit) of 2 blocks and 64 channels, with weights of no"
    )
    shallower = alone("dit", **DIT | {"depth": 1})
    refused(save(state, shallower), "unexpected (model.model.transformer.layers.1.")
    wider = alone("dit", **DIT | {"embed_dim": 128})
    refused(save(state, wider), "of another shape (model.model.to_timestep_embed.0.weight (64, 256) for (128, 256)")
    refused(save(state, KINDS["DAU1d"]), "by its names it is a transformer (dit) of 2 blocks")
    refused(
        save(in_their_names(random("DAU1d")), KINDS["dit"]), "by its names it is the U-Net of Dance Diffusion (DAU1d)"
    )
    adp = in_their_names(random("adp_cfg_1d"))
    refused(save(adp, KINDS["dit"]), "it is an ADP U-Net of 2 levels, with weights of the conditioners total")
    huge = alone("dit", **DIT | {"embed_dim": 2**20, "num_heads": 2**10})
    text = "holds far fewer weights than its configuration describes; by its names it is a transformer (dit) of 2"
    refused(save(state, huge), text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lm.quantizer_heads.0.weight", "by its names it is a language model (lm) of 1 codebooks"),
        ("model.lm.quantizer_heads.0.weight", "by its names it is a language model (lm) of 1 codebooks"),
        ("diffae.diffusion.model.net.0.weight", "is a diffusion autoencoder with the U-Net of Dance Diffusion (DAU1d)"),
        ("pretransform.model.encoder.weight", "is a codec alone, which `audio-codec-vae convert` reads"),
        ("encoder.layers.0.weight", "is a codec alone, which `audio-codec-vae convert` reads"),
        ("autoencoder.encoder.weight", "is the training of an autoencoder, which `audio-codec-vae convert` reads"),
        ("backbone.net.0.weight", "is of a bundle of audio-gen, which needs no conversion; give its folder"),
        ("transformer_blocks.0.attn1.to_q.weight", "is of diffusers; take the same model's checkpoint"),
        ("layers.0.weight", "is no model of stable-audio-tools that generates; it holds layers.0.weight"),
    ],
)
@pytest.mark.parametrize("ending", ["model.ckpt", "model.safetensors"])
def test_other_files_are_named(save, name, text, ending):
    refused(save({name: torch.ones(2)}, KINDS["dit"], ending), text)


@pytest.mark.parametrize("kind", MANGLED)
def test_mangled_tensors_are_refused_in_one_line(save, kind):
    state = in_their_names(random("adp_cfg_1d"))
    names = [
        "model.model.to_in.block.block1.project.weight",
        "conditioner.conditioners.total.embedder.embedding.1.bias",
    ]
    refuses_mangled(state, names, kind, lambda state: original.convert(save(state, KINDS["adp_cfg_1d"]), NO_CODEC))
