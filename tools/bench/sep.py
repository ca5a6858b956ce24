"""What audio-sep costs, with random weights and noise, on one thread: beside the original's way in this process, and
beside demucs in processes of their own.

"The original's way" is `bytesep_way.py`: the same model and weights, with Fourier transforms as convolutions, no layer
folded, PyTorch's own choice of convolutions, and segments of 30 s cut hard: 10 s are padded to 30, and 60 s are 90 s of
work, as in the original. Models are built before the clock starts.
All in this process uses memory as Python programs do by default; the command `audio-sep` lets freed memory stay.

hatch run bench sep [--rounds 3] [--long] [--hours 2]
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from audio_core import audio
from audio_core.files import InputError
from audio_sep import PACKAGE, Separator
from audio_sep.config import MobileNetSubbandTimeConfig, ResUNet143SubbandTimeConfig
from audio_sep.models import MODELS
from audio_sep.models.separator import SpectrogramSeparator

from tools.bench.bytesep_way import BytesepWay
from tools.bench.processes import Cost, cost, python_with
from tools.bench.timing import best, shown, snr_db

RATE = 44100
MOBILENET, RESUNET = "MobileNet", "ResUNet143 on subbands"
SECONDS = {MOBILENET: (10,), RESUNET: (10, 60)}
DEMUCS = "demucs==4.1.0"


def model_of(name: str) -> SpectrogramSeparator:
    torch.manual_seed(0)
    if name == MOBILENET:
        return MODELS["MobileNetSubbandTime"](MobileNetSubbandTimeConfig()).eval()
    return MODELS["ResUNet143SubbandTime"](ResUNet143SubbandTimeConfig()).eval()


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((2, round(seconds * RATE)), dtype=np.float32)


# --- the same network in this process ------------------------------------------------------------------------


def agreement(model: SpectrogramSeparator, original: BytesepWay) -> float:
    """SNR in dB of ours, cut as the original cuts, to the original's way, with several short segments."""
    x, (source,) = noise(10), model.config.sources
    ours = Separator(model, stitch="bytesep", segment=4.0)
    agreed = snr_db(ours(x, RATE)[source], original.separate(x, 4.0)[0])
    if agreed < 80:
        raise SystemExit(f"the original's way gives something else: SNR {agreed:.1f} dB")
    return agreed


def networks(rounds: int) -> None:
    """CPU seconds of ours and of the original's way, which give the same where they are cut alike."""
    for name, lengths in SECONDS.items():
        model = model_of(name)
        original, ours = BytesepWay(model), Separator(model)
        ways = [ours.__call__, lambda x, _, original=original: original.separate(x)]
        agreed = agreement(model, original)
        try:
            short = Separator(model, precision="bf16")
            (source,), x = ours.stems, noise(10)
            kept = f"SNR to float32 {snr_db(short(x, RATE)[source], ours(x, RATE)[source]):.1f} dB"
            ways.append(short.__call__)
        except InputError as error:
            kept = f"not measured: {error}"
        for seconds in lengths:
            x = noise(seconds)
            own, other, *bf16 = best([lambda way=way, x=x: way(x, RATE) for way in ways], rounds)
            print(f"{name}, {seconds} s of audio")
            print(f"  the original's way {shown(other)}; equal within {agreed:.0f} dB")
            print(f"  ours               {shown(own)}, {other.seconds / own.seconds:.2f} times as fast")
            times = "".join(f"{shown(each)}, {own.seconds / each.seconds:.2f} times as fast as ours; " for each in bf16)
            print(f"  ours in bf16       {times}{kept}", flush=True)


# --- files, in processes of their own ------------------------------------------------------------------------

# The command of demucs, with a model of the published size that nobody has trained.
DEMUCS_COMMAND = """
import sys
from fractions import Fraction
from unittest import mock
import torch
from demucs import api, separate
from demucs.htdemucs import HTDemucs

torch.manual_seed(0)
model = HTDemucs(["drums", "bass", "other", "vocals"], bottom_channels=512, segment=Fraction(39, 5)).eval()
with mock.patch.object(api, "get_model", lambda **_: model):
    separate.main(["--device", "cpu", *sys.argv[1:]])
"""


def commands(folder: Path) -> dict[str, list[object]]:
    """By name, programs that take a file and `-o FOLDER`; ours last, since they are compared with the other."""
    known: dict[str, list[object]] = {}
    try:
        known["demucs"] = [python_with(DEMUCS, "demucs.api"), "-c", DEMUCS_COMMAND]
    except (OSError, RuntimeError) as error:
        print(f"{DEMUCS} is not measured: {error}")
    for name in SECONDS:
        PACKAGE.save(model_of(name), folder / name, "# Random weights")
        known[name] = [sys.executable, "-m", "audio_sep", "separate", "--model", folder / name, "--quiet"]
    return known


def separated(command: Sequence[object], seconds: int, folder: Path) -> Cost:
    """The cost of separating a file of noise."""
    source, out = folder / "noise.wav", folder / "stems"
    second = noise(1)
    with audio.Writer(source, RATE, 2) as writer:  # a second at a time: the file may be larger than the memory
        for _ in range(seconds):
            writer.write(second)
    try:
        return cost(*command, source, "-o", out)
    finally:
        source.unlink()
        shutil.rmtree(out, ignore_errors=True)


def files(lengths: Sequence[int], hours: float) -> None:
    costs: dict[tuple[str, int], Cost] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = commands(folder)
        print("files of noise: whole processes, ours a stem, demucs (41.5 million parameters) four stems")
        for seconds, program in product(lengths, programs):
            own = costs[program, seconds] = separated(programs[program], seconds, folder)
            line = f"  {seconds:3} s, {program:22} {own.seconds:7.1f} CPU s, {own.megabytes:5.0f} MB"
            if program in SECONDS and "demucs" in programs:
                other = costs["demucs", seconds]
                line += f"; demucs {other.seconds / own.seconds:.2f} times the time"
                line += f", {other.megabytes / own.megabytes:.2f} times the memory"
            print(line, flush=True)
        if hours:
            own = separated(programs[MOBILENET], round(3600 * hours), folder)
            print(f"  {hours:g} h, {MOBILENET}: {own.seconds:.0f} CPU s, {own.megabytes:.0f} MB")
    for program in programs if 600 in lengths else ():
        more = costs[program, 600].megabytes - costs[program, 60].megabytes
        print(f"  {program}: {more:+.0f} MB from 60 to 600 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts (default: 3)")
    parser.add_argument("--long", action="store_true", help="also a file of ten minutes, which takes demucs ten, too")
    parser.add_argument("--hours", type=float, default=0.0, help="of a further file, for MobileNet; 2 need 2.6 GB")
    args = parser.parse_args()
    torch.set_num_threads(1)
    networks(args.rounds)
    files((10, 60, 600) if args.long else (10, 60), args.hours)


if __name__ == "__main__":
    main()
