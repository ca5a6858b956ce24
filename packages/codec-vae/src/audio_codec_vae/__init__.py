"""Audio autoencoders: LyraCodec's VAE and those of stable-audio-tools, with continuous or discrete latents.

`model = load(path)` gives a bundle's autoencoder: `model.encode(x)` takes audio (B, C, T) at `model.sample_rate` to
latents (B, W, F), and `model.decode(latents, samples=T)` gives audio again. Where the latents are discrete,
`model.codes(x)` gives codes (B, K, F), and `model.from_codes(codes)` their latents. `encode_file` and `decode_file` do
so for files of any length, `preencode` for folders that other models are trained on. `folded(model)` is faster for all
of that, and `folded(model, precision="bf16")` takes half the time of it where the processor computes bf16.
"""

from pathlib import Path

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = [
    "PACKAGE",
    "SHIPPED",
    "Autoencoder",
    "AutoencoderConfig",
    "__version__",
    "decode_file",
    "encode_file",
    "folded",
    "load",
    "preencode",
    "prepared",
]
SHIPPED = {"default": Path(__file__).with_name("default")}
"""The bundle in the wheel, trained on a processor; its README.md says how good it is."""
PACKAGE = Package(
    name="audio-codec-vae",
    version=__version__,
    about="Autoencoders for music, voice and sound: train, encode, decode, measure.",
    shipped=SHIPPED,
    stems={"default": "oobleck-16k-small"},
    formats={"onnx": "-onnx"},
    tags=("audio-codec", "vae"),
)
__getattr__, __dir__ = lazy(
    __name__,
    {
        "Autoencoder": ".models.autoencoder",
        "AutoencoderConfig": ".config",
        "decode_file": ".codec",
        "encode_file": ".codec",
        "folded": ".models.autoencoder",
        "load": ".models",
        "preencode": ".preencode",
        "prepared": ".prepare",
    },
)
