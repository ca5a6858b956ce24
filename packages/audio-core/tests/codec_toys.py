"""A small codec with all that the protocol allows: stereo, a distribution of latents, codebooks, a receptive field."""

import torch
import torch.nn.functional as F
from audio_core import codec
from torch import Tensor, nn

HOP = 8


class Toy(nn.Module):
    """One frame depends on 5 samples beyond its own, audio on two frames to either side."""

    sample_rate, channels, hop, width, receptive_field = 8000, 2, HOP, 3, (5, 3)

    def __init__(self, layers: int = 0, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = nn.Conv1d(2, 3, 18, HOP, padding=5)
            self.decoder = nn.Sequential(nn.ConvTranspose1d(3, 2, 16, HOP, padding=4), nn.Tanh())
            self.register_buffer("books", torch.randn(layers, 16, 3))

    @property
    def codebooks(self) -> tuple[int, ...]:
        return (self.books.shape[1],) * self.books.shape[0]

    def frames(self, samples: int) -> int:
        return -(-samples // HOP)

    def encode(self, audio: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean = self.encoder(F.pad(audio, (0, -audio.shape[-1] % HOP)))
        return mean if generator is None else mean + 0.1 * torch.randn(mean.shape, generator=generator)

    def decode(self, latents: Tensor, samples: int | None = None) -> Tensor:
        return self.decoder(latents)[..., :samples]

    @torch.no_grad()
    def codes(self, audio: Tensor, layers: int | None = None) -> Tensor:
        if not self.codebooks:
            raise TypeError("this codec has no codebooks")
        rest, indices = self.encode(audio).mT, []  # (B, F, width)
        for book in self.books[:layers]:
            indices.append(torch.cdist(rest, book.expand(len(rest), -1, -1)).argmin(-1))
            rest = rest - book[indices[-1]]
        return torch.stack(indices, 1)

    def from_codes(self, codes: Tensor) -> Tensor:
        if not self.codebooks:
            raise TypeError("this codec has no codebooks")
        return sum(book[index] for book, index in zip(self.books, codes.unbind(1), strict=False)).mT

    def fingerprint(self) -> bytes:
        return codec.fingerprint(self, ("Toy", HOP), "decoder.", "books")
