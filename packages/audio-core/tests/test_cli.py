"""Every verb on sounds made here, in process; what people and programs see of it."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
from audio_core import __version__, audio, bundle, cli
from audio_core.testing import noise, tone
from torch import nn

SKIPPED = "0 done, 1 skipped, 0 failed; skipped are those whose results exist (--force does them again)"


@pytest.fixture
def sounds(tmp_path):
    """A folder with two good files, one of them deeper, and one that is no audio."""
    folder = tmp_path / "sounds"
    audio.write(folder / "a.wav", tone(440, 1.0, 16000, 2).numpy(), 16000)
    audio.write(folder / "deep/b.flac", noise(1, 0.5, 8000).numpy(), 8000)
    (folder / "broken.wav").write_bytes(b"RIFF\x10\0\0\0WAVEjunk")
    return folder


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_info_tells_all_files_and_goes_on_after_a_bad_one(sounds, capsys):
    code, out, err = run(capsys, "info", sounds, "--json")
    rows = json.loads(out)
    assert code == 2 and [row["frames"] for row in rows] == [16000, 4000]
    assert err.startswith(f"{sounds / 'broken.wav'}: ") and err.count("\n") == 1
    code, out, _ = run(capsys, "info", sounds / "a.wav")
    assert code == 0 and out.splitlines()[0].split() == [
        "file",
        "seconds",
        "rate",
        "channels",
        "frames",
        "container",
        "encoding",
    ]
    assert out.splitlines()[1].split()[1:] == ["1", "16000", "2", "16000", "WAV", "PCM_16"]


def test_convert_resamples_mixes_keeps_folders_and_skips_what_is_done(sounds, tmp_path, capsys):
    out = tmp_path / "out"
    code, printed, err = run(capsys, "convert", sounds, "-o", out, "--rate", 8000, "--channels", 1, "--format", "flac")
    assert code == 2 and printed == "" and "2 done, 0 skipped, 1 failed" in err
    assert audio.info(out / "a.flac")[:3] == (8000, 1, 8000) and audio.info(out / "deep/b.flac")[:3] == (8000, 1, 4000)
    wanted = audio.read(sounds / "a.wav", rate=8000, channels=1).samples
    assert np.abs(audio.read(out / "a.flac").samples - wanted).max() < 2**-15
    assert "0 done, 2 skipped, 1 failed" in run(capsys, "convert", sounds, "-o", out, "--format", "flac")[2]
    assert "2 done, 0 skipped, 1 failed" in run(capsys, "convert", sounds, "-o", out, "--format", "flac", "--force")[2]


def test_convert_keeps_the_depth_of_its_source_or_says_what_is_lost(tmp_path, capsys):
    """24 bits and floats became 16 bits without a word."""
    for name, encoding in (("a.wav", "PCM_24"), ("b.wav", "FLOAT"), ("c.wav", "PCM_16")):
        audio.write(tmp_path / "in" / name, tone().numpy(), 16000, encoding)
    code, _, err = run(capsys, "convert", tmp_path / "in", "-o", tmp_path / "out")
    assert (code, err) == (0, "3 done, 0 skipped, 0 failed\n")
    assert [audio.info(tmp_path / "out" / name).encoding for name in ("a.wav", "b.wav", "c.wav")] == [
        "PCM_24",
        "FLOAT",
        "PCM_16",
    ]
    _, _, err = run(capsys, "convert", tmp_path / "in", "-o", tmp_path / "flac", "--format", "flac")
    assert err.splitlines()[0] == (
        f"{tmp_path / 'in/b.wav'}: FLOAT becomes PCM_24, which cuts off what is beyond full scale"
    )
    assert [audio.info(tmp_path / f"flac/{name}.flac").encoding for name in "abc"] == ["PCM_24", "PCM_24", "PCM_16"]


@pytest.mark.parametrize("extension", ["wav", "opus"])
def test_convert_says_when_a_result_of_other_settings_is_there(extension, sounds, tmp_path, capsys):
    """It counted as done, so that a folder held files of two rates."""
    a, b = sounds / "a.wav", tmp_path / f"b.{extension}"
    assert run(capsys, "convert", a, "-o", b, "--rate", 8000)[0] == 0
    assert run(capsys, "convert", a, "-o", b, "--rate", 8000)[::2] == (0, f"{SKIPPED}\n")
    code, _, err = run(capsys, "convert", a, "-o", b, "--rate", 16000, "--channels", 1)
    line = f"{b}: exists with 8000 Hz and 2 channels, not with 16000 Hz and 1 channels; give --force to redo it"
    assert (code, err.splitlines()[0]) == (2, line) and audio.info(b).rate == 8000
    assert run(capsys, "convert", a, "-o", b, "--rate", 16000, "--force")[0] == 0 and audio.info(b).rate == 16000


def test_convert_mixes_surround_down_and_says_so_once(tmp_path, capsys):
    audio.write(tmp_path / "film.wav", noise(1, 5.0, 48000, 6).numpy(), 48000)
    code, _, err = run(capsys, "convert", tmp_path / "film.wav", "-o", tmp_path / "b.wav", "--channels", 2)
    assert code == 0 and audio.info(tmp_path / "b.wav").channels == 2
    assert err.splitlines()[:-1] == [
        f"{tmp_path / 'film.wav'}: 5.1 (L R C LFE Ls Rs) mixed down to stereo as in ITU-R BS.775, "
        "scaled so that nothing clips"
    ]


def test_folders_are_searched_for_every_name_of_a_format(tmp_path, capsys):
    for name in ("a.aif", "b.oga", "c.aifc"):
        audio.write(tmp_path / "in" / name, tone().numpy(), 16000)
    assert [row["frames"] for row in json.loads(run(capsys, "info", tmp_path / "in", "--json")[1])] == [16000] * 3
    assert run(capsys, "convert", tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.aif", "b.oga", "c.aifc"]


def test_convert_of_one_file_says_what_was_clipped(tmp_path, capsys):
    audio.write(tmp_path / "loud.wav", 3 * tone().numpy(), 16000, "FLOAT")
    code, _, err = run(capsys, "convert", tmp_path / "loud.wav", "-o", tmp_path / "quiet.wav", "--encoding", "PCM_24")
    assert code == 0 and "samples were beyond full scale and cut off" in err
    assert np.abs(audio.read(tmp_path / "quiet.wav").samples).max() <= 1


def test_compare_measures_pairs_and_writes_a_page(sounds, tmp_path, capsys):
    (sounds / "broken.wav").unlink()
    estimates = tmp_path / "estimates"
    for name in ("a.wav", "deep/b.flac"):
        samples, rate = audio.read(sounds / name)
        audio.write(
            estimates / name, samples + 0.01 * noise(5, samples.shape[1] / rate, rate, len(samples)).numpy(), rate
        )
    code, out, err = run(capsys, "compare", sounds, estimates, "-o", tmp_path / "page.html", "--json")
    values = json.loads(out)["a.wav"]
    assert code == 0 and values["SDR"] == pytest.approx(10 * np.log10(0.125 / 1e-6), abs=0.3)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<audio") == 4 and "SI-SDR" in page
    foot = (tmp_path / "page.html").read_text().rpartition("<footer>")[2]
    assert f"audio-core {__version__} · <code>audio-core compare {sounds} {estimates} -o " in foot
    code, _, err = run(capsys, "compare", sounds, estimates, "-o", tmp_path / "page.html")
    assert code == 2 and "exists already; give --force" in err
    audio.write(estimates / "a.wav", tone().numpy(), 16000)
    audio.write(tmp_path / "short.wav", tone(440, 0.01).numpy(), 16000)
    code, _, err = run(capsys, "compare", tmp_path / "short.wav", tmp_path / "short.wav")
    assert code == 2 and "160 samples are too few to compare spectra" in err
    code, _, err = run(capsys, "compare", sounds / "a.wav", estimates / "a.wav")
    assert code == 2 and "1 x 16000 samples at 16000 Hz, but the reference has 2 x 16000" in err


def test_scan_stores_the_level_when_asked(sounds, tmp_path, capsys):
    code, _, _ = run(capsys, "scan", sounds / "a.wav", "-o", tmp_path / "m.jsonl", "--level")
    assert code == 0 and '"peak_db": ' in (tmp_path / "m.jsonl").read_text()


def test_scan_and_pack_report_what_cannot_be_read(sounds, tmp_path, capsys):
    code, out, err = run(capsys, "scan", sounds, "-o", tmp_path / "m.jsonl")
    assert code == 2 and "2 files" in out and "1 unreadable" in out and "broken.wav: " in err
    code, out, _ = run(capsys, "pack", tmp_path / "m.jsonl", "-o", tmp_path / "p.h5", "--rate", 8000)
    assert code == 0 and "2 items; 0 unreadable" in out
    code, _, err = run(capsys, "pack", tmp_path / "m.jsonl", "-o", tmp_path / "p.h5", "--rate", 8000)
    assert code == 2 and "exists already" in err
    code, out, _ = run(capsys, "shard", tmp_path / "m.jsonl", "-o", tmp_path / "tars", "--size", 1)
    assert code == 0 and "2 items in 1 tar files; 0 unreadable" in out
    for verb in (("pack", "--rate", 8000), ("shard",)):
        code, _, err = run(capsys, *verb, sounds, "-o", tmp_path / "x.h5")
        assert code == 2 and f"is a folder; list its files first: audio-core scan {sounds} -o" in err
    (sounds / "a.wav").unlink()
    code, _, err = run(capsys, "pack", tmp_path / "m.jsonl", "-o", tmp_path / "q.h5", "--rate", 8000)
    assert code == 2 and "a.wav" in err and err.count("\n") == 1


class Gain(nn.Module):
    @dataclass(frozen=True)
    class Config:
        width: int = 3

    def __init__(self, config):
        super().__init__()
        self.config, self.scale = config, nn.Linear(config.width, config.width)


def test_describe_shows_a_bundle_without_its_package(tmp_path, capsys):
    card = bundle.card("Gain", "A toy.", "mit", "none", {}, "load()")
    bundle.save(Gain(Gain.Config()), tmp_path / "b", "audio-toy", "1.2.3", card)
    code, out, _ = run(capsys, "describe", tmp_path / "b", "--json")
    head = json.loads(out)
    assert code == 0 and (head["class"], head["config"], head["values"]) == ("Gain", {"width": 3}, 12)
    code, out, _ = run(capsys, "describe", tmp_path / "b")
    assert "config.width  3" in out.replace("      ", "  ").replace("   ", "  ") or "config.width" in out
    code, _, err = run(capsys, "describe", tmp_path / "nothing")
    assert code == 2 and "nothing: there is no such folder" in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["inof"], "audio-core: error: 'inof' is not known here; did you mean info?"),
        ([], "audio-core: error: the following arguments are required: VERB"),
        (["info"], "audio-core info: error: the following arguments are required: INPUT"),
        (["info", "nothing.wav"], "audio-core: error: nothing.wav: no such file or folder"),
        (
            ["convert", "x.wav", "-o", "y", "--rate", "-3"],
            "audio-core convert: error: argument --rate: '-3' is not a positive whole number",
        ),
        (
            ["convert", "x.wav", "-o", "y", "--rate", "0"],
            "audio-core convert: error: argument --rate: '0' is not a positive whole number",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, line, capsys):
    assert run(capsys, *arguments) == (2, "", line + "\n")


def test_faults_of_ours_have_another_exit_code_and_a_traceback_on_request(capsys, monkeypatch):
    monkeypatch.setattr(audio, "info", lambda path: 1 / 0)
    code, _, err = run(capsys, "info", __file__)
    assert (
        code == 1
        and err == "audio-core: error: ZeroDivisionError: division by zero (a fault of ours: -v shows where)\n"
    )
    assert "Traceback" in run(capsys, "info", "-v", __file__)[2]


def test_help_comes_without_torch_numpy_or_accelerate():
    code = (
        "import sys; from audio_core import cli; codes = [cli.main([*verb, '--help']) for verb in ([], ['convert'])]; "
        "heavy = {'torch', 'numpy', 'accelerate', 'soundfile', 'yaml'} & set(sys.modules); "
        "sys.exit(f'{heavy}' if heavy else sum(codes))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "resample to this rate" in result.stdout and "Show length, rate, channels" in result.stdout


def test_a_reader_that_leaves_gets_no_message(sounds):
    command_line = (
        f"{sys.executable} -c 'import sys; from audio_core.cli import main; sys.exit(main())' info {sounds / 'a.wav'}"
    )
    result = subprocess.run(
        f"set -o pipefail; {command_line} | true", shell=True, executable="/bin/bash", capture_output=True
    )
    assert (result.returncode, result.stderr) == (141, b"")  # as of any program: a cut batch is not done


def test_of_several_processes_one_makes_what_is_made_once(sounds, tmp_path, capsys, monkeypatch):
    """All wrote the same manifest, and the slower ones failed since it was there."""
    (sounds / "broken.wav").unlink()
    manifest, page, a = tmp_path / "m.jsonl", tmp_path / "page.html", sounds / "a.wav"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        for words in (("scan", sounds, "-o", manifest), ("info", sounds), ("compare", a, a, "-o", page)):
            code, out, _ = run(capsys, *words)
            assert code == 0 and bool(out) is (rank == 0)
        assert manifest.exists() is page.exists() is (rank == 0)
    monkeypatch.setenv("RANK", "1")
    run(capsys, "convert", sounds, "-o", tmp_path / "out")  # files are shared
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["b.flac"]


# --- nothing is lost or left ---------------------------------------------------------------------------


def test_no_verb_overwrites_what_it_reads(sounds, tmp_path, capsys):
    before = (sounds / "a.wav").read_bytes()
    a = sounds / "a.wav"
    for arguments in (
        ["compare", a, a, "-o", a, "--force"],
        ["scan", a, "-o", a, "--force"],
        ["convert", a, "-o", a, "--force"],
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2 and err.count("\n") == 1 and (sounds / "a.wav").read_bytes() == before
    run(capsys, "scan", a, "-o", tmp_path / "m.jsonl")
    code, _, err = run(capsys, "pack", tmp_path / "m.jsonl", "-o", tmp_path / "m.jsonl", "--rate", 8000, "--force")
    assert code == 2 and "the name must end in .h5 or .hdf5" in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-o", "x.wav", "--format", "flac"], "x.wav: is not a name for --format flac"),
        (["-o", "x.txt"], "x.txt: .txt is no format that can be written"),
        (["-o", "x.wav", "--encoding", "BOGUS"], "WAV is written as PCM_16, PCM_24, FLOAT, not as BOGUS"),
        (["-o", "x.wav", "--rate", "999999999"], "999999999 Hz is no rate of audio"),
    ],
)
def test_convert_refuses_what_cannot_be(arguments, part, sounds, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "convert", sounds / "a.wav", *arguments)
    assert code == 2 and part in err and not list(tmp_path.glob("x.*"))


def test_a_rate_that_no_header_should_claim_does_not_fill_the_memory(tmp_path, capsys):
    audio.write(tmp_path / "slow.wav", tone(1.0, 1.0, 100).numpy(), 10)
    code, _, err = run(capsys, "convert", tmp_path / "slow.wav", "-o", tmp_path / "fast.wav", "--rate", "48000")
    assert code == 2 and "audio at 10 Hz cannot be resampled to 48000 Hz" in err


def test_a_terminated_batch_leaves_no_half_written_file(tmp_path):
    for number in range(3):
        audio.write(tmp_path / f"in/{number}.wav", np.tile(noise(number, 10, 44100).numpy(), 8), 44100)
    code = "import sys; from audio_core.cli import main; sys.exit(main())"
    arguments = ["convert", tmp_path / "in", "-o", tmp_path / "out", "--format", "opus", "--rate", "48000"]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("out/.*.part*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143 and err.endswith("audio-core: error: terminated\n")
    assert not list(tmp_path.glob("out/.*"))


def test_a_damaged_mp3_is_one_line_although_its_decoder_would_say_more(tmp_path):
    audio.write(tmp_path / "a.mp3", tone(440, 3.0, 44100).numpy(), 44100)
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp3").write_text("no audio at all" * 20)
    code = "import sys; from audio_core.cli import main; sys.exit(main())"
    command_line = [sys.executable, "-c", code, "convert", "cut.mp3", "text.mp3", "-o", "out", "--quiet"]
    result = subprocess.run(command_line, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2 and not list((tmp_path / "out").iterdir())
    first, second = result.stderr.splitlines()
    assert first.startswith("cut.mp3: is truncated") and second.startswith("text.mp3: not audio that can be read")


def test_the_package_is_the_command_as_a_module():
    child = subprocess.run([sys.executable, "-m", "audio_core", "--version"], capture_output=True, text=True)
    assert (child.returncode, child.stdout) == (0, f"audio-core {__version__}\n")
