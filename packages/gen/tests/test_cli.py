"""The command as users meet it: its verbs, its files, and one line for every mistake."""

import json

import numpy as np
import pytest
import soundfile as sf
from audio_core import audio
from audio_gen import PACKAGE, cli

from . import toys

QUICK = ("--steps", 2, "--cfg", 2)


@pytest.fixture(autouse=True)
def toy_codec(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: toys.ToyCodec)


@pytest.fixture
def run(capsys):
    """The command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "toy"
    PACKAGE.save(toys.model(inpaints=True), folder, "# A toy")
    return folder


@pytest.fixture
def sound(tmp_path):
    rng = np.random.default_rng(0)
    samples = (0.2 * rng.standard_normal((2, 800))).astype(np.float32)
    audio.write(tmp_path / "in.wav", samples, 1600)
    return tmp_path / "in.wav"


# --- generate --------------------------------------------------------------------------------------------------


def test_prompts_become_files_that_are_named_after_them(run, bundle, tmp_path):
    line = ("generate", "Rain on a tin roof!", "дождь", "🌧️", "--model", bundle, "-o", tmp_path / "out", "--seed", 7)
    code, out, err = run(*line, "--seconds", 0.3, "--json", *QUICK)
    assert code == 0, err
    rows = [json.loads(row) for row in out.splitlines()]
    names = ["rain-on-a-tin-roof.wav", "дождь.wav", "audio-422d1082.wav"]
    assert [row["file"] for row in rows] == [str(tmp_path / "out" / name) for name in names]
    assert [row["seed"] for row in rows] == [7, 8, 9] and rows[0]["prompt"] == "Rain on a tin roof!"
    assert audio.info(tmp_path / "out" / names[0]).frames == 240
    before = [(tmp_path / "out" / name).read_bytes() for name in names]
    (tmp_path / "out" / names[1]).unlink()
    code, out, err = run(*line, "--seconds", 0.3, *QUICK)
    assert code == 0 and out.splitlines() == [str(tmp_path / "out" / names[1])] and "1 done, 2 skipped" in err
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == before


def test_a_random_seed_is_told_and_gives_the_same_again(run, bundle, tmp_path):
    code, _, err = run("generate", "rain", "--model", bundle, "-o", tmp_path / "a.wav", *QUICK)
    seed = err.split("seed ")[1].split()[0]
    assert code == 0
    run("generate", "rain", "--model", bundle, "-o", tmp_path / "b.wav", "--seed", seed, *QUICK)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_lists_of_prompts(run, bundle, tmp_path):
    (tmp_path / "list.txt").write_text("rain\n\n a dog \n")
    head, rows = "prompt,seconds,seed,name,negative", ("rain,0.2,5,first,", "a dog,,,,wind")
    (tmp_path / "table.csv").write_text("\n".join([head, *rows]) + "\n")
    line = ("generate", tmp_path / "list.txt", tmp_path / "table.csv", "--count", 2, "--model", bundle, "--seed", 1)
    code, out, err = run(*line, "-o", tmp_path / "out", "--json", *QUICK)
    assert code == 0, err
    rows = [json.loads(row) for row in out.splitlines()]
    names = [row["file"].rsplit("/")[-1] for row in rows]
    assert names == [
        *("rain.wav", "rain-2.wav", "a-dog.wav", "a-dog-2.wav"),
        *("first.wav", "first-2.wav", "a-dog-3.wav", "a-dog-4.wav"),
    ]
    assert [row["seconds"] for row in rows] == [0.5] * 4 + [0.2] * 2 + [0.5] * 2
    assert [row["seed"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (tmp_path / "out/first.wav").read_bytes() != (tmp_path / "out/first-2.wav").read_bytes()


def test_a_table_of_a_training_is_a_list_of_prompts(run, bundle, tmp_path):
    (tmp_path / "table.csv").write_text("file,prompt\nin.wav,rain\n")
    line = ("generate", tmp_path / "table.csv", "--model", bundle, "-o", tmp_path / "out", "--seed", 1, "--json")
    code, out, err = run(*line, *QUICK)
    assert code == 0 and json.loads(out)["file"] == str(tmp_path / "out/rain.wav"), err


def test_a_column_that_is_nearly_another_is_refused_and_seeds_of_all_rows_need_no_other(run, bundle, tmp_path):
    line = ("generate", tmp_path / "table.csv", "--model", bundle, "-o", tmp_path / "out", *QUICK)
    (tmp_path / "table.csv").write_text("prompt,seeds\nrain,4\n")
    code, _, err = run(*line)
    assert code == 2 and "table.csv: unknown column seeds; did you mean seed?" in err
    (tmp_path / "table.csv").write_text("prompt,seed\nrain,4\n")
    code, _, err = run(*line)
    assert code == 0 and "seed " not in err, err


def test_what_is_cut_of_a_prompt_is_told(run, bundle, tmp_path):
    line = ("--model", bundle, "-o", tmp_path / "out", "--seed", 1, *QUICK)
    code, _, err = run("generate", "x" * 10_000, "rain", *line)
    assert code == 0 and err.count("only the first 23 bytes count") == 1
    code, _, err = run("generate", "y" * 10_000, "--quiet", *line)
    assert code == 0 and not err


def test_names_of_results_never_meet(run, bundle, tmp_path):
    code, out, err = run("generate", "a", "a", "a 2", "--model", bundle, "-o", tmp_path, "--seed", 1, *QUICK)
    assert code == 0 and [line.rsplit("/")[-1] for line in out.splitlines()] == ["a.wav", "a-2.wav", "a-2-2.wav"], err


def test_numbers_of_conditioners_come_from_tables(run, bundle, tmp_path):
    (tmp_path / "table.csv").write_text('prompt,seconds_total\n"rain\nand wind",2\n')
    code, out, err = run("generate", tmp_path / "table.csv", "--model", bundle, "-o", tmp_path, "--json", *QUICK)
    assert code == 0 and json.loads(out)["prompt"] == "rain\nand wind", err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rain", "--seconds", "0.6"), "seconds: this model generates up to 0.5 s, got 0.6"),
        (("rain", "--seconds", "0"), "seconds: expected a length above 0, got 0"),
        (("rain", "--seconds", "x"), "expected a number, got 'x'"),
        (("rain", "--count", "0"), "--count: expected a number from 1 on, got 0"),
        (("rain", "--seed", "-3"), "seed: expected a number from 0 on, or -1"),
        (("rain", "--temperature", "1"), "temperature: a model of objective rectified_flow has no such setting"),
        (("rain", "--cfg", "1", "--negative", "wind"), "negative: needs guidance"),
        (("rain", "--set", "loud"), "--set: expected KEY=VALUE, got 'loud'"),
        (("rain", "--set", "loud=1"), "--set: the model has no condition 'loud'; it has prompt, seconds_total"),
        (("rain", "--adapter", "{head}:abc"), "head.csv: the strength behind the colon must be a number, got 'abc'"),
        (("missing.csv",), "missing.csv: No such file"),
        (("Missing.TXT",), "Missing.TXT: No such file"),
        (("rain", "--sampler", "eular"), "'eular' is none; did you mean euler?"),
        (("rain", "--sampler", "v-ddim"), "sampler: 'v-ddim' is none of a model of objective rectified_flow"),
        (("{empty}",), "empty.txt: holds no prompts, one in a line"),
        (("{head}",), "head.csv: needs a column `prompt`; it has text"),
        (("{number}",), "number.csv: row 1: seconds: expected a number, got 'long'"),
        (("{cells}",), "cells.csv: row 1 has not as many cells as the head"),
        (("rain", "dog", "-o", "one.wav"), "one.wav: is one file, but 2 results are wanted; give a folder"),
        (("rain", "-o", "one.xyz/"), ""),
    ],
)
def test_mistakes_of_generate_are_one_line(run, bundle, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "head.csv").write_text("text\nrain\n")
    (tmp_path / "number.csv").write_text("prompt,seconds\nrain,long\n")
    (tmp_path / "cells.csv").write_text("prompt,seconds\nrain\n")
    files = {name: tmp_path / f"{name}.txt" for name in ("empty",)} | {
        name: tmp_path / f"{name}.csv" for name in ("head", "number", "cells")
    }
    words = [word.format(**files) for word in arguments]
    code, out, err = run("generate", *words, "--model", bundle, "--quiet", "--steps", 1)
    if not message:
        assert code == 0
        return
    assert code == 2 and not out and message in err and err.count("\n") <= 2, err


# --- recordings ------------------------------------------------------------------------------------------------


def test_a_recording_is_inpainted_at_its_own_rate_and_bits(run, bundle, sound, tmp_path):
    line = ("inpaint", sound, "--keep", "0:0.1", "0.3:9", "--prompt", "rain", "--model", bundle, "--seed", 1)
    code, out, err = run(*line, "-o", tmp_path / "out.wav", "--json", *QUICK)
    assert code == 0, err
    assert json.loads(out) == {"prompt": "rain", "file": str(tmp_path / "out.wav"), "seed": 1, "seconds": 0.5}
    before, after = audio.read(sound), audio.read(tmp_path / "out.wav")
    assert after.rate == 1600 and after.samples.shape == before.samples.shape
    kept = np.r_[0:160, 480:800]
    assert np.array_equal(after.samples[:, kept], before.samples[:, kept])
    assert not np.allclose(after.samples[:, 200:400], before.samples[:, 200:400], atol=0.02)


def test_a_recording_is_continued_and_varied(run, bundle, sound, tmp_path):
    code, _, err = run("continue", sound, "--seconds", 1, "--model", bundle, "-o", tmp_path / "longer.wav", *QUICK)
    assert code == 0 and "seed " in err
    longer = audio.read(tmp_path / "longer.wav").samples
    assert longer.shape == (2, 2400) and np.array_equal(longer[:, :800], audio.read(sound).samples)
    code, _, err = run("vary", sound, "--strength", 0.4, "--model", bundle, "-o", tmp_path / "other.wav", *QUICK)
    assert code == 0 and audio.read(tmp_path / "other.wav").samples.shape == (2, 800)


def test_the_rest_of_a_batch_is_done(run, bundle, sound, tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "many/good.wav").write_bytes(sound.read_bytes())
    (tmp_path / "many/damaged.wav").write_bytes(b"RIFF")
    sf.write(tmp_path / "many/nan.wav", np.full(100, np.nan, np.float32), 800, "FLOAT")
    line = ("vary", tmp_path / "many", "--model", bundle, "-o", tmp_path / "out", *QUICK)
    code, out, err = run(*line)
    assert code == 2 and out.splitlines() == [str(tmp_path / "out/good.wav")]
    assert "damaged.wav" in err and "nan.wav" in err and "1 done, 0 skipped, 2 failed" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]


@pytest.mark.parametrize("keep", ["0-4", "a:b", "1", "3:2", "0:inf"])
def test_regions_that_cannot_be_read(run, bundle, sound, tmp_path, keep):
    code, _, err = run("inpaint", sound, "--keep", keep, "--model", bundle, "-o", tmp_path / "out.wav")
    assert code == 2 and "expected " in err and f"got {keep!r}" in err


def test_no_recording_is_overwritten(run, bundle, sound, tmp_path):
    before = sound.read_bytes()
    code, _, err = run("vary", sound, "--model", bundle, "-o", sound, "--force", *QUICK)
    assert code == 2 and "would overwrite the input" in err and sound.read_bytes() == before
