"""The model in the wheel, which needs the codec of audio-codec-vae's wheel for audio."""

import json

import audio_gen
import numpy as np
import pytest
import torch
from audio_core.files import InputError
from audio_gen.cli import main

FOLDER = audio_gen.SHIPPED["default"]


@pytest.fixture(scope="module")
def model():
    return audio_gen.load()


def test_it_is_small_and_stored_in_half_precision(model):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    config = json.loads((FOLDER / "config.json").read_text())["config"]
    assert len(config["codec"].pop("fingerprint")) == 16 and config["codec"] == {"name": "codec-vae", "path": "default"}


def envelope(samples: np.ndarray) -> np.ndarray:
    """RMS of each 20 ms."""
    return np.sqrt((samples[: len(samples) // 320 * 320].reshape(-1, 320) ** 2).mean(1))


def test_its_sounds_differ_as_their_names_do(model):
    """Rain and an engine go on; a clock and a dog have silence between their sounds."""
    names = ["rain", "helicopter", "dog", "clock tick"]
    made = {name: audio_gen.generate(model, name, 4.0, seed=1, steps=10).audio[0, 0].numpy() for name in names}
    assert all(len(sound) == 64000 and np.isfinite(sound).all() for sound in made.values())
    crests = {}
    for name, sound in made.items():
        levels = envelope(sound)
        crests[name] = levels.max() / np.sqrt((levels**2).mean())
    assert max(crests["rain"], crests["helicopter"]) < min(crests["dog"], crests["clock tick"]), crests


def test_it_fills_gaps_with_what_is_asked_for(model):
    rng = np.random.default_rng(0)
    quiet = (1e-4 * rng.standard_normal((1, 80000))).astype(np.float32)
    filled = audio_gen.inpaint(model, quiet, 16000, [(0, 1.0), (4.0, 5.0)], "rain", seed=2, steps=10)
    assert np.array_equal(filled[:, :16000], quiet[:, :16000]) and np.array_equal(filled[:, 64000:], quiet[:, 64000:])
    assert envelope(filled[0, 20000:60000]).mean() > 10 * envelope(quiet[0]).mean()


def test_the_command_takes_it_by_default(tmp_path, capsys):
    code = main(["generate", "rain", "-o", str(tmp_path / "rain.wav"), "--steps", "2", "--seed", "1", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert code == 0 and facts["seconds"] == 5.0 and (tmp_path / "rain.wav").stat().st_size > 160_000


def test_without_its_codec_it_says_what_to_install(model, monkeypatch):
    def missing(name):
        raise InputError(f"codec {name!r} is not installed (none is installed); try: pip install audio-codec-vae")

    monkeypatch.setattr("audio_core.codec.find", missing)
    with pytest.raises(InputError, match="try: pip install audio-codec-vae"):
        audio_gen.generate(audio_gen.load(), "rain", seed=1, steps=1)
    latents = audio_gen.generate(audio_gen.load(), "rain", seed=1, steps=1, decode=False).latents
    assert latents.shape == (1, 64, 314)
