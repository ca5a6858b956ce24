"""What audio-semamba costs: ratios measured side by side in this process, on one thread of processor time.

hatch run bench semamba [--rows 100]
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from audio_core.files import InputError
from audio_semamba import scan
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


if __name__ == "__main__":
    main()
