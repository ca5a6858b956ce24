"""Whether the parts of an autoencoder fit each other, and what its file states of them."""

from __future__ import annotations

from audio_core.files import InputError

from .. import config as ours


def check_fit(model: ours.AutoencoderConfig, latents: int, ratio: int) -> None:
    """Refuse parts that do not fit; `latents` and `ratio` are what the file states."""
    encoder, decoder = model.encoder, model.decoder
    rows, length = _spread(model.pretransform)
    inner = model.channels * rows
    for name, channels in (("encoder", _audio(encoder)), ("decoder", _audio(decoder))):
        if channels != inner:
            through = f" in {rows} rows each" if rows > 1 else ""
            raise InputError(f"{name}: has {channels} channels of audio, and io_channels is {model.channels}{through}")
    for name, side in (("encoder", encoder), ("decoder", decoder)):
        if side.ratio * length != ratio:
            raise InputError(f"{name}: has the ratio {side.ratio * length}, and downsampling_ratio is {ratio}")
    before, after = _around(model.bottleneck, latents)
    if outputs(encoder) != before:
        raise InputError(
            f"encoder: gives {outputs(encoder)} channels, and the bottleneck takes {before} for latent_dim {latents}"
        )
    if inputs(decoder) != after:
        raise InputError(
            f"decoder: takes {inputs(decoder)} channels, and the bottleneck gives {after} for latent_dim {latents}"
        )
    if model.bottleneck and (width := _own_width(model.bottleneck)) not in (None, latents):
        raise InputError(f"bottleneck: has the width {width}, and latent_dim is {latents}")


def _audio(side: ours.EncoderConfig | ours.DecoderConfig) -> int:
    """Channels of audio, or of what a pretransform makes of it."""
    if isinstance(side, ours.SEANetEncoderConfig | ours.SEANetDecoderConfig):
        return side.channels
    return side.in_channels if isinstance(side, ours.EncoderConfig) else side.out_channels


def outputs(encoder: ours.EncoderConfig) -> int:
    """Channels that the encoder hands to the bottleneck."""
    match encoder:
        case ours.SEANetEncoderConfig():
            return encoder.dimension
        case ours.LyraEncoderConfig():
            return 2 * encoder.latent_dim
        case ours.DACEncoderConfig():
            return encoder.latent_dim or encoder.d_model * 2 ** len(encoder.strides)
        case _:
            return encoder.latent_dim


def inputs(decoder: ours.DecoderConfig) -> int:
    """Channels that the decoder takes."""
    return decoder.dimension if isinstance(decoder, ours.SEANetDecoderConfig) else decoder.latent_dim


def _around(bottleneck: ours.BottleneckConfig | None, latents: int) -> tuple[int, int]:
    """Channels before and after a bottleneck of this width."""
    halves = (ours.VAEConfig, ours.LogVarianceConfig, ours.RVQVAEConfig, ours.DACRVQVAEConfig)
    before = 2 * latents if isinstance(bottleneck, halves) else latents
    return before, latents + getattr(bottleneck, "noise_augment_dim", 0)


def _own_width(bottleneck: ours.BottleneckConfig) -> int | None:
    """The width that a bottleneck's own settings say."""
    match bottleneck:
        case ours.RVQConfig() | ours.SoftNormConfig():
            return bottleneck.dim
        case ours.DACRVQConfig():
            return bottleneck.input_dim
        case ours.FSQConfig():
            return bottleneck.dim or len(bottleneck.levels) * bottleneck.num_codebooks
        case ours.DitheredFSQConfig():
            return bottleneck.dim * bottleneck.num_codebooks
        case _:
            return None


def _spread(pretransform: ours.PretransformConfig | None) -> tuple[int, int]:
    """Into how many rows a pretransform makes each channel, and how many samples become one."""
    match pretransform:
        case ours.PatchedConfig():
            return pretransform.patch_size, pretransform.patch_size // pretransform.oversampling
        case ours.WaveletConfig():
            return 2**pretransform.levels, 2**pretransform.levels
        case ours.FilterBankConfig():
            return pretransform.num_bands, pretransform.num_bands
        case _:
            return 1, 1
