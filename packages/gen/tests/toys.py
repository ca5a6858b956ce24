"""Small models and a codec that is no network."""

import shutil
from pathlib import Path

import torch
from audio_gen.config import DiffusionConfig
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.conditioners import BytesConfig, CodecSource, ConditioningConfig, NumberConfig
from audio_gen.config.diffusion_autoencoder import (
    CodeDecoderConfig,
    DiffusionAutoencoderConfig,
    EncoderConfig,
    PartConfig,
)
from audio_gen.config.models import INPAINT_IDS
from audio_gen.config.sampling import VSampling
from audio_gen.config.transformer import AttentionConfig, TransformerConfig
from audio_gen.models.diffusion import Diffusion

RATE, HOP, WIDTH, FRAMES = 800, 10, 4, 40


class ToyCodec:
    """Mono, 800 Hz, 10 samples a frame; latents are four sums of the frame's samples, and decoding is their inverse."""

    sample_rate, channels, hop, width = RATE, 1, HOP, WIDTH
    codebooks = ()
    receptive_field = (0, 0)

    def __init__(self, path="default"):
        generator = torch.Generator().manual_seed(1)
        self.basis = torch.linalg.qr(torch.randn(HOP, WIDTH, generator=generator))[0]  # (hop, W)
        self.path = path

    def frames(self, samples):
        return -(-samples // HOP)

    def encode(self, audio, generator=None):
        filled = torch.nn.functional.pad(audio, (0, -audio.shape[2] % HOP))
        return (filled.unflatten(2, (-1, HOP)) @ self.basis)[:, 0].transpose(1, 2)

    def decode(self, latents, samples=None):
        audio = (latents.transpose(1, 2) @ self.basis.T).flatten(1)[:, None]
        return audio[..., :samples]

    def codes(self, audio, layers=None):
        raise TypeError("no codebooks")

    from_codes = codes

    def fingerprint(self):
        return b"toycodec" if self.path == "default" else b"another!"


def config(inpaints=False, codec=True, masks=True, objective="rectified_flow", conditioned=True, depth=1):
    conditioning = ConditioningConfig(
        cond_dim=32,
        conditioners={
            "prompt": BytesConfig(dim=32, depth=1, num_heads=1, max_length=24),
            "seconds_total": NumberConfig(min_val=0, max_val=4),
        },
    )
    return DiffusionConfig(
        rate=RATE,
        channels=1,
        samples=FRAMES * HOP,
        hop=HOP,
        codec=CodecSource(name="toy", fingerprint=b"toycodec".hex()) if codec else None,
        objective=objective,
        masks=masks,
        conditioning=conditioning if conditioned else ConditioningConfig(),
        cross_attention_cond_ids=("prompt",) if conditioned else (),
        global_cond_ids=("seconds_total",) if conditioned else (),
        input_concat_ids=INPAINT_IDS if inpaints else (),
        backbone=DiTConfig(
            io_channels=WIDTH,
            patch_size=2,
            embed_dim=32,
            depth=depth,
            num_heads=1,
            cond_token_dim=32 if conditioned else 0,
            global_cond_dim=32 if conditioned else 0,
            input_concat_dim=1 + WIDTH if inpaints else 0,
            global_cond_type="adaLN",
            transformer=TransformerConfig(attention=AttentionConfig(qk_norm="ln")),
        ),
    )


def autoencoder_config(**settings):
    """Of audio, by a transformer that sees the code of the toy codec behind a decoder of its own."""
    settings = settings or {"codec": CodecSource(name="toy")}
    backbone = DiTConfig(io_channels=1, patch_size=10, embed_dim=32, depth=1, num_heads=1, input_concat_dim=6)
    return DiffusionAutoencoderConfig(
        rate=RATE,
        channels=1,
        samples=FRAMES * HOP,
        hop=HOP,
        code_channels=WIDTH,
        decoder=CodeDecoderConfig(channels=6),
        backbone=backbone,
        sampling=VSampling(sampler="v-ddim", steps=3),
        **settings,
    )


ENCODER = EncoderConfig(
    name="toy",
    parts={"encoder": PartConfig(type="frames", config={"channels": 1, "hop": HOP, "width": WIDTH})},
)


def offer_encoders(folder, monkeypatch):
    """Install a package in `folder` that offers the encoder `toy`, as pip would leave it."""
    shutil.copy(Path(__file__).with_name("encoder_toys.py"), folder)
    info = folder / "encoder_toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: encoder-toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[audio_core.encoders]\ntoy = encoder_toys:build\n")
    monkeypatch.syspath_prepend(folder)


def model(seed=0, **settings):
    """A model with weights that are not zero anywhere."""
    torch.manual_seed(seed)
    net = Diffusion(config(**settings)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


__all__ = [
    "ENCODER",
    "FRAMES",
    "HOP",
    "RATE",
    "WIDTH",
    "ToyCodec",
    "autoencoder_config",
    "config",
    "model",
    "offer_encoders",
]
