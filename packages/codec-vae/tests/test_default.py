"""The autoencoder in the wheel."""

import json
from pathlib import Path

import audio_codec_vae
import numpy as np
import pytest
import torch
from audio_codec_vae.cli import main
from audio_core import audio, codec, latents
from audio_core.metrics import si_sdr

FOLDER = audio_codec_vae.SHIPPED["default"]


@pytest.fixture(scope="module")
def model():
    return audio_codec_vae.load()


def vowel(seconds: float) -> np.ndarray:
    """(1, T) at 16 kHz: harmonics of a pitch that falls, softer with their number."""
    t = np.arange(round(16000 * seconds)) / 16000
    phase = 2 * np.pi * (160 * t - 10 * t**2)
    return sum(0.2 / k * np.sin(k * phase) for k in range(1, 6))[None].astype(np.float32)


def test_it_is_small_and_stored_in_half_precision(model):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000
    assert json.loads((FOLDER / "config.json").read_text())["config"]["folded"] is True
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_voice_like_sound_comes_back(model):
    x = vowel(2)
    decoded = latents.decode(model, latents.encode(model, x, 16000))
    assert decoded.shape == x.shape
    assert si_sdr(torch.from_numpy(decoded), torch.from_numpy(x)).item() > 10


def test_it_is_found_as_a_codec(model):
    assert codec.find("codec-vae")("default").fingerprint() == model.fingerprint()
    assert (model.sample_rate, model.channels, model.hop, model.width, model.codebooks) == (16000, 1, 256, 64, ())


def test_commands_take_it_without_being_told(tmp_path: Path):
    audio.write(tmp_path / "a.wav", vowel(1.5), 16000)
    assert main(["encode", str(tmp_path / "a.wav"), "--quiet"]) == 0
    assert main(["decode", str(tmp_path / "a.latents"), "-o", str(tmp_path / "b.wav"), "--quiet"]) == 0
    assert audio.info(tmp_path / "b.wav").frames == 24000
