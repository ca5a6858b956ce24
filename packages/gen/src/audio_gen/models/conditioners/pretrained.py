"""Encoders and tokenizers of the library transformers, from a folder or by their Hub id. It is imported when needed."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from audio_core.files import InputError, read_json, reason
from torch import Tensor, nn

_WIDTHS = {
    "t5-small": 512,
    "t5-base": 768,
    "t5-large": 1024,
    "t5-3b": 1024,
    "t5-11b": 1024,
    "google/t5-v1_1-xl": 2048,
    "google/t5-v1_1-xxl": 4096,
    "google/flan-t5-small": 512,
    "google/flan-t5-base": 768,
    "google/flan-t5-large": 1024,
    "google/flan-t5-xl": 2048,
    "google/flan-t5-xxl": 4096,
}


def t5_width(name: str) -> int:
    """Channels of a T5 encoder. Neither a folder nor a known name needs the library for it."""
    path = Path(name) / "config.json"
    known = read_json(path) if path.is_file() else {"d_model": _WIDTHS.get(name)}
    width = known.get("d_model") if isinstance(known, dict) else None
    if width is None and not path.is_file():
        width = _loaded(name, lambda: library().AutoConfig.from_pretrained(name)).to_dict().get("d_model")
    if type(width) is not int or width < 1:
        raise InputError(f"{name}: is no T5 encoder; its configuration states no d_model")
    return width


def t5_encoder(name: str, dtype: torch.dtype) -> nn.Module:
    return _loaded(name, lambda: library().T5EncoderModel.from_pretrained(name, dtype=dtype)).eval()


def t5_without_weights(name: str) -> nn.Module:
    """For weights that come from elsewhere."""
    return _loaded(name, lambda: library().T5EncoderModel(library().AutoConfig.from_pretrained(name))).eval()


def tokenizer(name: str, special_tokens: tuple[str, ...] = ()) -> Any:
    found = _loaded(name, lambda: library().AutoTokenizer.from_pretrained(name))
    if special_tokens:
        found.add_special_tokens({"additional_special_tokens": [*special_tokens]})
    return found


def tokenized(tokenizer: Any, texts: list[str], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids (B, length) and the mask (B, length) of those that are no padding."""
    encoded = tokenizer(texts, truncation=True, max_length=length, padding="max_length", return_tensors="pt")
    return encoded["input_ids"].to(device), encoded["attention_mask"].to(device, torch.bool)


def token_limit(tokenizer: Any, text: str, length: int) -> str:
    """What alone counts of a text with more than `length` tokens."""
    return f"the first {length} tokens" if len(tokenizer(text, verbose=False)["input_ids"]) > length else ""


def _loaded(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:  # the library's ways to say that there is no such thing
        raise InputError(f"{name}: cannot be loaded: {reason(error)[:200]}") from None


@functools.cache
def library() -> Any:
    """The library transformers.

    It imports torchaudio where that is installed, for texts too, and one that does not fit the installed torch ends in
    an error. Such a one is hidden from it.
    """
    hidden = _hide_broken("torchaudio")
    try:
        import transformers

        transformers.T5EncoderModel  # noqa: B018 (it imports with the first use of a name)
        return transformers
    except ImportError:
        raise InputError('texts need transformers, which is not installed: pip install "audio-gen[text]"') from None
    finally:
        for name in hidden:
            del sys.modules[name]


def _hide_broken(name: str) -> list[str]:
    """Let a package that cannot be imported seem not to be installed; names to remove from sys.modules afterwards."""
    if name in sys.modules or not importlib.util.find_spec(name):
        return []
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        for module in [each for each in sys.modules if each.partition(".")[0] == name]:
            del sys.modules[module]
        sys.modules[name] = None  # type: ignore[assignment]  # the interpreter's way to say that there is none
        return [name]
    return []
