"""Compression from a run to a smaller bundle, at a size where the four stages take a second."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_acdnet import cli, cost
from audio_acdnet import train as training
from audio_acdnet.compress import prune
from audio_acdnet.compress import run as compression
from audio_acdnet.compress.stages import Compression
from audio_acdnet.config import CONVOLUTIONS, ACDNetConfig
from audio_acdnet.evaluate import evaluate
from audio_acdnet.model import ACDNet, load
from audio_acdnet.recipe import Data, Recipe
from audio_core import audio, config
from audio_core.files import InputError
from audio_core.train.optimize import AdamW
from audio_core.train.results import states
from audio_core.train.run import Run
from audio_core.train.watch import Save

RATE, TARGET = 4000, 2000
SETTINGS = ["sparsify.epochs=4", "prune.rounds=3", "prune.epochs=2", "tune.epochs=4", "distil.epochs=4"]
TINY = ACDNetConfig(RATE, 2000, (4, 34, 4, 6, 6, 8, 8, 8, 8, 10, 10, 8))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Three takes of hums and hisses in two folds, and a run that was trained on the second."""
    root = tmp_path_factory.mktemp("compress")
    for fold in (1, 2):
        for take in range(3):
            draw = np.random.default_rng((fold, take))
            hum = 0.3 * np.sin(2 * np.pi * (300 + 20 * take) * np.arange(3000) / RATE)
            audio.write(root / f"data/fold{fold}/hum/{take}.wav", hum[None], RATE)
            audio.write(root / f"data/fold{fold}/hiss/{take}.wav", 0.1 * draw.standard_normal((1, 3000)), RATE)
    training.train(recipe(root), root / "run", "cpu", quiet=True)
    return root


def recipe(root: Path, **settings) -> Recipe:
    common = {"batch": 4, "crops": 2, "workers": 0, "evaluate_every": 4, "save_every": 3, "epochs": 8}
    return replace(Recipe(model=TINY, data=Data(root / "data"), optimizer=AdamW(0.01), **common), **settings)


def settings(*more: str, target: object = TARGET) -> Compression:
    return config.build(Compression, {}, [f"target={target}", *SETTINGS, *more])


def same_weights(one: Path, other: Path) -> None:
    expected = load(other / "bundle").state_dict()
    for name, value in load(one / "bundle").state_dict().items():
        assert torch.equal(expected[name], value), name


@pytest.fixture(scope="module")
def compressed(root) -> tuple[list[compression.Row], Path]:
    """What a compression without interruption makes."""
    torch.set_num_threads(1)
    rows = compression.compress(root / "run", settings(), root / "whole", "cpu", quiet=True)
    assert rows is not None
    return rows, root / "whole"


def test_the_result_is_small_enough_and_every_stage_is_told(root, compressed):
    rows, out = compressed
    assert [row.stage for row in rows] == ["run", "sparsify", "prune", "tune", "distil"]
    first, sparse, *smaller = rows
    assert first.channels == sparse.channels == TINY.channels
    total = sum(weight.numel() for weight in prune.weights(load(root / "run/bundle")).values())
    assert first.weights == total and sparse.weights == int(total * 0.05)
    assert all(row.channels == smaller[0].channels for row in smaller)
    assert smaller[0].parameters <= TARGET < first.parameters and smaller[0].macs < first.macs
    assert smaller[0].channels[1] >= 32
    model = load(out / "bundle")
    assert sum(weight.numel() for weight in model.parameters()) == rows[-1].parameters
    assert model.config.folds == (2,) and model.config.labels == ("hiss", "hum")
    assert evaluate(model, root / "data", fold=1, crops=2).accuracy == pytest.approx(rows[-1].accuracy, abs=1e-6)
    assert json.loads((out / "stages.json").read_text())["stages"][2]["parameters"] == smaller[0].parameters
    assert f"a model of {first.parameters:,} parameters" in (out / "bundle/README.md").read_text()


def test_rounds_come_down_by_equal_shares_and_leave_their_journals(compressed):
    rows, out = compressed
    rounds = sorted((out / "prune").iterdir())
    counts = [cost.parameters(config.load(Recipe, place / "recipe.yaml").model) for place in rounds]
    aims = [rows[0].parameters * (TARGET / rows[0].parameters) ** (number / 3) for number in (1, 2, 3)]
    for count, aim in zip(counts, aims, strict=True):
        assert 0.8 * aim < count <= round(aim)
    assert [bool(states(place)) for place in rounds] == [False, False, True]
    assert all((place / "log.jsonl").exists() for place in rounds)
    rates = [config.load(Recipe, place / "recipe.yaml").optimizer.lr for place in rounds]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4])  # lower from half and from 80 % of the rounds on


def test_the_page_has_a_table_curves_channels_and_the_confusion(compressed):
    _, out = compressed
    page = (out / "report.html").read_text()
    for text in ("weights not zero", "Accuracy on fold 1", "Loss in training", "conv12: ", "Confusion", "recall %"):
        assert text in page, text
    assert page.count('class="plot"') >= 2 and page.count('class="bars"') == 2


class Killed(BaseException):
    """What no code catches."""


def test_a_compression_killed_in_any_stage_goes_on_to_the_same_weights(root, compressed, monkeypatch):
    """Each attempt writes one state, loses the steps after it and dies before the next."""
    rows, whole = compressed
    saved: list[str] = []

    class Dying(Save):
        def __call__(self, task, metrics, run):
            before = len(run.states()), max(run.states(), default=0)
            if saved and run.step % 3 == 0:
                raise Killed
            super().__call__(task, metrics, run)
            if before != (len(run.states()), max(run.states(), default=0)):
                saved.append(run.folder.name)

    monkeypatch.setattr(training, "Save", Dying)
    died = []
    while True:
        saved.clear()
        try:
            again = compression.compress(root / "run", settings(), root / "parts", "cpu", quiet=True)
            break
        except Killed:
            died += saved
    assert {"sparsify", "round1", "round2", "round3", "tune", "distil"} <= set(died)
    assert again == rows
    same_weights(root / "parts", whole)


@pytest.mark.skipif(sys.platform == "win32", reason="a signal sent there ends the process at once")
def test_a_signal_saves_and_the_same_command_goes_on(root, compressed, monkeypatch, capsys):
    command = ["compress", root / "run", *SETTINGS, "--target", TARGET, "-o", root / "signal", "--device", "cpu"]
    command = [str(word) for word in command]
    sparsify, calls = prune.sparsify, []

    def interrupted(*given):
        calls.append(os.kill(os.getpid(), signal.SIGTERM) if not calls else None)
        return sparsify(*given)

    monkeypatch.setattr(prune, "sparsify", interrupted)
    assert cli.main(command) == 130
    out, err = capsys.readouterr()
    assert out == "" and "the same command goes on" in err and max(states(root / "signal/sparsify")) == 2
    assert cli.main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["parameters"] <= TARGET and "report.html" in err
    same_weights(root / "signal", compressed[1])
    assert cli.main([*command, "--quiet"]) == 0  # all is done: the table again, and nothing is trained
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split()[0] == "stage" and out.count("\n") == 6 and err == ""


def test_settings_of_a_stage_that_has_begun_stay(root, compressed):
    with pytest.raises(InputError, match=r"other settings \(different: target, tune.weights\); choose another folder"):
        compression.compress(root / "run", settings("tune.weights=fresh", target=2100), root / "whole", "cpu")
    later = root / "later"
    later.mkdir()
    (later / "compression.yaml").write_text((root / "whole/compression.yaml").read_text())
    compression._claim(later, settings("tune.weights=fresh"), ACDNet(TINY))
    assert config.load(Compression, later / "compression.yaml").tune.weights == "fresh"


def test_each_stage_begins_with_what_the_last_one_left(root):
    """Where nothing learns, the result holds the run's largest weights, without those of the channels that went."""
    still = [f"{stage}.optimizer.lr=0" for stage in ("sparsify", "prune", "tune", "distil")]
    rows = compression.compress(root / "run", settings("sparsify.sparsity=0.5", *still), root / "still", "cpu", True)
    before, after = (prune.weights(load(place / "bundle")) for place in (root / "run", root / "still"))
    for name, weight in after.items():
        assert set(weight[weight != 0].tolist()) <= set(before[name].flatten().tolist())
    assert 0 < rows[-1].weights == rows[2].weights < rows[1].weights == rows[0].weights // 2


def test_fresh_weights_are_those_of_a_new_network(root, compressed):
    _, out = compressed
    job = compression._open(root / "run", settings("tune.weights=fresh"), root / "fresh", "cpu", True)
    pruned = training.trained(out / "prune/round3")[1]
    begun = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", lambda task, data, run, watchers: begun.append(task.release()))
        with pytest.raises(compression._Stopped):
            compression._tune(job, pruned)
    torch.manual_seed(config.load(Recipe, root / "fresh/tune/recipe.yaml").seed)
    expected = ACDNet(pruned.config).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in begun[0].state_dict().items())


def test_a_run_that_holds_nothing_out_has_no_accuracy(root):
    training.train(recipe(root, folds="none", epochs=1), root / "all", "cpu", quiet=True)
    rows = compression.compress(root / "all", settings("prune.rounds=1"), device="cpu", quiet=True)
    assert [row.accuracy for row in rows] == [None] * 5 and " -" in compression.table(rows)
    page = (root / "all/compressed/report.html").read_text()
    assert "Loss in training" in page and "Confusion" not in page


def test_what_cannot_be_compressed_is_one_line(root, tmp_path, capsys):
    def refused(run: Path, *more: object) -> str:
        capsys.readouterr()
        assert cli.main(["compress", str(run), *map(str, more), "--device", "cpu"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        return err

    run = root / "run"
    size = cost.parameters(load(run / "bundle").config)
    assert "target: expected micro | int, got 'tiny'" in refused(run, "--target", "tiny")
    assert f"has {size:,} parameters, which is not more than the target" in refused(run, "--target", "micro")
    assert "cannot have fewer than" in refused(run, "--target", 100)
    assert "did you mean prune.rounds" in refused(run, "prune.round=1", "--target", TARGET)
    assert "holds no training run" in refused(tmp_path, "--target", TARGET)
    assert f"(no recipe.yaml); {root}/" in refused(root, "--target", TARGET)  # one of those inside is named
    assert "holds a training run; choose another folder" in refused(run, "--target", TARGET, "-o", run)
    training.train(recipe(root, epochs=1, steps=1), tmp_path / "begun", "cpu", quiet=True)
    text = (tmp_path / "begun/recipe.yaml").read_text()
    (tmp_path / "begun/recipe.yaml").write_text(text.replace("steps: 1\n", "steps: 2\n"))
    assert "stands at step 1 of 2" in refused(tmp_path / "begun", "--target", TARGET)
    Run(tmp_path / "empty", recipe(root), "cpu", items=6)
    assert "holds no saved state" in refused(tmp_path / "empty", "--target", TARGET)


def test_a_run_that_heard_the_fold_it_holds_out_is_refused(root, tmp_path):
    training.train(recipe(root, epochs=1, folds="none"), tmp_path / "run", "cpu", quiet=True)
    path = tmp_path / "run/recipe.yaml"
    path.write_text(path.read_text().replace("folds: none", "folds: [1]"))
    with pytest.raises(InputError, match="was trained on fold 1, which is to be held out"):
        compression.compress(tmp_path / "run", settings(), device="cpu")


def test_a_moved_compression_goes_on_and_that_of_another_run_is_refused(root, compressed, tmp_path):
    rows, out = compressed
    shutil.copytree(root / "run", tmp_path / "run")
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/distil")
    assert compression.compress(tmp_path / "run", settings(), tmp_path / "out", "cpu", quiet=True) == rows
    same_weights(tmp_path / "out", out)
    training.train(recipe(root, seed=3), tmp_path / "other", "cpu", quiet=True)
    with pytest.raises(InputError, match="holds a compression of another network"):
        compression.compress(tmp_path / "other", settings(), tmp_path / "out", "cpu", quiet=True)


def test_help_lists_every_setting_without_torch():
    code = (
        "import sys; from audio_acdnet import cli; cli.main(['compress', '--help']); sys.exit('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and "tune.weights  (kept | fresh, default kept)" in result.stdout, result.stderr


def test_processes_of_torchrun_are_refused(root, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="works in one process"):
        compression.compress(root / "run", settings(), root / "several", "cpu")


def test_superfluous_channels_are_the_first_of_the_ranking_that_may_go():
    ranking = [prune.Channel(name, channel, 0.1) for name in ("conv2", "conv5", "conv9") for channel in range(6)]
    aim = cost.parameters(replace(TINY, channels=(4, 32, 4, 6, 3, 8, 8, 8, 8, 10, 10, 8)))
    superfluous = prune.superfluous(ranking, TINY, aim)
    assert superfluous == [("conv5", 2), ("conv2", 1), ("conv5", 1), ("conv2", 0), ("conv5", 0)]
    assert prune.remove(ACDNet(TINY), superfluous).config.channels == (4, 32, 4, 6, 3, 8, 8, 8, 8, 10, 10, 8)
    assert prune.superfluous(ranking, TINY, 10**6) == []
    least = prune.smallest(TINY)
    assert least.channels == (1, 32, *[1] * 10)
    counts = zip(CONVOLUTIONS, TINY.channels, strict=True)
    channels = [prune.Channel(layer, number, number) for layer, count in counts for number in range(count)]
    everything = prune.superfluous(channels, TINY, 1)
    assert prune.remove(ACDNet(TINY), everything).config == least
