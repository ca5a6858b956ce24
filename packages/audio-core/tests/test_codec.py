import subprocess
import sys

import pytest
import torch
from audio_core import codec
from audio_core.files import InputError


class Halver(torch.nn.Module):
    """Every second sample, scaled: a codec without codebooks."""

    sample_rate, channels, hop, width, codebooks = 8000, 1, 2, 1, ()

    def encode(self, audio):
        return audio[..., ::2] / 2

    def decode(self, latents):
        return (latents * 2).repeat_interleave(2, -1)

    def codes(self, audio):
        raise TypeError("no codebooks")

    def from_codes(self, codes):
        raise TypeError("no codebooks")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution on the path that offers codecs, as pip would leave it."""
    (tmp_path / "halver.py").write_text("def load(path):\n    return ('loaded', str(path))\n")
    info = tmp_path / "audio_halver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: audio-halver\nVersion: 1.0\n")
    lines = ["halver = halver:load", "lost = halver:nothing", "gone = no_such_module:load"]
    (info / "entry_points.txt").write_text("\n".join(["[audio_core.codecs]", *lines, ""]))
    monkeypatch.syspath_prepend(tmp_path)


def refused(name):
    with pytest.raises(InputError) as caught:
        codec.find(name)
    return str(caught.value)


def test_a_codec_is_known_by_its_face():
    assert isinstance(Halver(), codec.Codec)
    assert not isinstance(torch.nn.Linear(1, 1), codec.Codec)
    del Halver.hop
    assert not isinstance(Halver(), codec.Codec)
    Halver.hop = 2


def test_installed_codecs_are_found_by_name(installed):
    assert {"halver", "lost", "gone"} <= set(codec.names())
    assert codec.find("halver")("owner/name") == ("loaded", "owner/name")


def test_an_unknown_codec_names_those_there_are_and_how_to_get_it(installed):
    text = refused("soundstreem")
    assert text.startswith("codec 'soundstreem' is not installed (installed: ")
    assert "halver" in text and text.endswith("; try: pip install audio-soundstreem")


def test_a_codec_whose_package_is_broken_is_one_line(installed):
    assert refused("lost").startswith("codec 'lost': halver:nothing cannot be loaded: ")
    assert refused("gone") == "codec 'gone': no_such_module:load cannot be loaded: No module named 'no_such_module'"


def test_without_any_codec_the_message_says_so(monkeypatch):
    monkeypatch.setattr(codec, "entry_points", lambda **_: ())
    assert refused("x") == "codec 'x' is not installed (none is installed); try: pip install audio-x"


def test_looking_for_codecs_and_reading_recipes_needs_no_torch():
    code = "import sys, audio_core.codec as c, audio_core.config; c.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
