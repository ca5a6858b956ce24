"""The engine's promises on five toy tasks: resume to the bit, accumulation, processes, signals, a full disk."""

import importlib.util
import json
import math
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import warm
from audio_core import config
from audio_core.audio import write
from audio_core.data.manifest import inspect_file
from audio_core.data.seeds import mix
from audio_core.data.segments import Fixed
from audio_core.files import InputError
from audio_core.testing import noise
from audio_core.train.fit import fit
from audio_core.train.optimize import SGD
from audio_core.train.plan import Plan
from audio_core.train.results import BEST, load_trained, results, stale
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Listen, Log, reconstructions
from audio_core.weights import save_weights
from torch import Tensor, nn

SCRIPT = Path(__file__).with_name("train_toys.py")
spec = importlib.util.spec_from_file_location("train_toys", SCRIPT)
toys = importlib.util.module_from_spec(spec)
sys.modules["train_toys"] = toys
spec.loader.exec_module(toys)

ALL = ["Supervised", "VaeGan", "MetricGan", "Diffusion", "Language"]


def launch(kind: str, folder: Path, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess:
    """One training in its own process, or in several that know each other."""
    return warm.run(SCRIPT, kind, folder, *arguments, processes=processes)


def steps_of(log: Path, kind: str = "train") -> list[int]:
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry["step"] for entry in entries if entry["kind"] == kind]


@pytest.mark.parametrize("kind", ALL)
def test_a_killed_run_goes_on_to_the_same_bit_with_other_workers(kind, tmp_path):
    """kill -9 at a random step, then resume with two loader workers: every weight is equal to an undisturbed run."""
    whole, _ = toys.train(kind, tmp_path / "whole", toys.Recipe())
    kill_at = random.SystemRandom().randint(1, 11)
    killed = launch(kind, tmp_path / "killed", f"kill_at={kill_at}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed, run = toys.train(kind, tmp_path / "killed", toys.Recipe(workers=2))
    assert run.step == 12
    assert toys.weights(resumed) == toys.weights(whole), f"killed at step {kill_at}"
    logged = steps_of(tmp_path / "killed/log.jsonl")
    assert logged == sorted(set(logged)) and logged[-1] == 12  # steps taken again are logged once


@pytest.mark.parametrize("kind", ALL)
def test_two_accumulated_batches_of_four_equal_one_of_eight(kind, tmp_path):
    one, _ = toys.train(kind, tmp_path / "one", toys.Recipe(batch=8, dropout=0.0))
    two, _ = toys.train(kind, tmp_path / "two", toys.Recipe(batch=4, accumulate=2, dropout=0.0))
    for name in one.players:
        for a, b in zip(one.players[name].raw.parameters(), two.players[name].raw.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert one.players[name].updates == two.players[name].updates == 12


@pytest.mark.parametrize("kind", ALL)
def test_two_processes_equal_one_with_the_joint_batch(kind, tmp_path):
    """Weights within 1e-4 of the single process, and identical on both ranks."""
    alone, _ = toys.train(kind, tmp_path / "one", toys.Recipe(batch=8, dropout=0.0))
    result = launch(kind, tmp_path / "two", "batch=4", "dropout=0", processes=2)
    assert result.returncode == 0, result.stderr
    ranks = [torch.load(tmp_path / f"two/rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
    hashes = [json.loads((tmp_path / f"two/rank-{rank}.json").read_text())["weights"] for rank in (0, 1)]
    assert hashes[0] == hashes[1]
    for name, one in alone.players.items():
        for key, value in one.raw.state_dict().items():
            torch.testing.assert_close(ranks[0][name][key], value, rtol=1e-4, atol=1e-4)


def test_two_processes_keep_the_same_running_statistics_also_those_of_the_average(tmp_path):
    """Each computes them from its own batches, and evaluates with them."""
    result = launch("Normalised", tmp_path, "steps=3", processes=2)
    assert result.returncode == 0, result.stderr
    one, other = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert list(one) == ["net", "net.average"] and one["net"]["0.running_mean"].abs().max() > 0
    for name, state in one.items():
        assert all(torch.equal(value, other[name][key]) for key, value in state.items()), name


def test_learning_makes_the_loss_fall(tmp_path):
    toys.train(
        "Supervised",
        tmp_path,
        toys.Recipe(steps=200, batch=16, dropout=0.0, evaluate_every=50, save_every=100),
    )
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    assert results(tmp_path, best=True)["loss"] == pytest.approx(min(losses_of(tmp_path, "evaluate")), rel=1e-5)
    assert list((tmp_path / "tensorboard").iterdir())


def losses_of(folder: Path, kind: str) -> list[float]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if entry["kind"] == kind]


def test_bf16_trains_on_a_cpu_and_keeps_float32_weights(tmp_path):
    task, _ = toys.train("VaeGan", tmp_path / "bf16", toys.Recipe(precision="bf16", dropout=0.0))
    plain, _ = toys.train("VaeGan", tmp_path / "fp32", toys.Recipe(dropout=0.0))
    a, b = task.codec.raw.up[0].weight, plain.codec.raw.up[0].weight
    assert a.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.05  # rounded otherwise, but the same learning


def test_fp16_is_refused_on_a_cpu(tmp_path):
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        toys.train("Supervised", tmp_path, toys.Recipe(precision="fp16"))


def test_sigterm_saves_and_the_next_start_goes_on(tmp_path):
    whole, _ = toys.train("Diffusion", tmp_path / "whole", toys.Recipe())
    asked = launch("Diffusion", tmp_path / "asked", "term_at=4", "workers=1")
    assert asked.returncode == 0, asked.stderr
    result = json.loads((tmp_path / "asked/rank-0.json").read_text())
    assert (result["step"], result["stopped"]) == (
        5,
        "SIGTERM",
    )  # the signal came after step 4 had been decided
    assert "saving after this step" in asked.stderr
    resumed, _ = toys.train("Diffusion", tmp_path / "asked", toys.Recipe())
    assert toys.weights(resumed) == toys.weights(whole)


def test_both_processes_leave_together_when_one_is_asked(tmp_path):
    result = launch("Supervised", tmp_path, "term_at=2", "steps=40", processes=2)
    assert result.returncode == 0, result.stderr
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert [one["step"] for one in ranks] == [10, 10] and ranks[0]["weights"] == ranks[1]["weights"]
    assert max(Run(tmp_path, toys.Recipe(steps=40), "cpu").states()) == 10


def test_a_loss_that_is_not_a_number_stops_with_step_term_and_files(tmp_path):
    with pytest.raises(InputError) as caught:
        toys.train("VaeGan", tmp_path, toys.Recipe(), nan_at=17)  # batch 4: sample 17 comes at step 4
    message = str(caught.value)
    assert message.startswith("step 4: close, fool, spot, the loss of codec, the loss of discriminator not finite")
    assert "the state of step 3 is kept" in message and "clip-17.wav" in message and "\n" not in message
    assert list(Run(tmp_path, toys.Recipe(), "cpu").states()) == [3]


def test_a_full_disk_while_saving_leaves_the_previous_state(tmp_path):
    result = launch("MetricGan", tmp_path, "full_at=4", "log_every=100")
    assert result.returncode == 2, result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert "step-00000006: cannot be written: File too large" in line and "the state of step 3 is whole" in line
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-00000003"]
    whole, _ = toys.train("MetricGan", tmp_path / "whole", toys.Recipe())
    resumed, _ = toys.train("MetricGan", tmp_path, toys.Recipe())
    assert toys.weights(resumed) == toys.weights(whole)


def test_a_process_killed_while_saving_leaves_nothing_that_looks_like_a_state(tmp_path):
    toys.train("Language", tmp_path, toys.Recipe(steps=3))
    half = tmp_path / "state/.step-00000006.123.part"
    half.mkdir()
    (half / "net.safetensors").write_bytes(b"half")
    _, run = toys.train("Language", tmp_path, toys.Recipe(steps=6))
    assert list(run.states()) == [3, 6] and not half.exists()


def test_pruning_compares_numbers(tmp_path):
    """150,000 saves, one after another: the newest three are always the ones on disk."""
    kept: list[int] = []
    for step in range(1, 150_001):
        kept.append(step)
        for old in stale(kept, 3):
            kept.remove(old)
        assert kept[-1] == step and len(kept) <= 3
    assert kept == [149_998, 149_999, 150_000]
    run = Run(tmp_path, Plan(keep=3), "cpu")
    for step in (9, 10, 99_999_998, 99_999_999, 100_000_000, 100_000_001):  # a digit more than the padding
        run.step = step
        run.save({})
    assert list(run.states()) == [99_999_999, 100_000_000, 100_000_001]


def test_a_folder_with_another_recipe_is_refused_by_name_of_the_fields(tmp_path):
    toys.train("Language", tmp_path, toys.Recipe(steps=2))
    with pytest.raises(InputError, match=r"another recipe \(different: batch, seed\)"):
        toys.train("Language", tmp_path, toys.Recipe(steps=2, batch=5, seed=3))
    _, run = toys.train("Language", tmp_path, toys.Recipe(steps=4, workers=1, save_every=1))
    assert run.step == 4
    assert config.load(toys.Recipe, tmp_path / "recipe.yaml") == toys.Recipe(steps=4, workers=1, save_every=1)


def test_a_damaged_state_is_named(tmp_path):
    toys.train("Language", tmp_path, toys.Recipe(steps=3))
    path = tmp_path / "state/step-00000003/net.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="step-00000003: cannot be read"):
        toys.train("Language", tmp_path, toys.Recipe(steps=6))


def test_a_discriminator_that_is_not_frozen_learns_from_the_generator(tmp_path):
    """What `judging` prevents: the generator's gradient in the discriminator."""
    task = toys.VaeGan(0.0)
    generated = torch.randn(4, toys.WIDTH, requires_grad=True)
    with task.discriminator.judging() as discriminator:
        discriminator(generated).mean().backward()
    assert generated.grad is not None and all(p.grad is None for p in task.discriminator.raw.parameters())
    assert all(p.requires_grad for p in task.discriminator.raw.parameters())


def test_seeds_of_neighbours_are_unrelated():
    seeds = {mix(0, step, micro, rank) for step in range(50) for micro in range(3) for rank in range(3)}
    assert len(seeds) == 450 and max(seeds) < 2**63
    assert not math.isclose(min(seeds) / 2**63, max(seeds) / 2**63, abs_tol=0.5)


def test_plans_check_their_numbers():
    with pytest.raises(InputError, match="batch must be at least 1, got 0"):
        config.build(Plan, {}, ["batch=0"])
    for seed in (-1, 2**63):
        with pytest.raises(InputError, match=r"seed must be from 0 to 9223372036854775807, got"):
            config.build(Plan, {"seed": seed})


def test_what_the_task_sounds_like_is_written_and_shown(tmp_path):
    """Listen writes sound and spectrogram under audio/, and both reach TensorBoard."""
    from audio_core import audio
    from audio_core.testing import tone
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run(tmp_path, Plan(evaluate_every=2), "cpu")
    listen = Listen(journal := Journal(run), lambda: {"tone": tone(440, 0.5, 8000, 2)}, 8000)
    task = toys.Supervised(0.5)
    for run.step in (1, 2):
        listen(task, {}, run)
    journal.scalars("train", {"loss": 0.5})
    journal.board.close()
    assert [path.name for path in (tmp_path / "audio").iterdir()] == ["step-00000002"]
    assert audio.info(tmp_path / "audio/step-00000002/tone.wav")[:3] == (8000, 2, 4000)
    assert (tmp_path / "audio/step-00000002/tone.png").read_bytes().startswith(b"\x89PNG")
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert (tags["scalars"], tags["audio"], tags["images"]) == (["train/loss"], ["tone"], ["tone"])


JOINS = """
import sys
from pathlib import Path
import torch
from audio_core.train.plan import Plan
from audio_core.train.run import Run
run = Run(sys.argv[1], Plan(), "auto")
together = run.accelerator.reduce(torch.ones(()))
Path(sys.argv[1], f"rank-{run.accelerator.process_index}").write_text(f"{run.accelerator.num_processes} {together}")
run.close()
"""


def test_processes_join_on_a_cpu_without_being_told(tmp_path):
    """`torchrun` with --device auto on a machine without a GPU is one training, not one for each process."""
    (tmp_path / "joins.py").write_text(JOINS)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    result = warm.run(*torchrun, tmp_path / "joins.py", tmp_path)
    assert result.returncode == 0, result.stderr
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["2 2.0"] * 2


def test_the_newest_weights_of_a_run_are_loaded_tied_ones_too(tmp_path):
    from audio_core.train.player import Player

    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    run = Run(tmp_path, Plan(), "cpu")
    for run.step in (9, 10):
        nn.init.constant_(net[0].weight, run.step)
        run.save({"net": Player(net, SGD().build(net.parameters()))})
    (tmp_path / "state/step-old").mkdir()
    nn.init.zeros_(net[0].weight)
    load_trained(net, tmp_path, "net")
    assert net[1].weight.unique().tolist() == [10]
    with pytest.raises(InputError, match="holds no saved state"):
        load_trained(net, tmp_path / "nowhere", "net")


def test_the_best_weights_are_of_the_released_part(tmp_path):
    net, released = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4)
    save_weights(released, tmp_path / BEST)
    load_trained(net, tmp_path, "net", best=True, released=net[1])
    assert torch.equal(net[1].weight, released.weight) and not torch.equal(net[0].weight, released.weight)


def test_a_codec_s_clips_and_reconstructions_are_heard(tmp_path):
    """The first three, also where there are fewer."""

    class Coded(NamedTuple):
        audio: Tensor

    class Halving(toys.Supervised):
        def release(self):
            return lambda audio: Coded(audio / 2)

    items = []
    for at, seconds in enumerate((1, 2, 3, 1)):
        write(tmp_path / f"{at}.wav", noise(at, seconds, 8000).numpy(), 8000)
        items.append(inspect_file(tmp_path / f"{at}.wav"))
    run, task = Run(tmp_path / "run", Plan(), "cpu"), Halving(0.0)
    clips = Fixed(items, frames=8000, take="centre")
    sounds = reconstructions(task, clips, run)
    assert [*sounds] == ["clip0", "clip0-decoded", "clip1", "clip1-decoded", "clip2", "clip2-decoded"]
    assert all(torch.equal(sounds[f"clip{at}"], clips[at]) for at in range(3))
    assert all(torch.equal(2 * sounds[f"clip{at}-decoded"], clips[at]) for at in range(3))
    assert [*reconstructions(task, Fixed(items[:1], frames=8000), run)] == ["clip0", "clip0-decoded"]


def test_a_metric_that_some_steps_lack_is_the_mean_of_the_others(tmp_path):
    run = Run(tmp_path, Plan(log_every=4), "cpu")
    log, task = Log(Journal(run), quiet=True), toys.Language(0.0)
    for run.step in range(1, 5):
        log(task, {"loss": torch.tensor(1.0)} | ({"spot": torch.tensor(2.0)} if run.step % 2 else {}), run)
    (entry,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (entry["loss"], entry["spot"]) == (1, 2)


def test_a_best_metric_that_the_task_does_not_have_is_named(tmp_path):
    run = Run(tmp_path, Plan(evaluate_every=1), "cpu")
    run.step = 1
    with pytest.raises(InputError, match="sdr is to decide which evaluation is best; there are loss"):
        Evaluate(Journal(run), toys.Held(0), 4, "sdr")(toys.Supervised(0.0), {}, run)


def test_optimizers_are_restored_where_their_weights_are(tmp_path, monkeypatch):
    """Accelerate moves what it is given, the step counts of Adam too, which then would be waited for every step."""
    toys.train("Language", tmp_path, toys.Recipe(steps=3))
    monkeypatch.setattr("accelerate.optimizer.move_to_device", lambda state, device: {**state, "state": {}})
    resumed, _ = toys.train("Language", tmp_path, toys.Recipe(steps=4))
    steps = [state["step"].item() for state in resumed.net.bare_optimizer.state.values()]
    assert set(steps) == {4}


def test_a_full_disk_while_logging_is_one_line_and_leaves_the_last_state(tmp_path):
    result = launch("MetricGan", tmp_path, "full_at=4", "log_every=1")
    assert result.returncode == 2, result.stderr
    assert "log.jsonl: cannot be written: File too large" in result.stderr.strip().splitlines()[-1]
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-00000003"]


class Normed:
    """Batch normalisation and dropout, which only eval mode leaves as they are."""

    def __init__(self):
        net = nn.Sequential(nn.Linear(toys.WIDTH, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, toys.WIDTH))
        self.net = toys.player(net)
        self.players = {"net": self.net}

    def step(self, batch, at):
        loss = (self.net(batch["x"]) - batch["x"]).square().mean()
        self.net.update(loss)
        return {"loss": loss.detach()}

    def evaluate(self, batch):
        loss = (self.net.raw(batch["x"]) - batch["x"]).square().mean()
        return {"loss": loss, "odd": loss * float("nan") if len(batch["x"]) < 4 else loss}


@pytest.mark.parametrize("every", [1, 5])
def test_listening_and_evaluating_change_no_step(every, tmp_path):
    plain = toys.Recipe(steps=5, evaluate_every=every)
    hashes = []
    for watched in (False, True):
        run = Run(tmp_path / str(watched), plain, "cpu")
        task, journal = Normed(), Journal(run)
        sounds = lambda: {"x": task.net.raw(torch.ones(2, toys.WIDTH))}  # noqa: E731, B023
        watchers = [Evaluate(journal, toys.Held(1), 4), Listen(journal, sounds, 8000)] if watched else []
        fit(task, toys.Samples(0), run, watchers)
        hashes.append(toys.weights(task))
    assert hashes[0] == hashes[1]
    entry = json.loads((tmp_path / "True/log.jsonl").read_text().splitlines()[-1])
    assert entry["odd"] is not None and entry["odd"] != entry["loss"]  # a NaN of one batch is left out of the mean
