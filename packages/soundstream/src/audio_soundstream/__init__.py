"""SoundStream and TinyStream neural audio codecs, with encoders in C for microcontrollers.

`model = load(path)` gives a bundle's codec: `model.codes(x)` takes audio (B, 1, T) at `model.sample_rate` to codes
(B, N, F), and `model.decode(model.from_codes(codes))` gives audio again. `EncoderStream` and `DecoderStream` do so
piece by piece, `encode_file` and `decode_file` for files.
"""

from pathlib import Path

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = [
    "FORMATS",
    "PACKAGE",
    "SHIPPED",
    "DecoderStream",
    "EncoderStream",
    "SoundStream",
    "SoundStreamConfig",
    "TinyStream",
    "TinyStreamConfig",
    "__version__",
    "decode_file",
    "encode_file",
    "load",
]
SHIPPED = {"default": Path(__file__).with_name("default")}
"""The bundle in the wheel; its README.md has its data and its measures."""
FORMATS = {"c": "-c", "c-int8": "-c-int8", "onnx": ".onnx", "tflite-int8": "-int8.tflite"}
"""What `export` writes, and how the names end that it gives by itself."""
PACKAGE = Package(
    name="audio-soundstream",
    version=__version__,
    about="Neural codecs for speech and sound: train, encode, decode, measure, put on a microcontroller.",
    shipped=SHIPPED,
    stems={"default": "tinystream"},
    formats=FORMATS,
    calibrated=("c-int8", "tflite-int8"),
    tags=("audio-codec",),
)
__getattr__, __dir__ = lazy(
    __name__,
    {
        "DecoderStream": ".live.stream",
        "EncoderStream": ".live.stream",
        "SoundStream": ".model",
        "SoundStreamConfig": ".config",
        "TinyStream": ".model",
        "TinyStreamConfig": ".config",
        "decode_file": ".codec",
        "encode_file": ".codec",
        "load": ".model",
    },
)
