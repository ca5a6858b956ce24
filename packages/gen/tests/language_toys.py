"""Small language models and conditions for tests."""

import torch
from audio_gen.config.language import LanguageModelConfig
from audio_gen.config.transformer import TransformerConfig
from audio_gen.models.language import LanguageModel

from .originals import language_config, loaded

CASES = {"lm_uncond": None, "lm_prepend": "prepend_cond", "lm_cross": "cross_attn_cond"}
"""With the condition that each has."""


def stored(case, name):
    """The model of a case and its conditions."""
    model = loaded(LanguageModel(language_config(case.config)), case)
    return model, {CASES[name]: case.inputs["text"]} if CASES[name] else {}


def small(**settings):
    """A model of four codebooks of 24 codes, in eval mode, whose blocks do something from the start."""
    transformer = TransformerConfig(causal=True, zero_init_branch_outputs=False)
    defaults = {"codebooks": 4, "codebook_size": 24, "embed_dim": 64, "depth": 2, "dim_heads": 32}
    return LanguageModel(LanguageModelConfig(**defaults | {"transformer": transformer} | settings)).eval()


def conditioned(**settings):
    """A model with both kinds of tokens, and such tokens with masks for two items."""
    model = small(cross_attn_cond_dim=20, project_cross_attn_cond=True, prepend_cond_dim=12, **settings)
    conditions = {
        "cross_attn_cond": torch.randn(2, 5, 20),
        "cross_attn_mask": torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]).bool(),
        "prepend_cond": torch.randn(2, 3, 12),
        "prepend_cond_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]).bool(),
    }
    return model, conditions
