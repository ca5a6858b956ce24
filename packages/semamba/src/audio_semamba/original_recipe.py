"""Recipes of the original program (YAML) -> our settings: those of a model, and those of a whole training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audio_core import config
from audio_core.files import InputError, read_text

from .config import SEMambaConfig
from .recipe import Recipe

PRETRAINED = "pretrained_discriminator.pth"
"""The discriminator that the original begins with where its recipe has `use_pretrainedD`."""


@dataclass(frozen=True)
class _Loss:
    metric: float = 0.05
    magnitude: float = 0.9
    phase: float = 0.3
    complex: float = 0.1
    time: float = 0.2
    consistancy: float = 0.1
    """As the original spells it."""
    consistency: float | None = None

    def plain(self) -> dict[str, float]:
        right = self.consistancy if self.consistency is None else self.consistency
        return {name: getattr(self, name) for name in ("metric", "magnitude", "phase", "complex", "time")} | {
            "consistency": right
        }


@dataclass(frozen=True)
class _Training:
    training_epochs: int = 200
    batch_size: int = 4
    learning_rate: float = 5e-4
    adam_b1: float = 0.8
    adam_b2: float = 0.99
    lr_decay: float = 0.99
    segment_size: int = 32000
    loss: _Loss = _Loss()
    use_PCS400: bool = False
    use_pretrainedD: bool = False


@dataclass(frozen=True)
class _Spectrum:
    sampling_rate: int = 16000
    n_fft: int = 400
    hop_size: int = 100
    win_size: int = 400


@dataclass(frozen=True)
class _Model:
    hid_feature: int = 64
    compress_factor: float = 0.3
    num_tfmamba: int | None = 4
    d_state: int = 16
    d_conv: int = 4
    expand: int = 4
    norm_epsilon: float = 1e-5
    beta: float = 2.0
    input_channel: Literal[2] = 2
    output_channel: Literal[1] = 1


@dataclass(frozen=True)
class _Environment:
    num_gpus: int = 2
    num_workers: int = 20
    seed: int = 1234
    stdout_interval: int = 10
    checkpoint_interval: int = 1000
    validation_interval: int = 1000
    summary_interval: int = 100
    dist_cfg: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OriginalRecipe:
    """The sections of an original's recipe under its own names."""

    env_setting: _Environment = _Environment()
    data_cfg: dict[str, str] = field(default_factory=dict)
    training_cfg: _Training = _Training()
    stft_cfg: _Spectrum = _Spectrum()
    model_cfg: _Model = _Model()

    @property
    def model(self) -> SEMambaConfig:
        ours, spectrum = self.model_cfg, self.stft_cfg
        return SEMambaConfig(
            rate=spectrum.sampling_rate,
            n_fft=spectrum.n_fft,
            hop=spectrum.hop_size,
            window=spectrum.win_size,
            compress=ours.compress_factor,
            channels=ours.hid_feature,
            blocks=4 if ours.num_tfmamba is None else ours.num_tfmamba,
            state=ours.d_state,
            conv=ours.d_conv,
            expand=ours.expand,
            eps=ours.norm_epsilon,
            beta=ours.beta,
        )

    @property
    def training(self) -> dict[str, Any]:
        """What our Recipe holds, as plain data. Of the data only the lists for training and validation are kept."""
        training, env = self.training_cfg, self.env_setting
        optimizer = {"lr": training.learning_rate, "betas": [training.adam_b1, training.adam_b2]}
        lists = {"train": "train_clean_json", "noisy": "train_noisy_json"}
        lists |= {"valid": "valid_clean_json", "valid_noisy": "valid_noisy_json"}
        data = {ours: self.data_cfg[theirs] for ours, theirs in lists.items() if theirs in self.data_cfg}
        seconds = training.segment_size / self.stft_cfg.sampling_rate
        return {
            "data": {**data, "seconds": seconds, "pcs": "peak" if training.use_PCS400 else "no"},
            "model": config.plain(self.model),
            "weights": training.loss.plain(),
            "discriminator": {"pretrained": PRETRAINED if training.use_pretrainedD else ""},
            "optimizer": optimizer,
            "discriminator_optimizer": optimizer,
            "schedule": {"kind": "Exponential", "factor": training.lr_decay},
            "epochs": training.training_epochs,
            "batch": training.batch_size,
            "seed": env.seed,
            "log_every": env.stdout_interval,
            "evaluate_every": env.validation_interval,
            "save_every": env.checkpoint_interval,
        }


def migrated(path: str | Path, settings: Sequence[str] = ()) -> str:
    """Our recipe for an original's, with further `settings`, as YAML."""
    return config.dump(config.build(Recipe, read_recipe(path).training, settings))


def read_recipe(path: str | Path) -> OriginalRecipe:
    """The recipe of an original in a YAML file. Sections and keys that are left out are as published."""
    data = config.parse(read_text(path), str(path))
    try:
        recipe = config.build(OriginalRecipe, data)
        recipe.model  # noqa: B018 (checks the values)
    except (InputError, ValueError) as error:
        raise InputError(f"{path}: is no recipe of SEMamba: {error}") from None
    return recipe
