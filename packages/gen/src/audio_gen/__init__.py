"""Audio generation: latent diffusion and language models over any codec.

`model = load(path)` gives a bundle's model, and `generate(model, ["rain"], seconds=5, seed=7)` audio (B, C, T) at
`model.config.rate`.
"""

from pathlib import Path

from audio_core.package import Package, lazy

from .__about__ import __version__

__all__ = [
    "PACKAGE",
    "SHIPPED",
    "Diffusion",
    "DiffusionConfig",
    "__version__",
    "continued",
    "generate",
    "inpaint",
    "load",
    "varied",
]
SHIPPED = {"default": Path(__file__).with_name("default")}
"""The bundle in the wheel, trained on a processor; its README.md says what it does."""
PACKAGE = Package(
    name="audio-gen",
    version=__version__,
    about="Audio from texts and other conditions: train, generate, inpaint, continue, vary.",
    shipped=SHIPPED,
    tags=("audio-generation", "diffusion"),
)
__getattr__, __dir__ = lazy(
    __name__,
    {
        "Diffusion": ".models.diffusion",
        "DiffusionConfig": ".config",
        "continued": ".editing",
        "generate": ".generate",
        "inpaint": ".editing",
        "load": ".models",
        "varied": ".editing",
    },
)
