"""Data sets in all their layouts are found, read as the authors read them, and told apart from what is none."""

import csv
from pathlib import Path

import numpy as np
import pytest
from audio_acdnet.data.clips import read, read_clip
from audio_acdnet.data.listing import Listing, chosen, find
from audio_acdnet.recipe import Recipe
from audio_core import audio, config
from audio_core.files import InputError

ESC50_COLUMNS = ["filename", "fold", "target", "category"]


def sound(path: Path, seconds: float = 0.1, rate: int = 8000, channels: int = 1, level: float = 0.5) -> Path:
    time = np.arange(int(seconds * rate)) / rate
    audio.write(path, np.tile(level * np.cos(2 * np.pi * 440 * time), (channels, 1)), rate)
    return path


def table(path: Path, columns: list[str], rows: list[list]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def facts(listing: Listing) -> set[tuple[str, str, int]]:
    assert all(entry.path.is_file() for entry in listing.entries)
    return {(entry.path.name, entry.label, entry.fold) for entry in listing.entries}


def refused(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        find(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_esc50_is_found_with_its_classes_in_the_order_of_its_numbers(tmp_path):
    rows = [["1-1-A-10.wav", 1, 10, "rain"], ["2-2-A-0.wav", 2, 0, "dog"], ["2-3-A-1.wav", 2, 1, "rooster"]]
    table(tmp_path / "meta/esc50.csv", ESC50_COLUMNS, rows)
    for row in rows:
        sound(tmp_path / "audio" / row[0])
    listing = find(tmp_path)
    assert listing.labels == ("dog", "rooster", "rain") and listing.folds == (1, 2)
    assert facts(listing) == {("1-1-A-10.wav", "rain", 1), ("2-2-A-0.wav", "dog", 2), ("2-3-A-1.wav", "rooster", 2)}


def test_urbansound8k_is_found_with_its_classes_in_the_order_of_its_numbers(tmp_path):
    columns = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
    rows = [["9-3-0-0.wav", 9, 0, 1, 1, 10, 3, "dog_bark"], ["8-1-0-0.wav", 8, 0, 1, 1, 2, 1, "car_horn"]]
    table(tmp_path / "metadata/UrbanSound8K.csv", columns, rows)
    for row in rows:
        sound(tmp_path / f"audio/fold{row[5]}" / row[0])
    listing = find(tmp_path)
    assert listing.labels == ("car_horn", "dog_bark")
    assert facts(listing) == {("9-3-0-0.wav", "dog_bark", 10), ("8-1-0-0.wav", "car_horn", 2)}


def test_the_first_release_gets_the_labels_of_esc50(tmp_path):
    for folder in ("001 - Dog bark", "002 - Rain", "010 - Fire crackling"):
        sound(tmp_path / folder / "3-17-A.ogg")
    listing = find(tmp_path)
    assert listing.labels == ("dog", "rain", "crackling_fire")
    assert {(label, fold) for _, label, fold in facts(listing)} == {("dog", 3), ("rain", 3), ("crackling_fire", 3)}
    sound(tmp_path / "001 - Dog bark/woof.ogg")
    assert "does not begin with a fold" in refused(tmp_path)


@pytest.mark.parametrize(("names", "folds"), [(("train", "test"), (1, 2)), (("fold3", "fold10"), (3, 10))])
def test_folders_of_classes_inside_folders_of_folds(tmp_path, names, folds):
    for name in names:
        for label in ("bell", "applause"):
            sound(tmp_path / name / label / "deep" / f"{name}.wav")
    listing = find(tmp_path)
    assert listing.labels == ("applause", "bell") and listing.folds == folds
    (tmp_path / "notes").mkdir()
    assert "notes is no fold" in refused(tmp_path)


def test_folders_of_classes_alone_have_no_folds_until_they_are_divided(tmp_path):
    for take in range(4):
        for label in ("bell", "applause"):
            sound(tmp_path / label / f"{take}.wav")
    listing = find(tmp_path)
    assert listing.folds == ()
    with pytest.raises(InputError, match="has no fold 1; it has no folds"):
        listing.of_folds([1])
    divided = listing.divided(2)
    assert facts(divided.of_folds([2])) == {(f"{n}.wav", label, 2) for n in (1, 3) for label in ("bell", "applause")}


def test_a_table_of_files_may_have_folds(tmp_path):
    sound(tmp_path / "clips/a.wav"), sound(tmp_path / "clips/b.wav")
    rows = [["clips/a.wav", "yes", 1], ["clips/b.wav", "no", 2]]
    listing = find(table(tmp_path / "list.csv", ["filename", "label", "fold"], rows))
    assert facts(listing) == {("a.wav", "yes", 1), ("b.wav", "no", 2)}
    listing = find(table(tmp_path / "list.csv", ["filename", "label"], [row[:2] for row in rows]))
    assert listing.folds == ()


def test_a_missing_clip_is_named_by_table_and_line(tmp_path):
    sound(tmp_path / "a.wav")
    path = table(tmp_path / "list.csv", ["filename", "label"], [["a.wav", "yes"], ["b.wav", "no"]])
    with pytest.raises(InputError, match=r"list\.csv: line 3: there is no file .*b\.wav"):
        read(find(path), 8000)


def test_only_settings_of_the_data_choose_clips(tmp_path):
    for label in ("bell", "applause"):
        sound(tmp_path / label / "a.wav")
    assert chosen(tmp_path, ["data.labels=[bell]", "data.divide=2"]).labels == ("bell",)
    with pytest.raises(InputError, match=r"epochs=3: an evaluation takes the settings data\.labels and data\.divide"):
        chosen(tmp_path, ["epochs=3"])
    with pytest.raises(
        InputError, match=r"data\.labels: expected .*got 'bell,applause'; a list is written \[bell,applause\]"
    ):
        chosen(tmp_path, ["data.labels=bell,applause"])
    with pytest.raises(InputError, match=r"folds: expected .*got '1,2'; a list is written \[1,2\]$"):
        config.build(Recipe, {}, ["folds=1,2"])
    with pytest.raises(InputError, match=r"folds: expected .*got 'most'$"):
        config.build(Recipe, {}, ["folds=most"])


def test_wrong_folders_say_what_was_expected_and_what_was_found(tmp_path):
    assert "there is no such folder; expected ESC-50 (meta/esc50.csv" in refused(tmp_path / "missing")
    (tmp_path / "letters").mkdir()
    (tmp_path / "thesis.pdf").touch()
    message = refused(tmp_path)
    assert "holds letters/, thesis.pdf" in message and "UrbanSound8K" in message
    table(tmp_path / "set/meta/esc50.csv", ESC50_COLUMNS, [["x.wav", 1, 0, "dog"]])
    assert "give the folder around it" in refused(tmp_path / "set/meta")


def test_wrong_tables_are_told_by_line_and_column(tmp_path):
    path = tmp_path / "meta/esc50.csv"
    table(path, ["filename", "target", "category"], [["x.wav", 0, "dog"]])
    assert "has no column fold; expected filename, fold, target, category, found filename, target" in refused(tmp_path)
    table(path, ESC50_COLUMNS, [["x.wav", 1, 0, "dog"], ["y.wav", "one", 0, "dog"]])
    assert "line 3: fold is 'one'" in refused(tmp_path)
    table(path, ESC50_COLUMNS, [["x.wav", 1, "zero", "dog"]])
    assert "line 2: target is 'zero', not a number" in refused(tmp_path)
    table(path, ESC50_COLUMNS, [["x.wav", 1, 0, "dog"], ["y.wav", 1, 3, "dog"]])
    assert "line 3: target 3, but dog was 0" in refused(tmp_path)
    table(path, ESC50_COLUMNS, [["x.wav", 1, 0]])
    assert "line 2: has not the 4 columns" in refused(tmp_path)
    table(path, ESC50_COLUMNS, [])
    assert "holds no clips" in refused(tmp_path)


def test_a_choice_of_classes_keeps_its_order_and_must_exist(tmp_path):
    rows = [[f"{label}.wav", 1, number, label] for number, label in enumerate(("dog", "rooster", "pig"))]
    table(tmp_path / "meta/esc50.csv", ESC50_COLUMNS, rows)
    chosen = find(tmp_path).of_labels(["pig", "dog"])
    assert chosen.labels == ("pig", "dog") and {entry.label for entry in chosen.entries} == {"pig", "dog"}
    with pytest.raises(
        InputError, match=r"has no class 'cow'; it has dog, rooster, pig; .*data\.labels=\[\], .*own-micro"
    ):
        chosen.of_labels(["dog"]) and find(tmp_path).of_labels(["cow"])


def test_clips_are_16_bits_mono_at_the_wanted_rate_without_zeros_at_the_ends(tmp_path):
    samples = np.zeros((2, 8000), np.float32)
    samples[0, 1000:3000], samples[1, 1000:3000] = 0.5, 0.25
    samples[:, 2000] = 0  # inside, zeros stay
    audio.write(tmp_path / "a.wav", samples, 8000)
    clip = read_clip(tmp_path / "a.wav", 8000)
    assert clip.dtype == np.int16 and clip.shape == (2000,)
    assert clip[0] == round(0.375 * 32768) and clip[1000] == 0
    slow = read_clip(tmp_path / "a.wav", 4000)
    assert abs(len(slow) - 1000) < 300 and slow.max() > 12000  # the filter rings a little into the silence


def test_levels_are_rounded_and_full_scale_is_cut_off():
    integers = audio.to_int16(np.array([0.0, 1.4 / 32768, 1.6 / 32768, 1.0, -1.0, 2.0], np.float32))
    assert integers.tolist() == [0, 1, 2, 32767, -32768, 32767]


def test_clips_that_cannot_be_used_are_named_together(tmp_path):
    sound(tmp_path / "dog/good.wav"), sound(tmp_path / "dog/silent.wav", level=0.0)
    cut = sound(tmp_path / "cat/cut.ogg", seconds=20)
    cut.write_bytes(cut.read_bytes()[:-1000])
    with pytest.raises(InputError) as caught:
        read(find(tmp_path), 8000)
    assert "cut.ogg: is truncated" in str(caught.value) and "and 1 more of 3 clips" in str(caught.value)
    cut.unlink()
    with pytest.raises(InputError, match=r"silent\.wav: is silent"):
        read(find(tmp_path), 8000)


def test_a_data_set_in_memory_parts_into_training_and_test_clips(tmp_path):
    for fold in (1, 2, 3):
        for label in ("bell", "applause"):
            sound(tmp_path / f"fold{fold}" / label / f"{fold}.wav", rate=16000, channels=2)
    dataset = read(find(tmp_path), 8000)
    assert dataset.rate == 8000 and dataset.folds == (1, 2, 3) and [clip.label for clip in dataset.clips] == [0, 1] * 3
    learned, tested = dataset.held_out(2)
    assert learned.folds == (1, 3) and tested.folds == (2,) and len(tested.clips) == 2
    assert all(790 <= len(clip.samples) <= 800 for clip in dataset.clips)
