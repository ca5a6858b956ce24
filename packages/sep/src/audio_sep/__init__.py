"""Music source separation with the models of Bytesep, for audio of any length.

`model = load(path)` gives the model of a bundle, `load()` that in the wheel, and `separate(model, audio, rate)` the
stems of a recording of any length. `Separator` holds one or more models for many recordings.
"""

from pathlib import Path

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = ["PACKAGE", "SHIPPED", "Separator", "__version__", "load", "separate"]
SHIPPED = {"default": Path(__file__).with_name("default")}
"""The bundle in the wheel, trained on a processor; its README.md says how good it is."""
PACKAGE = Package(
    name="audio-sep",
    version=__version__,
    about="Music source separation: train, separate, measure.",
    shipped=SHIPPED,
    stems={"default": "voice-small"},
    formats={"onnx": ".onnx"},
    tags=("audio-source-separation", "music"),
)
__getattr__, __dir__ = lazy(
    __name__,
    {
        "Separator": ".separate",
        "load": ".models",
        "separate": ".separate",
    },
)
