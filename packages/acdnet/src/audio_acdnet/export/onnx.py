"""The model as an ONNX file, in real numbers or with 8-bit weights and activations, for desktops, phones and servers.

Input `audio` (batch, 1, samples) within -1 to 1, output `logits` (batch, classes). Labels and rate are in the file's
metadata.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from audio_core.export.onnx import export, quiet, requirements
from torch import Tensor, nn

from ..model import ACDNet, folded

_EXTRA = "audio-acdnet[onnx]"


class _Front(nn.Module):
    """The network for audio within -1 to 1, whatever level it was trained at, without checks of the shape."""

    def __init__(self, model: ACDNet):
        super().__init__()
        self.quick, self.gain = folded(model, pairwise=False), model.config.gain

    def forward(self, audio: Tensor) -> Tensor:
        quick = self.quick
        return quick.output(quick.seeing(quick.hearing(audio * self.gain)[:, None]).flatten(1))


def write(model: ACDNet, path: Path) -> None:
    noise = torch.randn(2, 1, model.config.samples, generator=torch.Generator().manual_seed(0))
    labels = json.dumps(model.config.labels, ensure_ascii=False)
    export(
        _Front(model),
        path,
        {"audio": 0.1 * noise},
        ("logits",),
        {"audio": {0: torch.export.Dim("batch")}},
        {"labels": labels, "rate": str(model.config.rate)},
        _EXTRA,
    )


def write_int8(model: ACDNet, crops: Sequence[Tensor], path: Path) -> None:
    """In 8 bits; `crops`, batches of calibration sounds at the level of the model's input, set the scales.

    The audio and the first convolution stay in real numbers: with 8 bits soft sounds fade.
    """
    with quiet():
        with requirements(_EXTRA):
            import onnx
            from onnxruntime import quantization

        class Reader(quantization.CalibrationDataReader):
            batches = iter([{"audio": batch.numpy() / model.config.gain} for batch in crops])

            def get_next(self) -> dict | None:
                return next(self.batches, None)

        plain = path.with_name(f"{path.stem}.float{path.suffix}")
        try:
            write(model, plain)
            first = next(node.name for node in onnx.load(plain).graph.node if node.op_type == "Conv")
            quantization.quantize_static(
                plain,
                path,
                Reader(),
                per_channel=True,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                nodes_to_exclude=[first],
            )
        finally:
            plain.unlink(missing_ok=True)
