"""A network that loses packets: what arrives of a file, and how it sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from audio_core import audio, metrics
from audio_core.files import InputError

from .bitstream import from_packet, to_packet
from .codec import encoded
from .conceal import Concealer, gilbert
from .layout import bitrates
from .model import NeuralCodec
from .stream import DecoderStream


def transmit(
    model: NeuralCodec,
    source: Path,
    target: Path,
    layers: int,
    loss: float = 0.05,
    burst: float = 1.5,
    frames: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Send a file in packets of so many frames, lose some (`gilbert`), write what is played; returns the facts.

    SI-SDR is against the file, and compares with what a network without loss and silence in the gaps would give.
    """
    if not 1 <= frames <= 255:
        raise InputError(f"--frames: expected 1 to 255, got {frames}")
    samples = audio.read(source, rate=model.sample_rate, channels=1).samples
    if not samples.shape[1]:
        raise InputError(f"{source}: holds no audio (0 samples)")
    codes = np.concatenate(list(encoded(model, [samples], layers)), 1)
    size = model.codebooks[0]
    groups = [codes[:, at : at + frames] for at in range(0, codes.shape[1], frames)]
    packets = [to_packet(number, group, size) for number, group in enumerate(groups)]
    try:
        lost = gilbert(len(packets), loss, burst, seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    arrived = [None if gone else from_packet(packet, size)[1] for packet, gone in zip(packets, lost, strict=True)]
    length = samples.shape[1]
    whole = _played(model, [*groups], groups, length)
    bridged = _played(model, arrived, groups, length)
    silent = whole.copy()
    for number in np.flatnonzero(lost):
        silent[:, number * frames * model.hop : (number + 1) * frames * model.hop] = 0
    audio.write(target, np.clip(bridged, -1, 1), model.sample_rate)
    wanted = torch.from_numpy(samples)

    def quality(found: np.ndarray) -> float:
        return round(float(metrics.si_sdr(torch.from_numpy(found), wanted)[0]), 3)

    seconds = length / model.sample_rate
    return {
        "packets": len(packets),
        "lost": int(lost.sum()),
        "frames_per_packet": frames,
        "kbps": bitrates(model.config)[layers - 1],
        "kbps_with_packet_heads": round(sum(map(len, packets)) * 8 / seconds / 1000, 3),
        "si_sdr_without_loss": quality(whole),
        "si_sdr": quality(bridged),
        "si_sdr_silent_gaps": quality(silent),
    }


def _played(model: NeuralCodec, arrived: list[np.ndarray | None], sent: list[np.ndarray], length: int) -> np.ndarray:
    """(1, length) of the packets that arrived."""
    concealer = Concealer(model, DecoderStream(model, length))
    parts = [concealer.feed(codes, group.shape[1]) for codes, group in zip(arrived, sent, strict=True)]
    parts.append(concealer.finish())
    return torch.cat(parts, -1)[0].cpu().numpy()
