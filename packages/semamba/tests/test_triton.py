import importlib.util
import os
import subprocess
import sys

import pytest
import torch

# Sizes with a tile and a segment that are not full, in a process that knows from its start how Triton is to run.
PROGRAM = """
import sys
import torch
from audio_core.testing import close
from audio_semamba.scan import loop, triton_cuda

device, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
rows, length, width, N = sizes
torch.manual_seed(0)
for gated, reverse in ((True, False), (False, True)):
    steps = lambda size: torch.randn(rows, length, 2 * size)[..., :size]
    inputs = [steps(width), 0.3 * steps(width).abs(), -3 * torch.rand(width, N), steps(N), steps(N)]
    inputs += [torch.randn(width), steps(width) if gated else None]
    grad, results = steps(width), []
    for scan, dtype, place in ((triton_cuda, torch.float32, device), (loop, torch.float64, "cpu")):
        x = [None if each is None else each.detach().to(place, dtype).requires_grad_() for each in inputs]
        y = scan.selective_scan(*x, reverse)
        y.backward(grad.to(place, dtype))
        results.append([y, *(each.grad for each in x if each is not None)])
    for value, expected in zip(*results, strict=True):
        close(value, expected)
"""


def check(device: str, *sizes: int, **environment: str) -> None:
    command = [sys.executable, "-c", PROGRAM, device, *map(str, sizes)]
    child = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-2000:]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton comes with PyTorch for CUDA")
def test_kernels_equal_float64_in_the_interpreter():
    check("cpu", 2, 11, 70, 3, TRITON_INTERPRET="1")


@pytest.mark.gpu
def test_kernels_equal_float64_on_a_device():
    check("cuda", 50, 203, 200, 16)


@pytest.mark.gpu
def test_the_same_inputs_give_the_same_gradients_to_the_last_bit():
    from audio_semamba import scan

    scan.use("triton")
    x = [torch.randn(20, 50, size, device="cuda", requires_grad=True) for size in (64, 64, 16, 16)]
    A, D = -torch.rand(64, 16, device="cuda"), torch.randn(64, device="cuda")
    grads = []
    for _ in range(2):
        y = scan.selective_scan(x[0], x[1].abs(), A, x[2], x[3], D)
        grads.append(torch.autograd.grad(y.square().sum(), x))
    scan.use(None)
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)
