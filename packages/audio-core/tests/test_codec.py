"""The protocol of codecs and its check, finding one by name, fingerprints and bitrates."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from audio_core import codec
from audio_core.files import InputError
from audio_core.testing import check_codec, noise

spec = importlib.util.spec_from_file_location("codec_toys", Path(__file__).with_name("codec_toys.py"))
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
Toy = toys.Toy


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution on the path that offers codecs, as pip would leave it."""
    (tmp_path / "halver.py").write_text("def load(path):\n    return ('loaded', str(path))\n")
    info = tmp_path / "audio_halver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: audio-halver\nVersion: 1.0\n")
    lines = ["halver = halver:load", "lost = halver:nothing", "gone = no_such_module:load"]
    more = ["[audio_core.encoders]", "fresh = halver:load"]
    (info / "entry_points.txt").write_text("\n".join(["[audio_core.codecs]", *lines, *more, ""]))
    monkeypatch.syspath_prepend(tmp_path)


def refused(name, *group):
    with pytest.raises(InputError) as caught:
        codec.find(name, *group)
    return str(caught.value)


def test_a_codec_is_known_by_its_parts(monkeypatch):
    assert isinstance(Toy(), codec.Codec)
    assert not isinstance(torch.nn.Linear(1, 1), codec.Codec)
    monkeypatch.delattr(Toy, "hop")
    assert not isinstance(Toy(), codec.Codec)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_check_of_codecs_passes_one_that_keeps_its_promises(layers):
    check_codec(Toy(layers), noise(0, 0.02, 8000, 2)[None].repeat(3, 1, 1))


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("channels", 1, "audio has 2 channels, the codec 1"),
        ("width", 4, "samples: latents"),
        ("receptive_field", (0, 3), "off by"),
        ("receptive_field", (5, 0), "off by"),
        ("frames", lambda self, samples: samples // 8, "samples: latents"),
        ("fingerprint", lambda self: os.urandom(8), "expected the same 8 bytes"),
        ("decode", lambda self, latents, samples=None: self.decoder(latents), "samples encoded"),
        ("encode", lambda self, audio, generator=None: torch.rand(1, 3, -(-audio.shape[-1] // 8)), "twice differs"),
        ("codes", lambda self, audio, layers=None: torch.full((1, 2, 20), 16), "codebook 0 has 16 entries"),
        ("codes", lambda self, audio, layers=None: torch.zeros(1, 2, 20), "expected int64"),
    ],
)
def test_the_check_of_codecs_sees_every_broken_promise(name, wrong, message, monkeypatch):
    monkeypatch.setattr(Toy, name, wrong)
    with pytest.raises(AssertionError, match=message):
        check_codec(Toy(2), noise(0, 0.02, 8000, 2)[None])


def test_a_codec_without_codebooks_must_refuse_codes(monkeypatch):
    monkeypatch.setattr(Toy, "codes", lambda self, audio: audio)
    with pytest.raises(AssertionError, match="must refuse codes with a TypeError"):
        check_codec(Toy(0), noise(0, 0.02, 8000, 2)[None])


def test_a_fingerprint_follows_the_weights_that_decoding_needs():
    model = Toy(2)
    mark = model.fingerprint()
    with torch.no_grad():
        model.encoder.weight.add_(1)
    assert model.fingerprint() == mark == Toy(2).fingerprint()
    with torch.no_grad():
        model.books.add_(1e-6)
    assert len({mark, model.fingerprint(), Toy(2, seed=1).fingerprint(), Toy(1).fingerprint()}) == 4


def test_bitrates_and_the_codebooks_that_make_them():
    rates = codec.bitrates((1024, 1024, 500), 24000, 320)
    assert rates == (0.75, 1.5, 2.175)
    assert [codec.layers_for(kbps, rates) for kbps in (0.75, 1.5, 2.17, None)] == [1, 2, 3, 3]
    with pytest.raises(InputError, match=r"5 kbit/s is no bitrate of this codec; possible are 0.75, 1.5, 2.175"):
        codec.layers_for(5, rates)
    assert codec.bitrates((), 24000, 320) == () and codec.layers_for(None, ()) == 0
    with pytest.raises(InputError, match="possible are none, since it has no codebooks"):
        codec.layers_for(5, ())


def test_installed_codecs_are_found_by_name(installed):
    assert {"halver", "lost", "gone"} <= set(codec.names())
    assert codec.find("halver")("owner/name") == ("loaded", "owner/name")


def test_an_unknown_codec_names_those_there_are_and_the_nearest(installed):
    text = refused("soundstreem")
    assert text.startswith("codec 'soundstreem' is not installed (installed: ")
    assert "halver" in text and text.endswith("; did you mean 'soundstream'?")


def test_only_packages_of_this_workspace_are_proposed_for_installation(monkeypatch):
    """`pip install audio-<name>` of any other name would fetch whatever a stranger put there."""
    monkeypatch.setattr(codec, "entry_points", lambda **_: ())
    assert refused("codec-vae").endswith("(none is installed); try: pip install audio-codec-vae")
    assert refused("soundstream").endswith("(none is installed); try: pip install audio-soundstream")
    assert refused("encodec") == "codec 'encodec' is not installed (none is installed)"
    text = "encoder 'codec-vae' is not installed (none is installed); try: pip install audio-codec-vae"
    assert refused("codec-vae", codec.ENCODERS) == text
    assert "pip" not in refused("soundstream", codec.ENCODERS)


def test_encoders_are_a_group_of_their_own(installed):
    assert "fresh" in codec.names(codec.ENCODERS) and "fresh" not in codec.names()
    assert codec.find("fresh", codec.ENCODERS)({}) == ("loaded", "{}")
    assert refused("halver", codec.ENCODERS).startswith("encoder 'halver' is not installed (installed: ")
    assert refused("fresh").startswith("codec 'fresh' is not installed")


def test_a_codec_whose_package_is_broken_is_one_line(installed):
    assert refused("lost").startswith("codec 'lost': halver:nothing cannot be loaded: ")
    assert refused("gone") == "codec 'gone': no_such_module:load cannot be loaded: No module named 'no_such_module'"


def test_looking_for_codecs_and_reading_recipes_needs_no_torch():
    code = "import sys, audio_core.codec as c, audio_core.config; c.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
