"""What audio-semamba costs: ratios measured side by side in this process, on one thread of processor time.

"The original's way" is the published network with the scan that the original falls back to without CUDA, a norm and
projections for each direction, and PyTorch's own convolutions, softplus and instance norms.

hatch run bench semamba [--rows 100]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
import torch.nn.functional as F
from audio_core.files import InputError
from audio_semamba import load, mamba, scan
from audio_semamba.config import SEMambaConfig
from audio_semamba.live import Stream
from audio_semamba.model import SEMamba
from torch import Tensor

WIDTH, STATES = 256, 16  # of the published configuration


def best(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """Least seconds of each, taken in turn: of processor time, or until a device is done."""
    return [min(column) for column in zip(*([taken(each) for each in functions] for _ in range(rounds)), strict=True)]


def taken(function: Callable[[], object]) -> float:
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    finished()
    began = clock()
    function()
    finished()
    return clock() - began


def finished() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# --- the selective scan ---------------------------------------------------------------------------------------


def original_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor) -> Tensor:
    """As the original computes it where its CUDA kernel is missing: every decay and inflow first, then the loop."""
    decays = torch.exp(delta[..., None] * A)  # (rows, L, D, N)
    inflows = (delta * u)[..., None] * B[:, :, None]
    state, ys = torch.zeros_like(decays[:, 0]), []
    for t in range(u.shape[1]):
        state = decays[:, t] * state + inflows[:, t]
        ys.append((state * C[:, t, None]).sum(-1))
    return (torch.stack(ys, 1) + D * u) * F.silu(z)


def inputs(rows: int, length: int, device: str) -> list[Tensor]:
    def normal(size: int) -> Tensor:
        return torch.randn(rows, length, size)

    delta, A = 0.1 * torch.rand(rows, length, WIDTH), -torch.arange(1.0, STATES + 1).repeat(WIDTH, 1)
    x = [normal(WIDTH), delta, A, normal(STATES), normal(STATES), torch.ones(WIDTH), normal(WIDTH)]
    return [value.to(device) for value in x]


def scans(rows: int, length: int, device: str, rounds: int) -> None:
    """Nanoseconds for one state of one channel at one step."""
    x = inputs(rows, length, device)
    few = [value[: max(1, rows // 8)] if value.ndim == 3 else value for value in x]  # what is slow need not be long
    expected = scan.selective_scan(*(value.double() for value in few))
    for name in ("the original's", *(name for name in scan.MODULES if scan.DEVICES.get(name, device) == device)):
        function = original_scan if name == "the original's" else scan.selective_scan
        values = few if name in ("the original's", "torch") and device == "cpu" else x
        try:
            scan.use(name if function is scan.selective_scan else None)
            error = float((function(*few).double() - expected).abs().max() / expected.abs().max())
        except InputError as problem:
            print(f"  {name:15} not measured: {problem}")
            continue
        leaves = [value.clone().requires_grad_() for value in values]
        grad = torch.ones_like(values[0])

        def forward(function: Callable[..., Tensor] = function, values: list[Tensor] = values) -> None:
            with torch.no_grad():
                function(*values)

        def both(
            function: Callable[..., Tensor] = function, leaves: list[Tensor] = leaves, grad: Tensor = grad
        ) -> None:
            torch.autograd.grad(function(*leaves), leaves, grad)

        updates = values[0].numel() * STATES
        once, trained = (1e9 * seconds / updates for seconds in best([forward, both], rounds))
        print(f"  {name:15} forward {once:7.3f} ns, with backward {trained:7.3f} ns; error {error:.0e}")
    scan.use(None)


# --- the whole network ------------------------------------------------------------------------------------------


def original_conv(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    x = x.flip(1) if reverse else x
    taps = weight.shape[1]
    y = F.silu(F.conv1d(F.pad(x.mT, (taps - 1, 0)), weight[:, None], bias, groups=len(weight)).mT)
    return y.flip(1) if reverse else y


def turned_scan(*values: Tensor, reverse: bool = False) -> Tensor:
    """`original_scan` of (u, delta, A, B, C, D, z) from the end to the start, by turning what has steps."""
    if not reverse:
        return original_scan(*values)
    return original_scan(*(x.flip(1) if x.ndim == 3 else x for x in values)).flip(1)


def original_block(block: mamba.MambaBlock, x: Tensor) -> Tensor:
    """Each direction with a norm and projections of its own, all rows at once."""
    branches = []
    for mixer in block.mixers:
        normed = F.rms_norm(x, x.shape[-1:], mixer.norm, block.eps)
        branches.append(mixer.out_proj(mixer(mixer.in_proj(normed))) + x)
    return x + block.project(torch.cat(branches, -1))


def instance_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.instance_norm(x, weight=weight, bias=bias, eps=eps)


@contextmanager
def originals_way() -> Iterator[None]:
    parts = {"selective_scan": turned_scan, "causal_conv_silu": original_conv, "softplus": F.softplus}
    blocks = mock.patch.object(mamba.MambaBlock, "forward", original_block)
    norms = mock.patch.object(F, "group_norm", instance_norm)
    with mock.patch.multiple(mamba, **parts), blocks, norms:
        yield


def network(rounds: int) -> None:
    """CPU seconds of the published generator for a second of audio, and forth and back for 0.4 s of it."""
    torch.manual_seed(0)
    model = SEMamba(SEMambaConfig()).eval()
    seconds = {"": 2.0, "torch": 1.0, "the original's": 0.3}

    def enhance(length: float) -> None:
        model.enhance(torch.randn(1, round(16000 * length)))

    def learn() -> None:
        spectrum = model.stft(torch.randn(1, 6400))
        estimate = model(spectrum.magnitude, spectrum.phase)
        audio = model.stft.inverse(estimate.magnitude, estimate.phase, 6400)
        (audio.square().mean() + estimate.parts.square().mean()).backward()

    for name, length in seconds.items():
        scan.use(name if name == "torch" else None)
        with originals_way() if name == "the original's" else nullcontext():
            enhance(0.1)  # which compiles
            few = 1 if name == "the original's" else rounds
            (generator,) = best([lambda length=length: enhance(length)], few)
            (step,) = best([learn], few)
        label = name or scan.backend("cpu")
        print(f"  {label:15} generator {generator / length:6.2f} CPU s for a second; with gradients {step:6.2f} CPU s")
    scan.use(None)


def shipped(rounds: int) -> None:
    """CPU seconds of the models in the wheel for a second of audio, and of the causal one as a stream."""
    audio = 0.1 * torch.randn(1, 16000 * 4)
    for name in ("default", "causal"):
        model = load(name)
        model.enhance(audio)
        (seconds,) = best([lambda model=model: model.enhance(audio)], rounds)
        print(f"  {name:15} {seconds / 4:.3f} CPU s for a second of audio")
    for frames in (1, 4):
        stream = Stream(load("causal"))
        pieces = audio.split(frames * stream.hop, 1)
        (seconds,) = best([lambda stream=stream, pieces=pieces: [stream.feed(piece) for piece in pieces]], rounds)
        print(f"  causal, a stream of {frames} frames at a time: {seconds / 4:.3f} CPU s for a second of audio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100, help="of the scan over time (default: 100)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]:
        for rows, length in ((args.rows, 200), (2 * args.rows, 100)):
            print(f"selective scan on {device}: {rows} rows of {length} steps, {WIDTH} channels, {STATES} states")
            scans(rows, length, device, args.rounds)
    print("the published network, 2,258,769 parameters; with gradients: forwards and backwards, 0.4 s of audio")
    network(args.rounds)
    print("the models in the wheel")
    shipped(args.rounds)


if __name__ == "__main__":
    main()
