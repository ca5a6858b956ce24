"""Whether the parts of an autoencoder fit each other, and what its file states of them."""

from __future__ import annotations

from audio_core.files import InputError

from .. import config as ours
from ..models.autoencoder import audio_channels, decoder_width, encoder_width


def check_fit(model: ours.AutoencoderConfig, latents: int, ratio: int) -> None:
    """Refuse parts that do not fit; `latents` and `ratio` are what the file states."""
    encoder, decoder = model.encoder, model.decoder
    rows, length = _rows(model.pretransform), model.pretransform.ratio if model.pretransform else 1
    inner = model.channels * rows
    for name, channels in (("encoder", audio_channels(encoder)), ("decoder", audio_channels(decoder))):
        if channels != inner:
            through = f" in {rows} rows each" if rows > 1 else ""
            raise InputError(f"{name}: has {channels} channels of audio, and io_channels is {model.channels}{through}")
    for name, side in (("encoder", encoder), ("decoder", decoder)):
        if side.ratio * length != ratio:
            raise InputError(f"{name}: has the ratio {side.ratio * length}, and downsampling_ratio is {ratio}")
    before, after = _around(model.bottleneck, latents)
    given, taken = encoder_width(encoder), decoder_width(decoder)
    if given != before:
        raise InputError(f"encoder: gives {given} channels, and the bottleneck takes {before} for latent_dim {latents}")
    if taken != after:
        raise InputError(f"decoder: takes {taken} channels, and the bottleneck gives {after} for latent_dim {latents}")
    if model.bottleneck and (width := _own_width(model.bottleneck)) not in (None, latents):
        raise InputError(f"bottleneck: has the width {width}, and latent_dim is {latents}")


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


def _rows(pretransform: ours.PretransformConfig | None) -> int:
    """How many channels a pretransform makes of each."""
    match pretransform:
        case ours.PatchedConfig():
            return pretransform.patch_size
        case None:
            return 1
        case _:
            return pretransform.ratio
