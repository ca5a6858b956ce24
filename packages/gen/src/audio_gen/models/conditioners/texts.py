"""Conditioners that embed texts with weights of their own: bytes, tokens, phonemes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from audio_core.files import InputError, reason
from torch import Tensor, nn

from ...config.conditioners import BytesConfig, LUTConfig, PhonemeConfig
from ..positions import PositionTable
from . import pretrained
from .base import Condition, Conditioner, held_outside, projection


class TextConditioner(Conditioner):
    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise InputError(f"expected a text, got {value!r:.60}")
        return value


class BytesConditioner(TextConditioner):
    """A transformer on the UTF-8 bytes of a text and an end: tokens (B, max_length, D), zeros behind the end."""

    END, PADDING = 256, 257

    def __init__(self, config: BytesConfig, output_dim: int):
        super().__init__()
        self.length = config.max_length
        self.embedder = nn.Embedding(258, config.dim, padding_idx=self.PADDING)
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.encoder = nn.Sequential(*(_Block(config.dim, config.num_heads) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.dim)
        self.proj_out = projection(config.dim, output_dim, config.project_out)

    def embed(self, items: Sequence[str], device: torch.device) -> Condition:
        rows = [[*text.encode(errors="replace")[: self.length - 1], self.END] for text in items]
        longest = max(map(len, rows))  # what all lack is not computed
        codes = torch.tensor([row + [self.PADDING] * (longest - len(row)) for row in rows], device=device)
        mask = codes != self.PADDING
        x = self.embedder(codes) + self.positions.weight[:longest]
        for block in self.encoder:
            x = block(x, mask)
        tokens = self.proj_out(self.norm(x)) * mask[..., None]
        spare = self.length - longest
        return Condition(F.pad(tokens, (0, 0, 0, spare)), F.pad(mask, (0, spare)))

    def limit(self, value: str) -> str:
        return f"the first {self.length - 1} bytes" if len(value.encode(errors="replace")) >= self.length else ""


class _Block(nn.Module):
    """x + attention over what the mask (B, N) leaves, x + feed-forward, each normed before."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        qkv = self.to_qkv(self.attention_norm(x)).unflatten(2, (3, self.heads, -1))  # (B, N, 3, H, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, mask[:, None, None])
        x = x + self.to_out(mixed.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.feed_forward_norm(x))


class LUTConditioner(TextConditioner):
    """A vector for each token (B, max_length, D), zeros behind the end of a text, perhaps with positions everywhere."""

    tokenizer: Any

    def __init__(self, config: LUTConfig, output_dim: int):
        super().__init__()
        self.config = config
        self.token_embedder = nn.Embedding(config.vocab_size, output_dim)
        self.proj_out = projection(output_dim, output_dim, config.project_out)
        self.abs_pos_emb = PositionTable(output_dim, config.max_length) if config.use_abs_pos_emb else None
        held_outside(self, "tokenizer", None)

    def embed(self, items: Sequence[str], device: torch.device) -> Condition:
        codes, mask = pretrained.tokenized(self._tokenizer(), [*items], self.config.max_length, device)
        tokens = self.proj_out(self.token_embedder(codes)) * mask[..., None]
        if self.abs_pos_emb is not None:
            tokens = tokens + self.abs_pos_emb(0, self.config.max_length)
        return Condition(tokens, mask)

    def limit(self, value: str) -> str:
        return pretrained.token_limit(self._tokenizer(), value, self.config.max_length)

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            name, size = self.config.tokenizer_name, self.config.vocab_size
            tokenizer = pretrained.tokenizer(name, self.config.special_tokens)
            if len(tokenizer) != size:
                raise InputError(f"tokenizer {name}: has {len(tokenizer)} tokens, and vocab_size is {size}")
            self.tokenizer = tokenizer
        return self.tokenizer


class PhonemeConditioner(TextConditioner):
    """A vector for each phoneme of an English text (B, N, D), N of the longest; what fills the others up learns too."""

    PADDING, IGNORED, FIRST = 0, 1, 2
    phonemes: Callable[[str], list[str]] | None

    def __init__(self, config: PhonemeConfig, output_dim: int):
        super().__init__()
        self.length = config.max_length
        self.rows = {phoneme: row for row, phoneme in enumerate(PHONEMES, self.FIRST)}
        self.phoneme_embedder = nn.Embedding(self.FIRST + len(PHONEMES), output_dim)
        self.proj_out = projection(output_dim, output_dim, config.project_out)
        held_outside(self, "phonemes", None)

    def embed(self, items: Sequence[str], device: torch.device) -> Condition:
        spoken = [self._spoken(text)[: self.length] for text in items]
        rows = [[self.rows.get(phoneme, self.IGNORED) for phoneme in each] for each in spoken]
        longest = max(1, *map(len, rows))
        codes = torch.tensor([row + [self.PADDING] * (longest - len(row)) for row in rows], device=device)
        return Condition(self.proj_out(self.phoneme_embedder(codes)), codes != self.PADDING)

    def limit(self, value: str) -> str:
        return f"the first {self.length} phonemes" if len(self._spoken(value)) > self.length else ""

    def _spoken(self, text: str) -> list[str]:
        if self.phonemes is None:
            self.phonemes = _phonemes()
        return self.phonemes(text)


_SPOKEN = (
    "AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 ER2 EY0 EY1 "
    "EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 "
    "V W Y Z ZH"
)
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>", *_SPOKEN.split())
"""Of the library g2p_en, in its order."""


def _phonemes() -> Callable[[str], list[str]]:
    """Phonemes of a text, with spaces and punctuation between them."""
    try:
        import g2p_en
    except ImportError:
        raise InputError('phonemes need g2p_en, which is not installed: pip install "audio-gen[phonemes]"') from None
    except LookupError as error:  # of its dictionaries, which it downloads itself
        raise InputError(f"phonemes: g2p_en lacks its dictionaries: {reason(error)[:200]}") from None
    return g2p_en.G2p()
