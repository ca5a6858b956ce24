"""Measures equal the stored ones of the original; the ladder, Opus beside it, and the page."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core import audio, metrics
from audio_core.files import InputError
from audio_core.nn.quantize import usage
from audio_core.report import Report
from audio_core.testing import noise, tone
from audio_soundstream.config import TinyStreamConfig
from audio_soundstream.evaluate import evaluate, ogg_payload
from audio_soundstream.model import TinyStream

RATE = 16000


@pytest.fixture
def data(tmp_path):
    for at in range(3):
        sound = 0.2 * tone(300 + 100 * at, 1.0, RATE) + 0.05 * noise(at, 1.0, RATE)
        audio.write(tmp_path / f"data/{at}.wav", sound.numpy(), RATE)
    return tmp_path / "data"


def test_measures_are_those_of_the_original(stored_case):
    case = stored_case("eval_metrics")
    made, wanted = (torch.as_tensor(case.inputs[name]) for name in ("reconstructed", "original"))
    out = {name: float(value) for name, value in case.outputs.items()}
    found = {
        "snr_db": metrics.snr(made, wanted),
        "si_snr_db": metrics.si_sdr(made, wanted, zero_mean=True),
        "spectral_convergence": metrics.spectral_convergence(made, wanted),
        "log_spectral_distance_db": metrics.log_spectral_distance(made, wanted, by_frame=False) / 10,  # it means bels
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(out[name], abs=1e-4), name
    entropy, used = usage(torch.as_tensor(case.inputs["indices"]).long(), 512)
    for layer in range(4):
        assert float(entropy[layer]) == pytest.approx(out[f"codebook.{layer}.entropy"], abs=1e-4)
        assert float(used[layer]) == pytest.approx(out[f"codebook.{layer}.utilization"], abs=1e-6)
        assert 2 ** float(entropy[layer]) == pytest.approx(out[f"codebook.{layer}.perplexity"], rel=1e-4)


def test_a_rung_is_measured_on_what_the_codec_makes(toy, data):
    model = toy("causal")
    result = evaluate(model, [str(data / "0.wav")], [0.5], listen=1)
    wanted = torch.from_numpy(audio.read(data / "0.wav").samples)
    with torch.inference_mode():
        codes = model.codes(wanted[None])
        made = model.decode(model.from_codes(codes[:, :2]))[0, :, : wanted.shape[-1]].clamp(-1, 1)
    (row,) = result.bitrates
    assert row.kbps == 0.5 and row.mean("si_sdr") == pytest.approx(float(metrics.si_sdr(made, wanted)), abs=1e-3)
    assert row.mean("stft") == pytest.approx(float(metrics.log_spectral_distance(made, wanted)), abs=1e-3)
    bits, share = usage(codes, 16)
    assert result.entropy == pytest.approx(bits.tolist()) and result.used == pytest.approx(share.tolist())
    plain = result.plain()
    assert plain["frames"] == 63 and plain["nominal_kbps"] == 1  # of all layers, as the entropy is
    assert plain["entropy_kbps"] == pytest.approx(sum(bits.tolist()) * 62.5 / 1000, abs=1e-3)
    (sounds,) = result.sounds
    assert [label for label, _, _ in sounds] == [
        "0.wav, as recorded",
        "0.5 kbit/s",
        "Opus, 6 kbit/s",
    ]
    np.testing.assert_allclose(sounds[1][1], made.numpy(), atol=1e-5)


def fast(layers: int = 4) -> TinyStream:
    """A codec of random weights with 4, 8, 12 and 16 kbit/s."""
    torch.manual_seed(1)
    model = TinyStream(TinyStreamConfig(4, 16, (4, 2, 2, 2), layers, 256, RATE, causal=True, learning="none"))
    model.quantizer.load_codebooks(0.3 * torch.randn_like(model.quantizer.codebooks))
    return model.eval()


def test_opus_is_measured_at_the_bitrates_that_both_have(toy, data):
    result = evaluate(fast(), [str(data)])
    assert [row.kbps for row in result.bitrates] == [4, 8, 12, 16]
    assert [row.name for row in result.opus] == [f"Opus, {rate} kbit/s" for rate in (8, 12, 16)]
    assert 6 < result.opus[0].kbps < 10 and 12 < result.opus[-1].kbps < 20  # as it really was
    assert result.opus[-1].mean("si_sdr") > 5  # in time with the recording, then
    low = evaluate(toy("soundstream"), [str(data)])  # at 24 kHz, all below what Opus can
    assert [row.kbps for row in low.bitrates] == pytest.approx([0.3, 0.6, 0.9, 1.2])
    assert [row.name for row in low.opus] == ["Opus, 6 kbit/s"] and 4 < low.opus[0].kbps < 9
    assert "Opus" in low.table() and "3 files" in low.table()


@pytest.mark.parametrize(("layers", "lines"), [(4, 2), (2, 1)])
def test_a_curve_has_opus_only_where_both_have_bitrates(data, tmp_path, layers, lines):
    report = Recorder()
    evaluate(fast(layers), [str(data / "0.wav")], listen=0).page(report, tmp_path)
    assert [len(curve) for curve in report.curves] == [lines] * len(report.curves) and report.curves
    assert ("and has no curve" in report.texts) == (lines == 1)


class Recorder(Report):
    """A report that remembers its texts and its curves."""

    def __init__(self):
        super().__init__("A test")
        self.texts, self.curves = "", []

    def text(self, text, *more, **how):
        self.texts += text
        super().text(text, *more, **how)

    def curve(self, title, lines, *more, **how):
        self.curves.append(lines)
        super().curve(title, lines, *more, **how)


def test_the_bytes_of_an_ogg_file_without_what_every_such_file_has(tmp_path):
    sizes = []
    for seconds in (2.0, 4.0):
        audio.write(tmp_path / "x.opus", 0.3 * noise(1, seconds, RATE).numpy(), RATE, bitrate=24)
        data = (tmp_path / "x.opus").read_bytes()
        sizes.append(ogg_payload(data))
        assert 600 < len(data) - sizes[-1] < 2000
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.1) and sizes[0] == pytest.approx(6000, rel=0.25)


def test_speech_measures_come_where_their_libraries_are(toy, data, monkeypatch):
    there = {name for name, library in (("pesq", "pesq"), ("stoi", "pystoi")) if importlib.util.find_spec(library)}
    measured = set(evaluate(toy("causal"), [str(data)], [1], files=1).bitrates[0].values)
    assert measured == {"si_sdr", "snr", "mel", "stft", *there}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert set(evaluate(toy("causal"), [str(data)], [1], files=1).bitrates[0].values) == {
        "si_sdr",
        "snr",
        "mel",
        "stft",
    }


def test_silence_has_no_ratios_and_spoils_no_mean(toy, tmp_path, data):
    audio.write(tmp_path / "silent.wav", np.zeros((1, RATE), np.float32), RATE)
    both = evaluate(toy("causal"), [str(data / "0.wav"), str(tmp_path / "silent.wav")], [1])
    alone = evaluate(toy("causal"), [str(data / "0.wav")], [1])
    assert both.files == 2 and both.bitrates[0].mean("snr") == alone.bitrates[0].mean("snr")
    silent = evaluate(toy("causal"), [str(tmp_path / "silent.wav")], [1])
    assert math.isnan(silent.bitrates[0].mean("si_sdr")) and silent.plain()["bitrates"][0]["si_sdr"] is None


def test_files_are_spread_over_what_was_given(toy, data, run):
    chosen = evaluate(toy("causal"), [str(data)], [1], files=2, listen=9).sounds
    assert [sounds[0][0] for sounds in chosen] == ["0.wav, as recorded", "1.wav, as recorded"]
    assert run("scan", data, "-o", data.parent / "list.jsonl", "--quiet")[0] == 0
    assert evaluate(toy("causal"), [str(data.parent / "list.jsonl")], [1]).files == 3


def test_a_bad_file_is_named_and_left_out(toy, data, capsys):
    (data / "broken.wav").write_bytes(b"RIFF")
    audio.write(data / "one.wav", np.full((1, 1), 0.5, np.float32), RATE)
    result = evaluate(toy("causal"), [str(data)], [1])
    said = capsys.readouterr().err
    assert (result.files, result.unreadable) == (3, 2) and "broken.wav" in said and "one.wav: 1 samples" in said
    with pytest.raises(InputError, match="none of the files could be measured"):
        evaluate(toy("causal"), [str(data / "one.wav")], [1])


def test_the_verb_prints_numbers_and_writes_a_page(bundles, data, run, tmp_path):
    folder = tmp_path / "report"
    page = folder / "report.html"
    code, out, err = run("evaluate", bundles / "causal", data, "--kbps", 0.25, 1, "--json", "-o", folder, "--listen", 1)
    told = json.loads(out)
    assert code == 0 and err == f"wrote {page}\n"
    assert [row["kbps"] for row in told["bitrates"]] == [0.25, 1] and len(told["codebooks"]) == 4
    html = page.read_text()
    assert html.count("<audio") == 4 and "of 16 bits" in html and "PESQ and STOI are for speech" in html
    assert json.loads((folder / "results.json").read_text()) == told
    code, _, err = run("evaluate", bundles / "causal", data, "-o", folder)
    assert code == 2 and "holds a report already" in err and err.count("\n") == 1
    code, out, _ = run("evaluate", bundles / "causal", data, "--kbps", 1, "--force", "-o", folder)
    assert code == 0 and "3 files; codes hold" in out
    (data / "broken.wav").write_bytes(b"RIFF")
    assert run("evaluate", bundles / "causal", data, "--kbps", 1, "--json")[0] == 2


def test_of_several_processes_one_measures(bundles, data, run, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("evaluate", bundles / "causal", data, "-o", tmp_path / "report") == (0, "", "")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--files", 0], "--files: expected a whole number from 1"),
        (["--listen", -1], "--listen: expected a whole number from 0"),
        (["--kbps", "nan"], "nan kbit/s is no bitrate of this codec; possible are 0.25, 0.5, 0.75, 1"),
        (["-o", Path(__file__)], "test_evaluate.py: is a file, and the report needs a folder"),
    ],
)
def test_mistakes_are_named_in_one_line(bundles, data, run, more, said):
    code, out, err = run("evaluate", bundles / "causal", data, *more)
    assert code == 2 and out == "" and said in err and err.count("\n") == 1
