"""The T5 encoder as a conditioner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...config.conditioners import T5Config
from . import pretrained
from .base import Condition, held_outside
from .features import FeatureConditioner
from .stored import Features


class T5Conditioner(FeatureConditioner):
    """Tokens (B, max_length, D), zeros behind the end of a text.

    An item may also be what `encode` gave for its text before. Unless the encoder learns it is no part of the module,
    and is loaded with the first text.
    """

    tokenizer: Any

    def __init__(self, config: T5Config, output_dim: int):
        name = config.t5_model_name
        width = pretrained.t5_width(name)
        super().__init__(width, output_dim, config.project_out, config.max_length, kind=f"features of {name}")
        self.config = config
        held_outside(self, "tokenizer", None)
        if not config.enable_grad:
            held_outside(self, "model", None)
        elif torch.empty(0).device.type == "meta":  # a bundle's weights will follow
            self.model = pretrained.t5_without_weights(name)
        else:
            self.model = pretrained.t5_encoder(name, torch.float32)

    def read(self, value: Any) -> str | Features:
        return value if isinstance(value, str) else super().read(value)

    def embed(self, items: Sequence[str | Features], device: torch.device) -> Condition:
        texts = [item for item in items if isinstance(item, str)]
        encoded = iter(self.encode(texts, device) if texts else [])
        return super().embed([next(encoded) if isinstance(item, str) else item for item in items], device)

    def encode(self, texts: Sequence[str], device: torch.device | str = "cpu") -> list[Features]:
        """The encoder's features, before any projection; `stored.save` writes them to a file."""
        device = torch.device(device)
        tokens, mask = pretrained.tokenized(self._tokenizer(), [*texts], self.config.max_length, device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.enable_grad):
            hidden = self._encoder(device)(input_ids=tokens, attention_mask=mask).last_hidden_state
        lengths = mask.sum(1).tolist()  # padding follows a text
        return [Features(hidden[item, :length], mask[item, :length]) for item, length in enumerate(lengths)]

    def limit(self, value: Any) -> str:
        text = isinstance(value, str)
        return pretrained.token_limit(self._tokenizer(), value, self.config.max_length) if text else ""

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            self.tokenizer = pretrained.tokenizer(self.config.t5_model_name)
        return self.tokenizer

    def _encoder(self, device: torch.device) -> Any:
        """In half precision on a GPU, as the published models have learnt; processors are slow at it."""
        if not self.config.enable_grad and (self.model is None or self.model.device.type != device.type):
            dtype = torch.float16 if device.type == "cuda" else torch.float32
            encoder = pretrained.t5_encoder(self.config.t5_model_name, dtype)
            held_outside(self, "model", encoder.requires_grad_(False))
        return self.model.eval() if self.config.enable_grad else self.model.to(device)
