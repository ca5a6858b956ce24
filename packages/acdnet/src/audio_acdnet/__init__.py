"""ACDNet and Micro-ACDNet: sound classification on raw audio.

`model = load(path)` gives the model of a bundle and `classify(model, samples, rate)` the likeliest classes of a
recording; `predict` adds the timeline of a long one. `model(audio)` gives logits for audio (B, 1, T) at
`model.config.rate`, and `model.probabilities(audio)` their softmax.
"""

from pathlib import Path

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = ["FORMATS", "PACKAGE", "SHIPPED", "ACDNet", "ACDNetConfig", "__version__", "classify", "load", "predict"]
SHIPPED = {name: Path(__file__).with_name(name) for name in ("default", "quiet")}
"""Bundles in the wheel, both Micro-ACDNet on the ten classes of ESC-10; each README.md says how good it is."""
FORMATS = {
    "onnx": ".onnx",
    "onnx-int8": "-int8.onnx",
    "tflite-int8": "-int8.tflite",
    "c": "-c",
    "c-16x8": "-c-16x8",
}
"""What `export` writes, and how the names end that it gives by itself."""
PACKAGE = Package(
    name="audio-acdnet",
    version=__version__,
    about="Sound classification on raw audio.",
    shipped=SHIPPED,
    stems={"default": "micro-acdnet", "quiet": "micro-acdnet-quiet"},
    formats=FORMATS,
    calibrated=[name for name in FORMATS if name != "onnx"],
    tags=("audio-classification",),
)
__getattr__, __dir__ = lazy(
    __name__,
    {
        "ACDNet": ".model",
        "ACDNetConfig": ".config",
        "classify": ".classify",
        "load": ".model",
        "predict": ".classify",
    },
)
