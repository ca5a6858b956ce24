"""SEMamba: speech enhancement with Mamba blocks, on any device.

`model = load(path)` gives the model of a bundle, and `enhance(model, samples, rate)` the enhanced speech of a recording
of any length. `Stream(model)` enhances live audio chunk by chunk.
"""

from pathlib import Path

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = ["PACKAGE", "SHIPPED", "SEMamba", "SEMambaConfig", "Stream", "__version__", "enhance", "load"]
SHIPPED = {name: Path(__file__).with_name(name) for name in ("default", "causal")}
"""Bundles in the wheel, trained on processors; each README.md says how good it is."""
PACKAGE = Package(
    name="audio-semamba",
    version=__version__,
    about="Speech enhancement: train, enhance, measure.",
    shipped=SHIPPED,
    stems={"default": "semamba-small", "causal": "semamba-small-causal"},
    formats={"onnx": ".onnx"},
    tags=("speech-enhancement",),
)
__getattr__, __dir__ = lazy(
    __name__,
    {
        "SEMamba": ".model",
        "SEMambaConfig": ".config",
        "Stream": ".live",
        "enhance": ".enhance",
        "load": ".model",
    },
)
