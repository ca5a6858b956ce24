"""Evaluation: the measures of each file and their means, what was left out, and the page."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from audio_core import audio
from audio_core.files import InputError
from audio_core.report import Report
from audio_core.testing import noise
from audio_semamba import evaluate as module
from audio_semamba.cli import main
from audio_semamba.data.pairs import scan_pairs
from audio_semamba.enhance import Options
from audio_semamba.evaluate import MEASURES, evaluate
from audio_semamba.pcs import stretch
from torch import nn

RATE = 16000


class Half(nn.Module):
    """Stands in for a model: its estimate is half of the audio."""

    class config:
        rate = RATE
        causal = False

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def enhance(self, audio, level=None):
        return (self.weight * audio).detach()


@pytest.fixture
def folder(stored_case, tmp_path):
    """Two pairs of real speech, with the stored metrics of both sides against the clean one."""
    case = stored_case("pesq")
    for name in ("p257_152", "p232_162"):
        for side in ("clean", "noisy"):
            samples = case.inputs[f"{name}.{side}"].numpy()[None, :24000].astype(np.float32) / 32768
            audio.write(tmp_path / f"{side}/{name}.wav", samples, RATE)
    return tmp_path


def test_noisy_and_enhanced_are_measured_against_clean(folder):
    result = evaluate(Half(), folder / "clean", folder / "noisy", listen=1, quiet=True)
    assert [file.name for file in result.files] == ["p232_162.wav", "p257_152.wav"] and not result.unreadable
    clean, noisy = (audio.read(folder / f"{side}/p232_162.wav").samples[0] for side in ("clean", "noisy"))
    assert result.files[0].noisy == pytest.approx(module.values(noisy, clean), abs=1e-4)
    assert result.files[0].enhanced == pytest.approx(module.values(noisy / 2, clean), abs=1e-4)
    plain = result.plain()
    assert json.loads(json.dumps(plain)) == plain and plain["scale"] == "float"
    assert plain["noisy"].keys() == plain["enhanced"].keys() == MEASURES.keys()
    mean = np.mean([file.noisy["pesq"] for file in result.files])
    assert plain["noisy"]["pesq"] == pytest.approx(mean, abs=1e-4)
    assert plain["enhanced"]["pesq"] == pytest.approx(mean, abs=0.05)  # scale does not matter
    assert plain["enhanced"]["si_sdr"] == pytest.approx(plain["noisy"]["si_sdr"], abs=1e-3)
    assert plain["enhanced"]["ssnr"] != pytest.approx(plain["noisy"]["ssnr"], abs=0.1)
    ((*_, (label, enhanced, rate)),) = result.sounds
    assert label == "p232_162.wav, enhanced" and rate == RATE
    np.testing.assert_allclose(enhanced[0], noisy / 2, atol=1e-6)


def test_files_of_one_name_in_subfolders_keep_their_paths(folder):
    for side in ("clean", "noisy"):
        (folder / side / "more").mkdir()
        (folder / f"{side}/p257_152.wav").rename(folder / f"{side}/more/p232_162.wav")
    result = evaluate(Half(), folder / "clean", folder / "noisy", quiet=True)
    expected = {(folder / f"noisy/{name}").as_posix() for name in ("p232_162.wav", "more/p232_162.wav")}
    assert {file.name for file in result.files} == expected


def test_the_page_holds_means_files_and_players(folder, tmp_path):
    result = evaluate(Half(), folder / "clean", folder / "noisy", listen=2, quiet=True)
    report = Report("title")
    result.page(report, tmp_path)
    page = report.html()
    assert page.count("<audio") == 6 and page.count("p257_152.wav") >= 2
    assert all(text in page for text in ("PESQ", "full scale 1", "enhanced"))
    assert "gain" in result.table() and "2 files, 3 s" in result.table()


def test_contrast_stretching_is_applied_to_the_enhanced_side_alone(folder):
    plain, stretched = (
        evaluate(Half(), folder / "clean", folder / "noisy", Options(pcs), quiet=True) for pcs in (False, True)
    )
    clean, noisy = (audio.read(folder / f"{side}/p232_162.wav").samples for side in ("clean", "noisy"))
    wanted = module.values(stretch(noisy / 2, RATE)[0], clean[0])
    assert stretched.files[0].enhanced == pytest.approx(wanted, abs=1e-4)
    assert stretched.files[0].noisy == plain.files[0].noisy


def test_unmatched_and_unreadable_files_are_named_and_counted(folder, capsys):
    audio.write(folder / "clean/alone.wav", noise(0, 0.5).numpy(), RATE)
    scan_pairs(folder / "clean", folder / "noisy", folder / "data.jsonl", quiet=True)
    (folder / "noisy/p257_152.wav").write_bytes(b"broken")
    by_folder = evaluate(Half(), folder / "clean", folder / "noisy", quiet=True)
    said = capsys.readouterr().err
    assert by_folder.unreadable == 2 and "alone.wav: has no noisy partner" in said and "p257_152.wav" in said
    by_manifest = evaluate(Half(), folder / "data.jsonl", quiet=True)
    assert by_manifest.unreadable == 1 and "p257_152.wav" in capsys.readouterr().err
    assert by_folder.files == by_manifest.files and len(by_folder.files) == 1


def test_a_file_that_cannot_be_enhanced_does_not_stop_the_others(folder, capsys):
    audio.write(folder / "noisy/p257_152.wav", np.full((1, 24000), 3e38, np.float32), RATE, "FLOAT")
    model = Half()
    model.enhance = lambda x, level=None: 2 * x
    result = evaluate(model, folder / "clean", folder / "noisy", quiet=True)
    assert result.unreadable == 1 and [file.name for file in result.files] == ["p232_162.wav"]
    assert "p257_152.wav: the model gives NaN or infinity" in capsys.readouterr().err


def test_without_noisy_files_the_arguments_are_explained(folder):
    with pytest.raises(InputError, match="names no noisy partners"):
        evaluate(Half(), folder / "clean", quiet=True)


def test_many_files_are_measured_in_worker_processes_alike(folder, monkeypatch, warm_pools):
    one = evaluate(Half(), folder / "clean", folder / "noisy", quiet=True)
    monkeypatch.setattr(module, "_FEW", 0)
    assert evaluate(Half(), folder / "clean", folder / "noisy", quiet=True).files == one.files


def test_silent_and_short_files_have_no_pesq_and_do_not_count_in_its_mean(folder):
    for name, samples in (("silent", np.zeros((1, RATE), np.float32)), ("short", noise(0, 0.1).numpy())):
        for side in ("clean", "noisy"):
            audio.write(folder / f"{side}/{name}.wav", samples, RATE)
    result = evaluate(Half(), folder / "clean", folder / "noisy", quiet=True)
    plain = result.plain()
    short, silent = (
        next(file for file in plain["per_file"] if file["name"] == f"{name}.wav") for name in ("short", "silent")
    )
    assert short["noisy"]["pesq"] is silent["noisy"]["pesq"] is silent["noisy"]["si_sdr"] is None
    assert plain["files"] == 4 and plain["noisy"]["pesq"] == pytest.approx(
        np.mean([file["noisy"]["pesq"] for file in plain["per_file"] if file["noisy"]["pesq"]]), abs=1e-4
    )


@pytest.mark.parametrize("samples", [1, 200, 450, 700])
def test_clips_of_a_few_samples_have_measures_or_none(samples):
    x = noise(0, 0.1).numpy()[0, :samples]
    assert module.values(x, x).keys() == MEASURES.keys()


def test_without_the_libraries_the_rest_is_measured_and_the_extra_is_named(folder, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in ("pesq", "pystoi") else real(name, *more)
    )
    result = evaluate(Half(), folder / "clean", folder / "noisy", files=1)
    assert result.measures == ["ssnr", "si_sdr"] and len(result.files) == 1
    assert capsys.readouterr().err.count("audio-semamba[metrics]") == 2


def test_the_command_measures_all_files_and_lets_some_be_heard(folder, tmp_path, capsys, monkeypatch):
    for at in range(5):
        for side in ("clean", "noisy"):
            samples = audio.read(folder / f"{side}/p232_162.wav").samples[:, :8000]
            audio.write(tmp_path / f"many/{side}/{at}.wav", samples, RATE)
    monkeypatch.setattr("audio_semamba.model.load", lambda *_: Half())
    many = tmp_path / "many"
    command = [
        "evaluate",
        "default",
        str(many / "clean"),
        str(many / "noisy"),
        "-o",
        str(tmp_path / "report"),
        "--json",
    ]
    assert main([*command, "--listen", "2", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 5
    assert (tmp_path / "report/report.html").read_text().count("<audio") == 6
