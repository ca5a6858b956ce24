"""Helpers for tests: signals, stored parity cases, comparisons, and the checks that every model must pass."""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import bundle, chunk
from .codec import Codec
from .files import InputError


def tone(frequency: float = 440.0, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> Tensor:
    """A sine of amplitude 0.5 as (C, T); each further channel runs a quarter turn ahead."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    turns = frequency * time + 0.25 * torch.arange(channels, dtype=torch.float64)[:, None]
    return (0.5 * torch.sin(2 * torch.pi * turns)).float()


def noise(seed: int = 0, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> Tensor:
    """White noise of standard deviation 0.1 as (C, T): the same for the same seed, whatever ran before."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, round(seconds * rate), generator=generator)


def close(actual: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    """Assert max|actual - expected| <= relative * max|expected|."""
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if not expected.numel():
        return
    wide = torch.complex128 if expected.is_complex() else torch.float64
    actual, expected = (value.detach().cpu().to(wide) for value in (actual, expected))
    difference = (actual - expected).abs()
    peak = float(expected.abs().max())
    worst = int(difference.argmax())  # NaN counts as the largest
    place = tuple(int(i) for i in np.unravel_index(worst, expected.shape))
    assert float(difference.max()) <= relative * peak, (
        f"at {place}: {actual.flatten()[worst].item():.8g}, expected {expected.flatten()[worst].item():.8g}; "
        f"off by {float(difference.max()):.3g}, allowed {relative:.1e} of the peak {peak:.4g}"
    )


def filled(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Random values for the parameter `name`. Its name is the seed, so no weights need to be stored."""
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype)
    leaf = name.rpartition(".")[2]
    fan_in = int(np.prod(shape[1:]))
    draw = np.random.RandomState(zlib.crc32(name.encode()))  # the stored cases were drawn so
    if leaf == "running_var":
        return draw.uniform(0.5, 1.5, shape).astype(dtype)
    if leaf == "A_log":
        return draw.uniform(0.0, 2.5, shape).astype(dtype)
    normal = draw.standard_normal(shape)
    if len(shape) > 1 and fan_in > 1:
        return (normal / np.sqrt(fan_in)).astype(dtype)
    is_gain = leaf in ("weight", "original0") or leaf.endswith("_g")
    return (0.1 * normal + is_gain).astype(dtype)


@dataclass(frozen=True)
class Case:
    """What an original computed at one configuration: settings in `stem`.json, inputs and outputs in `stem`.npz."""

    config: dict[str, Any]
    keys: list[list[Any]]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    notes: str = ""

    @classmethod
    def load(cls, stem: str | Path) -> "Case":
        meta = json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))
        arrays: dict[str, dict[str, Any]] = {"in": {}, "out": {}}
        with np.load(f"{stem}.npz") as stored:
            for key in stored.files:
                side, _, name = key.partition(".")
                value = stored[key]  # text stays an array, numbers become tensors
                arrays[side][name] = value if value.dtype.kind in "US" else torch.from_numpy(np.array(value))
        return cls(meta["config"], meta["keys"], arrays["in"], arrays["out"], meta.get("notes", ""))

    def state(self) -> dict[str, Tensor]:
        """Weights under the original's names. An input called `state.<name>` replaces the random value."""
        weights = {name: torch.from_numpy(filled(name, tuple(shape), dtype)) for name, shape, dtype in self.keys}
        stored = {name[6:]: value for name, value in self.inputs.items() if name.startswith("state.")}
        return weights | stored

    def tolerance(self, output: str, floor: float = 1e-5) -> float:
        """Relative to the peak: ten times the original's own float32 rounding, where the case states it."""
        return max(floor, 10 * self.config.get("float32_noise", {}).get(output, 0.0))


def refused(call: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
    """The message of the InputError that the call must end in, one line."""
    try:
        call(*arguments, **settings)
    except InputError as error:
        assert "\n" not in str(error), f"more than one line: {error}"
        return str(error)
    raise AssertionError("nothing was refused")


# --- what every model must pass ----------------------------------------------------------------------


def check_repeats(net: nn.Module, x: Tensor) -> None:
    """In eval mode the same input gives the same output, and an item gives the same alone as in a batch."""
    net = net.eval()
    with torch.no_grad():
        together = net(x)
        assert torch.equal(together, net(x)), "two calls differ"
        for item, alone in enumerate(x.split(1)):
            close(net(alone)[0], together[item], 1e-4)


def check_gradients(net: nn.Module, x: Tensor) -> None:
    """Every trainable parameter gets a finite gradient that is not zero."""
    net.train().zero_grad()
    net(x).square().mean().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} gets no gradient"
            assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
            assert parameter.grad.abs().max() > 0, f"the gradient of {name} is zero"


def check_bundle(net: nn.Module, folder: Path) -> None:
    """Saving and loading keeps config and weights, and hostile configs are refused in one line."""
    bundle.save(net, folder, "audio-test", "0.0.0", "# A test")
    loaded = bundle.load(folder, [type(net)])
    assert loaded.config == net.config
    for (name, saved), again in zip(net.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(saved.cpu(), again), f"{name} changed"
    refuses_mutations(folder, lambda path: bundle.load(path, [type(net)]))


def check_causal(net: nn.Module, x: Tensor, at: int, ratio: float = 1.0) -> None:
    """Inputs from sample `at` on change no output before `at * ratio`."""
    changed = x.clone()
    changed[..., at:] += 1
    before = int(at * ratio)
    with torch.no_grad():
        assert torch.equal(net(x)[..., :before], net(changed)[..., :before]), (
            f"outputs before {before} depend on later inputs"
        )


STRANGE: list[Any] = [-1, 0, 2, 255, 2**31 - 1, 2**31, 2**40, 2**63, 10**40, -(2**70)]
STRANGE += [0.5, 1e308, "x", "", None, True, [], {}]


def mutations(config: Any) -> Iterator[Any]:
    """Copies of plain data in each of which one value, at any depth, is replaced by one of STRANGE."""
    if isinstance(config, dict):
        yield from ({**config, key: changed} for key, value in config.items() for changed in mutations(value))
    elif isinstance(config, list):
        places = [0, len(config) - 1] if config else []
        yield from ([*config[:at], new, *config[at + 1 :]] for at in places for new in mutations(config[at]))
        yield from STRANGE
    else:
        yield from STRANGE


def refuses_mutations(folder: Path, load: Callable[[Path], Any]) -> None:
    """Assert that a bundle whose config.json is mutated is loaded, or refused in one line."""
    path = folder / "config.json"
    head = json.loads(path.read_text(encoding="utf-8"))
    refusals = 0
    for config in mutations(head["config"]):
        path.write_text(json.dumps({**head, "config": config}), encoding="utf-8")
        try:
            load(folder)
        except InputError as error:
            refusals += 1
            assert "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"{config} ends in {type(error).__name__}: {error}") from error
    assert refusals


MANGLED: dict[str, Callable[[Tensor], Tensor]] = {
    "a scalar": lambda x: torch.zeros(()),
    "empty": lambda x: x[:0],
    "flat": torch.flatten,
    "with an axis more": lambda x: x[None],
    "whole numbers": lambda x: x.to(torch.int64),
    "complex": lambda x: x.to(torch.complex64),
    "sparse": torch.Tensor.to_sparse,
    "of 8 bits": lambda x: x.to(torch.float8_e4m3fn),
    "infinite": lambda x: x / 0,
    "without values": lambda x: x.to("meta"),
    "larger than its storage": lambda x: torch.zeros(1).expand([10**4] * x.ndim),
}


def refuses_mangled(
    state: Mapping[str, Tensor], names: Iterable[str], kind: str, convert: Callable[[dict[str, Tensor]], Any]
) -> None:
    """Assert that `convert` refuses a checkpoint in one line where one of these tensors is mangled in this way."""
    for name in names:
        if kind == "flat" and state[name].ndim == 1:  # as it was
            continue
        try:
            refused(convert, {**state, name: MANGLED[kind](state[name])})
        except Exception as error:
            raise AssertionError(f"{name}: ends in {type(error).__name__}: {error}") from error


def check_codec(codec: Any, audio: Tensor, tolerance: float = 1e-5) -> None:
    """The codec keeps the promises of `audio_core.codec.Codec`, tested on `audio` (B, C, T) of several frames."""
    assert isinstance(codec, Codec), f"{type(codec).__name__} lacks a part of audio_core.codec.Codec"
    items, channels, length = audio.shape
    assert channels == codec.channels, f"audio has {channels} channels, the codec {codec.channels}"
    for samples in sorted({length - 1, length, length - length % codec.hop}):
        latents = codec.encode(audio[..., :samples])
        frames = codec.frames(samples)
        assert latents.shape == (items, codec.width, frames), f"{samples} samples: latents {tuple(latents.shape)}"
        assert abs(frames * codec.hop - samples) < codec.hop, f"{samples} samples: {frames} frames of {codec.hop}"
        assert torch.equal(latents, codec.encode(audio[..., :samples])), "encoding the same audio twice differs"
        exact, whole = codec.decode(latents, samples), codec.decode(latents)
        assert exact.shape == (items, channels, samples), f"decoded {tuple(exact.shape)}, {samples} samples encoded"
        assert whole.shape == (items, channels, frames * codec.hop), f"decoded {tuple(whole.shape)} of {frames} frames"
    seeds = [codec.encode(audio, torch.Generator().manual_seed(seed)) for seed in (1, 1)]
    assert torch.equal(*seeds), "the same seed gives two samples"
    mark = codec.fingerprint()
    assert len(mark) == 8 and mark == codec.fingerprint(), f"fingerprint {mark!r}: expected the same 8 bytes each time"
    _check_codes(codec, audio)
    _check_chunks(codec, audio, tolerance)


def _check_codes(codec: Any, audio: Tensor) -> None:
    """Codes are indices without gradients, and fewer layers are the first of all; or the codec refuses codes."""
    if not codec.codebooks:
        for call in (codec.codes, codec.from_codes):
            try:
                call(audio)
            except TypeError:
                continue
            raise AssertionError("a codec without codebooks must refuse codes with a TypeError")
        return
    codes, frames = codec.codes(audio), codec.frames(audio.shape[-1])
    assert codes.shape == (len(audio), len(codec.codebooks), frames), f"codes {tuple(codes.shape)}"
    assert codes.dtype == torch.long and not codes.requires_grad, f"codes are {codes.dtype}, expected int64"
    for book, size in enumerate(codec.codebooks):
        assert codes[:, book].min() >= 0 and codes[:, book].max() < size, f"codebook {book} has {size} entries"
    for layers in (1, len(codec.codebooks)):
        assert torch.equal(codec.codes(audio, layers), codes[:, :layers]), f"{layers} layers are not the first of all"
        latents = codec.from_codes(codes[:, :layers])
        assert latents.shape == (len(audio), codec.width, frames), f"latents of codes {tuple(latents.shape)}"
        assert codec.decode(latents, audio.shape[-1]).isfinite().all(), "the audio of codes is not finite"


def _check_chunks(codec: Any, audio: Tensor, tolerance: float) -> None:
    """With the stated receptive field as margin, pieces give the same as the whole."""
    if codec.receptive_field is None:
        return
    margins = (-(-codec.receptive_field[0] // codec.hop), codec.receptive_field[1])  # in frames
    assert codec.frames(audio.shape[-1]) > 4 + 2 * max(margins), f"too short to cut: margins of {margins} frames"
    latents = codec.encode(audio).detach()
    options = {"overlap": 0, "margin": margins[0] * codec.hop, "multiple": 1, "ratio": Fraction(1, codec.hop)}
    pieces = chunk.process(codec.encode, audio, (2 + 2 * margins[0]) * codec.hop, **options)
    close(pieces, latents, tolerance)
    options = {"overlap": 0, "margin": margins[1], "ratio": codec.hop}
    close(chunk.process(codec.decode, latents, 2 + 2 * margins[1], **options), codec.decode(latents), tolerance)
