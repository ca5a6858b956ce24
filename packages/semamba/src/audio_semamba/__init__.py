"""SEMamba: speech enhancement with Mamba blocks, on any device.

`model = load(path)` gives the model of a bundle. `model.enhance(audio)` takes noisy speech (B, T) at
`model.config.rate` to clean speech of the same length and level.
"""

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = ["PACKAGE", "SEMamba", "SEMambaConfig", "__version__", "load"]
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
        "load": ".model",
    },
)
