"""The original programs: their checkpoints, which are identified by shapes, and what they compute differently.

Both quantizers of the originals search as ResidualQuantizer does, so trained codebooks move over; they differ in how
these learn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from audio_core import bundle
from audio_core.config import build as build_config
from audio_core.config import plain
from audio_core.dsp.mel import MelSpectrogram
from audio_core.dsp.precision import full_precision
from audio_core.files import InputError
from audio_core.loss.spectral import same_shape
from audio_core.nn.quantize import Quantised, ResidualQuantizer
from audio_core.weights import expect_values
from torch import Tensor, nn

from .config import SoundStreamConfig, TinyStreamConfig, bitrates
from .discriminators import STFTDiscriminator
from .model import NeuralCodec, SoundStream, TinyStream

_BOOK = re.compile(r"quantizer\.quantizers\.(\d+)\.(embeddings\.weight|ema_cluster_size|ema_w)")


def convert(path: str | Path, overrides: Sequence[str] = ()) -> NeuralCodec:
    """The codec of a checkpoint (`.pt`) of uverd's SoundStream or TinyStream, of any size.

    `overrides` such as `rate=16000` (`model.rate=...` is the same) say what the shapes of the tensors do not.
    """
    path = Path(path)
    state = bundle.read_checkpoint(path)
    return from_state(state, path, _rate(path), overrides)


def summary(model: NeuralCodec) -> tuple[str, str]:
    """Title and summary for the card of a converted codec."""
    books = f"{len(model.codebooks)} codebooks of {model.codebooks[0]}"
    return type(model).__name__, f"{model.sample_rate} Hz, {books}, up to {bitrates(model.config)[-1]:g} kbit/s"


def from_state(
    state: Mapping[str, Tensor],
    path: Path = Path("checkpoint"),
    rate: int | None = None,
    overrides: Sequence[str] = (),
) -> NeuralCodec:
    """The codec with these weights, under the original's names."""
    expect_values(state, path)
    if any(".res_unit." in name for name in state):
        raise InputError(f"{path}: is a TinyStream from before it had three residual units a block, which is not known")
    config = settings(state, path, rate)
    if overrides:
        changes = [text.removeprefix("model.") for text in overrides]
        config = build_config(type(config), plain(config), changes)
    model = SoundStream(config) if isinstance(config, SoundStreamConfig) else TinyStream(config)
    pairs = names(model)
    missing = [name for name in pairs.values() if name not in state]
    unknown = [name for name in state if name not in set(pairs.values()) and not _BOOK.fullmatch(name)]
    if missing or unknown:
        which = f"lacks {missing[0]}" if missing else f"holds {unknown[0]}, which no such codec has"
        raise InputError(f"{path}: looks like a {type(model).__name__}, but {which}")
    tensors = model.state_dict()
    for name, original in pairs.items():
        shape, expected = tuple(state[original].shape), tuple(tensors[name].shape)
        if shape != expected:
            raise InputError(f"{path}: {original} has the shape {shape}, expected {expected}")
    model.load_state_dict({name: state[original] for name, original in pairs.items()}, strict=False)
    books = [state[f"quantizer.quantizers.{at}.embeddings.weight"] for at in range(config.layers)]
    if any(book.shape != (config.size, config.width) for book in books):
        raise InputError(f"{path}: its codebooks differ in shape, which no such codec has")
    model.quantizer.load_codebooks(torch.stack(books))
    return model.eval()


def settings(state: Mapping[str, Tensor], path: Path, rate: int | None = None) -> SoundStreamConfig | TinyStreamConfig:
    """The configuration that follows from the shapes; the rate does not."""
    tiny = any(".depthwise." in name for name in state)
    first = "encoder.initial_conv.weight" if tiny else "encoder.initial_conv.conv.weight"
    layer = "depthwise" if tiny else "conv"
    try:
        size, width = state["quantizer.quantizers.0.embeddings.weight"].shape
        channels = state[first].shape[0]
        strides = tuple(state[f"encoder.blocks.{at}.downsample.{layer}.weight"].shape[2] // 2 for at in range(4))
        layers = len([name for name in state if name.endswith(".embeddings.weight")])
        cls = TinyStreamConfig if tiny else SoundStreamConfig
        return cls(channels, width, strides, layers, size, rate or cls.rate, learning="none")
    except (KeyError, ValueError, IndexError) as error:
        shown = ", ".join(list(state)[:3])
        what = f"{error}" if isinstance(error, ValueError) else f"it holds {shown}, ..."
        raise InputError(f"{path}: is no SoundStream or TinyStream of uverd: {what}") from None


def names(model: NeuralCodec) -> dict[str, str]:
    """Each convolution tensor of the model -> the original's name of it: both list them from input to output."""
    ours = [name for name in model.state_dict() if not name.startswith("quantizer.")]
    return dict(zip(ours, _original_names(isinstance(model, TinyStream)), strict=True))


def _original_names(tiny: bool) -> list[str]:
    leaves = ("weight",) if tiny else ("weight", "bias")
    wrapped = "" if tiny else ".conv"  # inside its causal convolutions
    units = ("conv1.depthwise", "conv1.pointwise", "conv2") if tiny else ("conv1.conv", "conv2.conv")
    down = ("downsample.depthwise", "downsample.pointwise") if tiny else ("downsample.conv",)
    inside = [f"res_units.{unit}.{part}" for unit in range(3) for part in units]
    encoder = [f"encoder.initial_conv{wrapped}"]
    encoder += [f"encoder.blocks.{at}.{part}" for at in range(4) for part in (*inside, *down)]
    decoder = [f"decoder.initial_conv{wrapped}"]
    decoder += [f"decoder.blocks.{at}.{part}" for at in range(4) for part in ("upsample", *inside)]
    modules = [*encoder, f"encoder.final_conv{wrapped}", *decoder]
    last = [f"decoder.final_conv{wrapped}.{leaf}" for leaf in ("weight", "bias")]
    return [f"{module}.{leaf}" for module in modules for leaf in leaves] + last


def _rate(path: Path) -> int | None:
    """The sampling rate in the checkpoint's own notes, where it has such."""
    if path.suffix.lower() == ".safetensors":
        return None
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    notes = checkpoint.get("config") if isinstance(checkpoint, Mapping) else None
    rate = notes.get("sample_rate") if isinstance(notes, Mapping) else None
    return rate if isinstance(rate, int) and 1 <= rate <= 1_000_000 else None


# --- how the originals' codebooks learn ------------------------------------------------------------------------

EPS = 1e-5


class _Original(ResidualQuantizer):
    def __init__(self, width: int, layers: int, size: int):
        super().__init__(width, layers, size)
        nn.init.uniform_(self.codebooks, -1 / size, 1 / size)


class MovingQuantizer(_Original):
    """SoundStream's: moving averages from zero on, without k-means, without revival.

    After the first step every entry that nobody chose is zero, the smoothed counts are written back, and only the
    first layer's loss reaches the encoder.
    """

    def __init__(self, width: int, layers: int, size: int):
        super().__init__(width, layers, size)
        self.counts.zero_()

    @full_precision
    def forward(self, latents: Tensor, counts: Tensor | None = None) -> Quantised:
        """The batch uses as many layers as its largest of `counts`; the others learn nothing."""
        residual, total, codes, losses = latents.transpose(1, 2), torch.zeros_like(latents), [], []
        for at in range(len(self.codebooks) if counts is None else int(counts.max())):
            entries, chosen = self._nearest(residual, at)
            losses.append(F.mse_loss(residual, entries))
            if self.training:
                self._move(residual.detach().flatten(0, 1), chosen.flatten(), at)
            through = residual + (entries - residual).detach()
            total = total + through.transpose(1, 2)
            residual = residual - through
            codes.append(chosen)
        return Quantised(total, torch.stack(codes, 1), torch.stack(losses))

    @torch.no_grad()
    def _move(self, vectors: Tensor, chosen: Tensor, layer: int) -> None:
        """vectors (P, D) and their entries (P,)"""
        counts, sums, size = self.counts[layer], self.sums[layer], self.counts.shape[1]
        counts.lerp_(torch.bincount(chosen, minlength=size).to(counts), 1 - self.decay)
        total = counts.sum()
        counts.copy_((counts + EPS) / (total + size * EPS) * total)
        sums.lerp_(torch.zeros_like(sums).index_add_(0, chosen, vectors), 1 - self.decay)
        self.codebooks[layer] = sums / counts[:, None]


class GradientQuantizer(_Original):
    """TinyStream's: entries are parameters that move towards their latents by gradient. The encoder has no commitment
    loss, and every item is decoded from all layers whatever `counts` says."""

    def __init__(self, width: int, layers: int, size: int):
        super().__init__(width, layers, size)
        entries = self.codebooks
        del self.codebooks, self.counts, self.sums, self.started
        self.codebooks = nn.Parameter(entries)

    @full_precision
    def forward(self, latents: Tensor, counts: Tensor | None = None) -> Quantised:
        residual, total, codes, losses = latents.transpose(1, 2), torch.zeros_like(latents), [], []
        for at in range(len(self.codebooks)):
            _, chosen = self._nearest(residual, at)
            entries = F.embedding(chosen, self.codebooks[at])
            losses.append(F.mse_loss(entries, residual.detach()))
            through = residual + (entries - residual).detach()
            total = total + through.transpose(1, 2)
            residual = residual - through
            codes.append(chosen)
        return Quantised(total, torch.stack(codes, 1), torch.stack(losses))

    @torch.no_grad()
    def load_codebooks(self, codebooks: Tensor) -> None:
        self.codebooks.copy_(codebooks)


# --- what its training compares ------------------------------------------------------------------------------


class SwappedSTFTDiscriminator(STFTDiscriminator):
    """The original's: its spectrum has time and frequency confused, and its checkpoints depend on it.

    Time shrinks 64 times, frequency 8 times, and the logits, one a band, are means over time. It needs 64 frames.
    """

    def __init__(self, channels: int = 1, width: int = 32, n_fft: int = 1024, hop: int = 256):
        super().__init__(channels, width, n_fft, hop)
        self.shortest = 63 * hop

    def spectrum(self, audio: Tensor) -> Tensor:
        """(B, 2C, F, frames)"""
        return super().spectrum(audio).transpose(-1, -2)


class PowerMelLoss(nn.Module):
    """The original's distance of mel spectrograms: power in HTK bands (torchaudio's), the mean over the windows.

    `magnitude` weighs mean |X - Y|, `log` weighs mean (ln(X + 1e-5) - ln(Y + 1e-5))², no half, no root.
    X and Y are powers: the magnitude term grows with the square of the window and dominates the other one.
    """

    def __init__(
        self,
        rate: int,
        windows: Sequence[int] = (2048, 1024, 512, 256, 128, 64),
        bands: int = 64,
        magnitude: float = 1.0,
        log: float = 1.0,
    ):
        super().__init__()
        self.mels = nn.ModuleList(
            [MelSpectrogram(rate, window, window // 4, bands, scale="htk", norm=None) for window in windows]
        )
        self.magnitude, self.log = magnitude, log

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        same_shape(estimate, target)
        loss = estimate.new_zeros(())
        for mel in self.mels:
            x, y = mel(estimate), mel(target)
            if self.magnitude:
                loss = loss + self.magnitude * F.l1_loss(x, y)
            if self.log:
                loss = loss + self.log * F.mse_loss((x + 1e-5).log(), (y + 1e-5).log())
        return loss / len(self.mels)
