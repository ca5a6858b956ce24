"""Weights of a network as safetensors: written tensor by tensor, read strictly."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .files import InputError, reason

# safetensors' names of dtypes, in its order within a file: the last come first.
_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
}
_ORDER = list(_DTYPES)


def save_weights(
    model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write all parameters and buffers as safetensors, tied weights once; `metadata` goes to the file's header.

    `state` is the `whole` state of a model that is divided among processes.

    Tensors are written one by one, since safetensors' own writer holds all of them in memory a second time. The bytes
    are the same: tensors of wide numbers first, then by name.
    """
    stored = _stored_names(model)
    state = model.state_dict() if state is None else state
    tensors = [(name, tensor) for name, tensor in state.items() if stored[name] == name]
    tensors.sort(key=lambda pair: (-_ORDER.index(pair[1].dtype), pair[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:  # by Python, so that a full disk is an OSError that says so
        file.write(struct.pack("<Q", len(head)) + head)
        for _, tensor in tensors:
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def metadata(path: Path) -> dict[str, str]:
    """The metadata in the header of a safetensors file, as `save_weights` wrote them."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is damaged or not safetensors: {reason(error)}") from None


def load_weights(model: nn.Module, path: Path) -> None:
    """Load all weights of `model`. Names and shapes must agree, and are compared before a tensor is read."""
    check_shapes(path, model, read_shapes(path))
    try:
        tensors, own = safetensors.torch.load_file(path), model.state_dict()
        stored = _stored_names(model)
        model.load_state_dict({name: divided(tensors[stored[name]], like) for name, like in own.items()})
    except (SafetensorError, RuntimeError, KeyError) as error:  # numbers of 4 or 6 bits, which PyTorch has not
        raise InputError(f"{path}: holds weights that cannot be loaded: {reason(error)}") from None


def whole(state: Any, keep: bool = True) -> Any:
    """A state, whose tensors FSDP may have divided among processes, with whole ones on the CPU in place of those.

    All processes have to call it, with `keep` for the one that needs the result; the others get None for a tensor.
    """
    if isinstance(state, Mapping):
        return {name: whole(each, keep) for name, each in state.items()}
    if not hasattr(state, "full_tensor"):
        return state
    gathered = state.full_tensor()
    return gathered.cpu() if keep else None


def divided(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which all processes have, divided among them where `like` is."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor  # takes a second to import

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _stored_names(model: nn.Module) -> dict[str, str]:
    """The name under which each tensor of the state is stored: tied weights share the first of their names."""
    state = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, from the header. A file that is cut short is refused."""
    if not path.exists():
        raise InputError(f"{path}: is missing")
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is damaged or not safetensors: {reason(error)}") from None


def check_shapes(path: Path, model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file that lacks tensors of the model's state, has others, or has other shapes."""
    stored = _stored_names(model)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if stored[name] == name}
    expect_shapes(path, type(model).__name__, shapes, expected)


def expect_shapes(
    path: Path, what: str, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse a file whose tensors are not those that `what` expects."""
    missing, unexpected = [n for n in expected if n not in shapes], [n for n in shapes if n not in expected]
    other = [f"{n} {shapes[n]} for {expected[n]}" for n in expected if n in shapes and shapes[n] != expected[n]]
    wrong = ((missing, "missing"), (unexpected, "unexpected"), (other, "of another shape"))
    problems = [f"{len(names)} {text} ({shortened(names)})" for names, text in wrong if names]
    if problems:
        raise InputError(f"{path}: does not fit {what}: {', '.join(problems)}")


def expect_values(tensors: Mapping[str, Tensor], path: str | Path, integers: str = r".*num_batches_tracked") -> None:
    """Refuse a checkpoint of an original that holds anything but finite floating-point numbers, or integers in tensors
    whose names match `integers`. A file may hold any kind of tensor, and shapes that claim more than it stores."""
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        floating = tensor.is_floating_point() and tensor.element_size() > 1
        if not (plain and (floating or (re.fullmatch(integers, name) and not tensor.is_complex()))):
            raise InputError(f"{path}: {name} holds no plain floating-point numbers")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InputError(f"{path}: {name} claims more numbers than the file stores")
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {name} holds values that are not finite")


def shortened(names: Iterable[Any]) -> str:
    """The first three names as text, and how many more there are."""
    first, count = [str(name) for name in names], 3
    return ", ".join(first[:count]) + (f" and {len(first) - count} more" if len(first) > count else "")


# --- shapes without values ---------------------------------------------------------------------------------


@contextmanager
def no_values() -> Iterator[None]:
    """Modules built inside have shapes and no values: they take no memory, and nothing is drawn."""
    with torch.device("meta"), _Uncomputed():
        yield


class Undrawn(TorchFunctionMode):
    """Random values are not drawn, where others will take their place."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]  # the second where torch.nn.init calls itself
        return func(*args, **(kwargs or {}))


class _Uncomputed(Undrawn):
    """Nor are the norms of weight norm computed: for both PyTorch would import its whole compiler on the device "meta",
    which takes longer than PyTorch itself."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "norm_except_dim" and args[2] >= 0:
            v, _, dim = args
            return v.new_empty([size if at == dim else 1 for at, size in enumerate(v.shape)])
        return super().__torch_function__(func, types, args, kwargs)
