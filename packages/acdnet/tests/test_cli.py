"""The command on sounds made here, in process, from training to a timeline."""

import json
import subprocess
import sys

import audio_acdnet
import numpy as np
import pytest
from audio_acdnet import cli
from audio_acdnet.events import Window, joined
from audio_core import audio
from audio_core.testing import noise, tone

RATE = 4000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tones and noises in two folds, a trained toy and what its training printed."""
    root = tmp_path_factory.mktemp("acdnet")
    for fold in (1, 2):
        for number in range(4):
            hum, hiss = tone(200 + 10 * number, 1.0, RATE), noise(10 * fold + number, 1.0, RATE)
            audio.write(root / f"data/fold{fold}/hum/{number}.wav", hum.numpy(), RATE)
            audio.write(root / f"data/fold{fold}/hiss/{number}.wav", hiss.numpy(), RATE)
    settings = ["model.channels=[4,6,4,4,4,4,4,4,4,4,4,4]", f"model.rate={RATE}", "model.samples=2000", "epochs=12"]
    common = [f"data.root={root / 'data'}", "data.labels=[]", "folds=2", "batch=8", "workers=0", "evaluate_every=6"]
    arguments = ["train", "esc10-micro", *common, *settings, "optimizer.kind=AdamW", "schedule.kind=Cosine"]
    assert cli.main([*arguments, "-o", str(root / "run"), "--device", "cpu", "--quiet"]) == 0
    return root


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_evaluate_prints_accuracy_at_the_top_and_refuses_folds_that_were_learned(place, capsys):
    code, out, _ = run(capsys, "evaluate", place / "run/bundle", place / "data", "--fold", 2, "--json")
    told = json.loads(out)
    assert code == 0 and 0 <= told["accuracy"] <= 1 and told["clips"] == 8 and told["folds"] == [2]
    code, _, err = run(capsys, "evaluate", place / "run/bundle", place / "data", "--fold", 1)
    assert code == 2 and "was trained on fold 1" in err and err.count("\n") == 1
    page = place / "results"
    code, _, err = run(capsys, "evaluate", place / "run/bundle", place / "data", "--fold", 1, "--force")
    assert code == 0 and "was trained on fold 1: the result says nothing" in err
    code, out, err = run(capsys, "evaluate", place / "run/bundle", place / "data", "--force", "-o", page)
    assert (
        code == 0 and "of 8)" in out and "trained on" not in err and "Confusion" in (page / "report.html").read_text()
    )
    assert (page / "confusion.png").read_bytes().startswith(b"\x89PNG")
    again = ["evaluate", place / "run/bundle", place / "data", "--fold", 2, "-o", page]
    code, _, err = run(capsys, *again)
    assert code == 2 and "holds a report already" in err and err.count("\n") == 1


def test_evaluate_takes_the_settings_of_the_data(place, capsys):
    arguments = ["evaluate", place / "run/bundle", place / "data", "data.labels=[hum]", "--fold", 2, "--json"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and json.loads(out)["clips"] == 4 and list(json.loads(out)["per_class"]) == ["hum"]


@pytest.mark.parametrize("kind", ["c", "c-16x8"])
def test_the_integers_of_an_export_can_be_evaluated(kind, place, capsys):
    arguments = ["evaluate", place / "run/bundle", place / "data", "--fold", 2, "--json"]
    plain, whole = (json.loads(run(capsys, *arguments, *more)[1]) for more in ([], ["--integers", kind]))
    assert abs(whole["accuracy"] - plain["accuracy"]) <= 1 / 8


def test_classify_names_clips_and_goes_on_after_a_bad_one(place, capsys):
    (place / "data/fold1/hum/broken.wav").write_bytes(b"RIFF")
    model = place / "run/bundle"
    code, out, err = run(capsys, "classify", place / "data/fold1/hum", "--model", model, "--json", "--top", 2)
    (place / "data/fold1/hum/broken.wav").unlink()
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 2 and len(rows) == 4 and "broken.wav" in err
    assert all({one["label"] for one in row["top"]} == {"hum", "hiss"} for row in rows)


def test_a_long_recording_gives_a_timeline_and_a_stream_the_same_events(place, capsys):
    parts = [tone(220, 6.0, RATE).numpy(), np.zeros((1, 4 * RATE), np.float32), noise(3, 6.0, RATE).numpy()]
    audio.write(place / "long.wav", np.concatenate(parts, 1), RATE)
    arguments = ["classify", place / "long.wav", "--model", place / "run/bundle", "--threshold", 0.01, "--json"]
    code, out, _ = run(capsys, *arguments)
    timeline = json.loads(out)
    assert code == 0 and timeline["seconds"] == 16 and timeline["events"]
    for event in timeline["events"]:  # silence belongs to no event; a window reaches half a second into it at most
        assert event["end"] <= 6.5 or event["start"] >= 9.5
    code, out, _ = run(capsys, *arguments, "--stream")
    events = [json.loads(line) for line in out.splitlines()]
    assert [{k: v for k, v in event.items() if k != "file"} for event in events] == timeline["events"]


def test_windows_of_one_class_that_meet_are_one_event():
    model = audio_acdnet.load()
    sure = {label: np.eye(10)[model.config.labels.index(label)] * 0.8 for label in ("rain", "dog")}
    unsure = np.full(10, 0.1)
    heard = [sure["rain"], unsure, sure["rain"], unsure, unsure, None, sure["rain"], sure["dog"]]
    events = joined(model.config.labels, (Window(at, at + 2, scores) for at, scores in enumerate(heard)))
    assert list(events) == [(0, 4, "rain", 0.8), (6, 8, "rain", 0.8), (7, 9, "dog", 0.8)]


@pytest.mark.parametrize("samples", [np.zeros((1, RATE), np.float32), np.full((1, 1), 0.5, np.float32)])
def test_silence_and_one_sample_are_answered(samples, place, capsys):
    audio.write(place / "odd.wav", samples, RATE)
    code, out, err = run(capsys, "classify", place / "odd.wav", "--model", place / "run/bundle")
    assert code == 0 and err == "" and (("silent" in out) == (not samples.any()))


def test_other_rates_and_channels_are_converted(place, capsys):
    audio.write(place / "stereo.flac", tone(220, 1.0, 44100, 2).numpy(), 44100)
    code, out, _ = run(capsys, "classify", place / "stereo.flac", "--model", place / "run/bundle")
    assert code == 0 and "%" in out


def test_export_makes_a_bundle_of_a_run(place, capsys, tmp_path):
    code, _, err = run(capsys, "export", place / "run", "-o", tmp_path / "made", "--best")
    assert code == 0 and (tmp_path / "made/model.safetensors").exists()
    code, _, err = run(capsys, "export", place, "-o", tmp_path / "other")
    assert code == 2 and "holds no training run" in err


def test_describe_counts_as_the_paper(capsys):
    code, out, _ = run(capsys, "describe", "esc50", "--json")
    told = json.loads(out)
    assert code == 0 and (told["parameters"], told["flops"]) == (4_735_378, 544_422_040)
    told = json.loads(run(capsys, "describe", "esc50-micro", "--json")[1])
    assert (told["parameters"], told["flops"]) == (131_474, 14_822_095)
    code, out, _ = run(capsys, "describe", "esc50-micro")
    assert "131,474 parameters, 14,822,095 FLOPs" in out


def test_recipes_are_listed_and_mistakes_named(capsys, tmp_path):
    code, out, _ = run(capsys, "recipes", "--json")
    names = {"esc50", "esc50-micro", "esc10", "esc10-micro", "us8k", "us8k-micro", "audioevent"}
    assert code == 0 and names <= set(json.loads(out))
    code, _, err = run(capsys, "train", "esc50-mikro", "-o", tmp_path / "x")
    assert code == 2 and "did you mean esc50-micro?" in err
    code, _, err = run(capsys, "train", "esc50", "model.chanels=[1]", "-o", tmp_path / "x")
    assert code == 2 and "did you mean model.channels?" in err
    code, _, err = run(capsys, "train", "esc50", f"data.root={tmp_path}", "-o", tmp_path / "x")
    assert code == 2 and "expected ESC-50 (meta/esc50.csv and audio/)" in err and err.count("\n") == 1
    code, _, err = run(capsys, "convert", tmp_path / "none.pt", "-o", tmp_path / "x")
    assert code == 2 and "none.pt" in err and err.count("\n") == 1


def test_help_comes_without_torch():
    code = (
        "import sys; from audio_acdnet import cli; codes = [cli.main([*verb, '--help']) for verb in ([], ['train'])]; "
        "sys.exit('torch' in sys.modules or sum(codes))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and "model.samples" in result.stdout, result.stderr


def test_the_shipped_model_answers_right_after_install(tmp_path, capsys):
    """Sharp clicks are a clock or a fire, and a hiss is water: no more can be asked of sounds made here."""
    clicks = np.zeros((1, 5 * 20000), np.float32)
    for at in range(0, clicks.shape[1], 10000):
        clicks[0, at : at + 40] = 0.5 * np.hanning(40) * np.sin(2 * np.pi * 4000 * np.arange(40) / 20000)
    audio.write(tmp_path / "clicks.wav", clicks, 20000)
    audio.write(tmp_path / "hiss.wav", noise(1, 5.0, 20000).numpy(), 20000)
    code, out, _ = run(capsys, "classify", tmp_path / "clicks.wav", tmp_path / "hiss.wav", "--json", "--top", 1)
    first, second = (json.loads(line)["top"][0]["label"] for line in out.splitlines())
    assert code == 0 and first in ("clock_tick", "crackling_fire") and second in ("rain", "sea_waves")
    code, out, _ = run(capsys, "describe", "default", "--json")
    assert json.loads(out)["parameters"] == 129_514


def test_the_model_for_soft_sounds_hears_them_as_loud_ones(tmp_path, capsys, monkeypatch):
    hiss = noise(1, 5.0, 20000).numpy()
    audio.write(tmp_path / "loud.wav", 0.3 * hiss / np.abs(hiss).max(), 20000)
    audio.write(tmp_path / "soft.flac", 0.01 * hiss / np.abs(hiss).max(), 20000)
    files = [tmp_path / "loud.wav", tmp_path / "soft.flac"]
    code, out, _ = run(capsys, "classify", *files, "--model", "quiet", "--json", "--top", 1)
    loud, soft = (json.loads(line)["top"][0]["label"] for line in out.splitlines())
    assert code == 0 and loud == soft
    monkeypatch.chdir(tmp_path)  # a folder of that name is no mistake for the model in the wheel
    (tmp_path / "quiet").mkdir()
    code, _, err = run(capsys, "classify", files[0], "--model", "./quiet")
    assert code == 2 and "quiet" in err and err.count("\n") == 1
