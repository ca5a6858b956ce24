"""How far Lyra, Oobleck and DAC see, and that they give the same in pieces as whole: in float64, without rounding."""

from fractions import Fraction

import pytest
import torch
from audio_codec_vae.config import (
    DACDecoderConfig,
    DACEncoderConfig,
    LyraDecoderConfig,
    LyraEncoderConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
)
from audio_codec_vae.models import blocks
from audio_codec_vae.models.dac import DACDecoder, DACEncoder
from audio_codec_vae.models.lyra import LyraDecoder, LyraEncoder
from audio_codec_vae.models.oobleck import OobleckDecoder, OobleckEncoder
from audio_core import chunk
from audio_core.testing import check_gradients, close
from torch import nn

FIELDS = {  # of the encoder in samples, of the decoder in latents
    "lyra": (14885, 47),
    "lyra_odd": (1736, 58),
    "oobleck": (14885, 10),
    "nearest": (557, 23),
    "losing": (446, 17),
    "dac": (3733, 10),
}


def narrow(name: str) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of the layout `name`, two channels wide, in float64."""
    if name == "dac":
        encoder = DACEncoder(DACEncoderConfig(in_channels=2, d_model=2))
        decoder = DACDecoder(DACDecoderConfig(latent_dim=2, channels=32))
    elif name.startswith("lyra"):
        strides = (3, 2, 5, 3) if name == "lyra_odd" else (2, 4, 4, 8, 8)
        shape = {"base_channels": 2, "latent_dim": 2, "c_mults": ((1, 1),) * len(strides), "strides": strides}
        encoder, decoder = LyraEncoder(LyraEncoderConfig(**shape)), LyraDecoder(LyraDecoderConfig(**shape))
    else:
        strides = {"oobleck": (2, 4, 4, 8, 8), "nearest": (2, 3, 5), "losing": (3, 2, 5)}[name]
        shape = {"channels": 2, "latent_dim": 2, "c_mults": (1,) * len(strides), "strides": strides}
        shape |= {"use_snake": name == "oobleck", "antialias_activation": name == "nearest"}
        encoder = OobleckEncoder(OobleckEncoderConfig(**shape))
        decoder = OobleckDecoder(OobleckDecoderConfig(**shape, use_nearest_upsample=name == "nearest"))
    return encoder.double(), decoder.double()


@pytest.mark.parametrize("name", FIELDS)
def test_the_receptive_field_is_what_changes_show(name):
    encoder, decoder = narrow(name)
    ratio, (samples, latents) = encoder.ratio, FIELDS[name]
    assert (encoder.receptive_field, decoder.receptive_field) == (samples, latents)
    # The latent in the middle depends on the sample at the edge of its field, and on none beyond.
    frame = samples // ratio + 2
    x = torch.randn(1, 2, (2 * frame + 1) * ratio, dtype=torch.float64, requires_grad=True)
    before = encoder(x)[..., frame]
    begin, end = frame * ratio - samples, (frame + 1) * ratio + samples
    seen = torch.autograd.grad(before.sum(), x)[0].abs().sum((0, 1)).nonzero()
    assert seen.min() == begin and seen.max() < end
    changed = torch.cat([torch.randn_like(x[..., :begin]), x[..., begin:end], torch.randn_like(x[..., end:])], -1)
    with torch.no_grad():
        close(encoder(changed)[..., frame], before, 1e-12)
    # The samples of the latent in the middle depend on `latents` to either side, and on none beyond.
    z = torch.randn(1, 2, 2 * latents + 5, dtype=torch.float64, requires_grad=True)
    middle = slice((latents + 2) * ratio, (latents + 3) * ratio)
    before = decoder(z)[..., middle]
    seen = torch.autograd.grad(before.sum(), z)[0].abs().sum((0, 1)).nonzero()
    assert seen.min() == 2 and seen.max() == 2 * latents + 2
    changed = torch.cat([torch.randn_like(z[..., :2]), z[..., 2:-2], torch.randn_like(z[..., -2:])], -1)
    with torch.no_grad():
        close(decoder(changed)[..., middle], before, 1e-12)


@pytest.mark.parametrize("name", FIELDS)
@torch.no_grad()
def test_chunks_with_the_receptive_field_around_them_are_exact(name):
    encoder, decoder = narrow(name)
    ratio, margin = encoder.ratio, -(-encoder.receptive_field // encoder.ratio) * encoder.ratio
    x = torch.randn(1, 2, 2 * margin + 9 * ratio + 1, dtype=torch.float64)
    options = {"overlap": 0, "margin": margin, "multiple": 1, "ratio": Fraction(1, ratio)}
    close(chunk.process(encoder, x, 2 * margin + 3 * ratio, **options), encoder(x), 1e-12)
    margin = decoder.receptive_field
    cut, z = margin + 4, torch.randn(1, 2, 2 * margin + 9, dtype=torch.float64)
    left = decoder(z[..., : cut + margin])[..., : cut * ratio]
    right = decoder(z[..., cut - margin :])[..., margin * ratio :]
    close(torch.cat([left, right], -1), decoder(z), 1e-12)


@pytest.mark.parametrize("samples", [4096, 8777])
@pytest.mark.parametrize("name", FIELDS)
@torch.no_grad()
def test_the_form_for_inference_gives_the_same_in_pieces(name, samples):
    encoder, decoder = narrow(name)
    x = torch.randn(2, 2, samples, dtype=torch.float64)
    latents = encoder(x)
    z = torch.randn(2, 2, latents.shape[-1], dtype=torch.float64)
    lengths = (samples,) if name.startswith("lyra") else ()
    expected, plain = decoder(z, *lengths), decoder(z)
    counts = []
    for side, last in ((encoder, encoder.steps()[0]), (decoder, decoder.steps()[len(decoder.strides)])):
        blocks.for_inference(side)
        assert side.piece == 2**20  # samples of two channels
        side.piece = 512
        last.register_forward_hook(lambda *_: counts.append(1))
    close(encoder(x), latents, 1e-12)
    close(decoder(z, *lengths), expected, 1e-12)
    close(decoder(z), plain, 1e-12)
    assert len(counts) > 6


def test_group_norm_depends_on_the_whole():
    config = LyraEncoderConfig(base_channels=2, c_mults=((1, 1),), strides=(4,), group_norm=True)
    encoder = LyraEncoder(config)
    decoder = LyraDecoder(LyraDecoderConfig(base_channels=2, c_mults=((1, 1),), strides=(4,), group_norm=True))
    assert encoder.receptive_field is decoder.receptive_field is None
    x = torch.randn(1, 2, 4000)
    with torch.no_grad():
        expected = encoder(x)
        assert torch.equal(blocks.for_inference(encoder)(x), expected)


@pytest.mark.parametrize("name", FIELDS)
def test_every_weight_learns(name):
    encoder, decoder = narrow(name)
    check_gradients(encoder, torch.randn(1, 2, 3 * encoder.ratio, dtype=torch.float64))
    check_gradients(decoder, torch.randn(1, 2, 6, dtype=torch.float64))
