"""Our names of tensors -> those in a checkpoint of stable-audio-tools, and what of theirs is no weight of ours."""

from __future__ import annotations

import re

from ..config import DiffusionConfig
from ..config.backbones import DiTConfig
from ..config.conditioners import PretransformConfig, SourceMixConfig
from ..config.unets import DanceDiffusionUNetConfig

# What is computed and not learnt: angles of rotations, filters of resampling, the window of an STFT.
_CONSTANTS = r".*\.inv_freq", r"model\.net\..*\.kernel", r"model\.model\.stft\.window"


def their_name(name: str, config: DiffusionConfig) -> str:
    """The name in a file for use, where `model.` is before the class of the network."""
    if not name.startswith("backbone."):
        return name  # of a conditioner
    name, backbone = name.removeprefix("backbone."), config.backbone
    if isinstance(backbone, DanceDiffusionUNetConfig):
        return f"model.{name}"
    if isinstance(backbone, DiTConfig):
        first = "0.proj" if backbone.transformer.feed_forward.glu else "0.1"
        name = name.replace(".ff.up.", f".ff.ff.{first}.").replace(".ff.down.", ".ff.ff.2.")
    return f"model.model.{name}"


def left_out(config: DiffusionConfig) -> re.Pattern[str]:
    """Their names of tensors that take no part here."""
    patterns = [*_CONSTANTS]
    for key, conditioner in config.conditioning.conditioners.items():
        place = rf"conditioner\.conditioners\.{re.escape(key)}\."
        if isinstance(conditioner, PretransformConfig | SourceMixConfig):
            patterns.append(rf"{place}pretransform\..*")  # a codec
        if isinstance(conditioner, SourceMixConfig):
            patterns.append(rf"{place}proj_out\..*")  # which the original has and does not use
    return re.compile("|".join(patterns))
