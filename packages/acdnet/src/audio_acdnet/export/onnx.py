"""The model as an ONNX file, in real numbers or with 8-bit weights and activations, for desktops, phones and servers.

Input `audio` (batch, 1, samples) within -1 to 1, output `logits` (batch, classes). Labels and rate are in the file's
metadata.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from audio_core.files import InputError
from torch import Tensor, nn

from ..model import ACDNet, folded


class _Front(nn.Module):
    """The network for audio within -1 to 1, whatever level it was trained at, without checks of the shape."""

    def __init__(self, model: ACDNet):
        super().__init__()
        self.quick, self.gain = folded(model, pairwise=False), model.config.gain

    def forward(self, audio: Tensor) -> Tensor:
        quick = self.quick
        return quick.output(quick.seeing(quick.hearing(audio * self.gain)[:, None]).flatten(1))


def write(model: ACDNet, path: Path) -> None:
    with _quiet():
        try:
            import onnx
            import onnxscript  # noqa: F401 (what PyTorch's exporter needs)
        except ImportError as error:
            raise _missing(error) from None
        batch = {0: torch.export.Dim("batch")}
        example = torch.zeros(2, 1, model.config.samples)
        program = torch.onnx.export(
            _Front(model).eval(),
            (example,),
            dynamo=True,
            input_names=["audio"],
            output_names=["logits"],
            dynamic_shapes=(batch,),
            verbose=False,
        )
        made = program.model_proto
        onnx.helper.set_model_props(
            made, {"labels": json.dumps(model.config.labels, ensure_ascii=False), "rate": str(model.config.rate)}
        )
        onnx.save(made, path)


def write_int8(model: ACDNet, crops: Sequence[Tensor], path: Path) -> None:
    """Scaled by what `crops`, batches as the model hears them, make of it.

    The audio and the first convolution stay in real numbers: with 8 bits soft sounds fade.
    """
    with _quiet():
        try:
            import onnx
            from onnxruntime import quantization
        except ImportError as error:
            raise _missing(error) from None

        class Reader(quantization.CalibrationDataReader):
            left = iter([{"audio": batch.numpy() / model.config.gain} for batch in crops])

            def get_next(self) -> dict | None:
                return next(self.left, None)

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


def _missing(error: ImportError) -> InputError:
    return InputError(f'ONNX needs {error.name}, which is not installed: pip install "audio-acdnet[onnx]"')


@contextmanager
def _quiet() -> Iterator[None]:
    """Both exporters warn of their own future, advise on steps that these graphs do not need, and print."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
