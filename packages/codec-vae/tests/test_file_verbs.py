"""The verbs that work on files, through the command: what they write, say and refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
from audio_codec_vae import PACKAGE, items
from audio_codec_vae.cli import main
from audio_core import audio
from audio_core import latents as stored

from .test_files import recording
from .toys import autoencoder


@pytest.fixture
def bundles(tmp_path) -> Path:
    for name in ("oobleck", "dac"):
        PACKAGE.save(autoencoder(name), tmp_path / name, PACKAGE.card(name, "A toy.", "None."))
    return tmp_path


@pytest.fixture
def verb(bundles, capsys):
    def run(*words: str, model: str = "oobleck") -> tuple[int, str, str]:
        chosen = [] if words[0] == "evaluate" else ["--model", str(bundles / model)]
        code = main([*map(str, words), *chosen, "--device", "cpu"])
        return code, *capsys.readouterr()

    return run


def test_a_song_is_encoded_and_decoded(bundles, verb):
    song = recording(bundles / "song.wav")
    assert verb("encode", song, "-o", bundles / "song.latents")[0] == 0
    assert verb("decode", bundles / "song.latents", "-o", bundles / "back.flac")[0] == 0
    assert audio.info(bundles / "back.flac").frames == 900
    code, _, err = verb("decode", bundles / "song.latents", "-o", bundles / "other.wav", model="dac")
    assert code == 2 and "use that model, or encode the audio again" in err and not (bundles / "other.wav").exists()
    code, _, err = verb("encode", song, "-o", bundles / "song.latents")
    assert code == 2 and "give --force to overwrite it" in err
    code, _, err = verb("encode", song, "--codes", "-o", bundles / "codes.latents")
    assert code == 2 and "--codes: this model has continuous latents and no codes" in err
    assert verb("encode", song, "--codes", "-o", bundles / "codes.latents", model="dac")[0] == 0
    assert stored.load(bundles / "codes.latents").is_codes


def test_a_seed_means_a_draw(bundles, verb):
    song, out, values = recording(bundles / "song.wav"), bundles / "song.latents", {}
    for name, words in (("mean", ()), ("0", ("--sample",)), ("zero", ("--seed", "0")), ("1", ("--seed", "1"))):
        assert verb("encode", song, "-o", out, "--force", *words)[0] == 0
        values[name] = stored.load(out).values
    assert np.array_equal(values["0"], values["zero"])
    assert not any(np.array_equal(values["0"], values[name]) for name in ("mean", "1"))


def test_an_album_is_reconstructed_and_a_wrong_file_in_it_costs_a_line(bundles, verb):
    for name in ("one.wav", "disc/two.wav"):
        recording(bundles / "album" / name)
    (bundles / "album/wrong.wav").write_text("no audio")
    code, _, err = verb("reconstruct", bundles / "album", "-o", bundles / "out")
    assert code == 2 and "2 done, 0 skipped, 1 failed" in err
    assert sorted(path.name for path in (bundles / "out").rglob("*.wav")) == ["one.wav", "two.wav"]
    code, _, err = verb("reconstruct", bundles / "album", "-o", bundles / "out")
    assert "0 done, 2 skipped, 1 failed" in err


@pytest.mark.parametrize("layout", [(), ("--npy",)])
def test_a_folder_is_encoded_for_training_and_can_be_heard(bundles, verb, layout):
    recording(bundles / "songs/one.wav", 1000)
    words = ("preencode", bundles / "songs", "-o", bundles / "latents", "--seconds", "1", "--mask-padding", *layout)
    assert verb(*words)[0] == 0
    first = items.find(bundles / "latents")
    assert len(first) == 2 and sum(items.read_facts(first[1])["padding_mask"]) == 25
    code, _, err = verb(*words)
    assert code == 0 and "0 done, 1 skipped" in err
    assert verb("decode", bundles / "latents", "-o", bundles / "heard")[0] == 0
    assert sorted(audio.info(path).frames for path in (bundles / "heard").rglob("*.wav")) == [200, 800]


def test_a_report_is_written(bundles, verb):
    recording(bundles / "songs/one.wav", 2400)
    code, out, _ = verb("evaluate", bundles / "oobleck", bundles / "songs", "-o", bundles / "report", "--json")
    facts = json.loads(out)
    assert code == 0 and facts == json.loads((bundles / "report/results.json").read_text())
    assert facts["latents"]["kl_bits_per_second"] > 0 and "si_sdr_side" in facts["measures"]
    assert (bundles / "report/report.html").read_text().count("<audio") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("preencode", ".", "-o", "x", "--seconds", "0"), "expected a number from 0.001 on, got '0'"),
        (("preencode", ".", "-o", "x", "--seconds", "nan"), "expected a number from 0.001 on, got 'nan'"),
        (("evaluate", "x", ".", "--files", "0"), "expected a whole number from 1 on, got '0'"),
        (("reconstruct", "song.wav"), "the following arguments are required: -o/--out"),
    ],
)
def test_wrong_arguments_are_one_line(verb, words, message):
    code, _, err = verb(*words)
    assert code == 2 and message in err
