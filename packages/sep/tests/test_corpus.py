"""Where recordings come from: packs, songs, folders, manifests; and which of them are held out."""

import os

import numpy as np
import pytest
from audio_core import audio, config
from audio_core.data.manifest import scan
from audio_core.files import InputError
from audio_sep.data.corpus import corpora, same_songs
from audio_sep.data.pack import pack
from audio_sep.recipe import Data

from .songs import RATE, sound, write_song


@pytest.fixture
def folder(tmp_path):
    """Three songs with stems, the same as packs, and a folder of speech."""
    for at in range(3):
        write_song(tmp_path / f"songs/song{at}", at)
        audio.write(tmp_path / f"speech/p{at}/a.wav", sound(70 + at, 3000, 1), RATE, "FLOAT")
    pack("songs", tmp_path / "songs", tmp_path / "packs", RATE, quiet=True)
    return tmp_path


def find(folder, **settings):
    return corpora(config.build(Data, settings), folder / "headers.jsonl")


def whole(stem):
    return stem.read(0, stem.frames)


def test_packs_and_songs_give_the_same_sources(folder):
    packed, plain = (find(folder, packs=str(folder / name))[0] for name in ("packs", "songs"))
    for corpus in (packed, plain):
        assert [len(stems) for stems in corpus.values()] == [3, 3] and same_songs(corpus)
    for source in ("vocals", "accompaniment"):  # of songs the accompaniment is added up as it is read
        for one, two in zip(packed[source], plain[source], strict=True):
            assert (one.rate, one.channels, one.frames) == (two.rate, two.channels, two.frames)
            assert np.abs(whole(one) - whole(two)).max() < 2 / 32767
            assert np.abs(one.read(300, 50) - two.read(300, 50)).max() < 2 / 32767


def test_a_source_has_several_places(folder, capsys):
    scan(folder / "speech/p0", folder / "p0.jsonl", progress=False)
    voice = [f"{folder}/songs:vocals", str(folder / "speech"), str(folder / "p0.jsonl")]
    music = [f"{folder}/songs:bass+drums", f"{folder}/packs:other"]
    corpus, held = find(folder, inputs=["voice", "music"], sources={"voice": voice, "music": music})
    assert [len(stems) for stems in corpus.values()] == [7, 6] and not any(held.values())
    summed = corpus["music"][0]
    bass, drums = (audio.read(folder / f"songs/song0/{stem}.wav").samples for stem in ("bass", "drums"))
    assert np.abs(whole(summed) - bass - drums).max() < 1e-6
    assert summed.name.endswith("drums.wav") and " + " in summed.name
    (folder / "songs/song1/bass.wav").unlink()
    assert len(find(folder, inputs=["voice", "music"], sources={"voice": voice, "music": music})[0]["music"]) == 5
    assert "1 of 3 songs have no bass+drums" in capsys.readouterr().err


def test_held_out_songs_are_validated_on_and_not_trained_on(folder):
    train, held = find(folder, packs=str(folder / "packs"), held_out=["song1"])
    assert [[stem.path.stem for stem in stems] for stems in train.values()] == [["song0", "song2"]] * 2
    assert [[stem.path.stem for stem in stems] for stems in held.values()] == [["song1"]] * 2
    _, held = find(folder, packs=str(folder / "packs"), held_out=["song1"], valid=str(folder / "songs"))
    assert [len(stems) for stems in held.values()] == [4, 4]
    sources = {"vocals": [str(folder / "speech")]}
    train, held = find(folder, packs=str(folder / "packs"), valid=str(folder / "packs"), valid_sources=sources)
    assert [len(stems) for stems in held.values()] == [3, 3] and not same_songs(held)


def test_a_pack_that_is_cut_short_is_left_out_and_named(folder, capsys):
    path = folder / "packs/song1.h5"
    os.truncate(path, path.stat().st_size - 1000)
    corpus, _ = find(folder, packs=str(folder / "packs"))
    assert len(corpus["vocals"]) == 2
    assert capsys.readouterr().err.count("left out: ") == 1  # once, though two sources are read
    for name in ("song0", "song2"):
        (folder / f"packs/{name}.h5").write_bytes(b"")
    with pytest.raises(InputError, match="packs: holds no packs that can be read"):
        find(folder, packs=str(folder / "packs"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "data.packs or data.sources: no place has recordings of vocals"),
        ({"packs": "FOLDER/none"}, "none: is no folder, no .jsonl that `scan` wrote and no pack"),
        ({"packs": "FOLDER/packs", "inputs": ["vocals", "piano"]}, "packs: holds no piano"),
        ({"packs": "FOLDER/packs", "held_out": ["x"]}, "no song of the training data begins with x"),
        ({"packs": "FOLDER/packs", "held_out": ["song"]}, "leaves no recording of vocals to train on"),
        ({"packs": "FOLDER/packs", "sources": {"vocals": ["FOLDER/speech"]}, "remix": False}, "not of the same songs"),
        (
            {"packs": "FOLDER/packs", "valid_sources": {"vocals": ["FOLDER/speech"]}},
            "valid_sources: no place has recordings",
        ),
    ],
)
def test_wrong_places_are_explained_in_one_line(folder, settings, message):
    def placed(value):
        if isinstance(value, dict):
            return {key: placed(each) for key, each in value.items()}
        return (
            [placed(each) for each in value] if isinstance(value, list) else str(value).replace("FOLDER", str(folder))
        )

    settings = {key: value if isinstance(value, bool) else placed(value) for key, value in settings.items()}
    with pytest.raises(InputError, match=message) as caught:
        find(folder, **settings)
    assert "\n" not in str(caught.value)
