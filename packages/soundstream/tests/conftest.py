from pathlib import Path

import pytest
import torch
from audio_core import bundle
from audio_soundstream import __version__, cli, original
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig
from audio_soundstream.model import NeuralCodec, SoundStream, TinyStream, spread


@pytest.fixture
def stored(stored_case):
    """A stored case by its name, and the codec that it was computed with."""

    def load(name: str):
        case = stored_case(name)
        return case, original.from_state(case.state(), rate=case.config["sample_rate"])

    return load


CONFIGS = {
    "soundstream": SoundStreamConfig(4, 16, layers=4, size=16, learning="none"),
    "tinystream": TinyStreamConfig(4, 16, layers=4, size=16, learning="none"),
    "causal": TinyStreamConfig(4, 16, layers=4, size=16, causal=True, learning="none"),
}


def _toy(name: str) -> NeuralCodec:
    config = CONFIGS[name]
    torch.manual_seed(1)
    model = SoundStream(config) if isinstance(config, SoundStreamConfig) else TinyStream(config)
    spread(model)
    model.quantizer.load_codebooks(0.3 * torch.randn_like(model.quantizer.codebooks))
    return model.eval()


@pytest.fixture(scope="session")
def toy():
    """A small codec of random weights by the kind's name, the same each time: soundstream, tinystream or causal."""
    return _toy


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> Path:
    """A folder with each of them as a bundle."""
    root = tmp_path_factory.mktemp("bundles")
    for name in CONFIGS:
        bundle.save(_toy(name), root / name, "audio-soundstream", __version__, "# A toy")
    return root


@pytest.fixture
def run(capsys):
    """The command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call
