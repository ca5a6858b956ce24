"""The published configurations of stable-audio-tools' diffusion models, as they are in its files."""

import copy

OOBLECK = {
    "encoder": {"type": "oobleck", "config": {"in_channels": 2, "channels": 128, "latent_dim": 128}},
    "decoder": {"type": "oobleck", "config": {"out_channels": 2, "channels": 128, "latent_dim": 64}},
    "bottleneck": {"type": "vae"},
    "latent_dim": 64,
    "downsampling_ratio": 2048,
    "io_channels": 2,
}
DAC = {
    "encoder": {"type": "dac", "config": {"in_channels": 2, "latent_dim": 128, "strides": [4, 4, 8, 8]}},
    "decoder": {"type": "dac", "config": {"out_channels": 2, "latent_dim": 64, "rates": [8, 8, 4, 4]}},
    "bottleneck": {"type": "vae"},
    "latent_dim": 64,
    "downsampling_ratio": 1024,
    "io_channels": 2,
}
CLAP = {
    "clap_ckpt_path": "music_audioset_epoch_15_esc_90.14.pt",
    "audio_model_type": "HTSAT-base",
    "enable_fusion": False,
    "use_text_features": True,
    "feature_layer_ix": -2,
}
ADAMW = {"type": "AdamW", "config": {"lr": 5e-5, "betas": [0.9, 0.999], "weight_decay": 1e-3}}
INVERSE = {"type": "InverseLR", "config": {"inv_gamma": 1000000, "power": 0.5, "warmup": 0.99}}
TRAINING = {
    "use_ema": True,
    "log_loss_info": False,
    "optimizer_configs": {"diffusion": {"optimizer": ADAMW, "scheduler": INVERSE}},
    "demo": {"demo_every": 2000, "demo_steps": 250, "num_demos": 4, "demo_cfg_scales": [3, 6, 9]},
}
OPEN_DIT = {
    "io_channels": 64,
    "embed_dim": 1536,
    "depth": 24,
    "num_heads": 24,
    "cond_token_dim": 768,
    "global_cond_dim": 1536,
    "project_cond_tokens": False,
    "transformer_type": "continuous_transformer",
}
SMALL_DIT = {
    "io_channels": 64,
    "embed_dim": 1024,
    "depth": 16,
    "num_heads": 8,
    "cond_token_dim": 768,
    "global_cond_dim": 768,
    "transformer_type": "continuous_transformer",
    "attn_kwargs": {"qk_norm": "ln"},
}
ADP = {
    "in_channels": 64,
    "context_embedding_features": 768,
    "context_embedding_max_length": 79,
    "channels": 256,
    "resnet_groups": 16,
    "kernel_multiplier_downsample": 2,
    "multipliers": [4, 4, 4, 5, 5],
    "factors": [1, 2, 2, 4],
    "num_blocks": [2, 2, 2, 2],
    "attentions": [1, 3, 3, 3, 3],
    "attention_heads": 16,
    "attention_multiplier": 4,
    "use_nearest_upsample": False,
    "use_skip_scale": True,
    "use_context_time": True,
}
SECONDS = ["seconds_start", "seconds_total"]


def one(key, kind, **config):
    return {"id": key, "type": kind, "config": config}


def timing(kind):
    return [one(key, kind, min_val=0, max_val=512) for key in SECONDS]


def conditioned(samples, codec, conditioners, diffusion, training):
    return {
        "model_type": "diffusion_cond",
        "sample_size": samples,
        "sample_rate": 44100,
        "audio_channels": 2,
        "model": {
            "pretransform": {"type": "autoencoder", "iterate_batch": True, "config": codec},
            "conditioning": {"configs": conditioners, "cond_dim": 768},
            "diffusion": diffusion,
            "io_channels": 64,
        },
        "training": training,
    }


def stable_audio_1():
    diffusion = {"type": "adp_cfg_1d", "cross_attention_cond_ids": ["prompt", *SECONDS], "config": ADP}
    clap = one("prompt", "clap_text", **CLAP)
    training = {"learning_rate": 4e-5, "demo": TRAINING["demo"]}
    return conditioned(4194304, DAC, [clap, *timing("int")], diffusion, training)


def stable_audio_2():
    diffusion = {
        "type": "dit",
        "cross_attention_cond_ids": ["prompt", *SECONDS],
        "global_cond_ids": SECONDS,
        "config": OPEN_DIT,
    }
    clap = one("prompt", "clap_text", **CLAP)
    return conditioned(12582912, OOBLECK, [clap, *timing("number")], diffusion, TRAINING)


def open_1():
    data = stable_audio_2()
    data["sample_size"] = 2097152
    data["model"]["conditioning"]["configs"][0] = one("prompt", "t5", t5_model_name="t5-base", max_length=128)
    return data


def open_small():
    diffusion = {
        "type": "dit",
        "diffusion_objective": "rf_denoiser",
        "cross_attention_cond_ids": ["prompt", "seconds_total"],
        "global_cond_ids": ["seconds_total"],
        "config": SMALL_DIT,
    }
    text = one("prompt", "t5", t5_model_name="t5-base", max_length=64)
    seconds = one("seconds_total", "number", min_val=0, max_val=256)
    return conditioned(524288, OOBLECK, [text, seconds], diffusion, TRAINING)


def dance_diffusion():
    return {
        "model_type": "diffusion_uncond",
        "sample_size": 65536,
        "sample_rate": 48000,
        "model": {"type": "DAU1d", "config": {"n_attn_layers": 5}},
        "training": {"learning_rate": 1e-4, "demo": {"demo_every": 2000, "demo_steps": 250}},
    }


_MAKERS = {
    "stable_audio_1": stable_audio_1,
    "stable_audio_2": stable_audio_2,
    "open_1": open_1,
    "open_small": open_small,
    "dance_diffusion": dance_diffusion,
}


def published(name):
    """A copy that may be changed."""
    return copy.deepcopy(_MAKERS[name]())


NAMES = tuple(_MAKERS)
