"""Weight norm in the three layouts in which checkpoints store it, and conversion between them.

    <layer>.weight_g, <layer>.weight_v                            torch.nn.utils.weight_norm, before 2023
    <layer>.parametrizations.weight.original0, .original1         torch.nn.utils.parametrizations.weight_norm
    <layer>.weight                                                folded: no norm any more

In all of them weight = g * v / |v|, where the norm is over all axes but the first.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

NEW = "parametrizations.weight.original0", "parametrizations.weight.original1"
OLD = "weight_g", "weight_v"


def _norm(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.dim() - 1))


def fit_weight_norm(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """`state` with every weight in the layout in which `module` holds it, ready for `load_state_dict`."""
    fitted = dict(state)
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        for g, v in (OLD, NEW):
            if prefix + g in fitted and prefix + v in fitted:
                gain, direction = fitted.pop(prefix + g), fitted.pop(prefix + v)
                break
        else:
            if not (is_parametrized(layer, "weight") and prefix + "weight" in fitted):
                continue
            weight = fitted.pop(prefix + "weight")
            gain = _norm(weight)
            direction = torch.where(gain == 0, torch.ones_like(weight), weight)  # a zero weight has no direction
        if is_parametrized(layer, "weight"):
            fitted[prefix + NEW[0]], fitted[prefix + NEW[1]] = gain, direction
        else:
            fitted[prefix + "weight"] = gain * direction / _norm(direction)
    return fitted


def remove_weight_norm(module: nn.Module) -> nn.Module:
    """Fold every norm in `module` into a plain weight, in place: same output, fewer parameters."""
    for layer in list(module.modules()):
        if is_parametrized(layer, "weight"):
            remove_parametrizations(layer, "weight")
    return module
