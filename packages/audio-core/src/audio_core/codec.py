"""The interface of neural codecs, how to find a codec by name, and its bitrates.

Packages meet here and never import each other. A package offers a loader, which takes a bundle's folder or Hub id and
returns a Codec. Its pyproject.toml names the loader under `[project.entry-points."audio_core.codecs"]`, in a line such
as `soundstream = "audio_soundstream:load"`.

In the group `audio_core.encoders` it offers encoders that are still to learn, as a part of another package's model. The
function there takes plain data, such as {"encoder": {"type": ..., "config": {...}}, "bottleneck": {...}}, and returns a
module with

    forward(audio (B, C, T), seeds=None) -> code (B, width, F), losses {name: scalar}
    channels, hop, width   as a Codec has them
    weights                {name: number}, the usual weight of every loss that it can have
    load_original(state, source)   sets it to the tensors of a checkpoint, by the names that they have there

A code is drawn from its distribution with one of `seeds` for each item, which then depends on no other. Without seeds
and in eval mode it is the mean.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .files import InputError, reason

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

GROUP, ENCODERS = "audio_core.codecs", "audio_core.encoders"
PACKAGES = {"soundstream": "audio-soundstream", "codec-vae": "audio-codec-vae"}
"""The codecs of this workspace, and the distribution of each."""
ENCODER_PACKAGES = {"codec-vae": "audio-codec-vae"}
"""Those that offer encoders as well."""


@runtime_checkable
class Codec(Protocol):
    """Audio (B, C, T) to F frames of latents (B, width, F), one for each `hop` samples, and back.

    A codec without codebooks has `codebooks == ()`, and its `codes` and `from_codes` raise a TypeError.
    `audio_core.testing.check_codec` tests all that is promised here.
    """

    sample_rate: int
    channels: int
    hop: int
    width: int

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The number of entries of each codebook."""

    @property
    def receptive_field(self) -> tuple[int, int] | None:
        """How far a result depends on its input beyond its own frame, to either side.

        The first number is that of `encode`, in samples; the second that of `decode`, in frames. Upper bounds will do.
        None stands for the whole input: such a codec takes long audio in one piece.
        """

    def frames(self, samples: int) -> int:
        """How many frames `encode` returns for this number of samples."""

    def encode(self, audio: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, C, T) -> latents (B, width, frames(T)).

        Where latents are a distribution, this is its mean, or a sample drawn with `generator`.
        """

    def decode(self, latents: Tensor, samples: int | None = None) -> Tensor:
        """(B, width, F) -> audio (B, C, samples), for any `samples` that make F frames; F * hop for None."""

    def codes(self, audio: Tensor, layers: int | None = None) -> Tensor:
        """(B, C, T) -> indices into the first `layers` of the K codebooks, or into all (B, K, frames(T))."""

    def from_codes(self, codes: Tensor) -> Tensor:
        """(B, K or fewer, F) -> latents (B, width, F)."""

    def fingerprint(self) -> bytes:
        """Eight bytes that identify everything that decoding depends on; the function `fingerprint` computes them.

        It is called for every file, so a large codec should keep the result.
        """


# --- finding -----------------------------------------------------------------------------------------------


def names(group: str = GROUP) -> list[str]:
    """The codecs that installed packages offer, or with ENCODERS the encoders."""
    return sorted({entry.name for entry in entry_points(group=group)})


def find(name: str, group: str = GROUP) -> Callable[..., Any]:
    """The loader of the codec `name`: it takes a bundle's folder or Hub id. With ENCODERS what builds an encoder."""
    what, known = ("codec", PACKAGES) if group == GROUP else ("encoder", ENCODER_PACKAGES)
    for entry in entry_points(group=group, name=name):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"{what} {name!r}: {entry.value} cannot be loaded: {reason(error)}") from error
    installed = f"installed: {', '.join(names(group))}" if names(group) else "none is installed"
    close = difflib.get_close_matches(name, [*names(group), *known], 1, 0.8)
    if name in known:
        hint = f"; try: pip install {known[name]}"
    else:
        hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(f"{what} {name!r} is not installed ({installed}){hint}")


# --- facts -------------------------------------------------------------------------------------------------


def fingerprint(model: nn.Module, kind: object, *prefixes: str) -> bytes:
    """Eight bytes that identify the weights of `model` whose names begin with `prefixes`, together with `kind`.

    `kind` is anything else that decoding depends on, such as the class and its strides. Its `repr` is hashed.
    """
    digest = hashlib.blake2b(repr(kind).encode(), digest_size=8)
    for name, tensor in model.state_dict().items():
        if name.startswith(prefixes):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().astype("<f4").tobytes())
    return digest.digest()


def bitrates(codebooks: Sequence[int], rate: int, hop: int) -> tuple[float, ...]:
    """The bitrates in kbit/s with the first 1, 2, ... of the codebooks, whose sizes `codebooks` gives."""
    bits = itertools.accumulate(max(1, math.ceil(math.log2(size))) for size in codebooks)
    return tuple(each * rate / hop / 1000 for each in bits)


def layers_for(kbps: float | None, rates: Sequence[float]) -> int:
    """How many codebooks make `kbps`, where `rates` are the `bitrates` of the codec; all of them for None."""
    if kbps is None:
        return len(rates)
    for count, possible in enumerate(rates, 1):
        if math.isclose(possible, kbps, rel_tol=0.005):
            return count
    listing = ", ".join(f"{possible:g}" for possible in rates) or "none, since it has no codebooks"
    raise InputError(f"{kbps:g} kbit/s is no bitrate of this codec; possible are {listing}")
