"""Our names of tensors -> those in a checkpoint of stable-audio-tools, and what of theirs is no weight of ours."""

from __future__ import annotations

import re

from ..config import LMConfig
from ..config.backbones import DiTConfig
from ..config.conditioners import PretransformConfig, SourceMixConfig
from ..config.diffusion_autoencoder import DiffusionAutoencoderConfig
from ..config.transformer import TransformerConfig
from ..config.unets import DanceDiffusionUNetConfig
from ..model_config.stated import Settled

# What is computed and not learnt: angles of rotations, filters of resampling, the window of an STFT.
_CONSTANTS = r".*\.inv_freq", r"(?:diffusion\.)?model\.net\..*\.kernel", r"(?:diffusion|model)\.model\.stft\.window"


def their_name(name: str, config: Settled) -> str:
    """The name in a file for use."""
    if name.startswith("conditioner."):
        return name
    if isinstance(config, LMConfig):
        name = re.sub(r"^lm\.transformer\.", "lm.backbone.model.", name)
        name = re.sub(r"^lm\.to_", "lm.backbone.to_", name)
        return _nested(name, config.lm.transformer)
    if isinstance(config, DiffusionAutoencoderConfig) and not name.startswith("backbone."):
        return name
    name, backbone = name.removeprefix("backbone."), config.backbone
    if isinstance(backbone, DiTConfig):
        name = _nested(name, backbone.transformer)
    if isinstance(config, DiffusionAutoencoderConfig):
        return f"diffusion.model.{name}"
    if isinstance(backbone, DanceDiffusionUNetConfig):
        return f"model.{name}"
    return f"model.model.{name}"


def _nested(name: str, config: TransformerConfig) -> str:
    """The name of a feed-forward layer, which the original puts into further modules."""
    first = "0.proj" if config.feed_forward.glu else "0.1"
    return name.replace(".ff.up.", f".ff.ff.{first}.").replace(".ff.down.", ".ff.ff.2.")


def left_out(config: Settled) -> re.Pattern[str]:
    """Their names of tensors that take no part here."""
    patterns = [*_CONSTANTS]
    for key, conditioner in config.conditioning.conditioners.items():
        place = rf"conditioner\.conditioners\.{re.escape(key)}\."
        if isinstance(conditioner, PretransformConfig | SourceMixConfig):
            patterns.append(rf"{place}pretransform\..*")  # a codec
        if isinstance(conditioner, SourceMixConfig):
            patterns.append(rf"{place}proj_out\..*")  # which the original has and does not use
    return re.compile("|".join(patterns))
