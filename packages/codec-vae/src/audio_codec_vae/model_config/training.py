"""The `training` of a model_config.json -> settings of our recipes.

A Literal has the one value that the training here has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from audio_core.files import InputError
from audio_core.train.stated import Choice, Learning, learning

from . import adversaries
from .stated import quarters

# --- losses ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MRSTFT:
    fft_sizes: tuple[int, ...] = (1024, 2048, 512)
    hop_sizes: tuple[int, ...] = (120, 240, 50)
    win_lengths: tuple[int, ...] = (600, 1200, 240)
    window: Literal["hann_window"] = "hann_window"
    w_sum: float = 1.0
    w_diff: float = 1.0
    w_sc: float = 1.0
    w_log_mag: float = 1.0
    w_lin_mag: float = 0.0
    w_phs: float = 0.0
    perceptual_weighting: bool = False
    scale: Literal["mel", None] = None
    n_bins: int | None = None
    scale_invariance: Literal[False] = False
    eps: float = 1e-8
    mag_distance: Literal["L1"] = "L1"
    log_eps: float = 0.0
    log_fac: float = 1.0
    retain_batch_dim: Literal[False] = False
    output: Literal["loss"] = "loss"
    reduction: Literal["mean"] = "mean"

    def __post_init__(self) -> None:
        quarters(self, "fft_sizes", "hop_sizes", "win_lengths")
        for name, value in {"w_sum": 1, "w_diff": 1, "eps": 1e-8, "log_eps": 0, "log_fac": 1}.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name}: is {getattr(self, name):g}, and the loss here has {value:g}")
        if (self.scale is None) != (self.n_bins is None):
            raise ValueError("n_bins: are those of scale mel; give both or none")


@dataclass(frozen=True)
class Spectral:
    weights: dict[Literal["mrstft"], float]
    type: str = ""
    config: MRSTFT = MRSTFT((2048,), (512,), (2048,))
    decay: float = 1.0

    def plain(self) -> dict[str, Any]:
        given = self.config
        return {
            "weight": self.weights.get("mrstft", 0.0),
            "decay": self.decay,
            "windows": [*given.fft_sizes],
            "weighting": "A" if given.perceptual_weighting else "none",
            "convergence": given.w_sc,
            "log_magnitude": given.w_log_mag,
            "magnitude": given.w_lin_mag,
            "phase": given.w_phs,
            "mel_bands": given.n_bins or 0,
        }


@dataclass(frozen=True)
class Mel:
    n_mels: tuple[int, ...] = (150, 80)
    window_lengths: tuple[int, ...] = (2048, 512)
    pow: float = 2.0
    log_weight: float = 1.0
    mag_weight: float = 1.0


@dataclass(frozen=True)
class MRMel:
    weights: dict[Literal["mrmel"], float]
    type: str = ""
    config: Mel = Mel()

    def plain(self) -> dict[str, Any]:
        given = self.config
        return {
            "weight": self.weights.get("mrmel", 0.0),
            "windows": [*given.window_lengths],
            "bands": [*given.n_mels],
            "power": given.pow,
            "log": given.log_weight,
            "magnitude": given.mag_weight,
        }


@dataclass(frozen=True)
class Nothing:
    """No settings."""


@dataclass(frozen=True)
class Time:
    weights: dict[Literal["l1", "l2"], float]
    type: str = ""
    config: Nothing = Nothing()
    decay: float = 1.0

    def plain(self) -> dict[str, Any]:
        return {"l1": self.weights.get("l1", 0.0), "l2": self.weights.get("l2", 0.0), "decay": self.decay}


@dataclass(frozen=True)
class Bottleneck:
    weights: dict[Literal["kl", "mmd"], float]
    type: str = ""


@dataclass(frozen=True)
class Losses:
    spectral: Spectral | None = None
    time: Time | None = None
    mrmel: MRMel | None = None
    bottleneck: Bottleneck | None = None
    discriminator: adversaries.Discriminator | None = None
    hubert: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        weights = self.bottleneck.weights if self.bottleneck else {}
        return {
            "spectral": self.spectral.plain() if self.spectral else None,
            "mel": self.mrmel.plain() if self.mrmel else None,
            "time": self.time.plain() if self.time else {},
            "kl": {"weight": weights.get("kl", 1e-6)},
            "mmd": weights.get("mmd", 100.0),
        }


# --- the whole ---------------------------------------------------------------------------------------------

_SIZES = (2048, 1024, 512, 256, 128, 64, 32)
_USUAL: dict[str, Any] = {
    "losses": {"spectral": {"weight": 1.0, "windows": [*_SIZES], "weighting": "A"}},
    "discriminator": {
        "kind": "EncodecDiscriminator",
        "width": 32,
        "windows": [*_SIZES],
        "adversarial": 0.1,
        "features": 5.0,
    },
}
"""Where a file has no `loss_configs`."""


@dataclass(frozen=True)
class Demo:
    demo_every: int = 2000


@dataclass(frozen=True)
class Both:
    autoencoder: Learning
    discriminator: Learning | None = None


@dataclass(frozen=True)
class Training:
    learning_rate: float | None = None
    warmup_steps: int = 0
    warmup_mode: Literal["adv", "full"] = "adv"
    encoder_freeze_on_warmup: bool = False
    use_ema: bool = False
    loss_configs: Losses | None = None
    eval_loss_configs: dict[Literal["stft", "sisdr", "mel", "pesq"], Any] | None = None
    optimizer_configs: Both | None = None
    clip_grad_norm: float = 0.0
    force_input_mono: bool = False
    latent_mask_ratio: float = 0.0
    teacher_model: dict[str, Any] | None = None
    teacher_model_ckpt: str | None = None
    demo: Demo = Demo()


_LEFT_OUT = ("encoder_freeze_on_warmup", "force_input_mono", "latent_mask_ratio", "teacher_model")


def settings(stated: Training, channels: int) -> tuple[dict[str, Any], list[str]]:
    """Settings of a recipe as plain data, and remarks on what it cannot hold."""
    losses = stated.loss_configs
    if losses and losses.hubert is not None:
        raise InputError("training.loss_configs.hubert: its network is fetched from elsewhere; leave it out")
    plain = {"losses": losses.plain(), "discriminator": None} if losses else {**_USUAL}
    if losses and losses.discriminator:
        where = "training.loss_configs.discriminator"
        plain["discriminator"] = adversaries.settings(losses.discriminator, channels, where)
    if plain["discriminator"]:
        # The original counts the steps of both networks, of which every other one is the autoencoder's.
        warmup = {"warmup": math.ceil(stated.warmup_steps / 2), "warmup_mode": stated.warmup_mode}
        plain["discriminator"] = {**plain["discriminator"], **warmup}
    plain |= _learning(stated)
    plain |= {"clip": stated.clip_grad_norm, "average": 0.9999 if stated.use_ema else 0.0}
    remarks = [f"training.{name}: is left out, since no recipe holds it" for name in _LEFT_OUT if getattr(stated, name)]
    return plain, remarks


def _learning(stated: Training) -> dict[str, Any]:
    configs = stated.optimizer_configs
    if not configs:
        if stated.learning_rate is None:
            raise InputError("training.learning_rate: is missing, and there are no optimizer_configs")
        usual = Choice("AdamW", {"lr": stated.learning_rate, "betas": [0.8, 0.99]})
        optimizer, _ = learning(Learning(usual), "training")
        return {"optimizer": optimizer, "discriminator_optimizer": optimizer}
    where = "training.optimizer_configs"
    optimizer, schedule = learning(configs.autoencoder, f"{where}.autoencoder")
    plain = {"optimizer": optimizer, "schedule": schedule}
    if configs.discriminator:
        optimizer, schedule = learning(configs.discriminator, f"{where}.discriminator")
        plain |= {"discriminator_optimizer": optimizer, "discriminator_schedule": schedule}
    return plain
