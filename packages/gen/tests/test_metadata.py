"""What describes items: files beside them, tables, prompts, and items that are rejected."""

import json

import pytest
from audio_core.testing import refused
from audio_gen.data.corpus import Corpus
from audio_gen.data.facts import cropped
from audio_gen.data.metadata import Table
from audio_gen.recipe.data import Data

from .data_toys import Toy, ramp, save, tone


def corpus(root, **settings):
    return Corpus(Data(root=root, **{"held_out": 0, **settings}), Toy(), root.parent / "run")


def facts(root, **settings):
    """By the stem of each item."""
    found = corpus(root, **settings)
    source = found.training(0)
    samples = [source[index] for index in range(len(found))]
    return {sample.facts["relpath"].rpartition(".")[0]: sample.facts for sample in samples}


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"in/{name}.safetensors", ramp(4, 9), prompt=f"own {name}", bpm=90)
    return tmp_path / "in"


def test_the_nearer_the_more_it_counts(root, tmp_path):
    (root / "b.txt").write_text("a text of b\n")
    (root / "c.txt").write_text("a text of c\n")
    (root / "c.json").write_text('{"prompt": "the object of c", "key": "d minor"}')
    found = facts(root)
    assert [found[name]["prompt"] for name in "abc"] == ["own a", "a text of b", "the object of c"]
    assert found["c"]["key"] == "d minor"
    assert found["c"]["bpm"] == 90
    table = tmp_path / "table.csv"
    table.write_text("file,prompt\na,one\nb.safetensors,two\nc.wav,three\n")
    found = facts(root, metadata=table)
    assert [found[name]["prompt"] for name in "abc"] == ["one", "two", "three"]
    assert found["c"]["key"] == "d minor"


def test_a_text_is_a_prompt_where_there_is_no_other(root):
    (root / "a.json").write_text('{"text": "the text of a"}')
    (root / "b.json").write_text('{"text": "the text of b", "prompt": "the prompt of b"}')
    found = facts(root)
    assert [found[name]["prompt"] for name in "abc"] == ["the text of a", "the prompt of b", "own c"]


def test_one_of_several_prompts_is_drawn(root):
    (root / "a.json").write_text('{"prompt": ["p", "q", "r"]}')
    (root / "b.json").write_text('{"prompt": []}')
    (root / "c.json").write_text('{"__reject__": true}')
    source = corpus(root).training(3)
    drawn = [source[index].facts["prompt"] for index in range(30)]
    assert set(drawn) == {"p", "q", "r"}
    assert drawn == [corpus(root).training(3)[index].facts["prompt"] for index in range(30)]
    assert drawn != [corpus(root).training(4)[index].facts["prompt"] for index in range(30)]


@pytest.mark.parametrize("where", ["own", "beside", "table", "audio"])
def test_items_are_rejected_by_their_facts(root, tmp_path, where, capsys):
    table = None
    if where == "own":
        save(root / "b.safetensors", ramp(4, 9), __reject__=True)
    elif where == "beside":
        (root / "b.json").write_text('{"__reject__": true}')
        (root / "c.json").write_text('{"__reject__": false}')
    elif where == "table":
        table = tmp_path / "table.jsonl"
        table.write_text("".join(json.dumps({"file": name, "__reject__": name == "b"}) + "\n" for name in "abc"))
    else:
        root = tmp_path / "audio"
        for name in "abc":
            tone(root / f"{name}.wav")
        (root / "b.json").write_text('{"__reject__": true}')
    found = corpus(root, metadata=table)
    assert [item.place.name[0] for item in found.learned[0]] == ["a", "c"]
    assert "left out: 1 items of" in capsys.readouterr().err


def test_what_a_table_does_not_describe_is_left_out(root, tmp_path, capsys):
    table = tmp_path / "table.jsonl"
    table.write_text('{"file": "a", "prompt": "x"}\n{"file": "other/b", "prompt": "y"}\n')
    assert list(facts(root, metadata=table)) == ["a"]
    told = capsys.readouterr().err
    assert f"left out: {root / 'b.safetensors'}: " in told
    assert f"{table} does not describe it" in told


def test_a_table_may_name_the_recording_of_an_item(tmp_path):
    for at in range(2):
        save(tmp_path / f"in/0/{at}.safetensors", ramp(4, 9), relpath="songs/one.5.flac")
    table = tmp_path / "table.csv"
    table.write_text("file,prompt\nsongs/one.5.flac,x\n")
    assert {each["prompt"] for each in facts(tmp_path / "in", metadata=table).values()} == {"x"}
    table.write_text("file,prompt\none.5,x\n")  # without its folder and its ending
    assert {each["prompt"] for each in facts(tmp_path / "in", metadata=table).values()} == {"x"}


def test_seconds_of_a_table_are_moved_as_the_item_is_cut(tmp_path):
    save(tmp_path / "in/a.safetensors", ramp(4, 60))
    table = tmp_path / "table.csv"
    table.write_text("file,seconds_start,seconds_total\na,7,30\n")
    source = corpus(tmp_path / "in", metadata=table).training(0)
    for index in range(9):
        sample = source[index]
        assert sample.facts["seconds_start"] == 7 + int(sample.values[0, 0]) // 10
        assert sample.facts["seconds_total"] == 30
    assert "seconds_start: expected a number, got 'x'" in refused(cropped, {"seconds_start": "x"}, 10, 10, 0, 5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "name,prompt\na,b\n", "row 1 names no file"),
        ("t.csv", "file,prompt\na.wav,b\na.flac,c\n", "row 2 describes a.flac once more"),
        ("t.jsonl", '{"file": "a"}\n{', "line 2 is no JSON"),
        ("t.jsonl", "[]", "line 1 is no JSON object"),
    ],
)
def test_tables_that_say_nothing_clear_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    assert message in refused(Table, tmp_path / name)
