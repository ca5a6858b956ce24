"""A diffusion transformer is sampled with guidance, whatever it has learnt to estimate."""

import pytest
import torch
from audio_core.testing import close
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.guidance import Guidance
from audio_gen.config.sampling import FlowSampling, VSampling
from audio_gen.config.transformer import TransformerConfig
from audio_gen.diffusion import objectives, sample
from audio_gen.models.dit import DiT
from audio_gen.models.guidance import Guided

SETTINGS = {
    "v": VSampling(steps=3),
    "rectified_flow": FlowSampling(steps=3),
    "rf_denoiser": FlowSampling(sampler="pingpong", steps=3),
}


@pytest.fixture
def given():
    """A small transformer that listens to its tokens, the tokens, and noise (2, 4, 8)."""
    torch.manual_seed(0)
    parts = TransformerConfig(zero_init_branch_outputs=False)
    config = DiTConfig(io_channels=4, embed_dim=64, depth=1, num_heads=2, cond_token_dim=8, transformer=parts)
    return DiT(config).eval(), torch.randn(2, 5, 8), torch.randn(2, 4, 8)


def steady(like):
    """Noise of the steps that is always the same."""
    return torch.linspace(-1, 1, like.numel()).view_as(like).to(like)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("objective", [*SETTINGS])
def test_each_objective_is_sampled_with_guidance(given, objective, scale):
    backbone, tokens, noise = given

    def by_hand(x, t):
        with_tokens = backbone(x, t, cross_attn_cond=tokens)
        without = backbone(x, t, cross_attn_cond=torch.zeros_like(tokens))
        assert not torch.allclose(with_tokens, without, 1e-2)
        return without + scale * (with_tokens - without)

    model = Guided(backbone, {"cross_attn_cond": tokens}, Guidance(scale=scale), objectives.build(objective))
    result = sample(model, noise, SETTINGS[objective], steady)
    close(result, sample(by_hand, noise, SETTINGS[objective], steady), 1e-5)


def test_cfgpp_takes_the_unconditioned_output_beside_the_guided_one(given):
    backbone, tokens, noise = given
    model = Guided(backbone, {"cross_attn_cond": tokens}, Guidance(scale=3), objectives.build("v"))

    def by_hand(x, t):
        return model(x, t), backbone(x, t, cross_attn_cond=torch.zeros_like(tokens))

    settings = VSampling(sampler="v-ddim-cfgpp", steps=3)
    close(sample(model.pair, noise, settings, steady), sample(by_hand, noise, settings, steady), 1e-5)
