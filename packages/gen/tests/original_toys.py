"""Small models of every kind, and checkpoints of them as stable-audio-tools writes them."""

import pytest
import torch
from audio_core.files import InputError
from audio_gen import model_config, original
from audio_gen.models.diffusion import Diffusion
from audio_gen.models.lm import LM

from .published_models import one

# --- small models ----------------------------------------------------------------------------------------------

DIT = {"io_channels": 4, "embed_dim": 64, "depth": 2, "num_heads": 1}
DAU = {"depth": 3, "n_attn_layers": 1, "channels": [32, 32, 64], "strides": [2, 2]}
ADP = {
    "in_channels": 4,
    "channels": 32,
    "multipliers": [1, 1, 2],
    "factors": [2, 2],
    "num_blocks": [1, 1],
    "attentions": [0, 1, 1],
    "attention_heads": 2,
}
PRETRANSFORM = {
    "type": "autoencoder",
    "scale": 2.0,
    "config": {"io_channels": 2, "downsampling_ratio": 8, "latent_dim": 4, "encoder": {"type": "oobleck"}},
}


def alone(kind, channels=4, /, **config):
    """The configuration of an unconditional model of audio."""
    whole = {"sample_size": 64, "sample_rate": 8000, "audio_channels": channels}
    return {"model_type": "diffusion_uncond", **whole, "model": {"type": kind, "config": config}}


def conditioned(conditioners, kind="dit", ids=(), pretransform=None, **config):
    """That of a model with conditioners. `ids` say where the network takes them."""
    model = {
        "io_channels": 4,
        "conditioning": {"cond_dim": 8, "configs": conditioners},
        "diffusion": {"type": kind, "config": config, **dict(ids)},
        **({"pretransform": pretransform} if pretransform else {}),
    }
    whole = {"sample_size": 64, "sample_rate": 8000, "audio_channels": 2 if pretransform else 4}
    return {"model_type": "diffusion_cond", **whole, "model": model}


TOKENS = [
    one("prompt", "t5", t5_model_name="t5-small"),
    one("clap", "clap_text"),
    one("sound", "clap_audio"),
    one("start", "int", max_val=5),
    one("total", "number", max_val=512),
    one("genre", "list", options=["a", "b"]),
    one("lyrics", "phoneme"),
    one("words", "lut", tokenizer_name="some/folder", use_abs_pos_emb=True, max_length=7, project_out=True),
]
FRAMES = [
    one("like", "pretransform", use_model_pretransform=True),
    one(
        "mix",
        "source_mix",
        use_model_pretransform=True,
        source_keys=["a", "b"],
        allow_null_source=True,
        source_length=8,
    ),
]


def all_conditioners():
    places = {
        "cross_attention_cond_ids": [each["id"] for each in TOKENS],
        "global_cond_ids": ["total"],
        "input_concat_ids": ["like", "mix"],
    }
    sizes = {"cond_token_dim": 8, "global_cond_dim": 8, "input_concat_dim": 16}
    return conditioned(TOKENS + FRAMES, "dit", places, PRETRANSFORM, **DIT, **sizes)


def cross(kind, **config):
    places = {"cross_attention_cond_ids": ["total"]}
    return conditioned([TOKENS[4]], kind, places, PRETRANSFORM, **config)


def language(conditioners=(), ids=(), codebooks=2, size=6, pattern="delay", **config):
    """The configuration of a language model."""
    bottleneck = {"type": "rvq", "config": {"num_quantizers": codebooks, "codebook_size": size, "dim": 4}}
    pretransform = {**PRETRANSFORM, "scale": 1.0, "config": {**PRETRANSFORM["config"], "bottleneck": bottleneck}}
    lm = {"type": "continuous_transformer", "codebook_pattern": pattern, "config": config, **dict(ids)}
    model = {"pretransform": pretransform, "conditioning": {"cond_dim": 8, "configs": [*conditioners]}, "lm": lm}
    return {"model_type": "lm", "sample_size": 64, "sample_rate": 8000, "audio_channels": 2, "model": model}


KINDS = {
    "dit": alone("dit", **DIT),
    "dit_plain_feed_forward": alone("dit", **DIT, ff_kwargs={"glu": False}),
    "dit_many": alone(
        "dit", **DIT, num_memory_tokens=2, conformer=True, remove_norms=True, attn_kwargs={"qk_norm": "ln"}
    ),
    "all_conditioners": all_conditioners(),
    "DAU1d": alone("DAU1d", 2, **DAU),
    "adp_uncond_1d": alone("adp_uncond_1d", **ADP),
    "adp_1d": conditioned(
        [TOKENS[4]], "adp_1d", {"global_cond_ids": ["total"]}, PRETRANSFORM, **ADP, context_features=8
    ),
    "adp_cfg_1d": cross("adp_cfg_1d", **ADP, context_embedding_features=8, context_embedding_max_length=3),
    "lm": language(embed_dim=64, depth=1, ff_kwargs={"glu": False}),
    "lm_tokens": language(
        TOKENS[4:6],
        {"cross_attention_cond_ids": ["total"], "prepend_cond_ids": ["genre"]},
        pattern="parallel",
        embed_dim=64,
        depth=2,
        cross_attn_cond_dim=8,
        project_cross_attn_cond=True,
        prepend_cond_dim=8,
    ),
}
SETTINGS = {"all_conditioners": ["conditioning.conditioners.words.vocab_size=9"]}


def random(name):
    """A model of this kind with random weights."""
    torch.manual_seed(3)
    config = model_config.understood(KINDS[name]).settled(SETTINGS.get(name, []))
    model = LM(config) if name.startswith("lm") else Diffusion(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


def in_their_names(model):
    """As stable-audio-tools writes it for use, with what it stores besides weights."""
    network = model.config.lm if isinstance(model, LM) else model.config.backbone
    state, kind = {}, type(network).__name__
    prefix = "model." if kind.startswith("Dance") else "model.model."
    glu = hasattr(network, "transformer") and network.transformer.feed_forward.glu
    for name, value in model.state_dict().items():
        name = name.replace(".ff.up.", ".ff.ff.0.proj." if glu else ".ff.ff.0.1.").replace(".ff.down.", ".ff.ff.2.")
        name = name.replace("lm.transformer.", "lm.backbone.model.").replace("lm.to_", "lm.backbone.to_")
        state[name.replace("backbone.", prefix) if name.startswith("backbone.") else name] = value.clone()
    if isinstance(model, LM):
        state["lm.backbone.model.rotary_pos_emb.inv_freq"] = torch.ones(16)
    if kind == "DiTConfig":
        state["model.model.transformer.rotary_pos_emb.inv_freq"] = torch.ones(16)
    if kind == "ADPConfig":
        state["model.model.stft.window"] = torch.ones(8)
    if prefix == "model.":
        state["model.net.3.main.0.kernel"] = torch.ones(8)
    if "mix" in model.config.conditioning.conditioners:
        state["conditioner.conditioners.mix.proj_out.weight"] = torch.ones(8, 4)
        state["conditioner.conditioners.like.pretransform.encoder.weight"] = torch.ones(2)
    return state


def wrapped(state):
    """As a training writes it: the last weights are others than the averaged ones, which here are those of `state`."""
    if any(name.startswith("lm.") for name in state):
        averaged = {f"model_ema.ema_model.{name}": value for name, value in state.items()}
        return (
            {f"model.{name}": value + 1 for name, value in state.items()}
            | averaged
            | {"model_ema.step": torch.tensor(7)}
        )
    result = {f"diffusion.{name}": value + 1 for name, value in state.items()}
    for name in state:
        if name.startswith("model."):
            result[f"diffusion_ema.ema_model.{name.removeprefix('model.')}"] = state[name]
    other = {"diffusion_ema.initted": torch.tensor(True), "diffusion_ema.step": torch.tensor(7)}
    return {**result, **other, "losses.losses.0.weight": torch.tensor(1.0)}


def same(model, other):
    states = model.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def refused(path, text, *settings):
    with pytest.raises(InputError) as caught:
        original.convert(path, settings)
    assert text in str(caught.value) and "\n" not in str(caught.value)
