"""SEMamba: speech enhancement with Mamba blocks, on any device.

`model = load(path)` gives the model of a bundle, and `enhance(model, samples, rate)` the enhanced speech of a recording
of any length. `Stream(model)` enhances live audio chunk by chunk.
"""

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = ["PACKAGE", "SEMamba", "SEMambaConfig", "Stream", "__version__", "enhance", "load"]
PACKAGE = Package(
    name="audio-semamba",
    version=__version__,
    about="Speech enhancement: train, enhance, measure.",
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
