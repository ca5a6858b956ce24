"""Low-rank adapters: fine-tuning that leaves a model as it is, beside it. Training and generation share them."""

from .files import adapter_state, base_fingerprint, load_adapter, save_adapter
from .layers import adapter_names, attach, merge, set_strength
from .whole import adapt, divided, network

__all__ = [
    "adapt",
    "adapter_names",
    "adapter_state",
    "attach",
    "base_fingerprint",
    "divided",
    "load_adapter",
    "merge",
    "network",
    "save_adapter",
    "set_strength",
]
