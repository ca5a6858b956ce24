"""The published configurations of stable-audio-tools' autoencoders, as they are in its files."""

SIZES = [2048, 1024, 512, 256, 128, 64, 32]
OOBLECK = {"channels": 128, "c_mults": [1, 2, 4, 8, 16], "strides": [2, 4, 4, 8, 8], "use_snake": True}


def adamw(lr, scheduler, **more):
    optimizer = {"type": "AdamW", "config": {"betas": [0.8, 0.99], "lr": lr, **more}}
    return {"optimizer": optimizer, "scheduler": scheduler}


def both(autoencoder, discriminator):
    return {"autoencoder": autoencoder, "discriminator": discriminator}


def training(lr, filters, scales, optimizers=None, bottleneck=None, ema=True):
    sizes = SIZES[:scales]
    windows = {"n_ffts": sizes, "hop_lengths": [size // 4 for size in sizes], "win_lengths": sizes}
    spectral = {"fft_sizes": SIZES, "hop_sizes": [size // 4 for size in SIZES], "win_lengths": SIZES}
    losses = {
        "discriminator": {
            "type": "encodec",
            "config": {"filters": filters, **windows},
            "weights": {"adversarial": 0.1, "feature_matching": 5.0},
        },
        "spectral": {
            "type": "mrstft",
            "config": {**spectral, "perceptual_weighting": True},
            "weights": {"mrstft": 1.0},
        },
        "time": {"type": "l1", "weights": {"l1": 0.0}},
    }
    return {
        "learning_rate": lr,
        "warmup_steps": 0,
        "use_ema": ema,
        **({"optimizer_configs": optimizers} if optimizers else {}),
        "loss_configs": losses | ({"bottleneck": bottleneck} if bottleneck else {}),
        "demo": {"demo_every": 2000},
    }


def whole(rate, channels, samples, training, **model):
    return {
        "model_type": "autoencoder",
        "sample_size": samples,
        "sample_rate": rate,
        "audio_channels": channels,
        "model": {**model, "io_channels": channels},
        "training": training,
    }


def stable_audio_1():
    falling = {"type": "ExponentialLR", "config": {"gamma": 0.999996}}
    kl = {"type": "kl", "weights": {"kl": 1e-6}}
    encoder = {"in_channels": 2, "latent_dim": 128, "d_model": 128, "strides": [4, 4, 8, 8]}
    decoder = {"out_channels": 2, "latent_dim": 64, "channels": 1536, "rates": [8, 8, 4, 4]}
    return whole(
        *(44100, 2, 65536, training(1e-4, 32, 5, both(adamw(1e-4, falling), adamw(1e-4, falling)), kl)),
        encoder={"type": "dac", "config": encoder},
        decoder={"type": "dac", "config": decoder},
        bottleneck={"type": "vae"},
        latent_dim=64,
        downsampling_ratio=1024,
    )


def stable_audio_2():
    """Also of stable-audio-open 1.0 and stable-audio-open-small."""
    inverse = {"type": "InverseLR", "config": {"inv_gamma": 200000, "power": 0.5, "warmup": 0.999}}
    optimizers = both(*(adamw(lr, inverse, weight_decay=1e-3) for lr in (1.5e-4, 3e-4)))
    kl = {"type": "kl", "weights": {"kl": 1e-4}}
    return whole(
        *(44100, 2, 65536, training(1.5e-4, 64, 5, optimizers, kl)),
        encoder={"type": "oobleck", "config": {"in_channels": 2, **OOBLECK, "latent_dim": 128}},
        decoder={"type": "oobleck", "config": {"out_channels": 2, **OOBLECK, "latent_dim": 64, "final_tanh": False}},
        bottleneck={"type": "vae"},
        latent_dim=64,
        downsampling_ratio=2048,
    )


def dac_2048():
    falling = {"type": "ExponentialLR", "config": {"gamma": 0.999996}}
    optimizers = both(adamw(1e-4, falling), adamw(5e-5, falling))
    return whole(
        *(44100, 1, 65536, training(1e-4, 32, 7, optimizers, {"weights": {"kl": 1e-6}})),
        encoder={"type": "dac", "config": {"latent_dim": 64, "d_model": 128, "strides": [4, 8, 8, 8]}},
        decoder={"type": "dac", "config": {"latent_dim": 32, "channels": 1536, "rates": [8, 8, 8, 4]}},
        bottleneck={"type": "vae"},
        latent_dim=32,
        downsampling_ratio=2048,
    )


def musicgen():
    network = {"channels": 1, "dimension": 128, "n_filters": 64, "ratios": [4, 4, 5, 8], "n_residual_layers": 1}
    network |= {"dilation_base": 2, "lstm": 2, "norm": "weight_norm"}
    codebooks = {"num_quantizers": 4, "codebook_size": 2048, "dim": 128, "decay": 0.99, "threshold_ema_dead_code": 2}
    return whole(
        *(32000, 1, 32000, training(1e-4, 32, 5)),
        encoder={"type": "seanet", "config": {**network}},
        decoder={"type": "seanet", "config": {**network}},
        bottleneck={"type": "rvq", "config": codebooks},
        latent_dim=128,
        downsampling_ratio=640,
    )


def stable_audio_2_in_a_diffusion_model():
    inner = stable_audio_2()["model"]
    return {
        "model_type": "diffusion_cond",
        "sample_size": 12582912,
        "sample_rate": 44100,
        "audio_channels": 2,
        "model": {
            "pretransform": {"type": "autoencoder", "iterate_batch": True, "config": inner},
            "conditioning": {"configs": [], "cond_dim": 768},
            "diffusion": {"type": "dit", "config": {"io_channels": 64, "embed_dim": 1536}},
            "io_channels": 64,
        },
        "training": {"use_ema": True},
    }


ALL = {
    "stable_audio_1_0_vae": stable_audio_1,
    "stable_audio_2_0_vae": stable_audio_2,
    "dac_2048_32_vae": dac_2048,
    "encodec_musicgen_rvq": musicgen,
    "stable_audio_2_0": stable_audio_2_in_a_diffusion_model,
}
