"""Folders as latents for training: both layouts, items of equal length, twice the same, going on, and the reading."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audio_codec_vae import codec, items
from audio_codec_vae.preencode import Settings, preencode
from audio_core import audio
from audio_core import latents as stored
from audio_core.files import InputError
from audio_core.testing import close

from .test_files import recording
from .toys import autoencoder


@pytest.fixture
def songs(tmp_path) -> str:
    recording(tmp_path / "songs/b.wav", 1000)
    recording(tmp_path / "songs/album/a.wav", 4410, 1600, 1, seed=1)
    return str(tmp_path / "songs")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_whole_recordings_are_what_encoding_gives(tmp_path, songs):
    model, out = autoencoder("oobleck"), tmp_path / "out"
    assert preencode(model, songs, out, quiet=True)[:2] == (2, 0)
    assert set(contents(out)) == {f"{name}.{end}" for name in ("b", "album/a") for end in ("safetensors", "json")} | {
        "details.json"
    }
    assert items.find(out) == [out / "album/a.safetensors", out / "b.safetensors"]
    for name in ("b", "album/a"):
        latents, wanted = (
            items.read(out / f"{name}.safetensors", model),
            stored.encode_file(model, f"{songs}/{name}.wav"),
        )
        assert np.array_equal(latents.values, wanted.values) and latents.samples == wanted.samples
    assert items.read_facts(out / "album/a.safetensors") == {
        "relpath": "album/a.wav",
        "source_rate": 1600,
        "source_channels": 1,
        "sample_rate": 800,
        "samples": 2205,
        "seconds_start": 0,
        "seconds_total": 3,
        "timestamps": [0.0, 1.0],
    }
    details = json.loads((out / "details.json").read_text())
    assert details["model"] == model.fingerprint().hex() and details["downsampling_ratio"] == 8
    codec.decode_file(model, out / "b.safetensors", tmp_path / "b.wav")
    assert audio.info(tmp_path / "b.wav").frames == 1000


@torch.no_grad()
def test_items_of_equal_length_hold_all_of_a_recording_and_tell_what_is_padding(tmp_path, songs):
    model, out = autoencoder("oobleck"), tmp_path / "out"
    preencode(model, songs, out, Settings(1.0, mask_padding=True), quiet=True)
    names = [path.name for path in items.find(out)]
    assert names == ["a-0000.safetensors", "a-0001.safetensors", "a-0002.safetensors"] + [
        f"b-000{at}.safetensors" for at in range(2)
    ]
    latents, facts = items.read(out / "b-0001.safetensors", model), items.read_facts(out / "b-0001.safetensors")
    assert (latents.frames, latents.samples) == (100, 200)
    assert facts["padding_mask"] == [1] * 25 + [0] * 75
    assert facts["timestamps"] == [0.8, 1.0] and (facts["seconds_start"], facts["seconds_total"]) == (1, 2)
    part = torch.zeros(1, 2, 800)
    part[..., :200] = torch.from_numpy(audio.read(f"{songs}/b.wav").samples[:, 800:])
    close(torch.from_numpy(latents.values), model.encode(part)[0], 1e-5)
    assert stored.decode(model, latents).shape == (2, 200)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("oobleck", Settings(1.0, seed=3)), ("oobleck", Settings(seed=0, half=True)), ("dac", Settings(1.0, codes=True))],
)
@pytest.mark.parametrize("npy", [False, True])
def test_twice_the_same_files_whatever_the_number_of_processes(tmp_path, songs, monkeypatch, name, settings, npy):
    settings = Settings(**{**settings.__dict__, "npy": npy})
    model = autoencoder(name)
    preencode(model, songs, tmp_path / "one", settings, quiet=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert preencode(model, songs, tmp_path / "two", settings, quiet=True)[:2] == (1, 0)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_draws_differ_from_means_and_from_each_other(tmp_path, songs):
    model = autoencoder("oobleck")
    for name, seed in (("mean", None), ("one", 1), ("two", 2)):
        preencode(model, songs, tmp_path / name, Settings(seed=seed), quiet=True)
    values = [items.read(tmp_path / name / "b.safetensors", model).values for name in ("mean", "one", "two")]
    assert not any(np.array_equal(values[at], values[at - 1]) for at in range(3))


def test_the_layout_of_stable_audio_tools(tmp_path, songs):
    model, out = autoencoder("oobleck"), tmp_path / "out"
    preencode(model, songs, out, Settings(1.0, npy=True, half=True), quiet=True)
    assert sorted(contents(out / "0")) == [
        f"000{number:06d}{at:04d}.{end}"
        for number, count in ((0, 3), (1, 2))
        for at in range(count)
        for end in ("json", "npy")
    ]
    path = out / "0/0000000010001.npy"
    assert np.load(path).dtype == np.float16 and np.load(path).shape == (3, 100)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["path"] == f"{songs}/b.wav" and facts["relpath"] == "b.wav" and sum(facts["padding_mask"]) == 25
    latents = items.read(path, model)
    assert latents.samples == 200 and "padding_mask" not in latents.facts
    assert [item.file.name for item in codec.find_latents([str(out)])] == [each.name for each in items.find(out)]
    with pytest.raises(InputError, match=r"0000000010001\.npy: was encoded by model"):
        items.read(path, autoencoder("patched"))


def test_arrays_of_stable_audio_tools_itself_are_read(tmp_path):
    model, path = autoencoder("dac"), tmp_path / "0/0000000000000.npy"
    path.parent.mkdir()
    (tmp_path / "details.json").write_text('{"model_config": "model.json", "sample_size": 800}')
    codes = np.arange(30).reshape(3, 10) % 8
    np.save(path, codes)
    assert items.read(path, model).samples == 80
    path.with_suffix(".json").write_text(json.dumps({"padding_mask": [1] * 7 + [0] * 3, "prompt": "a bird"}))
    latents = items.read(path, model)
    assert latents.is_codes and np.array_equal(latents.values, codes)
    assert latents.samples == 56 and latents.facts == {"prompt": "a bird"}
    codec.decode_file(model, path, tmp_path / "bird.wav")
    assert audio.info(tmp_path / "bird.wav").frames == 56


@pytest.mark.parametrize(
    ("array", "facts", "message"),
    [
        (None, {}, "is cut short or no array"),
        (np.zeros((3, 4, 5), np.float32), {}, r"expected latents \(width, F\)"),
        (np.full((3, 4), np.nan, np.float32), {}, "NaN or infinity"),
        (np.array([["text"]]), {}, "no array of numbers"),
        (np.zeros((3, 4), np.float32), {"padding_mask": [0] * 4}, "samples: expected a whole number from 1 on"),
        (np.zeros((3, 4), np.float32), {"padding_mask": "ones"}, "padding_mask: expected a list"),
        (np.zeros((3, 4), np.float32), {"samples": 99}, "cannot hold 99 samples"),
        (np.zeros((3, 4), np.float32), [1], "expected facts by name"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(tmp_path, array, facts, message):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((3, 4)) if array is None else array)
    if array is None:
        path.write_bytes(path.read_bytes()[:-9])
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=message):
        items.read(path, autoencoder("oobleck"))


def test_a_folder_goes_on_where_it_was(tmp_path, songs):
    model, out, settings = autoencoder("oobleck"), tmp_path / "out", Settings(1.0)
    preencode(model, songs, out, settings, quiet=True)
    before, gone = contents(out), out / "album/a-0001.safetensors"
    gone.unlink()
    gone.with_suffix(".json").unlink()
    assert preencode(model, songs, out, settings, quiet=True)[:2] == (1, 1)
    assert contents(out) == before
    for other, changed in ((model, Settings(2.0)), (autoencoder("patched"), settings)):
        with pytest.raises(InputError, match=r"other settings \((sample_size, seconds|model, .*)\); give another"):
            preencode(other, songs, out, changed, quiet=True)
    assert preencode(model, songs, out, Settings(2.0), force=True, quiet=True).done == 2


def test_numbers_that_moved_to_other_recordings_are_refused(tmp_path, songs, capsys):
    model, out, settings = autoencoder("oobleck"), tmp_path / "out", Settings(npy=True)
    preencode(model, songs, out, settings, quiet=True)
    recording(Path(songs) / "album/0.wav")
    summary = preencode(model, songs, out, settings, quiet=True)
    assert summary[:2] == (1, 0) and len(summary.failed) == 2
    assert "is of album/a.wav, not of album/0.wav; give --force to redo it" in capsys.readouterr().err


def test_wrong_files_cost_one_line_each(tmp_path, songs, capsys):
    (Path(songs) / "text.wav").write_text("no audio")
    soundfile.write(f"{songs}/empty.wav", np.zeros((0, 2)), 800)
    for settings in (Settings(), Settings(1.0)):
        summary = preencode(autoencoder("oobleck"), songs, tmp_path / str(settings.seconds), settings, quiet=True)
        assert (summary.done, len(summary.failed), summary.code) == (2, 2, 2)
        assert len(capsys.readouterr().err.splitlines()) == 2


def test_settings_that_contradict_each_other_are_refused(tmp_path, songs):
    for changes, message in (
        ({"seconds": 0.0}, "a length above 0"),
        ({"mask_padding": True}, "give seconds too"),
        ({"codes": True, "half": True}, "neither halved nor drawn"),
        ({"codes": True, "seed": 0}, "neither halved nor drawn"),
    ):
        with pytest.raises(InputError, match=message):
            Settings(**changes)
    with pytest.raises(InputError, match="continuous latents and no codes"):
        preencode(autoencoder("oobleck"), songs, tmp_path / "out", Settings(codes=True))
