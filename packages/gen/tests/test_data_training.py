"""Trainings on small data of each kind."""

import json

import pytest
import torch
from audio_core import codec as codecs
from audio_core.testing import refused
from audio_core.train.optimize import AdamW, Constant
from audio_gen.config import DiffusionConfig
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.conditioners import CodecSource
from audio_gen.recipe import Data, Recipe
from audio_gen.train import train, trained

from .data_toys import packed, ramp, save_npy, tone

BACKBONE = DiTConfig(io_channels=4, embed_dim=32, depth=1, num_heads=1, project_cond_tokens=False)
MODEL = DiffusionConfig(rate=1000, channels=1, samples=800, hop=100, backbone=BACKBONE)


def recipe(root, model=MODEL, rate=1e-3, **settings):
    quick = {"steps": 3, "batch": 2, "workers": 0, "average": 0.0, "evaluate_every": 3, "save_every": 3, "log_every": 1}
    return Recipe(
        data=Data(root=root, held_out=3),
        model=model,
        optimizer=AdamW(rate, (0.9, 0.999), weight_decay=0.0),
        schedule=Constant(),
        **{**quick, **settings},
    )


@pytest.fixture
def root(tmp_path):
    for at in range(6):
        save_npy(tmp_path / f"in/{at}.npy", ramp(4, 10 + at, at) / 10)
    return tmp_path / "in"


def weights(folder):
    return trained(folder)[1].state_dict()


def test_a_training_on_shards_is_that_on_the_folder(root, tmp_path):
    train(recipe(root), tmp_path / "one", "cpu", quiet=True)
    train(recipe(packed(root, tmp_path / "tars")), tmp_path / "two", "cpu", quiet=True)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
    lines = [json.loads(line) for line in (tmp_path / "one/log.jsonl").read_text().splitlines()]
    assert any(line["kind"] != "train" and "loss" in line for line in lines)  # of what was held out


def test_a_training_goes_on_where_it_stood(root, tmp_path):
    train(recipe(root, steps=6), tmp_path / "one", "cpu", quiet=True)
    train(recipe(root, steps=3), tmp_path / "two", "cpu", quiet=True)
    train(recipe(root, steps=6, workers=1), tmp_path / "two", "cpu", quiet=True)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_loss_that_is_not_finite_names_the_items(root, tmp_path):
    message = refused(train, recipe(root, rate=1e30, steps=9), tmp_path / "run", "cpu", True)
    assert "not finite" in message
    names = message.partition("the batch: ")[2].split(", ")
    assert len(names) == 2
    assert {*names} <= {str(root / f"{at}.npy") for at in (1, 2, 4, 5)}


class Hundredths:
    """A codec that keeps every hundredth sample, four times."""

    sample_rate, channels, hop, width, codebooks = 1000, 1, 100, 4, ()

    def frames(self, samples):
        return -(-samples // 100)

    def encode(self, audio, generator=None):
        return audio[..., ::100].expand(-1, 4, -1)

    def fingerprint(self):
        return b"hundred1"


def test_audio_is_encoded_as_it_is_needed(tmp_path, monkeypatch):
    for at in range(4):
        tone(tmp_path / f"in/{at}.wav", 1.0 + at)
    monkeypatch.setattr(codecs, "find", lambda name: lambda path: Hundredths())
    model = DiffusionConfig(
        rate=1000, channels=1, samples=800, hop=100, backbone=BACKBONE, codec=CodecSource(name="toy")
    )
    outcome = train(recipe(tmp_path / "in", model), tmp_path / "run", "cpu", quiet=True)
    assert outcome is not None
    assert "give model.codec" in refused(train, recipe(tmp_path / "in"), tmp_path / "other", "cpu", True)
