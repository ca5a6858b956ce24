"""One frame of a causal model as an ONNX graph, from spectrum to spectrum, with the states as inputs and outputs.

It computes what `SEMamba.stream` computes for one frame of one channel. Shapes are (2, F) for spectra, real and
imaginary part; (1, C, 1, F) around the blocks; (bands, C) in the blocks. Only the scan over frequency goes another way:
its loop over the bands becomes a tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from audio_core.export.onnx import Graph
from torch import Tensor, nn

from ..layers import FLOOR, CausalConv, DenseBlock, Unit
from ..mamba import MambaBlock, TFBlock
from ..model import SEMamba, State

SPECTRUM, ENHANCED = "spectrum", "enhanced"
_TINY = 1e-30  # added to what is divided by, or has a negative power


def states(state: State) -> dict[str, Tensor]:
    """The tensors of a state by the names of the graph's inputs."""
    tensors = {"level": state.level, **_numbered("encoder", state.encoder)}
    for at, (past, values) in enumerate(state.blocks):
        tensors |= {f"block_{at}_conv": past, f"block_{at}_scan": values}
    return tensors | _numbered("magnitude", state.magnitude) | _numbered("phase", state.phase)


def following(state: str) -> str:
    """The name of the output that holds a state after the frame."""
    return f"next_{state}"


def _numbered(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}_{at}": tensor for at, tensor in enumerate(tensors)}


class FrameGraph:
    """Adds the nodes of a model to a graph, from inputs to outputs; values go by their names."""

    def __init__(self, graph: Graph, model: SEMamba):
        self.graph, self.model = graph, model
        self.node, self.split = graph.node, graph.split
        self.number, self.integers = graph.number, graph.integers
        self.names = {module: name for name, module in model.named_modules()}

    def write(self) -> None:
        model = self.model
        power = self.node("ReduceSum", self.node("Mul", SPECTRUM, SPECTRUM), self.integers(0))  # (1, F)
        x = self._input(power)
        x = self._unit(model.encoder.first, self._conv(model.encoder.first.conv, x))
        x = self._dense(model.encoder.dense, "encoder", x)
        x = self._unit(model.encoder.down, self._conv(model.encoder.down.conv, x))
        x = self.node("Transpose", self.node("Squeeze", x, self.integers(0, 2)), perm=(1, 0))
        for at, block in enumerate(model.blocks):
            x = self._frequency(block, self._time(block, f"block_{at}", x))
        x = self.node("Unsqueeze", self.node("Transpose", x, perm=(1, 0)), self.integers(0, 2))

        decoder = model.magnitude_decoder
        y = self._conv(decoder.up, self._dense(decoder.dense, "magnitude", x))
        y = self._conv(decoder.last, self._unit(decoder.mix, self._conv(decoder.mix.conv, y)))
        logits = self.node("Mul", self.node("Squeeze", y, self.integers(0, 2)), self._weight(decoder, "slope"))
        mask = self.node("Mul", self.node("Sigmoid", logits), self.number(decoder.beta))  # (1, F)

        decoder = model.phase_decoder
        y = self._conv(decoder.up.conv, self._dense(decoder.dense, "phase", x))
        y = self._conv(decoder.last, self._unit(decoder.up, y))
        self._output(power, mask, self.node("Squeeze", y, self.integers(0, 2)))

    # --- spectra -------------------------------------------------------------------------------------------

    def _input(self, power: str) -> str:
        """What the encoder takes, (1, 2 or 3, 1, F)."""
        compress, gain = self.model.config.compress, self._gain(power)
        magnitude = self.node("Mul", self._power(power, compress / 2), gain)
        if self.model.corrects:
            scale = self._power(self.node("Add", power, self.number(_TINY)), (compress - 1) / 2)
            others = self.node("Mul", self.node("Mul", SPECTRUM, scale), gain)
        else:
            others = self._angle()
        return self.node("Unsqueeze", self.node("Concat", magnitude, others, axis=0), self.integers(0, 2))

    def _gain(self, power: str) -> str:
        """By the running level, (1, 1)."""
        level = self.model.level
        mean = self.node("Div", self.node("ReduceMean", power, self.integers(1)), self.number(level.power_of_one))
        frame = self.node("Concat", mean, self.graph.constant("weight of a frame", torch.ones(1, 1)), axis=1)
        faded = self.node("Mul", "level", self.number(level.fading[0].item()))
        sums = self.node("Add", faded, frame, name=following("level"))
        powers, weights = self.split(sums, (1, 1), 1)
        mean = self.node("Add", self.node("Div", powers, weights), self.number(FLOOR))
        return self._power(mean, -level.compress / 2)

    def _angle(self) -> str:
        """The phase, (1, F). ONNX has only the arctangent of one number."""
        real, imaginary = self.split(SPECTRUM, (1, 1), 0)
        size = self.node("Add", self.node("Abs", real), self.number(_TINY))
        angle = self.node("Atan", self.node("Div", imaginary, size))
        zero, half_turn = self.number(0.0), (self.number(-math.pi), self.number(math.pi))
        behind = self.node("Sub", self.node("Where", self.node("Less", imaginary, zero), *half_turn), angle)
        return self.node("Where", self.node("Less", real, zero), behind, angle)

    def _output(self, power: str, mask: str, vector: str) -> None:
        """`vector` (2, F) counts by its direction."""
        length = self.node("ReduceSum", self.node("Mul", vector, vector), self.integers(0))
        length = self.node("Sqrt", self.node("Add", length, self.number(_TINY)))
        if self.model.corrects:
            vector = self._product(SPECTRUM, vector)
        else:
            vector = self.node("Mul", vector, self.node("Sqrt", power))
        gain = self._power(mask, 1 / self.model.config.compress)
        self.node("Mul", vector, self.node("Div", gain, length), name=ENHANCED)

    def _product(self, x: str, y: str) -> str:
        """Of complex numbers, (2, F) each."""
        (a, b), (c, d) = (self.split(value, (1, 1), 0) for value in (x, y))
        real = self.node("Sub", self.node("Mul", a, c), self.node("Mul", b, d))
        imaginary = self.node("Add", self.node("Mul", a, d), self.node("Mul", b, c))
        return self.node("Concat", real, imaginary, axis=0)

    def _power(self, x: str, exponent: float) -> str:
        return self.node("Pow", x, self.number(exponent))

    # --- around the blocks ---------------------------------------------------------------------------------

    def _dense(self, dense: DenseBlock, state: str, x: str) -> str:
        inputs = x
        for at, unit in enumerate(dense.units):
            x = self._unit(unit, self._causal_conv(unit.conv, f"{state}_{at}", inputs))
            inputs = self.node("Concat", x, inputs, axis=1)
        return x

    def _causal_conv(self, conv: CausalConv, state: str, x: str) -> str:
        """The state (1, C, 2 d, F) is what past frames add to this one and to those after it."""
        d, width = conv.dilation, conv.outputs
        bias = self._constant(conv, "bias", torch.cat([torch.zeros(2 * width), conv.bias]))
        taps = self.node("Conv", x, self._weight(conv, "weight"), bias, pads=(0, 1, 0, 1))
        first, second, third = self.split(taps, (width,) * 3, 1)
        if d == 1:
            now, at_d = self.split(state, (1, 1), 2)
            later = [self.node("Add", at_d, second), first]
        else:
            now, sooner, at_d, farther = self.split(state, (1, d - 1, 1, d - 1), 2)
            later = [sooner, self.node("Add", at_d, second), farther, first]
        self.node("Concat", *later, axis=2, name=following(state))
        return self.node("Add", now, third)

    def _conv(self, conv: nn.Module, x: str) -> str:
        kind = {nn.Conv2d: "Conv", nn.ConvTranspose2d: "ConvTranspose"}[type(conv)]
        return self.node(kind, x, self._weight(conv, "weight"), self._weight(conv, "bias"), strides=conv.stride)

    def _unit(self, unit: Unit, x: str) -> str:
        """Norm and PReLU of a unit, after its convolution."""
        norm = unit.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        x = self.node("Mul", x, self._constant(norm, "scale", scale[:, None, None]))
        x = self.node("Add", x, self._constant(norm, "shift", shift[:, None, None]))
        return self.node("PRelu", x, self._constant(unit.prelu, "weight", unit.prelu.weight[:, None, None]))

    # --- blocks --------------------------------------------------------------------------------------------

    def _time(self, block: TFBlock, state: str, x: str) -> str:
        """One step of each band."""
        past, before = f"{state}_conv", f"{state}_scan"

        def conv(inputs: str, kernel: Tensor) -> str:
            window = self.node("Concat", past, self.node("Transpose", inputs, perm=(1, 0, 2)), axis=1)
            taps = kernel.shape[2]
            self.node("Slice", window, *map(self.integers, (1, taps, 1)), name=following(past))
            weighted = self.node("Mul", window, self._constant(block.time, "kernel", kernel[0].T))
            summed = self.node("ReduceSum", weighted, self.integers(1), keepdims=0)
            return self.node("Unsqueeze", summed, self.integers(0))

        def scan(decays: str, inflows: str) -> str:
            decays, inflows = (self.node("Squeeze", value, self.integers(0)) for value in (decays, inflows))
            after = self.node("Add", self.node("Mul", before, decays), inflows, name=following(before))
            return self.node("Unsqueeze", after, self.integers(0))

        return self._block(block.time, x, conv, scan)

    def _frequency(self, block: TFBlock, x: str) -> str:
        bands, inner = self.model.config.bands, self.model.config.expand * self.model.config.channels
        values = self.model.config.state * inner

        def conv(inputs: str, kernel: Tensor) -> str:
            taps = kernel.shape[2]
            padded, parts = self.node("Pad", inputs, self.integers(0, taps - 1, 0, 0, 0, 0)), []
            for tap in range(taps):
                part = self.node("Slice", padded, *map(self.integers, (tap, tap + bands, 1)))
                weight = self._constant(block.frequency, f"kernel.{tap}", kernel[:, None, :, tap])
                parts.append(self.node("Mul", part, weight))
            return self.node("Sum", *parts)

        def scan(decays: str, inflows: str) -> str:
            flat = (self.node("Reshape", value, self.integers(2, bands, values)) for value in (decays, inflows))
            return self.node("Reshape", self._scan(*flat, bands, values), self.integers(2, bands, -1, inner))

        return self._block(block.frequency, x, conv, scan)

    def _block(
        self, block: MambaBlock, x: str, conv: Callable[[str, Tensor], str], scan: Callable[[str, str], str]
    ) -> str:
        """A block's one or two directions side by side, (directions, bands, ·), the second in reverse.

        `conv` takes inputs and a kernel (directions, inner, taps), `scan` decays and inflows (directions, bands, N,
        inner).
        """
        mixers = list(block.mixers)
        inner = len(mixers[0].D)
        power = self.node("ReduceMean", self.node("Mul", x, x), self.integers(1))
        normed = self.node("Div", x, self.node("Sqrt", self.node("Add", power, self.number(block.eps))))
        orders = [normed, self._flipped(normed)][: len(mixers)]
        ordered = self.node("Concat", *(self.node("Unsqueeze", order, self.integers(0)) for order in orders), axis=0)
        weights = self._stacked(block, "in", [(mixer.in_proj.weight * mixer.norm).T for mixer in mixers])
        inputs, gate = self.split(self.node("MatMul", ordered, weights), (inner, inner), 2)
        summed = conv(inputs, torch.stack([mixer.conv_weight for mixer in mixers]))
        bias = self._stacked(block, "conv_bias", [mixer.conv_bias[None] for mixer in mixers])
        u = self._silu(self.node("Add", summed, bias))

        delta, B, C = self._select(block, u)
        A = self._stacked(block, "A", [-mixer.A_log.exp().T[None] for mixer in mixers])
        decays = self.node("Exp", self.node("Mul", self.node("Unsqueeze", delta, self.integers(2)), A))
        flow = self.node("Unsqueeze", self.node("Mul", delta, u), self.integers(2))
        B, C = (self.node("Unsqueeze", value, self.integers(3)) for value in (B, C))
        values = scan(decays, self.node("Mul", flow, B))
        y = self.node("ReduceSum", self.node("Mul", values, C), self.integers(2), keepdims=0)
        y = self.node("Add", y, self.node("Mul", u, self._stacked(block, "D", [mixer.D[None] for mixer in mixers])))
        return self._project(block, self.node("Mul", y, self._silu(gate)), x)

    def _select(self, block: MambaBlock, u: str) -> tuple[str, str, str]:
        """Step sizes (directions, bands, inner), B and C (directions, bands, N)."""
        mixers = list(block.mixers)
        weights = self._stacked(block, "x_proj", [mixer.x_proj.weight.T for mixer in mixers])
        rank, B, C = self.split(self.node("MatMul", u, weights), mixers[0].sizes, 2)
        weights = self._stacked(block, "dt_proj", [mixer.dt_proj.weight.T for mixer in mixers])
        bias = self._stacked(block, "dt_bias", [mixer.dt_proj.bias[None] for mixer in mixers])
        return self.node("Softplus", self.node("Add", self.node("MatMul", rank, weights), bias)), B, C

    def _project(self, block: MambaBlock, y: str, x: str) -> str:
        """x + project(out_proj(y) + x of each direction), as one product."""
        mixers = list(block.mixers)
        outputs = [self.node("Squeeze", part, self.integers(0)) for part in self.split(y, (1,) * len(mixers), 0)]
        outputs[1:] = [self._flipped(output) for output in outputs[1:]]
        _, past, out = block.weights()
        matrices = [*out, past + torch.eye(len(past))]
        joined = self.node("Concat", *outputs, x, axis=1)
        product = self.node("MatMul", joined, self._constant(block, "out", torch.cat(matrices, 1).T))
        return self.node("Add", product, self._weight(block.project, "bias"))

    def _scan(self, a: str, b: str, length: int, width: int) -> str:
        """s_t = a_t s_{t-1} + b_t along axis 1 of (2, length, width), from s = 0.

        Two neighbours make one step, a_1 a_0 and a_1 b_0 + b_1. The scan of these, half as long, gives every second
        state, and one step from each of them the others. Nothing is divided by a product of decays, which may be 0.
        """
        if length == 1:
            return b
        half = -(-length // 2)
        if length % 2:
            a, b = (self.node("Pad", value, self.integers(0, 0, 0, 0, 1, 0)) for value in (a, b))
        pairs = (self.node("Reshape", value, self.integers(2, half, 2 * width)) for value in (a, b))
        (a0, a1), (b0, b1) = (self.split(value, (width, width), 2) for value in pairs)
        inflow = self.node("Add", self.node("Mul", a1, b0), b1)
        second = self._scan(self.node("Mul", a1, a0), inflow, half, width)
        before = self.node("Pad", second, self.integers(0, 1, 0, 0, -1, 0))
        first = self.node("Add", self.node("Mul", a0, before), b0)
        both = self.node("Reshape", self.node("Concat", first, second, axis=2), self.integers(2, 2 * half, width))
        return self.node("Slice", both, *map(self.integers, (0, length, 1))) if length % 2 else both

    def _flipped(self, x: str) -> str:
        backwards = np.arange(self.model.config.bands)[::-1]
        return self.node("Gather", x, self.graph.constant("backwards", backwards), axis=0)

    def _silu(self, x: str) -> str:
        return self.node("Mul", x, self.node("Sigmoid", x))

    # --- constants -----------------------------------------------------------------------------------------

    def _weight(self, module: nn.Module, field: str) -> str:
        return self._constant(module, field, getattr(module, field))

    def _stacked(self, block: MambaBlock, name: str, tensors: list[Tensor]) -> str:
        """One tensor of each direction."""
        return self._constant(block, name, torch.stack(tensors))

    def _constant(self, module: nn.Module, field: str, values: Tensor) -> str:
        return self.graph.constant(f"{self.names[module]}.{field}", values)
