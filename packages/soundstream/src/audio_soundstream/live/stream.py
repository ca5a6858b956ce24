"""Streaming: codecs fed piece by piece give the same codes and audio as at once, whatever the pieces."""

from __future__ import annotations

import torch
from audio_core.audio import batch as checked
from torch import Tensor

from ..model import NeuralCodec


class EncoderStream:
    """Audio (B, 1, any) in, codes (B, N, F) of the frames that are complete out; `finish` gives the rest."""

    def __init__(self, model: NeuralCodec, layers: int | None = None, batch: int = 1):
        self.model, self.layers = model, layers
        self.state = model.encoder.start(batch)
        self.samples = 0

    @torch.inference_mode()
    def feed(self, audio: Tensor, last: bool = False) -> Tensor:
        if audio.shape[-1:] != (0,):  # an empty piece is no mistake
            checked(audio, self.model.channels)
        self.samples += audio.shape[-1]
        latents, self.state = self.model.encoder.stream(audio, self.state, last)
        if latents.shape[-1]:
            return self.model.quantizer.codes(latents, self.layers)
        count = len(self.model.codebooks[: self.layers])
        return torch.zeros(len(audio), count, 0, dtype=torch.long, device=audio.device)

    def finish(self, audio: Tensor | None = None) -> Tensor:
        """The codes of what is left, after a last piece if there is one; silence fills the last frame."""
        some = next(self.model.encoder.parameters())
        batch = self.state[0].tail.shape[0]
        piece = some.new_zeros(batch, 1, 0) if audio is None else audio
        total = self.samples + piece.shape[-1]
        codes = self.feed(torch.nn.functional.pad(piece, (0, -total % self.model.hop)), last=True)
        self.samples = total
        return codes


class DecoderStream:
    """Codes (B, N, any) in, the audio (B, 1, samples) that is final by then out; N may change from piece to piece.

    `samples` is the length of the whole audio. Where it is not known before the end, the last frame may come whole.
    """

    def __init__(self, model: NeuralCodec, samples: int | None = None, batch: int = 1):
        self.model, self.limit, self.batch = model, samples, batch
        self.state = model.decoder.start(batch)
        self.frames = self.samples = 0
        self.skip = model.lead

    def feed(self, codes: Tensor) -> Tensor:
        return self.feed_latents(self.model.from_codes(codes))

    @torch.inference_mode()
    def feed_latents(self, latents: Tensor, last: bool = False) -> Tensor:
        self.frames += latents.shape[-1]
        audio, self.state = self.model.decoder.stream(latents, self.state, last)
        dropped = min(self.skip, audio.shape[-1])
        self.skip -= dropped
        whole = self.frames * self.model.hop
        left = (whole if self.limit is None else min(whole, self.limit)) - self.samples
        audio = audio[..., dropped:][..., : max(0, left)]
        self.samples += audio.shape[-1]
        return audio

    def finish(self) -> Tensor:
        """The audio of what is left."""
        some = next(self.model.decoder.parameters())
        return self.feed_latents(some.new_zeros(self.batch, self.model.width, 0), last=True)
