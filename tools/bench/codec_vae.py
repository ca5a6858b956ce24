"""What audio-codec-vae costs, with random weights and noise, on one thread: beside the original's way in this process,
and beside descript-audio-codec in processes of their own.

"The original's way" is the same network and weights with weight norm computed in each call and Snake as a formula, one
new tensor for each of its steps, and all of the audio at once, as in stable-audio-tools and LyraCodec. Ours has weight
norm folded and Snake in place, and goes through in pieces, as files do. All in this process uses memory as Python
programs do by default; the command `audio-codec-vae` lets freed memory stay.

hatch run bench codec_vae [--rounds 3] [--hours 1]
"""

import argparse
import copy
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audio_codec_vae import PACKAGE
from audio_codec_vae.models.autoencoder import Autoencoder, folded
from audio_codec_vae.recipe import Recipe
from audio_core import audio, command, latents
from audio_core.dsp.precision import Precision
from audio_core.files import InputError
from audio_core.nn.snake import Snake, SnakeBeta
from torch import Tensor, nn

from tools.bench.processes import Cost, cost, python_with
from tools.bench.timing import best, shown, snr_db

SECONDS = 6
RECIPES = {"Oobleck, stereo": "oobleck-44k", "LyraCodec, stereo": "lyra", "DAC, mono": "dac-44k"}
Words = Sequence[object]
DESCRIPT = "descript-audio-codec==1.0.0"


def model_of(recipe: str) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(command.load_recipe(Recipe, "audio_codec_vae", recipe, []).model).eval()


def noise(model: Autoencoder, seconds: float) -> np.ndarray:
    shape = model.channels, round(seconds * model.sample_rate)
    return 0.1 * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


# --- the same network in this process ------------------------------------------------------------------------


class PlainSnake(nn.Module):
    """Snake as the originals write it."""

    def __init__(self, snake: Snake | SnakeBeta):
        super().__init__()
        self.snake = snake

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.snake.alpha
        if isinstance(self.snake, Snake):
            return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).pow(2)
        alpha, beta = torch.exp(alpha[None, :, None]), torch.exp(self.snake.beta[None, :, None])
        return x + (1.0 / (beta + 1e-9)) * torch.pow(torch.sin(x * alpha), 2)


class OriginalWay:
    def __init__(self, model: Autoencoder):
        self.model = copy.deepcopy(model)
        for name, layer in [*self.model.named_modules()]:
            if isinstance(layer, Snake | SnakeBeta):
                self.model.set_submodule(name, PlainSnake(layer))

    @torch.no_grad()
    def __call__(self, x: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(x)[None]
        return self.model.decode(self.model.encode(batch), x.shape[1])[0].numpy()


class Ours:
    def __init__(self, model: Autoencoder, precision: Precision = "float32"):
        self.model = folded(model, "cpu", precision)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return latents.decode(self.model, latents.encode(self.model, x, self.model.sample_rate))


def networks(rounds: int) -> None:
    """CPU seconds a second of audio, encoded and decoded, of ours and of the original's way."""
    for name, recipe in RECIPES.items():
        model = model_of(recipe)
        x = noise(model, SECONDS)
        ways: list[Any] = [Ours(model), OriginalWay(model)]
        expected = ways[0](x)
        agreed = snr_db(ways[1](x), expected)
        if agreed < 80:
            raise SystemExit(f"{name}: the original's way gives something else: SNR {agreed:.1f} dB")
        try:
            ways.append(Ours(model, "bf16"))
            kept = f"SNR to float32 {snr_db(ways[2](x), expected):.1f} dB"
        except InputError as error:
            kept = f"not measured: {error}"
        own, other, *bf16 = (each.per_second(SECONDS) for each in best([partial(way, x) for way in ways], rounds))
        print(f"{name}, a second of {SECONDS}")
        print(f"  the original's way {shown(other)}; equal within {agreed:.0f} dB")
        print(f"  ours               {shown(own)}, {other.seconds / own.seconds:.2f} times as fast")
        times = "".join(f"{shown(each)}, {own.seconds / each.seconds:.2f} times as fast as ours; " for each in bf16)
        print(f"  ours in bf16       {times}{kept}", flush=True)


# --- files, in processes of their own ------------------------------------------------------------------------

# The network of descript-audio-codec with random weights, ten seconds of the file at a time, without overlap. Its
# loader of files is left out, and with it torchaudio, where that is not for the PyTorch at hand.
DESCRIPT_COMMAND = """
import sys
from unittest import mock
try:
    import torchaudio
except OSError:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules["torchaudio"] = mock.MagicMock()
import dac, soundfile, torch

torch.manual_seed(0)
model = dac.DAC().eval()
with soundfile.SoundFile(sys.argv[1]) as source, torch.inference_mode():
    with soundfile.SoundFile(sys.argv[2], "w", source.samplerate, 1) as target:
        for block in source.blocks(10 * source.samplerate, dtype="float32"):
            x = model.preprocess(torch.from_numpy(block)[None, None], source.samplerate)
            target.write(model.decode(model.encode(x)[0])[0, 0, : len(block)].numpy())
"""


def reconstructed(program: Callable[[Path, Path], Words], model: Autoencoder, seconds: float, folder: Path) -> Cost:
    """The cost of a program that takes a file of noise to another file."""
    source, out = folder / "noise.wav", folder / "out.wav"
    second = noise(model, 1)
    with audio.Writer(source, model.sample_rate, model.channels) as writer:  # it may be larger than the memory
        for _ in range(round(seconds)):
            writer.write(second)
    try:
        return cost(*program(source, out))
    finally:
        source.unlink()
        out.unlink(missing_ok=True)


def files(hours: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("files of noise to latents and back: whole processes")

        def own(bundle: str, source: Path, out: Path) -> Words:
            words = [sys.executable, "-m", "audio_codec_vae", "reconstruct", source, "-o", out]
            return [*words, "--model", folder / bundle, "--quiet"]

        for title, recipe, lengths in (
            ("Oobleck, stereo at 44.1 kHz", "oobleck-44k", [10, 60]),
            ("the small recipe's, mono at 16 kHz", "oobleck-16k-small", [10, 60, *([3600 * hours] if hours else [])]),
            ("DAC, mono at 44.1 kHz", "dac-44k", [10]),
        ):
            model = model_of(recipe)
            PACKAGE.save(model, folder / recipe, "# Random weights")
            peaks = []
            for seconds in lengths:
                used = reconstructed(partial(own, recipe), model, seconds, folder)
                peaks.append(used.megabytes)
                print(f"  {title}, {seconds:g} s: {used.seconds:.1f} CPU s, {used.megabytes:.0f} MB", flush=True)
            if len(peaks) > 1:
                print(f"  {title}: {peaks[1] / peaks[0]:.2f} times the memory at 60 s")
            if recipe == "dac-44k":
                beside_descript(used, model, folder)
            shutil.rmtree(folder / recipe)


def beside_descript(own: Cost, model: Autoencoder, folder: Path) -> None:
    try:
        python = python_with(DESCRIPT, "julius")  # one of its requirements; its own import may need the stand-in
        other = reconstructed(lambda *paths: [python, "-c", DESCRIPT_COMMAND, *paths], model, 10, folder)
    except (OSError, RuntimeError) as error:
        print(f"{DESCRIPT} is not measured: {error}")
        return
    print(f"  descript-audio-codec, the same network: {other.seconds:.1f} CPU s, {other.megabytes:.0f} MB", end="")
    print(f": {other.seconds / own.seconds:.2f} times the time, {other.megabytes / own.megabytes:.2f} times the memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts (default: 3)")
    parser.add_argument("--hours", type=float, default=0.0, help="of a further file, for the small recipe's model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    networks(args.rounds)
    files(args.hours)


if __name__ == "__main__":
    main()
