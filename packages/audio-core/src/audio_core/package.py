"""What a package of the family is: its name, the bundles in its wheel, what it exports."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Package:
    """One for each package, in its `__init__.py`. Making it imports nothing."""

    name: str
    """Of the distribution and of the command, such as audio-sep."""
    version: str
    about: str
    """A sentence for the head of `--help`."""
    shipped: Mapping[str, Path] = field(default_factory=dict)
    """Bundles in the wheel by the names that `load` knows them by."""
    stems: Mapping[str, str] = field(default_factory=dict)
    """What files exported from these bundles are called."""
    formats: Mapping[str, str] = field(default_factory=dict)
    """What `export` writes besides bundles: a format's name, and how the names of its results end."""
    calibrated: Sequence[str] = ()
    """Those of them that hold integers, whose scales come from calibration."""
    tags: Sequence[str] = ()
    """For the Hub, in the cards of bundles."""

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    def chapter(self, name: str) -> ModuleType:
        """One of the modules that all packages have, imported when a verb needs it."""
        return importlib.import_module(f"{self.module}.{name}")

    def model(self, path: str | Path) -> Any:
        """The model that the package's own `load` gives, whichever module it is in."""
        return importlib.import_module(self.module).load(path)

    def bundle(self, path: str | Path) -> str | Path:
        """The path of a bundle; text such as `default` stands for the one in the wheel, and ./default for a folder."""
        return self.shipped.get(path, path) if isinstance(path, str) else path

    def load(self, path: str | Path, classes: Sequence[type], device: str = "cpu") -> nn.Module:
        """The model of a bundle in the wheel, of a bundle's or a run's folder, or of a Hub id."""
        from . import bundle

        return bundle.load(self.bundle(path), classes, self.name, device)

    def load_config(self, path: str | Path, classes: Sequence[type]) -> Any:
        """The config of the model that `load` would build."""
        from . import bundle

        return bundle.load_config(self.bundle(path), classes, self.name)

    def save(self, model: nn.Module, out: str | Path, card: str, force: bool = False) -> None:
        """Write `model` and its card as a bundle of this package and version."""
        from . import bundle

        bundle.save(model, out, self.name, self.version, card, force)

    def card(self, title: str, summary: str, data: str, numbers: Mapping[str, Any] | None = None) -> str:
        """The card of a bundle that a user made: the package knows no licence of it."""
        from . import bundle

        use = f'import {self.module}\n\nmodel = {self.module}.load("bundle")  # the folder of this file'
        return bundle.card(title, summary, "other", data, numbers or {}, use, self.tags)


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that imports its names when they are used: `--help` waits for no torch.

    `homes` says where a name lives: {"load": ".model", "separate": ".separate"}. A name may be that of its chapter:
    importing the chapter sets no attribute then, so `audio_sep.separate` is always the function.
    """

    class Names(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in homes and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name], package), name)

    module = sys.modules[package]
    module.__class__ = Names
    return get, lambda: sorted({*module.__all__, *vars(module)})
