"""Six kinds of learning at toy size.

`python train_toys.py KIND FOLDER [key=value ...]` trains one and can die on the way.
"""

import hashlib
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from audio_core import command, config
from audio_core.files import InputError
from audio_core.train.average import Average
from audio_core.train.fit import fit
from audio_core.train.optimize import Adam, Staircase
from audio_core.train.plan import Plan
from audio_core.train.player import Player
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Log, Save
from audio_core.weights import whole
from torch import nn
from torch.nn import functional as F

WIDTH = 16


class Samples:
    """Noise and what a task needs to learn from it, as functions of the index."""

    def __init__(self, seed: int, nan_at: int = -1):
        self.seed, self.nan_at = seed, nan_at

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        x = rng.standard_normal(WIDTH).astype(np.float32)
        if index == self.nan_at:
            x[3] = np.nan
        draws = {name: rng.standard_normal(WIDTH).astype(np.float32) for name in ("noise", "more")}
        return {"x": x, **draws, "t": np.float32(rng.uniform()), "tokens": rng.integers(0, 7, 12)}

    def name(self, index: int) -> str:
        return f"clip-{index}.wav"


class Held(Samples):
    def __len__(self) -> int:
        return 9


def mlp(inputs: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 24), nn.GELU(), nn.Dropout(dropout), nn.Linear(24, outputs))


def player(net: nn.Module, lr: float = 1e-2, **settings) -> Player:
    return Player(
        net,
        Adam(lr=lr).build(net.parameters()),
        Staircase(every=5, factor=0.8, warmup=3),
        clip=1.0,
        **settings,
    )


class Supervised:
    """Regression with dropout and averaged weights."""

    def __init__(self, dropout: float):
        net = mlp(WIDTH, WIDTH, dropout)
        self.net = player(net, average=Average(net, 0.9))
        self.players = {"net": self.net}

    def loss(self, net, batch):
        return F.mse_loss(net(batch["x"]), batch["x"].cumsum(-1).tanh())

    def step(self, batch, at):
        loss = self.loss(self.net, batch)
        self.net.update(loss)
        return {"loss": loss.detach()}

    def evaluate(self, batch):
        return {"loss": self.loss(self.net.average.net, batch)}

    def release(self):
        return self.net.average.net


class Normalised(Supervised):
    """The same through batch normalisation, whose statistics are those of a process's own batches."""

    def __init__(self, dropout: float):
        net = nn.Sequential(nn.BatchNorm1d(WIDTH), mlp(WIDTH, WIDTH, dropout))
        self.net = player(net, average=Average(net, 0.9))
        self.players = {"net": self.net}


class Vae(nn.Module):
    def __init__(self, dropout: float):
        super().__init__()
        self.down, self.up = mlp(WIDTH, 8, dropout), mlp(4, WIDTH)

    def forward(self, x, noise):
        mean, log_scale = self.down(x).chunk(2, -1)
        estimate = self.up(mean + noise[:, :4] * log_scale.exp())
        return estimate, (mean**2 + (2 * log_scale).exp() - 2 * log_scale).mean()


class VaeGan:
    """Two players: a variational autoencoder and its discriminator."""

    def __init__(self, dropout: float):
        self.codec, self.discriminator = player(Vae(dropout)), player(mlp(WIDTH, 1))
        self.players = {"codec": self.codec, "discriminator": self.discriminator}

    def step(self, batch, at):
        x = batch["x"]
        estimate, penalty = self.codec(x, batch["noise"])
        with self.discriminator.judging() as discriminator:
            fool = -discriminator(estimate).mean()
        close = F.l1_loss(estimate, x)
        self.codec.update(close + 0.1 * fool + 1e-2 * penalty)
        spot = F.relu(1 - self.discriminator(x)).mean() + F.relu(1 + self.discriminator(estimate.detach())).mean()
        self.discriminator.update(spot)
        return {"close": close.detach(), "fool": fool.detach(), "spot": spot.detach()}


class MetricGan:
    """A discriminator that learns to tell a score, and a net that pleases it."""

    def __init__(self, dropout: float):
        self.net, self.discriminator = player(mlp(WIDTH, WIDTH, dropout)), player(mlp(2 * WIDTH, 1))
        self.players = {"net": self.net, "discriminator": self.discriminator}

    def step(self, batch, at):
        clean, noisy = batch["x"], batch["x"] + 0.5 * batch["noise"]
        estimate = self.net(noisy)
        with self.discriminator.judging() as discriminator:
            please = (1 - discriminator(torch.cat([clean, estimate], -1))).square().mean()
        self.net.update(please + F.mse_loss(estimate, clean))
        score = 1 / (1 + (estimate.detach() - clean).square().mean(-1, keepdim=True))
        predicted = self.discriminator(torch.cat([clean, estimate.detach()], -1))
        spot = F.mse_loss(predicted, score) + F.mse_loss(
            self.discriminator(torch.cat([clean, clean], -1)), torch.ones_like(score)
        )
        self.discriminator.update(spot)
        return {"please": please.detach(), "spot": spot.detach()}


class Diffusion:
    """The noise of a sample at a random time."""

    def __init__(self, dropout: float):
        self.net = player(mlp(WIDTH + 1, WIDTH, dropout))
        self.players = {"net": self.net}

    def step(self, batch, at):
        t = batch["t"][:, None]
        mixed = (1 - t) * batch["x"] + t * batch["noise"]
        loss = F.mse_loss(self.net(torch.cat([mixed, t], -1)), batch["noise"] - batch["x"])
        self.net.update(loss)
        return {"loss": loss.detach()}


class Language:
    """The next token from the one before."""

    def __init__(self, dropout: float):
        self.net = player(nn.Sequential(nn.Embedding(7, WIDTH), mlp(WIDTH, 7, dropout)))
        self.players = {"net": self.net}

    def step(self, batch, at):
        tokens = batch["tokens"]
        loss = F.cross_entropy(self.net(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])
        self.net.update(loss)
        return {"loss": loss.detach()}


KINDS = {cls.__name__: cls for cls in (Supervised, Normalised, VaeGan, MetricGan, Diffusion, Language)}


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """A plan and what the toy does on the way."""

    steps: int = 12
    batch: int = 4
    workers: int = 0
    save_every: int = 3
    log_every: int = 2
    evaluate_every: int = 4
    dropout: float = 0.2
    FREE = Plan.FREE
    SHARDS = True


def weights(task) -> str:
    """One hash of all parameters of all players."""
    digest = hashlib.sha256()
    for name, one in sorted(task.players.items()):
        for key, value in whole(one.raw.state_dict()).items():
            digest.update(f"{name}.{key}".encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def train(kind: str, folder: Path, recipe: Recipe, *watchers, nan_at: int = -1, device: str = "cpu"):
    """A run as a package's `train` does it; returns the task and the run."""
    torch.manual_seed(recipe.seed)
    task = KINDS[kind](recipe.dropout)
    run = Run(folder, recipe, device)
    journal = Journal(run)
    listening = [Evaluate(journal, Held(99), 4, "loss", lower=True)] if kind == "Supervised" else []
    fit(
        task,
        Samples(recipe.seed, nan_at),
        run,
        [Log(journal, quiet=True), *listening, Save(), *watchers],
    )
    return task, run


def dies(at: int, number: int):
    def watch(task, metrics, run):
        if run.step == at:
            os.kill(os.getpid(), number)

    return watch


def fills_the_disk(at: int):
    """From step `at` on no file may grow beyond 100 bytes: writing fails as on a full disk."""

    def watch(task, metrics, run):
        if run.step == at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    return watch


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, folder, *arguments = sys.argv[1:]
    own = dict(
        pair.split("=")
        for pair in arguments
        if pair.split("=")[0] in ("kill_at", "term_at", "full_at", "nan_at", "device")
    )
    recipe = config.build(Recipe, {}, [pair for pair in arguments if pair.split("=")[0] not in own])
    watchers = []
    if "kill_at" in own:
        watchers.append(dies(int(own["kill_at"]), signal.SIGKILL))
    if "term_at" in own:
        watchers.append(dies(int(own["term_at"]), signal.SIGTERM))
    if "full_at" in own:
        watchers.append(fills_the_disk(int(own["full_at"])))
    try:
        task, run = train(
            kind, Path(folder), recipe, *watchers, nan_at=int(own.get("nan_at", -1)), device=own.get("device", "cpu")
        )
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    rank = run.accelerator.process_index
    result = {"step": run.step, "stopped": run.stopped, "weights": weights(task)}
    result["processes"] = run.accelerator.num_processes
    states = {name: one.raw.state_dict() for name, one in task.players.items()}
    states |= {f"{name}.average": one.average.net.state_dict() for name, one in task.players.items() if one.average}
    states = whole(states)
    torch.save(states, Path(folder) / f"rank-{rank}.pt")
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(result))
    run.close()
    command.leave(0)
