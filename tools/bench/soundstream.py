"""What audio-soundstream costs: ratios measured side by side in this process, on one thread of processor time.

hatch run bench soundstream [--seconds 60]
"""

import argparse
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from audio_core import audio
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual
from audio_soundstream.codec import PIECE, encoded, reconstruct_file
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig
from audio_soundstream.live.stream import DecoderStream
from audio_soundstream.model import NeuralCodec, SoundStream, TinyStream, spread
from torch import Tensor, nn

from tools.bench.processes import cost


def taken(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def compared(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of processor time of each, taken in turn."""
    times = [[taken(function) for function in functions] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


# --- the original's way: whole files, padded copies, activations into new memory -----------------------------


def original(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, Conv1d):
        left, right = layer.pads
        conv = (layer.weight, layer.bias, layer.stride)
        if left == right:
            return F.conv1d(x, *conv, left, layer.dilation, layer.groups)
        return F.conv1d(F.pad(x, (left, right)), *conv, 0, layer.dilation, layer.groups)
    if isinstance(layer, ConvTranspose1d):
        left, right = layer.trims
        return F.conv_transpose1d(x, layer.weight, layer.bias, layer.stride, left, max(left - right, 0))
    if isinstance(layer, Residual):
        return x + original(layer.layers, x)
    if isinstance(layer, nn.ELU):
        return F.elu(x)
    if isinstance(layer, nn.ReLU):
        return F.relu_(x)
    for part in layer:
        x = original(part, x)
    return x


@torch.no_grad()
def original_codes(model: NeuralCodec, x: Tensor) -> Tensor:
    z = original(model.encoder, x)
    residual, codes = z.transpose(1, 2).reshape(-1, model.width), []
    for book in model.quantizer.codebooks:
        distances = residual.square().sum(1, keepdim=True) + book.square().sum(1) - 2 * residual @ book.T
        nearest = distances.argmin(1)
        residual = residual - F.embedding(nearest, book)
        codes.append(nearest)
    return torch.stack(codes)[None]


def random_model(config: SoundStreamConfig | TinyStreamConfig) -> NeuralCodec:
    torch.manual_seed(0)
    model = TinyStream(config) if isinstance(config, TinyStreamConfig) else SoundStream(config)
    spread(model)
    model.quantizer.load_codebooks(0.3 * torch.randn_like(model.quantizer.codebooks))
    return model.eval()


def speed(name: str, model: NeuralCodec, seconds: float, rounds: int) -> None:
    x = 0.1 * torch.randn(1, 1, round(seconds * model.sample_rate))
    step = round(PIECE * model.sample_rate)
    pieces = [piece[0].numpy() for piece in x.split(step, -1)]

    def encode() -> np.ndarray:
        return np.concatenate(list(encoded(model, pieces)), 1)

    whole = x.shape[-1] // model.hop * model.hop
    expected = original_codes(model, x[..., :whole])
    agreement = float((expected[0].numpy() == encode()[:, : expected.shape[-1]]).mean())
    codes = torch.from_numpy(encode())[None]

    def decode() -> None:
        stream = DecoderStream(model, x.shape[-1])
        for piece in codes.split(step // model.hop, -1):
            stream.feed(piece)
        stream.finish()

    def original_decode() -> None:
        with torch.no_grad():
            original(model.decoder, model.from_codes(codes))

    ours, other, back, other_back = compared(
        [encode, lambda: original_codes(model, x), decode, original_decode], rounds
    )
    print(
        f"{name:22} encode {seconds / ours:6.1f} x real time, {other / ours:4.2f} times the original's way; "
        f"decode {seconds / back:6.1f} x, {other_back / back:4.2f} times; {100 * agreement:.2f} % of the codes equal"
    )


def encodec(seconds: float, rounds: int) -> None:
    sys.modules.setdefault(
        "torchaudio", types.ModuleType("torchaudio")
    )  # it reads files with it, which is not done here
    try:
        from encodec import EncodecModel
    except ImportError:
        print("EnCodec is not measured: pip install encodec")
        return
    model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    model.set_target_bandwidth(6.0)
    x = 0.1 * torch.randn(1, 1, round(seconds * 24000))
    with torch.no_grad():
        frames = model.encode(x)
        encode, decode = compared([lambda: model.encode(x), lambda: model.decode(frames)], rounds)
    print(
        f"{'EnCodec, 24 kHz, 6 kbps':22} encode {seconds / encode:6.1f} x real time; decode {seconds / decode:6.1f} x"
    )


def memory(minutes: float) -> None:
    """Peak memory of a process that encodes and decodes so long a file, beside one of ten seconds."""
    program = "import sys; from tools.bench.soundstream import passing; passing(sys.argv[1])"
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for length in (10.0, 60 * minutes):
            path = Path(folder) / f"{length}.wav"
            second = 0.1 * np.random.default_rng(0).standard_normal((1, 16000)).astype(np.float32)
            with audio.Writer(path, 16000, 1) as writer:
                for _ in range(round(length)):
                    writer.write(second)
            peaks.append(cost(sys.executable, "-c", program, path).megabytes)
    print(f"TinyStream medium, a file of {minutes:g} minutes: {peaks[1]:.0f} MB, one of 10 s: {peaks[0]:.0f} MB")


def passing(path: str) -> None:
    reconstruct_file(
        random_model(TinyStreamConfig(16, 128, layers=5, size=1024)), path, {5: Path(f"{path}.back.wav")}, quiet=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of noise (default: 60)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the long file (default: 10)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, config in (
        ("TinyStream medium", TinyStreamConfig(16, 128, layers=5, size=1024)),
        ("the same, causal", TinyStreamConfig(16, 128, layers=5, size=1024, causal=True)),
        ("SoundStream base", SoundStreamConfig()),
    ):
        speed(name, random_model(config), args.seconds, args.rounds)
    encodec(min(args.seconds, 30.0), args.rounds)
    memory(args.minutes)


if __name__ == "__main__":
    main()
