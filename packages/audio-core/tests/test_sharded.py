"""FSDP: weights that are divided among two processes learn what one process learns, and are saved whole."""

import subprocess
from pathlib import Path

import pytest
import torch
import warm
from audio_core.train.results import BEST, best_results, journal, states
from audio_core.weights import read_shapes
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("train_toys.py")
SETTINGS = ("batch=4", "steps=8", "dropout=0", "evaluate_every=4")


@pytest.fixture
def fsdp(monkeypatch):
    """What `accelerate launch` sets where `accelerate config` chose FSDP."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    return monkeypatch


def trained(folder: Path, *settings: str, processes: int = 2, kind: str = "Supervised") -> subprocess.CompletedProcess:
    return warm.run(SCRIPT, kind, folder, *settings, processes=processes)


def succeeds(*arguments, **settings) -> None:
    result = trained(*arguments, **settings)
    assert result.returncode == 0, result.stderr[-3000:]


def saved(folder: Path, step: int) -> dict:
    path = folder / f"state/step-{step:08d}"
    return torch.load(path / "net.optimizer.pt", weights_only=True)["state"]


def test_two_processes_with_a_half_of_the_weights_each_equal_one(fsdp, tmp_path):
    succeeds(tmp_path / "one", *SETTINGS, "batch=8", processes=1)
    succeeds(tmp_path / "two", *SETTINGS)
    one, two = (torch.load(tmp_path / name / "rank-0.pt", weights_only=True) for name in ("one", "two"))
    assert list(one) == ["net", "net.average"]
    for part, state in one.items():
        for name, value in state.items():
            torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-5)
    for at, moments in saved(tmp_path / "one", 8).items():
        for name, value in moments.items():
            torch.testing.assert_close(saved(tmp_path / "two", 8)[at][name], value, rtol=1e-3, atol=1e-6)
    assert read_shapes(tmp_path / "two" / BEST) == read_shapes(tmp_path / "one" / BEST)
    results = [best_results(tmp_path / name) for name in ("one", "two")]
    assert results[0]["step"] == results[1]["step"] and abs(results[0]["loss"] - results[1]["loss"]) < 1e-5


@pytest.mark.parametrize("order", [("true", "false"), ("false", "true")])
def test_a_state_of_fsdp_goes_on_without_and_the_other_way_round(fsdp, tmp_path, order):
    for steps, sharded in zip(("steps=4", "steps=8"), order, strict=True):
        fsdp.setenv("ACCELERATE_USE_FSDP", sharded)
        succeeds(tmp_path / "parts", *SETTINGS, steps)
    fsdp.setenv("ACCELERATE_USE_FSDP", "false")
    succeeds(tmp_path / "whole", *SETTINGS)
    whole, parts = (saved(tmp_path / name, 8) for name in ("whole", "parts"))
    for at, moments in whole.items():
        assert moments["step"] == parts[at]["step"] == 8
        torch.testing.assert_close(parts[at]["exp_avg"], moments["exp_avg"], rtol=1e-3, atol=1e-6)
    for name, value in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "parts")[name], value, rtol=1e-4, atol=1e-5)


def weights(folder: Path) -> dict:
    """The newest averaged ones."""
    return load_file(folder / f"state/step-{max(states(folder)):08d}/net.average.safetensors")


def test_weights_that_are_divided_learn_in_half_precision(fsdp, tmp_path):
    succeeds(tmp_path, "steps=40", "dropout=0", "batch=8", "precision=bf16", "log_every=10")
    losses = [entry["loss"] for entry in journal(tmp_path) if entry["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    assert {value.dtype for value in weights(tmp_path).values()} == {torch.float32}


def test_a_class_to_wrap_that_no_network_has_is_named(fsdp, tmp_path):
    fsdp.setenv("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    fsdp.setenv("FSDP_TRANSFORMER_CLS_TO_WRAP", "Nothing")
    result = trained(tmp_path, *SETTINGS)
    assert result.returncode == 2 and "Could not find the transformer layer class Nothing" in result.stderr


def test_settings_that_the_machine_cannot_do_are_one_line(fsdp, tmp_path):
    fsdp.setenv("FSDP_OFFLOAD_PARAMS", "true")
    result = trained(tmp_path, *SETTINGS)
    assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith("accelerate: ")


ONE_STEP = """
import sys
from audio_core.files import InputError
from audio_core.train.plan import Plan
from audio_core.train.run import Run

class Sharded(Plan):
    SHARDS = True

try:
    Run(sys.argv[1], {"plain": Plan, "sharded": Sharded}[sys.argv[2]](), "cpu")
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def test_what_cannot_be_divided_is_refused_in_one_line(fsdp, tmp_path):
    result = warm.run("-c", ONE_STEP, tmp_path, "plain", processes=2)
    assert result.returncode == 2 and result.stderr.splitlines()[-1] == (
        "FSDP: this training needs whole weights in each process; configure accelerate without it"
    )
    fsdp.setenv("LOCAL_RANK", "0")  # as of a launcher, of which Accelerate takes one process for many
    assert warm.run("-c", ONE_STEP, tmp_path, "plain").returncode == 2
    fsdp.delenv("LOCAL_RANK")
    fsdp.setenv("FSDP_SYNC_MODULE_STATES", "true")  # as `accelerate config` does, for which version 1 needs a GPU
    for name, value in (("FSDP_VERSION", "1"), ("ACCELERATE_USE_DEEPSPEED", "true")):
        fsdp.setenv(name, value)
        result = warm.run("-c", ONE_STEP, tmp_path, "sharded", processes=2)
        assert result.returncode == 2 and "only FSDP with fsdp_version: 2 divides weights here" in result.stderr
        fsdp.setenv("FSDP_VERSION", "2")
    assert not list(tmp_path.iterdir())
