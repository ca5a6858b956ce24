"""Evaluation: equality with museval and the original, kinds of folders, what was left out, and the page."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from audio_core import audio
from audio_core.files import InputError
from audio_core.report import Report
from audio_core.testing import noise
from audio_sep import evaluate as module
from audio_sep.cli import main
from audio_sep.data.pack import PackSettings
from audio_sep.evaluate import evaluate, tracks

from .sep_toys import Toy, gain, halves
from .songs import RATE, STEMS, write_song


@pytest.fixture
def songs(tmp_path) -> Path:
    """Three songs in the layout of MUSDB18-HQ, and one for training."""
    for number, part in enumerate(("test", "test", "test", "train")):
        write_song(tmp_path / f"songs/{part}/song{number}", number)
    return tmp_path / "songs"


def test_songs_have_the_numbers_of_museval(stored_case, tmp_path):
    """The median over the songs of the medians over their seconds, of which silent ones have no number."""
    case = stored_case("sdr_museval")
    assert case.config["win"] == RATE
    for number, name in enumerate(("reference", "reference_with_silence")):
        audio.write(tmp_path / f"{number}/vocals.wav", case.inputs[name].numpy(), RATE, "FLOAT")
        audio.write(tmp_path / f"{number}/mixture.wav", 0.5 * case.inputs["estimate"].numpy(), RATE, "FLOAT")
    result = evaluate(Toy({"vocals": gain(2)}), tmp_path, quiet=True)
    expected = case.outputs["track_sdr"].tolist()
    assert [song.sources["vocals"].estimate["sdr"] for song in result.songs] == pytest.approx(expected, rel=1e-6)
    assert result.total("estimate", "vocals", "sdr") == pytest.approx(np.median(expected), rel=1e-6)
    halved = [song.sources["vocals"].mixture["sdr"] for song in result.songs]
    assert all(value < better for value, better in zip(halved, expected, strict=True))


def test_measures_are_medians_or_means_over_songs(songs):
    result = evaluate(halves(), songs, quiet=True)
    assert [song.name for song in result.songs] == ["song0", "song1", "song2"] and not result.unreadable
    for measure, middle in (("sdr", np.median), ("clip_sdr", np.mean), ("si_sdr", np.mean)):
        values = [song.sources["accompaniment"].estimate[measure] for song in result.songs]
        assert result.total("estimate", "accompaniment", measure) == pytest.approx(middle(values))
    song = songs / "test/song1"
    stems = {stem: audio.read(song / f"{stem}.wav").samples for stem in STEMS}
    mixture = sum(stems.values())
    expected = module.values(0.25 * mixture, stems["vocals"], RATE, "vocals")
    assert result.songs[1].sources["vocals"].estimate == pytest.approx(expected, abs=1e-3)
    others = mixture - stems["vocals"]
    expected = module.values(mixture, others, RATE, "accompaniment")
    assert result.songs[1].sources["accompaniment"].mixture == pytest.approx(expected, abs=1e-3)
    plain = result.plain()
    assert json.loads(json.dumps(plain)) == plain and plain["songs"] == 3 and plain["options"] == {}
    assert plain["sources"]["vocals"]["estimate"].keys() == {"sdr", "clip_sdr", "si_sdr"}
    table = result.table()
    assert "vocals" in table and "gain" in table and "3 songs, 3 s" in table


def test_the_rest_is_measured_where_songs_have_it(songs):
    result = evaluate(Toy({"vocals": gain(0.25)}), songs, quiet=True, residual="accompaniment")
    assert result.sources == ["vocals", "accompaniment"]
    song = songs / "test/song1"
    stems = {stem: audio.read(song / f"{stem}.wav").samples for stem in STEMS}
    mixture = sum(stems.values())
    expected = module.values(0.75 * mixture, mixture - stems["vocals"], RATE, "accompaniment")
    assert result.songs[1].sources["accompaniment"].estimate == pytest.approx(expected, abs=1e-3)
    with pytest.raises(InputError, match="none of the songs could be measured"):
        evaluate(Toy({"vocals": gain(0.25)}), songs, quiet=True, residual="applause")


def test_the_page_holds_totals_songs_and_players(songs, tmp_path):
    result = evaluate(halves(), songs, listen=1, quiet=True, segment=0.5, shifts=2)
    report = Report("title")
    result.page(report, tmp_path)
    page = report.html()
    assert page.count("<audio") == 5 and "song0, mixture" in page and page.count("song2") == 2
    assert "segment 0.5, shifts 2" in page and "median over the songs" in page


def test_long_songs_are_heard_in_part(tmp_path):
    for stem in ("vocals", "other"):
        audio.write(tmp_path / f"long/{stem}.wav", noise(len(stem), 25.0, RATE, 2).numpy(), RATE)
    result = evaluate(halves(), tmp_path, listen=1, quiet=True)
    assert {sound.shape for _, sound, _ in result.sounds[0]} == {(2, 10 * RATE)}


def test_folders_may_be_by_source(tmp_path):
    stems = write_song(tmp_path / "song", 1)
    mixture = sum(stems.values())
    for name, samples in (("mixture", mixture), ("vocals", stems["vocals"]), ("accompaniment", mixture)):
        audio.write(tmp_path / f"by/test/{name}/0001.wav", samples, RATE, "FLOAT")
    audio.write(tmp_path / "by/test/other/0002.wav", mixture, RATE)
    songs = tracks(tmp_path / "by", PackSettings(RATE, 2, ""))
    (song,) = songs.values()
    assert song.relative == Path("0001") and {*song.recordings} == {"mixture", "vocals", "accompaniment"}
    result = evaluate(halves(), tmp_path / "by", quiet=True)
    assert result.total("mixture", "accompaniment", "clip_sdr") > 60


def test_speech_and_noise_are_measured_as_in_voicebank(tmp_path):
    for part in ("train", "test"):
        speech, hiss = noise(1, 1.0, RATE).numpy(), noise(2, 1.0, RATE).numpy()
        audio.write(tmp_path / f"clean_{part}set_wav/{part}.wav", speech, RATE, "FLOAT")
        audio.write(tmp_path / f"noisy_{part}set_wav/{part}.wav", speech + hiss, RATE, "FLOAT")
    result = evaluate(Toy({"speech": gain(0.5)}, channels=1), tmp_path, quiet=True)
    assert [song.name for song in result.songs] == ["test/test"]
    assert result.total("estimate", "speech", "clip_sdr") == pytest.approx(3.01, abs=0.3)
    assert "pesq" in result.measures


def test_pesq_is_measured_of_speech_where_it_can_be(speech_and_noise):
    """Wide band, of the mean of the channels, at any rate."""
    clean, noisy = speech_and_noise
    stereo = [np.repeat(audio.resample(x, 16000, 44100), 2, 0) for x in (noisy, clean)]
    pesq = module.values(*stereo, 44100, "speech")["pesq"]
    assert pesq == pytest.approx(module.values(noisy, clean, 16000, "voice")["pesq"], abs=0.03)
    assert 1 < pesq < 2
    assert "pesq" not in module.values(noisy, clean, 16000, "vocals")
    assert math.isnan(module.values(noisy[:, :500], clean[:, :500], 16000, "speech")["pesq"])
    assert math.isnan(module.values(noisy, 0 * clean, 16000, "speech")["pesq"])


@pytest.fixture
def speech_and_noise():
    """Bursts of a voiced sound, and the same under noise, (1, T) at 16 kHz."""
    time = np.arange(32000) / 16000
    voice = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20)) * np.clip(
        np.sin(2 * np.pi * 3 * time), 0, 1
    )
    clean = (0.1 * voice[None]).astype(np.float32)
    return clean, clean + 0.5 * noise(0, 2.0).numpy()


def test_without_the_library_the_rest_is_measured_and_the_extra_is_named(tmp_path, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "pesq" else real(name, *more))
    for name in ("speech", "noise"):
        audio.write(tmp_path / f"clip/{name}.wav", noise(len(name), 0.5, RATE, 2).numpy(), RATE)
    result = evaluate(Toy({"speech": gain(0.5)}), tmp_path)
    assert result.measures == ["sdr", "clip_sdr", "si_sdr"] and "audio-sep[metrics]" in capsys.readouterr().err


def test_songs_that_cannot_be_measured_are_named_and_counted(songs, capsys):
    (songs / "test/song0/vocals.wav").write_bytes(b"broken")
    (songs / "test/song1/vocals.wav").unlink()
    result = evaluate(Toy({"vocals": gain(1)}), songs, quiet=True)
    err = capsys.readouterr().err
    assert result.unreadable == 2 and [song.name for song in result.songs] == ["song2"]
    assert "vocals.wav: not audio" in err and "song1: has no vocals, only bass, drums, other, mixture" in err
    (songs / "test/song2/vocals.wav").unlink()
    with pytest.raises(InputError, match="none of the songs could be measured"):
        evaluate(Toy({"vocals": gain(1)}), songs, quiet=True)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        evaluate(halves(), songs / "nowhere")


def test_silent_stems_have_no_number_and_do_not_count(songs):
    audio.write(songs / "test/song0/vocals.wav", np.zeros((2, RATE), np.float32), RATE)
    result = evaluate(halves(), songs, quiet=True)
    plain = result.plain()
    assert plain["per_song"][0]["sources"]["vocals"]["estimate"]["sdr"] is None
    assert len(result.values("estimate", "vocals", "sdr")) == 2


def test_the_command_writes_a_report(songs, bundle, tmp_path, capsys):
    out = tmp_path / "report"
    command = ["evaluate", str(bundle), str(songs), "-o", str(out), "--json", "--quiet", "--device", "cpu"]
    assert main([*command, "--listen", "2", "--overlap", "0.25"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["songs"] == 3 and plain["options"] == {"overlap": 0.25}
    assert (out / "report.html").read_text().count("<audio") == 10
    assert json.loads((out / "results.json").read_text()) == plain
