"""Training from a recipe to a bundle, on tones that a tiny network learns in seconds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from audio_acdnet import train as training
from audio_acdnet.config import ACDNetConfig
from audio_acdnet.data.listing import chosen
from audio_acdnet.evaluate import evaluate
from audio_acdnet.model import load
from audio_acdnet.recipe import Cosine, Data, Distil, Recipe
from audio_core import audio
from audio_core.files import InputError
from audio_core.train.optimize import AdamW

RATE = 8000
PITCHES = {"dog": 400, "rooster": 1100, "rain": 2900}
TINY = ACDNetConfig(RATE, 4000, (8, 16, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16))
RECIPE = Recipe(
    model=TINY, folds=(1,), epochs=80, schedule=Cosine(warmup_epochs=5), batch=8, crops=3,
    workers=0, evaluate_every=40, save_every=40, log_every=40,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two takes of three classes in two folds."""
    root = tmp_path_factory.mktemp("set")
    for fold in (1, 2):
        for take in range(2):
            for label, pitch in PITCHES.items():
                draw = np.random.default_rng((fold, take, pitch))
                sound = 0.3 * np.sin(2 * np.pi * pitch * np.arange(5000) / RATE + draw.random())
                sound += 0.01 * draw.standard_normal(5000)
                audio.write(root / f"fold{fold}" / label / f"{take}.wav", sound[None], RATE)
    return root


def recipe(root: Path, **settings) -> Recipe:
    return replace(RECIPE, data=Data(root), **settings)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder / "bundle").state_dict()


def test_a_run_learns_and_leaves_a_bundle_that_evaluates_to_what_was_told(root, tmp_path):
    longer = recipe(root, epochs=100, optimizer=AdamW(3e-3))
    (outcome,) = training.train(longer, tmp_path / "run", "cpu", quiet=True)
    assert outcome.fold == 1 and outcome.last >= 5 / 6 - 1e-6 and outcome.best >= outcome.last
    model = load(tmp_path / "run/bundle")
    assert model.config.labels == ("dog", "rain", "rooster") and model.config.folds == (2,)
    assert evaluate(model, root, fold=1, crops=3).accuracy == pytest.approx(outcome.last, abs=1e-6)
    with pytest.raises(InputError, match="trained on fold 2"):
        evaluate(model, root, fold=2)
    card = (tmp_path / "run/bundle/README.md").read_text()
    assert f"{100 * outcome.last:.2f} %" in card and "accuracy on fold 1, 3 crops" in card
    training.release(tmp_path / "run", tmp_path / "best", best=True)
    assert "the best of all evaluations" in (tmp_path / "best/README.md").read_text()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(root, tmp_path):
    whole = recipe(root, epochs=6, save_every=2)
    training.train(whole, tmp_path / "whole", "cpu", quiet=True)
    stopped = training.train(replace(whole, steps=2), tmp_path / "parts", "cpu", quiet=True)
    assert [one.fold for one in stopped] == [1]
    training.train(replace(whole, workers=1), tmp_path / "parts", "cpu", quiet=True)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "parts")[name], value), name
    with pytest.raises(InputError, match=r"another recipe .*epochs"):
        training.train(replace(whole, epochs=7), tmp_path / "whole", "cpu", quiet=True)


def test_all_folds_give_a_table_with_mean_and_deviation(root, tmp_path):
    outcomes = training.train(recipe(root, folds="all", epochs=2), tmp_path, "cpu", quiet=True)
    assert [one.fold for one in outcomes] == [1, 2]
    assert [load(one.folder / "bundle").config.folds for one in outcomes] == [(2,), (1,)]
    again = training.train(recipe(root, folds="all", epochs=2), tmp_path, "cpu", quiet=True)
    assert again == outcomes  # nothing is trained twice
    assert [row["fold"] for row in json.loads((tmp_path / "folds.json").read_text())["folds"]] == [1, 2]
    folds = training.Folds([training.Outcome(1, 0.5, 0.75, tmp_path), training.Outcome(2, 0.7, 0.75, tmp_path)])
    total = folds.plain()
    assert total["last"]["mean"] == pytest.approx(0.6) and total["last"]["deviation"] == pytest.approx(0.2 / 2**0.5)
    assert folds.table().splitlines()[-2:] == ["mean        60.00   75.00", "deviation   14.14    0.00"]


def test_training_on_everything_tests_nothing(root, tmp_path):
    outcomes = training.train(recipe(root, folds="none", epochs=1), tmp_path / "run", "cpu", quiet=True)
    assert outcomes[0].last is None and load(tmp_path / "run/bundle").config.folds == (1, 2)
    assert outcomes.table() == "trained on all clips; none was held out to test on"
    with pytest.raises(InputError, match="never evaluated"):
        training.release(tmp_path / "run", tmp_path / "best", best=True)


def test_clips_without_folds_that_were_trained_on_are_not_tested(root, tmp_path, capsys):
    """A model trained on all clips, or on clips divided by file name, was tested on them without a word."""
    clips = tmp_path / "sounds"
    shutil.copytree(root / "fold1", clips)
    everything = replace(RECIPE, data=Data(clips), folds="none", epochs=1)
    training.train(everything, tmp_path / "all", "cpu", quiet=True)
    model = load(tmp_path / "all/bundle")
    assert model.config.folds == () and model.config.trained_on.startswith("sounds ")
    with pytest.raises(InputError, match=r"trained on all of these clips.*or force it"):
        evaluate(model, clips)
    assert len(evaluate(model, clips, force=True).clips) == 6
    assert len(evaluate(model, root / "fold2").clips) == 6  # others are tested

    divided = replace(RECIPE, data=Data(clips, divide=2), epochs=1)
    (outcome,) = training.train(divided, tmp_path / "divided", "cpu", quiet=True)
    model = load(tmp_path / "divided/bundle")
    assert (model.config.folds, model.config.divide) == ((2,), 2)
    assert "Trained on sounds, folds 2 of data.divide=2" in (tmp_path / "divided/bundle/README.md").read_text()
    with pytest.raises(InputError, match=r"give data\.divide=2, as in its training"):
        evaluate(model, clips)
    again = evaluate(model, chosen(clips, ["data.divide=2"]), crops=3)  # the card's number
    assert len(again.clips) == 3 and again.accuracy == pytest.approx(outcome.last, abs=1e-6)
    capsys.readouterr()
    part = evaluate(model, chosen(clips, ["data.divide=2", "data.labels=[dog,rain]"]))
    assert {clip.fold for clip in part.clips} == {1} and len(part.clips) == 2 and not capsys.readouterr().err
    audio.write(clips / "dog/more.wav", np.full((1, 5000), 0.1, np.float32), RATE)
    capsys.readouterr()
    evaluate(model, clips)
    assert "is not as it was when the model was trained" in capsys.readouterr().err


def test_a_data_set_with_folds_keeps_them(root):
    assert training.listed(Data(root, divide=3)).folds == (1, 2)


def test_averaged_weights_are_what_is_released(root, tmp_path):
    training.train(recipe(root, epochs=2, average=0.5, clip=1.0), tmp_path / "run", "cpu", quiet=True)
    state = max((tmp_path / "run/state").iterdir())
    averaged = safetensors.torch.load_file(state / "net.average.safetensors")
    assert all(torch.equal(averaged[name], value) for name, value in weights(tmp_path / "run").items())


def test_a_teacher_must_know_the_same_classes_and_not_the_fold(root, tmp_path):
    training.train(recipe(root, epochs=1, folds="all"), tmp_path / "teacher", "cpu", quiet=True)
    teacher = str(tmp_path / "teacher/fold{fold}/bundle")
    student = recipe(root, epochs=1, distil=Distil(teacher=teacher))
    training.train(student, tmp_path / "student", "cpu", quiet=True)
    wrong = replace(student, distil=Distil(teacher=teacher.format(fold=2)))
    with pytest.raises(InputError, match="was trained on fold 1, which is to be held out"):
        training.train(wrong, tmp_path / "wrong", "cpu", quiet=True)
    fewer = replace(wrong, data=Data(root, ("rain", "dog")))
    with pytest.raises(InputError, match="labels"):
        training.train(fewer, tmp_path / "fewer", "cpu", quiet=True)


def test_folds_that_are_not_there_are_told(root, tmp_path):
    with pytest.raises(InputError, match="has no fold 3; it has the folds 1, 2"):
        training.train(recipe(root, folds=(3,)), tmp_path, "cpu", quiet=True)
    with pytest.raises(InputError, match=r"nothing to test on: it has no folds.*folds=none"):
        training.train(recipe(root / "fold1"), tmp_path, "cpu", quiet=True)
    single = Recipe(model=TINY, data=Data(root, ("dog",)), folds=1)
    with pytest.raises(InputError, match=r"fewer than two classes to train on without fold 1: dog$"):
        training.train(single, tmp_path, "cpu", quiet=True)
    with pytest.raises(InputError, match=r"fewer than two classes to train on: dog$"):
        training.train(replace(single, folds="none"), tmp_path, "cpu", quiet=True)
    divided = replace(recipe(root / "fold1"), data=Data(root / "fold1", divide=2))
    assert training.held_out(replace(divided, folds="all"), training.listed(divided.data)) == [1, 2]
    with pytest.raises(InputError, match="holds no training run"):
        training.release(tmp_path, tmp_path / "bundle")


def test_a_folder_with_a_table_in_it_names_the_table(root, tmp_path):
    beside = tmp_path / "set"
    shutil.copytree(root / "fold1" / "dog", beside / "audio")
    (beside / "clips.csv").write_text("filename,label\n")
    with pytest.raises(InputError, match=r"train on: audio; give the table, data\.root=.*clips\.csv$"):
        training.train(recipe(beside, folds="none"), tmp_path / "run", "cpu", quiet=True)


def test_training_items_name_their_files(root):
    run = recipe(root).for_data(6, ("dog", "rain", "rooster"), (2,))
    dataset = training.read(training.listed(recipe(root).data), RATE)
    items = training.Items(dataset.held_out(1)[0], run)
    x, y = items[0]
    assert x.shape == (1, 4000) and y.shape == (3,) and items.name(0).count(".wav") == 2
