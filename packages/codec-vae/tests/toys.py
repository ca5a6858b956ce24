"""Small autoencoders of every kind, for 2 channels at 800 Hz, whose weights are the same each time."""

import torch
from audio_codec_vae.config import (
    AutoencoderConfig,
    DACDecoderConfig,
    DACEncoderConfig,
    DACRVQConfig,
    DitheredFSQConfig,
    FilterBankConfig,
    FSQConfig,
    LyraDecoderConfig,
    LyraEncoderConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
    PatchedConfig,
    RVQConfig,
    SEANetDecoderConfig,
    SEANetEncoderConfig,
    TAAEDecoderConfig,
    TAAEEncoderConfig,
    TanhConfig,
    VAEConfig,
    WassersteinConfig,
    WaveletConfig,
)
from audio_codec_vae.models.autoencoder import Autoencoder
from audio_codec_vae.models.quantise import RVQ


def _lyra(strides: tuple[int, ...], **settings) -> AutoencoderConfig:
    shared = {"base_channels": 4, "latent_dim": 3, "c_mults": ((1, 1), (1, 2)), "strides": strides, **settings}
    return AutoencoderConfig(rate=800, encoder=LyraEncoderConfig(**shared), decoder=LyraDecoderConfig(**shared))


def oobleck(bottleneck, inputs: int, outputs: int, channels: int = 2, **settings) -> AutoencoderConfig:
    shared = {"channels": 4, "c_mults": (1, 2), "strides": (2, 4), "use_snake": True}
    shared |= {name: settings.pop(name) for name in ("strides", "antialias_activation") if name in settings}
    return AutoencoderConfig(
        rate=800,
        encoder=OobleckEncoderConfig(in_channels=channels, latent_dim=inputs, **shared),
        decoder=OobleckDecoderConfig(out_channels=channels, latent_dim=outputs, **shared),
        bottleneck=bottleneck,
        **settings,
    )


def _seanet(lstm: int) -> AutoencoderConfig:
    shared = {"channels": 2, "dimension": 4, "n_filters": 4, "lstm": lstm}
    return AutoencoderConfig(
        rate=800,
        encoder=SEANetEncoderConfig(ratios=(2, 4), **shared),
        decoder=SEANetDecoderConfig(ratios=(4, 2), **shared),
        bottleneck=RVQConfig(dim=4, codebook_size=8, num_quantizers=3),
    )


def _dac() -> AutoencoderConfig:
    return AutoencoderConfig(
        rate=800,
        encoder=DACEncoderConfig(in_channels=2, d_model=4, strides=(2, 4)),
        decoder=DACDecoderConfig(out_channels=2, latent_dim=16, channels=16, rates=(4, 2)),
        bottleneck=DACRVQConfig(input_dim=16, n_codebooks=3, codebook_dim=4, codebook_size=8),
    )


def _taae(window: tuple[int, int] | None) -> AutoencoderConfig:
    shared = {"channels": 8, "c_mults": (1, 1), "strides": (2, 4), "transformer_depths": (1, 1)}
    return AutoencoderConfig(
        rate=800,
        encoder=TAAEEncoderConfig(latent_dim=4, sliding_window=window, **shared),
        decoder=TAAEDecoderConfig(latent_dim=4, sliding_window=window, **shared),
        bottleneck=DitheredFSQConfig(dim=2, levels=5, num_codebooks=2),
    )


CONFIGS = {
    "lyra": _lyra((2, 4)),
    "lyra_odd": _lyra((3, 2)),
    "lyra_norms": _lyra((2, 4), group_norm=True),
    "oobleck": oobleck(VAEConfig(), 6, 3),
    "oobleck_odd": oobleck(TanhConfig(), 3, 3, strides=(3, 2), soft_clip=True),
    "oobleck_antialias": oobleck(None, 3, 3, antialias_activation=True),
    "patched": oobleck(FSQConfig(levels=(5, 4), num_codebooks=2), 4, 4, 6, pretransform=PatchedConfig(2, 3)),
    "wavelet": oobleck(WassersteinConfig(2), 3, 5, 4, pretransform=WaveletConfig(2, 1)),
    "bands": oobleck(VAEConfig(), 6, 3, 8, pretransform=FilterBankConfig(2, 4)),
    "dac": _dac(),
    "seanet": _seanet(0),
    "seanet_lstm": _seanet(1),
    "taae": _taae((3, 2)),
    "taae_whole": _taae(None),
}


def autoencoder(name: str) -> Autoencoder:
    return built(CONFIGS[name])


def built(config: AutoencoderConfig) -> Autoencoder:
    """In eval mode, with weights that draw from all parts of the configuration."""
    torch.manual_seed(1)
    model = Autoencoder(config)
    if isinstance(model.bottleneck, RVQ):  # codebooks begin at 0
        quantizer = model.bottleneck.quantizer
        quantizer.load_codebooks(0.1 * torch.randn_like(quantizer.codebooks))
    return model.eval()
