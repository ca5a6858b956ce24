"""A simulated network that loses packets: what arrives of a file, and its quality."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audio_core import audio, metrics
from audio_core.command import columns
from audio_core.files import InputError
from audio_core.loss.spectral import MelLoss

from ..codec import blocks, encoded, length, reconstruct
from ..config import bitrates, layers_for
from ..model import NeuralCodec
from ..sstr.bitstream import from_packet, to_packet
from .conceal import Concealer, gilbert
from .stream import DecoderStream


def transmit(
    model: NeuralCodec,
    source: Path,
    target: Path,
    kbps: float | None = None,
    loss: float = 0.05,
    burst: float = 1.5,
    frames: int = 1,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Send a file in packets of `frames` frames, lose some of them (`gilbert`), and write what is played to `target`.

    Returns the facts: SI-SDR and mel distance to the file, of concealed gaps, of silent gaps, and without loss.
    """
    layers = layers_for(model.config, kbps)
    samples, size = length(model, source), model.codebooks[0]
    count = math.ceil(math.ceil(samples / model.hop) / frames)
    try:
        lost = gilbert(count, loss, burst, seed)
    except ValueError as error:
        raise InputError(f"--loss {loss:g}: {error}") from None
    pieces = list(blocks(model, source))
    sound, codes = np.concatenate(pieces, 1), np.concatenate(list(encoded(model, pieces, layers)), 1)
    groups = [codes[:, at : at + frames] for at in range(0, codes.shape[1], frames)]
    packets = [to_packet(number, group, size) for number, group in enumerate(groups)]
    arrived = [None if loss else from_packet(packet, size)[1] for packet, loss in zip(packets, lost, strict=True)]
    whole = reconstruct(model, codes, samples)
    concealed = _played(model, arrived, groups, samples)
    silent = whole.copy()
    for number in np.flatnonzero(lost):
        silent[:, number * frames * model.hop : (number + 1) * frames * model.hop] = 0
    audio.write(target, np.clip(concealed, -1, 1), model.sample_rate, force=force)

    def quality(estimate: np.ndarray) -> float | None:
        value = float(metrics.si_sdr(torch.from_numpy(estimate), torch.from_numpy(sound))[0])
        return round(value, 3) if sound.any() else None  # silence has no SI-SDR

    mel = MelLoss(model.sample_rate)

    def distance(estimate: np.ndarray) -> float:
        return round(float(mel(*(torch.from_numpy(each)[None] for each in (estimate, sound)))), 3)

    return {
        "packets": len(packets),
        "lost": int(lost.sum()),
        "frames_per_packet": frames,
        "kbps": bitrates(model.config)[layers - 1],
        "kbps_with_packet_heads": round(sum(map(len, packets)) * 8 * model.sample_rate / samples / 1000, 3),
        "si_sdr_without_loss": quality(whole),
        "si_sdr": quality(concealed),
        "si_sdr_silent_gaps": quality(silent),
        "mel_without_loss": distance(whole),
        "mel": distance(concealed),
        "mel_silent_gaps": distance(silent),
    }


def table(facts: dict[str, Any]) -> str:
    """The facts for people."""
    return columns([(name, "silence has none" if value is None else value) for name, value in facts.items()])


def _played(model: NeuralCodec, arrived: list[np.ndarray | None], sent: list[np.ndarray], samples: int) -> np.ndarray:
    """(1, samples) of the packets that arrived."""
    concealer = Concealer(model, DecoderStream(model, samples))
    parts = [concealer.feed(codes, group.shape[1]) for codes, group in zip(arrived, sent, strict=True)]
    parts.append(concealer.finish())
    return torch.cat(parts, -1)[0].cpu().numpy()
