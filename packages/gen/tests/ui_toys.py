"""Small models that can be heard: at a rate which browsers play."""

import dataclasses

import torch
from audio_gen.config import LMConfig
from audio_gen.config.conditioners import BytesConfig, CodecSource, ConditioningConfig
from audio_gen.config.language import CodeSampling, LanguageModelConfig
from audio_gen.config.transformer import TransformerConfig
from audio_gen.models.diffusion import Diffusion
from audio_gen.models.lm import LM

from . import toys

RATE = 8000


class Codec(toys.ToyCodec):
    """Also with codes: of the first two channels of latents, rounded."""

    sample_rate = RATE
    codebooks = (16, 16)

    def codes(self, audio, layers=None):
        return (self.encode(audio)[:, :2] * 4 + 8).round().clamp(0, 15).long()

    def from_codes(self, codes):
        return torch.nn.functional.pad((codes.float() - 8) / 4, (0, 0, 0, 2))


def diffusion_config(**settings):
    """Half a second."""
    return dataclasses.replace(toys.config(**settings), rate=RATE, samples=4000)


def diffusion(**settings):
    torch.manual_seed(0)
    model = Diffusion(diffusion_config(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def language():
    """A tenth of a second."""
    lm = LanguageModelConfig(
        codebooks=2,
        codebook_size=16,
        embed_dim=32,
        depth=1,
        dim_heads=32,
        prepend_cond_dim=32,
        transformer=TransformerConfig(causal=True, zero_init_branch_outputs=False),
    )
    prompt = BytesConfig(dim=32, depth=1, num_heads=1, max_length=24)
    config = LMConfig(
        rate=RATE,
        channels=1,
        samples=800,
        hop=toys.HOP,
        codec=CodecSource(name="toy", fingerprint=b"toycodec".hex()),
        conditioning=ConditioningConfig(cond_dim=32, conditioners={"prompt": prompt}),
        prepend_cond_ids=("prompt",),
        lm=lm,
        sampling=CodeSampling(top_k=8),
    )
    torch.manual_seed(0)
    return LM(config).eval()
