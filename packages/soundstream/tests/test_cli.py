"""The command's verbs on files, in process: what they write, what they skip, and what they say of bad input."""

import json
import subprocess
import sys
from importlib.resources import files as resources

import numpy as np
import pytest
import soundfile
from audio_core import audio
from audio_core.testing import noise, tone

RATE = 16000

EXIST = "; skipped are those whose results exist (--force does them again)\n"


def sound(seconds: float, seed: int = 1) -> np.ndarray:
    return (0.3 * noise(seed, seconds, RATE) + 0.2 * tone(300, seconds, RATE)).numpy()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in: three recordings, one of them in a folder below."""
    for at, name in enumerate(("a.wav", "b.flac", "deep/c.wav")):
        audio.write(tmp_path / "in" / name, sound(0.3 + 0.1 * at, at), RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(bundles):
    return bundles / "causal"


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def one_line(err: str) -> bool:
    return err.count("\n") == 1


# --- encode and decode ---------------------------------------------------------------------------------------------


def test_one_file_goes_there_and_back(place, model, run):
    code, out, err = run("encode", "in/a.wav", "-o", "a.sstr", "--model", model, "--kbps", 0.5)
    assert code == 0 and out == "" and err == "1 done, 0 skipped, 0 failed\n"
    assert run("decode", "a.sstr", "-o", "a.flac", "--model", model, "--quiet") == (0, "", "")
    assert audio.info("a.flac").frames == 4800 and audio.info("a.flac").rate == RATE
    code, _, err = run("decode", "a.sstr", "-o", "a.flac", "--model", model)
    assert code == 2 and "a.flac: exists already; give --force to overwrite it" in err and one_line(err)
    assert run("decode", "a.sstr", "-o", "a.flac", "--model", model, "--force", "--seconds", 0.1)[0] == 0
    assert audio.info("a.flac").frames == 1600


def test_without_a_name_results_lie_beside_their_inputs(place, model, run):
    assert run("encode", "in", "--model", model)[2] == "3 done, 0 skipped, 0 failed\n"
    assert files(place / "in") == ["a.sstr", "a.wav", "b.flac", "b.sstr", "deep/c.sstr", "deep/c.wav"]
    before = (place / "in/a.wav").read_bytes()
    code, _, err = run("decode", "in/a.sstr", "--model", model)
    assert code == 2 and "in/a.wav: exists already; give --force to overwrite it" in err and one_line(err)
    assert run("decode", "in", "--model", model)[2] == f"1 done, 2 skipped, 0 failed{EXIST}"
    assert (place / "in/b.wav").exists() and (place / "in/a.wav").read_bytes() == before


def test_how_much_is_bridged_is_an_option(place, model, run):
    audio.write("in/a.wav", sound(2.5), RATE)  # 157 frames in packets of 32
    assert run("encode", "in/a.wav", "-o", "a.sstr", "--model", model)[0] == 0
    data = (place / "a.sstr").read_bytes()
    packet = 6 + 32 * 4 * 4 // 8
    (place / "a.sstr").write_bytes(data[: 48 + packet] + data[48 + 3 * packet :])
    decode = ["decode", "a.sstr", "-o", "x.wav", "--model", model, "--conceal"]
    code, _, err = run(*decode, "--bridge", 1)
    assert code == 2 and "packets for 1.024 s are missing after packet 1, and at most 1 s are bridged" in err
    assert not (place / "x.wav").exists()
    code, _, err = run(*decode, "--bridge", 1.1)
    assert code == 0 and "2 packets were damaged or lost, and bridged" in err
    assert audio.info("x.wav").frames == 40000
    assert "give both" in run("decode", "a.sstr", "-o", "y.wav", "--model", model, "--bridge", 1)[2]


def test_processes_share_the_files(place, model, run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, names in ((0, ["a.sstr", "deep/c.sstr"]), (1, ["a.sstr", "b.sstr", "deep/c.sstr"])):
        monkeypatch.setenv("RANK", str(rank))
        assert run("encode", "in", "-o", "coded", "--model", model)[0] == 0
        assert files(place / "coded") == names


def test_folders_and_patterns_keep_their_shape_and_what_is_done_is_skipped(place, model, run):
    code, out, err = run("encode", "in", "-o", "coded", "--model", model)
    assert (code, out, err) == (0, "", "3 done, 0 skipped, 0 failed\n")
    assert files(place / "coded") == ["a.sstr", "b.sstr", "deep/c.sstr"]
    (place / "coded/b.sstr").unlink()
    assert run("encode", "in/**/*.flac", "in/a.wav", "-o", "coded", "--model", model)[2].startswith("1 done, 1 skipped")
    assert run("decode", "coded", "-o", "back", "--model", model)[0] == 0
    assert files(place / "back") == ["a.wav", "b.wav", "deep/c.wav"]
    assert run("decode", "coded/*.sstr", "-o", "back", "--model", model)[2].startswith("0 done, 2 skipped")
    assert run("decode", "coded", "-o", "back", "--model", model, "--force")[2].startswith("3 done, 0 skipped")


def test_a_bad_file_costs_a_line_and_the_rest_is_done(place, model, run):
    audio.write("in/a.wav", sound(0.9), RATE)  # two packets
    soundfile.write("in/none.wav", np.zeros((0, 1), np.float32), RATE)
    (place / "in/broken.wav").write_bytes(b"RIFF")
    code, out, err = run("encode", "in", "-o", "coded", "--model", model)
    assert code == 2 and out == "" and err.endswith("3 done, 0 skipped, 2 failed\n") and err.count("\n") == 3
    assert "none.wav" in err and "broken.wav" in err
    assert files(place / "coded") == ["a.sstr", "b.sstr", "deep/c.sstr"]
    (place / "coded/a.sstr").write_bytes((place / "coded/a.sstr").read_bytes()[:-3])
    code, _, err = run("decode", "coded", "-o", "back", "--model", model)
    assert code == 2 and "a.sstr: is truncated" in err and files(place / "back") == ["b.wav", "deep/c.wav"]
    code, _, err = run("decode", "coded", "-o", "back", "--model", model, "--conceal")
    assert code == 0 and "a.sstr: the end is missing" in err and err.endswith(f"1 done, 2 skipped, 0 failed{EXIST}")


def test_nan_is_refused_and_nothing_is_left_behind(place, model, run):
    soundfile.write("nan.wav", np.full(40000, np.nan, np.float32), RATE, subtype="FLOAT")
    code, _, err = run("encode", "nan.wav", "-o", "nan.sstr", "--model", model)
    assert code == 2 and "nan.wav: holds NaN or infinity at sample 0" in err
    assert files(place) == ["in/a.wav", "in/b.flac", "in/deep/c.wav", "nan.wav"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encode", "in/a.wav", "-o", "in/a.wav", "--force"], "the name must end in .sstr"),
        (["encode", "in/a.wav", "-o", "b.mp3"], "the name must end in .sstr"),
        (["encode", "in", "-o", "all.sstr"], "is one file, but there are 3 inputs"),
        (["encode", "nowhere.wav", "-o", "x.sstr"], "nowhere.wav: no such file"),
        (
            ["encode", "in/a.wav", "-o", "x.sstr", "--kbps", "3"],
            "no bitrate of this codec; possible are 0.25, 0.5, 0.7",
        ),
        (["encode", "in/a.wav", "-o", "x.sstr", "--kbps", "nan"], "nan kbit/s is no bitrate"),
        (["encode", "in/a.wav", "-o", "x.sstr", "--entropy"], "does not know how often its codes occur"),
        (["decode", "in", "-o", "x"], "in: holds no .sstr files"),
        (["decode", "in/a.wav", "-o", "x.wav"], "is a WAV file, where a .sstr stream was expected"),
        (["decode", "in/a.wav", "-o", "in/a.wav", "--force"], "would overwrite the input"),
        (["decode", "in/a.wav", "-o", "x.sstr"], "the name must end in .wav"),
        (["decode", "in/a.wav", "-o", "x.wav", "--seconds", "0"], "--seconds 0"),
        (["decode", "in/a.wav", "-o", "x.wav", "--start", "-1"], "expected a number from 0"),
        (["decode", "in/a.wav", "-o", "x.wav", "--start", "nan"], "expected a number from 0"),
        (["reconstruct", "in/a.wav", "-o", "in/a.wav", "--force"], "would overwrite the input"),
        (["reconstruct", "in/b.flac", "-o", "x.sstr"], "the name must end in .wav"),
        (["reconstruct", "in", "-o", "x.wav", "--kbps", "0.5", "1"], "but 2 bitrates were asked for; give a folder"),
        (["transmit", "in/a.wav", "-o", "x.wav", "--loss", "1.5"], "--loss: expected a number from 0 to 1"),
        (["transmit", "in/a.wav", "-o", "x.wav", "--loss", "0.9"], "cannot be lost in bursts of 1.5"),
        (["transmit", "in/a.wav", "-o", "x.wav", "--burst", "0"], "--burst: expected a number from 1"),
        (["transmit", "in/a.wav", "-o", "x.wav", "--burst", "nan"], "--burst: expected a number from 1"),
        (["transmit", "in/a.wav", "-o", "x.wav", "--frames", "256"], "--frames: expected a whole number from 1 to 255"),
        (["transmit", "in/a.wav", "-o", "x.wav", "--seed", "-1"], "--seed: expected a whole number from 0"),
        (["transmit", "in/a.wav", "-o", "x.txt"], "the name must end in .wav or"),
        (["transmit", "in/a.wav", "-o", "in/a.wav", "--force"], "would overwrite an input"),
    ],
)
def test_mistakes_are_named_in_one_line(place, model, run, arguments, said):
    before = files(place)
    code, out, err = run(*arguments, "--model", model)
    lines = [line for line in err.splitlines() if not line.endswith("failed")]
    assert code == 2 and out == "" and said in lines[-1] and len(lines) == 1
    assert files(place) == before


def test_models_that_are_none(place, bundles, run):
    (place / "run/bundle").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (place / "run/bundle" / name).write_bytes((bundles / "causal" / name).read_bytes())
    (place / "run/recipe.yaml").write_text("steps: 1\n")
    encode = ["encode", "in/a.wav", "-o", "x.sstr", "--model"]
    code, _, err = run(*encode, "run")
    assert code == 0  # a run's folder stands for the bundle inside
    (place / "x.sstr").unlink()
    head = json.loads((place / "run/bundle/config.json").read_text())
    for name, value in (("layers", 10**12), ("size", 2**40), ("channels", -1), ("strides", [1] * 9), ("rate", "x")):
        hostile = {**head, "config": {**head["config"], name: value}}
        (place / "run/bundle/config.json").write_text(json.dumps(hostile))
        code, _, err = run(*encode, "run/bundle")
        assert code == 2 and one_line(err) and "run/bundle/" in err, err
    code, _, err = run(*encode, "nowhere")
    assert code == 2 and "nowhere" in err and one_line(err)


def test_a_stream_is_for_its_model_only(place, bundles, run):
    assert run("encode", "in/a.wav", "-o", "a.sstr", "--model", bundles / "causal")[0] == 0
    code, _, err = run("decode", "a.sstr", "-o", "x.wav", "--model", bundles / "tinystream", "--quiet")
    assert code == 2 and "a.sstr: was made by another model" in err and one_line(err)
    code, _, err = run("decode", "a.sstr", "-o", "x.wav", "--model", bundles / "soundstream", "--quiet")
    assert code == 2 and "a.sstr: was made by another codec" in err and one_line(err)
    assert not (place / "x.wav").exists()


# --- reconstruct and transmit ------------------------------------------------------------------------------------


def test_a_ladder_has_a_folder_for_each_bitrate(place, model, run):
    audio.write("in/stereo.wav", np.repeat(sound(0.2), 2, 0), 44100)
    (place / "in/broken.wav").write_bytes(b"RIFF")
    arguments = ["reconstruct", "in", "-o", "out", "--model", model]
    code, out, err = run(*arguments, "--kbps", 1, 0.25, 0.25)
    assert code == 2 and out == "" and err.count("broken.wav") == 1 == err.count("mixed to one")
    names = ["a.wav", "b.wav", "deep/c.wav", "stereo.wav"]
    assert files(place / "out") == [f"{rate}kbps/{name}" for rate in ("0.25", "1") for name in names]
    (place / "in/broken.wav").unlink()
    assert run(*arguments, "--kbps", 0.25, 1)[2] == f"0 done, 4 skipped, 0 failed{EXIST}"
    code, _, err = run(*arguments, "--kbps", 0.25, 0.5, 1)  # only what is missing
    assert code == 0 and err.endswith("4 done, 0 skipped, 0 failed\n") and len(files(place / "out")) == 12
    low, high = (audio.read(f"out/{rate}kbps/a.wav").samples for rate in (0.25, 1))
    assert low.shape == high.shape and not np.array_equal(low, high)
    assert run("encode", "in/a.wav", "-o", "a.sstr", "--model", model, "--kbps", 0.25)[0] == 0
    assert run("decode", "a.sstr", "-o", "a.wav", "--model", model)[0] == 0
    np.testing.assert_allclose(audio.read("a.wav").samples, low, atol=1.1 / 2**15)


def test_one_bitrate_of_one_file_is_one_file(place, model, run):
    assert run("reconstruct", "in/b.flac", "-o", "x.flac", "--model", model)[0] == 0
    assert audio.info("x.flac").frames == 6400
    code, _, err = run("reconstruct", "in/b.flac", "-o", "x.flac", "--model", model)
    assert code == 2 and "exists already" in err


def test_a_network_without_loss_changes_nothing_and_one_with_loss_is_reported(place, model, run):
    audio.write("long.wav", sound(2.0), RATE)
    code, out, err = run("transmit", "long.wav", "-o", "x.wav", "--model", model, "--loss", 0, "--json")
    facts = json.loads(out)
    assert code == 0 and err == "wrote x.wav\n" and facts["lost"] == 0
    assert facts["si_sdr"] == pytest.approx(facts["si_sdr_without_loss"], abs=0.01) == facts["si_sdr_silent_gaps"]
    assert facts["kbps"] == 1 and facts["kbps_with_packet_heads"] > 2
    more = ["--loss", 0.3, "--burst", 3, "--seed", 1, "--frames", 2, "--kbps", 0.5]
    code, out, err = run("transmit", "long.wav", "-o", "x.wav", "--model", model, "--json", "--force", *more)
    lossy = json.loads(out)
    assert code == 0 and 0 < lossy["lost"] < lossy["packets"] == 63 and lossy["kbps"] == 0.5
    assert audio.info("x.wav").frames == 32000
    code, _, err = run("transmit", "long.wav", "-o", "x.wav", "--model", model)
    assert code == 2 and "exists already" in err


def test_silence_is_sent_too(place, model, run):
    audio.write("silent.wav", np.zeros((2, 9000), np.float32), 48000)
    code, out, err = run("transmit", "silent.wav", "-o", "x.wav", "--model", model, "--json")
    assert code == 0 and json.loads(out)["si_sdr"] is None and "2 channels mixed to one" in err
    assert "silence has none" in run("transmit", "silent.wav", "-o", "x.wav", "--model", model, "--force")[1]


# --- streams as they are -----------------------------------------------------------------------------------------


def test_info_tells_what_is_in_a_file_and_what_is_wrong(place, model, run):
    assert run("encode", "in", "-o", "coded", "--model", model, "--quiet")[0] == 0
    code, out, err = run("info", "coded/a.sstr", "coded/b.sstr", "--json")
    facts = json.loads(out)
    assert code == 0 and err == "" and [row["samples"] for row in facts] == [4800, 6400]
    assert facts[0]["nominal_kbps"] == 1 and not facts[0]["truncated"]
    data = (place / "coded/a.sstr").read_bytes()
    (place / "coded/a.sstr").write_bytes(data[:-1])
    code, out, err = run("info", "coded/a.sstr", "in/a.wav", "coded/b.sstr", "--json")
    assert code == 2 and one_line(err) and "in/a.wav" in err and [row["truncated"] for row in json.loads(out)] == [1, 0]
    code, out, _ = run("info", "in/a.wav", "--json")
    assert code == 2 and json.loads(out) == []


def test_cut_leaves_what_a_lower_bitrate_would_have_been(place, model, run):
    for name, more in (("all", []), ("half", ["--kbps", 0.5])):
        assert run("encode", "in/a.wav", "-o", f"{name}.sstr", "--model", model, *more)[0] == 0
    assert run("cut", "all.sstr", "-o", "cut.sstr", "--kbps", 0.5) == (0, "", "wrote cut.sstr\n")
    assert (place / "cut.sstr").read_bytes() == (place / "half.sstr").read_bytes()
    for rate in (0.3, 2, "nan", "inf", -1):
        code, _, err = run("cut", "all.sstr", "-o", "x.sstr", "--kbps", rate)
        assert code == 2 and "no bitrate of all.sstr; possible are 0.25, 0.5, 0.75, 1" in err and one_line(err)
    code, _, err = run("cut", "all.sstr", "-o", "all.sstr", "--kbps", 0.5, "--force")
    assert code == 2 and "would overwrite an input" in err
    code, _, err = run("cut", "in/a.wav", "-o", "x.sstr", "--kbps", 0.5)
    assert code == 2 and "is a WAV file" in err
    code, _, err = run("cut", "none.sstr", "-o", "x.sstr", "--kbps", 0.5)
    assert code == 2 and "none.sstr: No such file" in err
    (place / "all.sstr").write_bytes((place / "all.sstr").read_bytes()[:-1])
    code, _, err = run("cut", "all.sstr", "-o", "x.sstr", "--kbps", 0.5)
    assert code == 2 and "is truncated" in err and not (place / "x.sstr").exists()


# --- recipes and models ------------------------------------------------------------------------------------------


def test_describe_takes_bundles_recipes_and_files_of_recipes(place, model, run):
    told = json.loads(run("describe", model, "--json")[1])
    assert told["kbps"] == [0.25, 0.5, 0.75, 1.0] and told["latency_samples"] == 255
    told = json.loads(run("describe", "soundstream-original", "--json")[1])
    assert told["rate"] == 24000 and told["latency_samples"] == 181
    text = (resources("audio_soundstream") / "recipes/tinystream-tiny.yaml").read_text(encoding="utf-8")
    (place / "deep").mkdir()
    (place / "deep/mine.yaml").write_text(text)
    code, out, err = run("describe", "deep/mine.yaml", "--json")
    assert code == 0, err
    assert json.loads(out) == json.loads(run("describe", "tinystream-tiny", "--json")[1])
    code, _, err = run("describe", model, "model.rate=8000")
    assert code == 2 and "is a bundle, which has no settings to change" in err
    code, _, err = run("describe", "tinystream-tinny")
    assert code == 2 and "did you mean tinystream-tiny?" in err


def test_recipes_scan_and_convert(place, model, run):
    names = {"soundstream", "soundstream-original", "tinystream-medium", "tinystream-medium-causal"}
    assert names <= set(json.loads(run("recipes", "--json")[1]))
    code, out, _ = run("scan", "in", "-o", "list.jsonl", "--quiet")
    assert (
        code == 0
        and out.startswith("list.jsonl: 3 files")
        and len((place / "list.jsonl").read_text().splitlines()) == 3
    )
    assert "exists already" in run("scan", "in", "-o", "list.jsonl")[2]
    code, _, err = run("convert", "none.pt", "-o", "x")
    assert code == 2 and "none.pt" in err and one_line(err)
    code, _, err = run("convert", "in/a.wav", "-o", "x")
    assert code == 2 and "is not a checkpoint but audio" in err and not (place / "x").exists()


def test_export_of_what_is_no_run(place, model, run):
    code, _, err = run("export", model, "-o", "x")
    assert code == 2 and "holds no training run (no recipe.yaml)" in err and one_line(err)
    code, _, err = run("export", model, "--format", "onnx", "--best", "-o", "x.onnx")
    assert code == 2 and "--best chooses between the weights of a run" in err
    code, _, err = run("export", model, "--format", "c", "--calibrate", "in", "-o", "x")
    assert code == 2 and "--calibrate sets the scales of integers" in err


def test_help_comes_without_torch():
    code = """
import sys
from audio_soundstream import cli
verbs = ["train", "evaluate", "encode", "decode", "reconstruct", "transmit", "info", "cut", "export", "convert"]
codes = [cli.main([*verb, "--help"]) for verb in ([], *([verb] for verb in [*verbs, "describe", "recipes", "scan"]))]
sys.exit("torch" in sys.modules or sum(codes))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and "data.root" in result.stdout, result.stderr
    for line in result.stdout.splitlines():
        assert len(line) <= 120, line
