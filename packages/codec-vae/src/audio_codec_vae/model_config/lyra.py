"""LyraCodec's config.yaml, in both of its arrangements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audio_core.files import InputError
from audio_core.train.stated import build

from ..config import AutoencoderConfig
from .stated import ModelConfig, quarters

_ORIGIN = "LyraCodec"


@dataclass(frozen=True)
class Network:
    """The arguments of its VAE."""

    in_channels: int = 2
    base_channels: int = 128
    latent_dim: int = 64
    c_mults: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)

    def __post_init__(self) -> None:
        if self.c_mults and self.c_mults[0][0] != 1:
            raise ValueError(f"c_mults: the first block takes base_channels, got {self.c_mults[0][0]} times as many")

    def autoencoder(self, rate: int, group_norm: bool) -> AutoencoderConfig:
        shape = {name: getattr(self, name) for name in ("base_channels", "latent_dim", "c_mults", "strides")}
        shape["group_norm"] = group_norm
        data = {
            "rate": rate,
            "channels": self.in_channels,
            "encoder": {"kind": "LyraEncoder", "in_channels": self.in_channels, **shape},
            "decoder": {"kind": "LyraDecoder", "out_channels": self.in_channels, **shape},
            "bottleneck": {"kind": "LogVariance"},
        }
        return build(AutoencoderConfig, data)


# --- of the first revision ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    batch_size: int = 4
    num_epochs: int = 500
    learning_rate: float = 2e-4
    weight_decay: float = 1e-4
    kl_weight: float = 1e-6
    kl_anneal_epochs: int = 2
    recon_loss_scale: float = 1.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    gradient_clip: float = 1.0

    def plain(self) -> dict[str, Any]:
        """As settings of our recipes."""
        kl = {"weight": self.kl_weight, "convention": "mean_over_channels", "anneal_epochs": self.kl_anneal_epochs}
        optimizer = {"lr": self.learning_rate, "betas": [*self.adam_betas], "weight_decay": self.weight_decay}
        return {
            "losses": {"spectral": None, "time": {"l2": self.recon_loss_scale}, "kl": kl},
            "optimizer": {"kind": "AdamW", **optimizer},
            "clip": self.gradient_clip,
            "batch": self.batch_size,
            "epochs": self.num_epochs,
        }


@dataclass(frozen=True)
class Data:
    train_dir: str = "./data/vocal_dataset"
    target_length: int = 40960
    target_sr: int = 44100
    train_split: float = 0.9
    num_workers: int = 2


@dataclass(frozen=True)
class Checkpointing:
    save_dir: str = "./checkpoints"
    save_every_n_epochs: int = 2
    keep_last_n: int = 3


@dataclass(frozen=True)
class Logging:
    wandb_project: str = "LyraCodec"
    log_every_n_steps: int = 10
    save_audio_every_n_epochs: int = 10
    num_audio_samples: int = 4


@dataclass(frozen=True)
class System:
    device: str = "cuda"
    mixed_precision: bool = True


@dataclass(frozen=True)
class File:
    model: Network = Network()
    training: Training = Training()
    data: Data = Data()
    checkpointing: Checkpointing = Checkpointing()
    logging: Logging = Logging()
    system: System = System()


# --- of later ones -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    warmup_steps: int = 10_000
    inv_gamma: float = 100_000
    power: float = 0.6


@dataclass(frozen=True)
class STFT:
    fft_sizes: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64, 32)
    hop_sizes: tuple[int, ...] = (512, 256, 128, 64, 32, 16, 8)
    win_lengths: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64, 32)
    perceptual_weighting: bool = True

    def __post_init__(self) -> None:
        quarters(self, "fft_sizes", "hop_sizes", "win_lengths")


@dataclass(frozen=True)
class LaterTraining:
    """What all later revisions have; their other settings are about logs."""

    learning_rate: float = 1e-4
    lr_scheduler: Schedule = Schedule()
    batch_size: int = 12
    num_epochs: int = 50
    weight_decay: float = 3e-4
    kl_weight: float = 1e-4
    kl_warmup_steps: int = 5000
    betas: tuple[float, float] = (0.8, 0.99)
    stft_loss_params: STFT = STFT()

    def plain(self) -> dict[str, Any]:
        kl = {"weight": self.kl_weight, "convention": "mean_over_channels", "anneal_steps": self.kl_warmup_steps}
        optimizer = {"lr": self.learning_rate, "betas": [*self.betas], "weight_decay": self.weight_decay}
        schedule, stft = self.lr_scheduler, self.stft_loss_params
        weighting = "A" if stft.perceptual_weighting else "none"
        spectral = {"windows": [*stft.fft_sizes], "weighting": weighting, "divide_by": "target"}
        inverse = {"warmup": schedule.warmup_steps, "inv_gamma": schedule.inv_gamma, "power": schedule.power}
        return {
            "losses": {"spectral": spectral, "kl": kl},
            "optimizer": {"kind": "Adam", **optimizer},
            "schedule": {"kind": "LyraInverse", **inverse},
            "batch": self.batch_size,
            "epochs": self.num_epochs,
        }


@dataclass(frozen=True)
class Hyperparameters:
    model: Network
    data: dict[str, Any]
    training: dict[str, Any]


@dataclass(frozen=True)
class LaterData:
    sample_rate: int
    target_length: int = 71680


def recognized(data: Any) -> bool:
    """Whether this is the content of such a file."""
    if not isinstance(data, Mapping):
        return False
    later = data.get("hyperparameters")
    model = later.get("model") if isinstance(later, Mapping) else data.get("model")
    return isinstance(model, Mapping) and "base_channels" in model


def understood(data: Mapping[str, Any]) -> ModelConfig:
    """The configuration in the content of such a file.

    Later files do not say whether their networks have group norm: at first they had none. Weights say it themselves.
    """
    if "hyperparameters" not in data:
        file = build(File, data)
        training = {**file.training.plain(), "data": {"samples": file.data.target_length}}
        return ModelConfig(file.model.autoencoder(file.data.target_sr, False), _ORIGIN, training)
    where = "hyperparameters"
    inner = build(Hyperparameters, data[where], where)
    sound, later = (
        build(cls, {name: stated[name] for name in cls.__dataclass_fields__ if name in stated}, f"{where}.{key}")
        for cls, stated, key in ((LaterData, inner.data, "data"), (LaterTraining, inner.training, "training"))
    )
    remark = "the networks have group norm, as in the last revision; weights without it say so themselves"
    training = {**later.plain(), "data": {"samples": sound.target_length}}
    return ModelConfig(inner.model.autoencoder(sound.sample_rate, True), _ORIGIN, training, (remark,))


def from_weights(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Network, bool]:
    """The arguments and the normalisation that the shapes of a checkpoint tell."""
    blocks = {int(match[1]) for name in shapes if (match := re.match(r"encoder_blocks\.(\d{1,4})\.", name))}
    try:
        base, channels, _ = shapes["encoder_init.weight"]
        pairs, strides = [], []
        for at in sorted(blocks):
            outputs, inputs, taps = shapes[f"encoder_blocks.{at}.layers.4.weight"]
            pairs.append((inputs // base, outputs // base))
            strides.append(taps // 2)
        latents = shapes["distribution_conv.weight"][0] // 2
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        raise InputError("looks like a LyraCodec, but its first or last layers are missing or strange") from None
    group_norm = "encoder_blocks.0.layers.0.layers.4.weight" in shapes
    try:
        return Network(channels, base, latents, tuple(pairs), tuple(strides)), group_norm
    except ValueError as error:
        raise InputError(str(error)) from None
