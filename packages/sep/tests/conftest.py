import pytest
import torch
import warm
from audio_sep import PACKAGE, parallel
from audio_sep.config import MobileNetSubbandTimeConfig
from audio_sep.models import MODELS


@pytest.fixture
def bundle(tmp_path):
    """The folder of a small model of two sources, 8 kHz, stereo."""
    config = MobileNetSubbandTimeConfig(8000, 2, ("vocals", "accompaniment"), 64, 16, (4, 4))
    torch.manual_seed(0)
    PACKAGE.save(MODELS["MobileNetSubbandTime"](config), tmp_path / "bundle", "# A test")
    return tmp_path / "bundle"


@pytest.fixture
def warm_processes(monkeypatch, pytestconfig):
    """The processes of `--jobs` have PyTorch imported already, which saves each of them seconds. They find what a test
    gives them by its module's name, which begins at the root."""
    monkeypatch.syspath_prepend(pytestconfig.rootpath)
    monkeypatch.setattr(parallel, "_CONTEXT", warm.CONTEXT)
