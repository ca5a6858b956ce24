"""The folder of a run: one training at a time, what it leaves, and how much memory writing takes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import warm
from accelerate import Accelerator
from audio_core import config
from audio_core.files import InputError
from audio_core.train.fit import fit, running_statistics
from audio_core.train.lock import lock, unlock
from audio_core.train.plan import Plan
from audio_core.train.results import BEST, journal, load_trained, recipe_of, results, states
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Log, Save, evaluate
from audio_core.weights import save_weights
from torch import nn

SCRIPT = Path(__file__).with_name("train_toys.py")
spec = importlib.util.spec_from_file_location("train_toys", SCRIPT)
toys = importlib.util.module_from_spec(spec)
sys.modules["train_toys"] = toys
spec.loader.exec_module(toys)


def test_a_second_training_in_the_same_folder_is_refused_until_the_first_is_gone(tmp_path):
    """Also after kill -9, while loader workers of the killed one still live."""
    command = [SCRIPT, "Language", tmp_path, "steps=1000000", "workers=1", "save_every=5"]
    first, *_ = warm.start(command)
    deadline = time.monotonic() + 240
    while not states(tmp_path) and first.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert states(tmp_path)
    os.kill(first.pid, signal.SIGSTOP)  # alive, but it leaves the processor to the others
    with pytest.raises(InputError, match=rf"{tmp_path.name}: process {first.pid} on \S+ is training here; wait"):
        toys.train("Language", tmp_path, toys.Recipe())
    second = warm.run(*command)
    assert second.returncode == 2 and second.stderr.count("\n") == 1, second.stderr
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")  # its loader's worker, where the system tells
    workers = children.read_text().split() if children.exists() else []
    first.kill()
    first.join()
    reached = max(states(tmp_path))
    _, run = toys.train("Language", tmp_path, toys.Recipe(steps=reached + 1))
    assert run.step == reached + 1
    run.close()
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, workers))


def lives(process: str) -> bool:
    """A process that has ended and that nobody has asked for has no command line."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_refused_training_holds_no_lock(tmp_path):
    toys.train("Language", tmp_path, toys.Recipe(steps=2))[1].close()
    with pytest.raises(InputError, match="another recipe"):
        Run(tmp_path, toys.Recipe(steps=2, seed=3), "cpu")
    assert lock(tmp_path)  # which says whether it was free
    unlock(tmp_path)


def test_a_run_that_has_learnt_nothing_may_begin_with_another_recipe(tmp_path):
    Run(tmp_path, toys.Recipe(steps=2), "cpu").close()  # as one that failed before its first state
    save_weights(nn.Linear(1, 1), tmp_path / BEST, {"evaluation": '{"step": 1, "loss": -1e9}'})
    _, run = toys.train("Supervised", tmp_path, toys.Recipe(steps=2, seed=3))
    assert run.step == 2 and config.load(toys.Recipe, tmp_path / "recipe.yaml").seed == 3
    assert results(tmp_path, best=True)["loss"] > 0  # and not what was best before


def test_a_norm_is_logged_where_its_player_moved():
    def player(updates, norm):
        group = SimpleNamespace(param_groups=[{"lr": 1.0}])
        return SimpleNamespace(clip=1.0, updates=updates, norm=torch.tensor(norm), optimizer=group)

    seen = []
    log = Log(SimpleNamespace(scalars=lambda kind, values: seen.append(values)), quiet=True)
    plan = SimpleNamespace(log_every=2, steps=2)
    run = SimpleNamespace(plan=plan, leaving=False, main=True, accelerator=Accelerator(cpu=True))
    for run.step, counts in ((1, (1, 0)), (2, (1, 1))):  # by turns
        players = {"net": player(counts[0], 3.0), "judge": player(counts[1], 5.0 if counts[1] else 0.0)}
        log(SimpleNamespace(players=players), {}, run)
    assert (seen[0]["norm/net"], seen[0]["norm/judge"]) == (3.0, 5.0)


def test_a_damaged_log_stops_nothing(tmp_path):
    toys.train("Supervised", tmp_path, toys.Recipe(steps=8))
    log = tmp_path / "log.jsonl"
    lines = log.read_text().splitlines()
    damaged = [lines[0][:20], "[]", "3", '{"step": "8", "kind": "train"}', '{"kind": "train"}', "\0\0", *lines[1:]]
    log.write_bytes("\n".join(damaged).encode() + b"\n\xff\xfe{" + lines[0][:7].encode())
    assert journal(tmp_path) == [json.loads(line) for line in lines[1:]]
    assert results(tmp_path)["step"] == 8
    toys.train("Supervised", tmp_path, toys.Recipe(steps=12))
    assert [entry["step"] for entry in journal(tmp_path) if entry["kind"] == "evaluate"] == [4, 8, 12]
    assert len(log.read_text().splitlines()) == len(journal(tmp_path))
    log.write_text("")
    assert results(tmp_path) == {} and results(tmp_path / "nowhere") == {}


def test_the_best_weights_and_their_numbers_are_one_file(tmp_path):
    task, _ = toys.train("Supervised", tmp_path, toys.Recipe(steps=200, batch=16, dropout=0.0, evaluate_every=200))
    best = results(tmp_path, best=True)
    assert best["step"] == 200 and best["loss"] == pytest.approx(results(tmp_path)["loss"], rel=1e-6)
    net = toys.mlp(toys.WIDTH, toys.WIDTH)
    load_trained(net, tmp_path, "net", best=True)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), task.release().parameters(), strict=True))
    run = Run(tmp_path, toys.Recipe(steps=200, batch=16, dropout=0.0, evaluate_every=1), "cpu")
    for run.step in (201, 150):  # later and no better; then as after a kill, when steps are taken again
        Evaluate(Journal(run), toys.Held(1), 4, "loss", lower=True, quiet=True)(toys.Supervised(0.0), {}, run)
        assert results(tmp_path, best=True)["step"] == (200 if run.step == 201 else 150)
    with pytest.raises(InputError, match="was never evaluated, so there is no best"):
        load_trained(net, tmp_path / "nowhere", "net", best=True)
    save_weights(net, tmp_path / "best.safetensors")  # as version 0.1.0 left it
    (tmp_path / "best.json").write_text('{"step": 4, "loss": 0.5}\n')
    assert results(tmp_path, best=True) == {"step": 4, "loss": 0.5}


@pytest.mark.parametrize("text", ["{", "3", "[1]"])
def test_damaged_numbers_of_a_best_evaluation_are_one_line(tmp_path, text):
    save_weights(nn.Linear(1, 1), tmp_path / "best.safetensors", {"evaluation": text})
    with pytest.raises(InputError, match=r"best.safetensors: the numbers in its header are damaged"):
        results(tmp_path, best=True)


def test_the_recipe_of_a_run_is_read_and_a_folder_around_runs_says_so(tmp_path):
    toys.train("Language", tmp_path / "fold1", toys.Recipe(steps=2))
    assert recipe_of(tmp_path / "fold1", toys.Recipe) == toys.Recipe(steps=2)
    with pytest.raises(InputError, match=r"holds no training run \(no recipe.yaml\); .*fold1 does"):
        recipe_of(tmp_path, toys.Recipe)


def test_a_run_that_goes_on_says_so(tmp_path, capsys):
    toys.train("Language", tmp_path, toys.Recipe(steps=3))
    toys.train("Language", tmp_path, toys.Recipe(steps=3))
    assert "goes on" not in capsys.readouterr().err
    toys.train("Language", tmp_path, toys.Recipe(steps=4))
    assert f"{tmp_path}: goes on at step 3\n" in capsys.readouterr().err


def test_epochs_become_steps_where_the_data_have_a_length(tmp_path, monkeypatch):
    plan = config.build(Plan, {}, ["epochs=2.5", "batch=4", "accumulate=2"])
    assert (plan.epoch_steps(17), plan.total_steps(17)) == (3, 8)
    assert Run(tmp_path / "epochs", plan, "cpu", items=17).plan.steps == 8
    assert Run(tmp_path / "steps", Plan(steps=7), "cpu", items=17).plan.steps == 7
    with pytest.raises(InputError, match=r"epochs=2.5: these data have no length; give steps"):
        Run(tmp_path / "endless", plan, "cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert plan.epoch_steps(17) == 2


def test_several_sets_are_evaluated_by_name_with_any_number_of_workers(tmp_path):
    task, sets = toys.Supervised(0.0), {"dev": toys.Held(1), "other": toys.Held(2)}
    numbers = []
    for workers in (0, 2):
        run = Run(tmp_path / str(workers), Plan(evaluate_every=1, workers=workers), "cpu")
        run.step = 1
        Evaluate(Journal(run), sets, 4, "other/loss", lower=True, quiet=True)(task, {}, run)
        numbers.append(results(run.folder, best=True))
    assert numbers[0] == numbers[1] and numbers[0]["dev/loss"] != numbers[0]["other/loss"]
    alone = evaluate(task, toys.Held(2), 4, run.accelerator)
    assert numbers[0]["other/loss"] == alone["loss"]


def test_too_few_items_for_all_processes_are_told_before_the_first_step():
    journal = SimpleNamespace(run=SimpleNamespace(accelerator=SimpleNamespace(num_processes=2)))
    with pytest.raises(InputError, match="1 items to evaluate on are too few for 2 processes; see data"):
        Evaluate(journal, {"dev": range(3), "other": range(1)}, 4)


class Taught(toys.Supervised):
    """Learns what a frozen teacher with dropout and batch normalisation computes."""

    def __init__(self):
        super().__init__(0.0)
        teacher = nn.Sequential(nn.Linear(toys.WIDTH, toys.WIDTH), nn.BatchNorm1d(toys.WIDTH), nn.Dropout(0.9))
        self.frozen = {"teacher": teacher}
        self.modes = set()

    def loss(self, net, batch):
        teacher = self.frozen["teacher"]
        self.modes.add((teacher.training, any(parameter.requires_grad for parameter in teacher.parameters())))
        return (net(batch["x"]) - teacher(batch["x"])).square().mean()


def test_what_is_frozen_stays_as_it_is_and_is_not_saved(tmp_path):
    run, task = Run(tmp_path, toys.Recipe(steps=3, evaluate_every=1), "cpu"), Taught()
    before = {name: value.clone() for name, value in task.frozen["teacher"].state_dict().items()}
    with Journal(run) as log:
        fit(task, toys.Samples(0), run, [Evaluate(log, toys.Held(1), 4, quiet=True), Save()])
    assert task.modes == {(False, False)}
    assert all(torch.equal(before[name], value) for name, value in task.frozen["teacher"].state_dict().items())
    assert sorted(path.name for path in states(tmp_path)[3].iterdir()) == [
        "net.average.safetensors",
        "net.optimizer.pt",
        "net.safetensors",
        "run.json",
    ]


def test_an_optimizer_state_is_not_built_in_memory_before_it_is_written(tmp_path):
    net = nn.Linear(1000, 2000, bias=False)
    one = toys.player(net)
    run = Run(tmp_path, Plan(), "cpu")
    one.join(run.accelerator)
    one.update(net(torch.ones(1, 1000)).sum())
    tracemalloc.start()
    run.save({"net": one})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # of 8 MB of weights and 16 MB of the optimizer


def test_only_running_statistics_are_told_to_the_other_processes():
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.InstanceNorm1d(2, track_running_stats=True))
    net.register_buffer("window", torch.ones(9))
    inner = nn.Module()
    inner.running_buffers = ("level",)
    inner.register_buffer("level", torch.ones(3))
    inner.register_buffer("codebook", torch.ones(8, 4))
    net.append(inner)
    assert [tuple(buffer.shape) for buffer in running_statistics([net])] == [(2,), (2,), (), (2,), (2,), (), (3,)]


WANDB = """
import json, os

class Run:
    def log(self, values, step):
        print("logged", json.dumps({"step": step, **values}))
    def finish(self):
        print("finished")

class Config:
    def update(self, values, allow_val_change):
        print("begins", json.dumps(values))

def init(project, name):
    print("named", project, name)
    return Run()

config = Config()
"""


def test_scalars_go_to_a_tracker_that_is_asked_for(tmp_path):
    """A stand-in has the functions of wandb that Accelerate calls."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/__init__.py").write_text(WANDB)
    (tmp_path / "wandb-1.0.dist-info").mkdir()
    (tmp_path / "wandb-1.0.dist-info/METADATA").write_text("Name: wandb\nVersion: 1.0\n")
    command = [sys.executable, SCRIPT, "Supervised", tmp_path / "run", "steps=2", "log_every=1", "tracker=wandb"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
    lines = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert lines["named"] == "--main-- run" and "steps: 2" in json.loads(lines["begins"])["recipe"]
    last = journal(tmp_path / "run")[-1]
    logged = json.loads(lines["logged"])
    assert logged.pop("step") == last.pop("step") == 2 and "finished" in lines
    kind, _ = last.pop("kind"), last.pop("time")
    assert logged == pytest.approx({f"{kind}/{name}": value for name, value in last.items()}, rel=1e-5)


@pytest.mark.parametrize(("name", "problem"), [("wand", "unknown; known are .*wandb"), ("mlflow", "is not installed")])
def test_a_tracker_that_cannot_be_had_is_named(name, problem, tmp_path):
    with pytest.raises(InputError, match=f"tracker={name}: {problem}"):
        Run(tmp_path, Plan(tracker=name), "cpu")
