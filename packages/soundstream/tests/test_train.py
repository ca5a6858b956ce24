"""Training: it learns, goes on to the bit, keeps codebooks the same in all processes, and ends in a bundle."""

import json

import numpy as np
import pytest
import torch
import warm
from audio_core import audio, config
from audio_core.data.corpus import listed
from audio_core.files import InputError
from audio_core.loss.spectral import MelLoss
from audio_core.testing import noise, tone
from audio_soundstream import codec, data
from audio_soundstream.config import bitrates
from audio_soundstream.model import load
from audio_soundstream.recipe import Data, Recipe
from audio_soundstream.train import first, release, train, trained

RATE = 8000
TOY = {
    "model": {"kind": "TinyStream", "channels": 4, "width": 8, "layers": 2, "size": 8, "rate": RATE, "causal": True},
    "discriminators": {"wave": 4, "stft": 4, "begin": 1},
    "optimizer": {"lr": 0.003},
    "batch": 4,
    "workers": 0,
    "average": 0.9,
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    for number in range(6):
        sound = tone(200 + 50 * number, 1.0, RATE) + 0.1 * noise(number, 1.0, RATE)
        audio.write(root / f"{number}.wav", sound.numpy() * 0.5, RATE)
    return root


def toy(sounds, **more) -> Recipe:
    given = {**TOY, "data": {"root": str(sounds), "seconds": 0.5, "held_out": 3}, **more}
    return config.build(Recipe, given)


def weights(folder) -> dict[str, torch.Tensor]:
    return trained(folder)[1].state_dict()


def test_a_stopped_training_ends_in_the_same_bytes(sounds, tmp_path):
    train(toy(sounds, steps=4, save_every=2), tmp_path / "once", "cpu", quiet=True)
    train(toy(sounds, steps=2, save_every=2), tmp_path / "twice", "cpu", quiet=True)
    train(toy(sounds, steps=4, save_every=2), tmp_path / "twice", "cpu", quiet=True)
    one, other = weights(tmp_path / "once"), weights(tmp_path / "twice")
    assert all(torch.equal(one[name], other[name]) for name in one)
    saved = (tmp_path / "once/bundle/model.safetensors").read_bytes()
    assert saved == (tmp_path / "twice/bundle/model.safetensors").read_bytes()


def test_balanced_losses_resume_to_the_bit_as_well(sounds, tmp_path):
    more = {"weights": {"mel": 1, "wave": 1, "adversarial": 1, "features": 1, "balanced": True}, "save_every": 2}
    train(toy(sounds, steps=4, **more), tmp_path / "once", "cpu", quiet=True)
    train(toy(sounds, steps=2, **more), tmp_path / "twice", "cpu", quiet=True)
    train(toy(sounds, steps=4, **more), tmp_path / "twice", "cpu", quiet=True)
    one, other = weights(tmp_path / "once"), weights(tmp_path / "twice")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_codec_learns(sounds, tmp_path):
    recipe = toy(
        sounds, steps=40, discriminators={"wave": 0, "stft": 0}, evaluate_every=40, weights={"mel": 1, "wave": 5}
    )
    train(recipe, tmp_path / "run", "cpu", quiet=True)
    torch.manual_seed(recipe.seed)
    begun, (_, model) = first(recipe.model).eval(), trained(tmp_path / "run")
    begun.quantizer.load_codebooks(torch.randn_like(begun.quantizer.codebooks))
    clips = data.clips(recipe.data, data.corpora(recipe.data, tmp_path / "headers.jsonl")[0][1], RATE)
    x = torch.stack([clips[at] for at in range(len(clips))])
    with torch.no_grad():
        before, after = (float(MelLoss(RATE)(one(x).audio, x)) for one in (begun, model))
    assert after < 0.7 * before
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {"mel", "si_sdr", "bits", "used"} <= set(lines[-1])
    assert sorted(path.name for path in (tmp_path / "run/audio/step-00000040").glob("*.wav"))[0] == "clip0-decoded.wav"


def test_a_run_becomes_a_bundle_that_codes(sounds, tmp_path):
    train(toy(sounds, steps=3), tmp_path / "run", "cpu", quiet=True)
    model = load(tmp_path / "run/bundle")
    assert model.config.learning == "none" and model.codes(torch.randn(1, 1, 2560)).shape == (1, 2, 10)
    assert codec.tables(model) is not None
    best = release(tmp_path / "run", tmp_path / "best", best=True)
    assert torch.equal(best.quantizer.codebooks, load(tmp_path / "best").quantizer.codebooks)
    with pytest.raises(InputError, match="no training run"):
        release(sounds, tmp_path / "other")


def test_discriminators_are_not_heard_before_they_begin(sounds, tmp_path):
    run = tmp_path / "run"
    train(toy(sounds, steps=4, log_every=1, discriminators={"wave": 4, "stft": 4, "begin": 2}), run, "cpu", quiet=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == "train"]
    assert ["adversarial" in line for line in lines] == [False, False, True, True]
    assert all(line["bits"] > 0 for line in lines)


@pytest.mark.parametrize("learning", ["moving", "moving_original", "gradient_original", "none"])
@pytest.mark.parametrize("kind", ["SoundStream", "TinyStream"])
def test_every_way_of_learning_trains(sounds, tmp_path, kind, learning):
    model = {"kind": kind, "channels": 4, "width": 8, "layers": 2, "size": 8, "rate": RATE, "learning": learning}
    outcome = train(
        toy(sounds, model=model, steps=2, discriminators={"wave": 0, "stft": 0}), tmp_path / "run", "cpu", quiet=True
    )
    assert outcome and outcome.steps == 2
    assert load(tmp_path / "run/bundle").config.learning == "none"


def test_two_processes_train_one_codec(sounds, tmp_path):
    settings = ["model.channels=4", "model.width=8", "model.layers=2", "model.size=8", f"model.rate={RATE}"]
    settings += [f"data.root={sounds}", "data.seconds=0.5", "data.held_out=3", "steps=3", "batch=2", "workers=0"]
    settings += ["discriminators.wave=4", "discriminators.stft=0", "discriminators.begin=1", "save_every=3"]
    command = ["-m", "audio_soundstream", "train", "tinystream-tiny", *settings]
    result = warm.run(*command, "-o", tmp_path / "run", "--device", "cpu", processes=2)
    assert result.returncode == 0, result.stderr[-2000:]
    assert load(tmp_path / "run/bundle").quantizer.codebooks.abs().max() > 0


# --- data --------------------------------------------------------------------------------------------------


def test_samples_are_normalised_and_each_root_has_its_share(sounds, tmp_path):
    audio.write(tmp_path / "other/hum.wav", 0.1 * tone(50, 2.0, RATE).numpy(), RATE)
    audio.write(tmp_path / "other/hum2.wav", 0.1 * tone(60, 2.0, RATE).numpy(), RATE)
    chosen = Data(sounds, (tmp_path / "other",), held_out=2, seconds=0.5, gain_db=(0.0, 0.0))
    corpora = data.corpora(chosen, tmp_path / "headers.jsonl")
    assert [(len(kept), len(held)) for kept, held in corpora] == [(3, 3), (1, 1)]
    source = data.samples(chosen, [kept for kept, _ in corpora], RATE, 1)
    assert ["other" in source.name(index) for index in range(4)] == [False, True, False, True]
    for index in range(4):
        assert source[index].shape == (1, RATE // 2)
        assert float(source[index].abs().max()) == pytest.approx(0.95, rel=1e-3)
        assert torch.equal(source[index], source[index])
    held = data.clips(chosen, corpora[1][1], RATE)
    assert float(held[0].abs().max()) == pytest.approx(0.95, rel=1e-3)


def test_roots_and_runs_with_neighbouring_seeds_draw_different_samples(sounds, tmp_path):
    chosen = Data(sounds, (sounds,), held_out=0, seconds=0.25)
    files = listed(sounds, tmp_path / "headers.jsonl")
    first, second = data.samples(chosen, [files, files], RATE, 1), data.samples(chosen, [files, files], RATE, 2)
    drawn = {source.seed for mixture in (first, second) for source in mixture.sources}
    assert len(drawn) == 4
    assert [first.sources[1].place(at) for at in range(20)] != [second.sources[0].place(at) for at in range(20)]


def test_silence_stays_silent_and_bad_files_are_named(tmp_path, capsys):
    audio.write(tmp_path / "a.wav", np.zeros((1, RATE), np.float32), RATE)
    audio.write(tmp_path / "b.wav", np.zeros((1, RATE), np.float32), RATE)
    (tmp_path / "c.wav").write_bytes(b"nothing")
    chosen = Data(tmp_path, held_out=2, seconds=0.5)
    corpora = data.corpora(chosen, tmp_path / "headers.jsonl")
    assert "c.wav" in capsys.readouterr().err
    source = data.samples(chosen, [corpora[0][0]], RATE, 0)
    assert not source[0].any()


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder; give a folder with audio"):
        data.corpora(Data(tmp_path / "none"), tmp_path / "headers.jsonl")


# --- recipes -----------------------------------------------------------------------------------------------


def test_every_recipe_builds():
    from audio_core import command

    names = command.recipes("audio_soundstream")
    assert all(names.values()) and {"soundstream", "tinystream-medium-causal", "tinystream-ladder"} <= set(names)
    for name in names:
        recipe = command.load_recipe(Recipe, "audio_soundstream", name)
        kbps = f"{bitrates(recipe.model)[-1]:g}"
        with torch.device("meta"):
            first(recipe.model)
        if "kbit/s" in names[name]:
            assert f"{kbps} kbit/s" in names[name]
