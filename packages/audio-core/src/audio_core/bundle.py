"""Released models: a folder with config.json, model.safetensors and README.md, on disk or on the Hugging Face Hub.

`config.json` holds {"format": 1, "package", "class", "version", "config"} and is read as strictly as a recipe: the
class's `Config` defines its keys. Weights are safetensors only, so that loading never runs code. A package's `convert`
reads the checkpoints of originals with `read_checkpoint`.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from . import config
from .files import InputError, read_json, reason, replacing
from .weights import Undrawn, check_shapes, load_weights, no_values, read_shapes, save_weights, shortened

FORMAT = 1
FILES = ("config.json", "model.safetensors", "README.md")
_KEYS = ("format", "package", "class", "version", "config")
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*(@[\w./-]+)?")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# Keys that only other libraries write in a config.json, and whose file it then is.
_FOREIGN = {
    "_class_name": "of a diffusers model",
    "architectures": "of a transformers model",
    "model_type": "of a model of transformers or stable-audio-tools",
}
# First bytes of files that are often given in place of a checkpoint.
_MAGIC = {
    b"<": "a web page: a download that went wrong",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"\x89HDF": "an HDF5 file (Keras?)",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"RIFF": "audio",
    b"fLaC": "audio",
}


# --- saving ------------------------------------------------------------------------------------------------


def save(model: nn.Module, folder: str | Path, package: str, version: str, card: str, force: bool = False) -> None:
    """Write `model` and its `card` as a bundle, completely or not at all. `model.config` must hold its dataclass."""
    folder, settings = Path(folder), getattr(model, "config", None)
    if not isinstance(settings, type(model).Config):
        raise ValueError(f"{type(model).__name__}.config is not a {type(model).__name__}.Config: {settings!r}")
    allowed = {*FILES, ".gitattributes", ".git", ".cache"}
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - allowed)
        if others:  # replacing a folder deletes all that is in it
            raise InputError(f"{folder}: holds {shortened(others)}, which no bundle does; choose another folder")
        force = force or not any(folder.iterdir())
    values = (FORMAT, package, type(model).__name__, version, config.plain(settings))
    head = json.dumps(dict(zip(_KEYS, values, strict=True)), indent=2, ensure_ascii=False)
    with replacing(folder, force) as temporary:
        temporary.mkdir()
        (temporary / "config.json").write_text(head + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(card, encoding="utf-8")
        save_weights(model, temporary / "model.safetensors")


def card(
    title: str,
    summary: str,
    licence: str,
    data: str,
    numbers: Mapping[str, float | str],
    use: str,
    tags: Sequence[str] = (),
) -> str:
    """The README.md of a bundle; `numbers` are measures and their values, `use` is Python code."""
    # JSON is YAML too: no name can break out of the header that the Hub reads.
    header = f"---\nlicense: {json.dumps(licence.lower())}\ntags: {json.dumps(['audio', *tags])}\n---"
    rows = [
        f"| {_cell(name)} | {'–' if value != value else _cell(f'{value:.4g}' if isinstance(value, float) else value)} |"
        for name, value in numbers.items()
    ]
    table = "\n".join(["| measure | value |", "|---|---:|", *rows])
    parts = [f"# {title}", summary, "## Use", f"```python\n{use.strip()}\n```", "## Numbers", table]
    return "\n\n".join([header, *parts, "## Data", data, "## Licence", licence]) + "\n"


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def describe(path: str | Path) -> dict[str, Any]:
    """What a bundle holds, without building its model: its config.json, and the number and size of its tensors."""
    folder = _folder(path)
    _expect_bundle(folder)
    head = read_json(folder / "config.json")
    shapes = read_shapes(folder / "model.safetensors")
    if not isinstance(head, dict) or set(_KEYS) - set(head):
        raise InputError(f"{folder / 'config.json'}: not a bundle's; expected {', '.join(_KEYS)}")
    size = (folder / "model.safetensors").stat().st_size
    return {**head, "tensors": len(shapes), "values": sum(map(math.prod, shapes.values())), "bytes": size}


# --- loading -----------------------------------------------------------------------------------------------


def load(
    path: str | Path,
    classes: Mapping[str, type] | Sequence[type],
    package: str | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """The model of a bundle, ready for inference.

    `path` is a bundle's folder, the folder of a run with a bundle inside, or a Hub id, owner/name[@revision].
    The bundle's class must be one of `classes`, and its package must be `package`, where that is given.
    """
    folder = _folder(path)
    cls, settings = _read_head(folder, classes, package)
    weights = folder / "model.safetensors"
    shapes = read_shapes(weights)
    # Initial values are overwritten, so they draw nothing from the global generator. A wrong config is stopped early:
    # the model is built twice, and a weight registers up to three times where weight norm is added and folded.
    with torch.random.fork_rng(devices=[]), at_most(7 * sum(map(math.prod, shapes.values())) + 1000, weights):
        try:
            with no_values():
                empty = cls(settings)
        except InputError:
            raise
        except Exception:  # its constructor computes with values, or is wrong and says so below
            empty = None
        if empty is not None:
            check_shapes(weights, empty, shapes)
        try:
            with Undrawn():  # a third of the time that a large model takes to load
                model = cls(settings)
        except InputError:
            raise
        except Exception as error:  # numbers that no tensor can have make PyTorch raise whatever it likes
            raise InputError(f"{folder / 'config.json'}: {cls.__name__} cannot be built: {reason(error)}") from error
    load_weights(model, weights)
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts where it was built without the device
        raise InputError(f"device {device}: cannot be used: {reason(error)}") from None


def load_config(path: str | Path, classes: Mapping[str, type] | Sequence[type], package: str | None = None) -> Any:
    """The config of the model that `load` would build."""
    return _read_head(_folder(path), classes, package)[1]


@contextmanager
def at_most(values: int, weights: Path) -> Iterator[None]:
    """Stop building a model once it has registered many more parameters than the file of weights holds."""
    left = values

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise InputError(f"{weights}: holds far fewer weights than its configuration describes")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _folder(path: str | Path) -> Path:
    try:
        return _existing_folder(path)
    except OSError as error:  # a name that no file can have
        raise InputError(f"{path}: {reason(error)}") from None


def _existing_folder(path: str | Path) -> Path:
    folder = Path(path)
    if not (folder / "config.json").exists() and (folder / "bundle" / "config.json").exists():
        return folder / "bundle"  # of a training run
    if folder.is_dir():
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in _PICKLES)
        if pickles and not (folder / "model.safetensors").exists():
            raise InputError(f"{folder}: a checkpoint ({shortened(pickles)}), not a bundle; use `convert`")
        return folder
    pickled = folder.suffix.lower() in _PICKLES
    if pickled and folder.exists():
        raise InputError(f"{folder}: a checkpoint, not a bundle; use `convert`")
    if folder.exists():
        raise InputError(f"{folder}: is a file; a bundle is a folder with {', '.join(FILES)}")
    if _HUB_ID.fullmatch(str(path)) and not pickled:
        return download(str(path))
    raise InputError(f"{path}: there is no such folder, and a Hub id looks like owner/name")


def _expect_bundle(folder: Path) -> None:
    if not (folder / "config.json").exists():
        run = (folder / "recipe.yaml").exists() or (folder / "state").exists()
        hint = "a training run; `export` it first" if run else "not a bundle: it holds no config.json"
        raise InputError(f"{folder}: is {hint}")


def _read_head(folder: Path, classes: Mapping[str, type] | Sequence[type], package: str | None) -> tuple[Any, Any]:
    """The class and its config, from config.json."""
    path = folder / "config.json"
    _expect_bundle(folder)
    head = read_json(path)
    named = dict(classes) if isinstance(classes, Mapping) else {cls.__name__: cls for cls in classes}
    if not isinstance(head, dict) or "format" not in head:
        foreign = [text for key, text in _FOREIGN.items() if isinstance(head, dict) and key in head]
        kind = foreign[0] if foreign else f"with {shortened(head)}" if isinstance(head, dict) else "of something else"
        raise InputError(f"{path}: not a bundle's; it looks like one {kind}")
    if type(head["format"]) is not int or head["format"] < 1:
        raise InputError(f"{path}: format: expected {FORMAT}, got {head['format']!r}")
    maker = str(head.get("package", "its package"))
    if head["format"] > FORMAT:
        newer = f"format {head['format']} is newer than {FORMAT}, which this version reads"
        raise InputError(f"{path}: {newer}; upgrade {maker}")
    missing, unknown = set(_KEYS) - set(head), set(head) - set(_KEYS)
    if missing or unknown:
        what = f"{shortened(sorted(missing))} missing" if missing else f"unknown key {shortened(sorted(unknown))}"
        raise InputError(f"{path}: {what}; expected {', '.join(_KEYS)}")
    if package is not None and maker.replace("_", "-") != package.replace("_", "-"):
        raise InputError(f"{path}: was made by {maker}, not by {package}")
    cls: Any = named.get(str(head["class"]))
    if cls is None:
        raise InputError(f"{path}: class {head['class']!r:.60} is unknown; known: {', '.join(named)}")
    try:
        return cls, config.build(cls.Config, head["config"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


# --- the Hub -----------------------------------------------------------------------------------------------


def download(identity: str) -> Path:
    """Download the Hub model `owner/name[@revision]`, only the files of a bundle, and return the local folder."""
    import huggingface_hub
    from huggingface_hub import errors

    name, _, revision = identity.partition("@")
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=list(FILES)))
    except errors.RevisionNotFoundError:
        why = f"the Hub has no revision {revision!r} of it"
    except errors.RepositoryNotFoundError:
        why = "no such folder, and no such model on the Hub (a private one needs `hf auth login`)"
    except errors.LocalEntryNotFoundError:
        why = "no such folder; as a Hub id it is not in the cache, and the Hub cannot be reached"
    except Exception as error:  # its network library has errors of its own, and changes
        why = f"cannot be fetched from the Hub: {reason(error)[:200]}"
    raise InputError(f"{identity}: {why}")


# --- the checkpoints of originals --------------------------------------------------------------------------


def read_checkpoint(path: str | Path, wrappers: Sequence[str] = _WRAPPERS) -> dict[str, Tensor]:
    """The named tensors of an original's checkpoint, for `convert`.

    Reads safetensors, and PyTorch files that hold nothing but data. The tensors may be nested under one of the keys
    `wrappers`, which are tried in order.
    """
    return named_tensors(read_contents(path), path, wrappers)


def read_contents(path: str | Path, wanted: Callable[[list[str]], Iterable[str]] = iter) -> Any:
    """All that such a file holds, also beside its tensors. Of safetensors only those names that `wanted` chooses."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if not start:
        raise InputError(f"{path}: is empty")
    for magic, text in _MAGIC.items():
        if start.startswith(magic):
            raise InputError(f"{path}: is not a checkpoint but {text}")
    if path.suffix.lower() != ".safetensors":
        return _unpickled(path)
    names = wanted([*read_shapes(path)])
    try:
        with safe_open(path, "pt") as tensors:
            return {name: tensors.get_tensor(name) for name in names}
    except SafetensorError as error:  # numbers of 4 or 6 bits, which PyTorch has not
        raise InputError(f"{path}: holds weights that cannot be loaded: {reason(error)}") from None


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is in the error
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        text = reason(error)
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code:
        why = f"holds Python objects ({code[1]}), which could run code; save its state_dict alone where it was made"
    elif "TorchScript" in text:
        why = "is a TorchScript program, not a checkpoint; save its state_dict"
    else:
        why = f"is damaged or no checkpoint of PyTorch: {text.partition('. ')[0][:120]}"
    raise InputError(f"{path}: {why}")


def named_tensors(data: Any, path: str | Path, wrappers: Sequence[str] = _WRAPPERS) -> dict[str, Tensor]:
    """The tensors in the contents of a file, as `read_checkpoint` gives them."""
    seen: set[int] = set()  # a pickle may hold itself
    while isinstance(data, Mapping) and id(data) not in seen:
        seen.add(id(data))
        inner = [data[key] for key in wrappers if isinstance(data.get(key), Mapping)]
        if not inner:
            break
        data = inner[0]
    if not isinstance(data, Mapping):
        raise InputError(f"{path}: holds a {type(data).__name__}, where named tensors are expected")
    others = [str(name) for name, value in data.items() if not isinstance(value, Tensor)]
    if others or not data:
        raise InputError(
            f"{path}: holds no weights under {', '.join(wrappers)}; its keys are {shortened(data) or 'none'}"
        )
    return {str(name): tensor for name, tensor in data.items()}
