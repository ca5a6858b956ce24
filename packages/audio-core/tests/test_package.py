import sys

import pytest
from audio_core.package import Package


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package with a chapter called like the function in it."""
    folder = tmp_path / "audio_toy"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from audio_core.package import lazy\n__all__ = ['sing', 'load']\n"
        "__getattr__, __dir__ = lazy(__name__, {'sing': '.sing', 'load': '.model'})\n"
    )
    (folder / "sing.py").write_text("from .model import load\ndef sing():\n    return 'la'\nPITCH = 440\n")
    (folder / "model.py").write_text("def load(path='default'):\n    return f'the model {path}'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "audio_toy"
    for name in [name for name in sys.modules if name.startswith("audio_toy")]:
        del sys.modules[name]


def test_a_function_called_like_its_chapter_stays_the_function(toy):
    import audio_toy

    assert not {"audio_toy.sing", "audio_toy.model"} & set(sys.modules)
    assert audio_toy.sing() == "la" and audio_toy.sing() == "la"
    from audio_toy.sing import PITCH, sing

    assert PITCH == 440 and audio_toy.sing is sing
    assert audio_toy.load() == "the model default" and {"sing", "load"} <= set(dir(audio_toy))


def test_a_name_that_a_package_lacks_is_an_attribute_error(toy):
    import audio_toy

    with pytest.raises(AttributeError, match="module 'audio_toy' has no attribute 'dance'"):
        _ = audio_toy.dance


def test_the_model_is_what_the_package_loads(toy):
    assert Package(name="audio-toy", version="1", about="Toys.").model("runs/mine") == "the model runs/mine"


def test_text_means_a_shipped_bundle_and_a_path_a_folder(tmp_path):
    package = Package(name="audio-toy", version="1", about="Toys.", shipped={"default": tmp_path / "wheel"})
    assert package.module == "audio_toy"
    assert package.bundle("default") == tmp_path / "wheel"
    assert package.bundle(tmp_path / "default") == tmp_path / "default" and package.bundle("./default") == "./default"
