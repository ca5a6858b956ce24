"""What the tests of adapters share."""

import torch
from audio_gen import adapters
from audio_gen.config.adapters import AdapterConfig
from audio_gen.config.backbones import DiTConfig
from audio_gen.models.dit import DiT
from torch import nn

METHODS = ("lora", "dora")
WIDTH, TOKENS = 64, 16
SMALL = DiTConfig(io_channels=4, embed_dim=WIDTH, depth=2, num_heads=2, cond_token_dim=TOKENS)
SEVERAL = AdapterConfig(rank=4, alpha=6), AdapterConfig(rank=2, method="dora")


def small_dit():
    """A diffusion transformer whose branches are not zero, as if it had learnt."""
    torch.manual_seed(0)
    return drawn(DiT(SMALL)).eval()


def drawn(model):
    """The model with no weight of zeros."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def output(model):
    generator = torch.Generator().manual_seed(1)
    x, tokens = (torch.randn(2, *size, generator=generator) for size in ((4, 12), (5, TOKENS)))
    return model(x, torch.tensor([0.2, 0.7]), cross_attn_cond=tokens)


def learnt(model, config, name="adapter", seed=2):
    """The model with an adapter whose values are random."""
    torch.manual_seed(seed)
    adapters.attach(model, config, name)
    for tensor in adapters.adapter_state(model, name).values():
        tensor += 0.1 * torch.randn_like(tensor)
    return model
