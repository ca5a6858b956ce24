"""The test protocol on a model whose answers are known, fold hygiene, and the page."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_acdnet.classify import probabilities
from audio_acdnet.config import ACDNetConfig
from audio_acdnet.data.clips import Clip, Dataset
from audio_acdnet.evaluate import evaluate, labels_of, matrix_image
from audio_acdnet.model import ACDNet, folded, load
from audio_core import audio, bundle
from audio_core.files import InputError
from audio_core.report import Report
from torch import nn

LABELS = ("dog", "rooster", "rain", "wind")
RATE, SAMPLES = 8000, 4000
SETTINGS = ACDNetConfig(RATE, SAMPLES, (4, 8, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8), LABELS, folds=(1, 2))


class Loudness(nn.Module):
    """Tells the class from the level of a crop alone: class n at a mean magnitude of 0.1 * (n + 1), else unsure."""

    def __init__(self, **settings):
        super().__init__()
        self.config = ACDNetConfig(RATE, SAMPLES, labels=LABELS, **settings)
        self.sharp = nn.Parameter(torch.tensor(100.0))
        self.crops = 0

    def forward(self, x):
        assert not self.training and x.shape[1:] == (1, SAMPLES)
        self.crops += len(x)
        level = x.abs().amax(-1)  # (B, 1)
        return -self.sharp * (level - 0.1 * (torch.arange(4) + 1)).abs()


def clip(label: int, level: float, fold: int = 1, seconds: float = 1.0) -> Clip:
    samples = np.full(int(seconds * RATE), round(level * 32768), np.int16)
    return Clip(Path(f"{fold}-{label}.wav"), label, fold, samples)


def dataset(clips, labels=LABELS) -> Dataset:
    return Dataset(Path("set"), labels, RATE, tuple(clips))


MIXED = dataset([clip(0, 0.1), clip(0, 0.1), clip(1, 0.2), clip(1, 0.4), clip(2, 0.3, fold=2), clip(2, 0.19, fold=2)])


def test_accuracy_confusion_and_classes_are_counted_by_clip():
    model = Loudness()
    result = evaluate(model, MIXED)
    assert model.crops == 60 and model.training  # ten crops each; it is left as it was
    assert result.accuracy == pytest.approx(4 / 6)
    names, counts = result.confusion()
    assert names == list(LABELS) and counts.tolist() == [[2, 0, 0, 0], [0, 1, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
    classes = result.per_class()
    assert classes["dog"] == {"clips": 2, "recall": 1.0, "precision": 1.0}
    assert classes["rooster"] == {"clips": 2, "recall": 0.5, "precision": 0.5}
    assert "wind" not in classes
    assert [MIXED.clips[row].label for row in result.mistakes()] == [1, 2]  # the one at 0.19 was nearly right


def test_the_result_is_json_with_the_accuracy_at_its_top():
    told = json.loads(json.dumps(evaluate(Loudness(), MIXED, fold=2, crops=3).plain(), allow_nan=False))
    assert told["accuracy"] == 0.5 and told["folds"] == [2] and told["crops"] == 3 and told["clips"] == 2


def test_probabilities_are_means_over_crops_and_do_not_depend_on_the_batch():
    sounds = [np.r_[np.full(2000, 3277), np.zeros(6000)].astype(np.int16), clip(1, 0.2).samples, clip(2, 0.3).samples]
    alone = [probabilities(Loudness(), [sound])[0] for sound in sounds]
    assert np.allclose(probabilities(Loudness(), sounds, batch=2), alone, atol=1e-6)
    assert 0.3 < alone[0][0] < 1.0  # silence gives other answers than the sound
    assert np.allclose(np.sum(alone, -1), 1, atol=1e-5)


def test_a_choice_of_classes_decides_between_them_only():
    two = dataset([clip(0, 0.2), clip(1, 0.4)], ("rooster", "rain"))
    free, bound = evaluate(Loudness(), two), evaluate(Loudness(), two, restrict=True)
    assert free.labels == LABELS and free.accuracy == 0.5  # the second is found as wind
    assert bound.labels == ("rooster", "rain") and bound.accuracy == 1.0
    assert np.allclose(bound.probabilities.sum(-1), 1)


def test_the_level_of_clips_can_be_changed_and_other_normalisations_are_met():
    half = evaluate(Loudness(), dataset([clip(0, 0.2), clip(1, 0.4)]), gain_db=20 * np.log10(0.5))
    assert half.accuracy == 1 and half.plain()["gain_db"] == pytest.approx(-6.02, abs=0.01)
    quiet = Loudness(normalisation="full_scale_twice")
    assert evaluate(quiet, MIXED).predicted.tolist() == [0] * 6  # it hears everything at 1 / 32768


def test_testing_on_folds_of_the_training_is_refused_unless_forced():
    model = Loudness(folds=(1, 3))
    with pytest.raises(InputError, match=r"trained on fold 1, so testing there says nothing; choose another, or force"):
        evaluate(model, MIXED, fold=1)
    with pytest.raises(InputError, match="trained on fold 1, 2"):
        evaluate(Loudness(folds=(1, 2, 3)), MIXED)
    assert evaluate(model, MIXED, fold=2).accuracy == 0.5
    assert {clip.fold for clip in evaluate(model, MIXED).clips} == {2}  # what is left
    assert {clip.fold for clip in evaluate(model, MIXED, force=True).clips} == {2}
    assert {clip.fold for clip in evaluate(model, MIXED, fold=1, force=True).clips} == {1}
    assert len(evaluate(Loudness(folds=(1, 2, 3)), MIXED, force=True).clips) == 6


def test_only_the_clips_of_the_wanted_fold_are_read(tmp_path):
    for fold in (1, 2):
        for label in ("dog", "rain"):
            audio.write(tmp_path / f"fold{fold}" / label / "a.wav", np.full((1, 8000), 0.1 * fold), RATE)
    (tmp_path / "fold1/dog/a.wav").write_bytes(b"damaged")
    result = evaluate(Loudness(), tmp_path, fold=2)
    assert [one.fold for one in result.clips] == [2, 2] and result.accuracy == 0
    with pytest.raises(InputError, match=r"fold1/dog/a\.wav"):
        evaluate(Loudness(), tmp_path)
    with pytest.raises(InputError, match="has no fold 7; it has the folds 1, 2"):
        evaluate(Loudness(), tmp_path, fold=7)


def test_data_with_other_classes_is_refused():
    others = dataset([clip(0, 0.1)], ("dog", "cow"))
    with pytest.raises(InputError, match=r"set: has 2 classes, 'cow' not among the 4 of the model \(dog, rooster"):
        evaluate(Loudness(), others)
    assert labels_of(Loudness(), ("rain", "dog")) == [2, 0]
    with pytest.raises(InputError, match="crops: expected 1 or more"):
        evaluate(Loudness(), MIXED, crops=0)
    with pytest.raises(InputError, match="has no fold 9"):
        evaluate(Loudness(), MIXED, fold=9)


def test_a_folded_model_finds_what_the_model_finds():
    model = ACDNet(SETTINGS)
    noise = dataset([clip(n, 0.1, fold=3)._replace(samples=_noise(n)) for n in range(3)])
    slow, fast = (evaluate(net, noise, fold=3).probabilities for net in (model, folded(model)))
    assert np.allclose(slow, fast, atol=1e-4) and slow.std() > 0


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, 6000).astype(np.int16)


def test_a_bundle_is_loaded_with_its_labels_and_folds(tmp_path):
    bundle.save(ACDNet(SETTINGS), tmp_path / "bundle", "audio-acdnet", "0", "# card")
    assert load(tmp_path / "bundle").config == SETTINGS
    bundle.save(ACDNet(SETTINGS), tmp_path / "other", "audio-sep", "0", "# card")
    with pytest.raises(InputError, match="was made by audio-sep"):
        load(tmp_path / "other")


def test_the_page_shows_numbers_matrix_bars_and_players(tmp_path):
    report = Report("A test")
    evaluate(Loudness(), MIXED).page(report, tmp_path)
    page = report.html()
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "66.67" in page and 'class="matrix"' in page and 'class="bars"' in page
    assert page.count("<audio") == 2 and "rooster, predicted as wind" in page
    right = dataset([clip(0, 0.1)])
    report = Report("No mistakes")
    evaluate(Loudness(), right).page(report)
    assert "most certain mistakes" not in report.html()


def test_without_pillow_the_page_is_complete_and_the_picture_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = Report("A test")
    evaluate(Loudness(), MIXED).page(report, tmp_path)
    assert 'class="matrix"' in report.html() and list(tmp_path.iterdir()) == []
    assert "pip install 'audio-acdnet[plot]'" in capsys.readouterr().err


def test_the_confusion_is_a_picture_whose_squares_darken_with_their_share():
    image = matrix_image(["dog", "a long label"], np.array([[3, 1], [0, 4]]))
    pixels = np.asarray(image).astype(int)
    assert image.mode == "RGB" and image.width == image.height
    side, cell = image.width - 12, 34
    corners = {(row, column): pixels[side - cell * (2 - row) + 2, side - cell * (2 - column) + 2].sum()
               for row in range(2) for column in range(2)}  # fmt: skip
    assert corners[1, 1] < corners[0, 0] < corners[0, 1] < corners[1, 0] < 3 * 255
