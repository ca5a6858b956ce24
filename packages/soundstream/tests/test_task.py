"""Two steps of the original's training, and what the repaired one promises."""

import pytest
import torch
from accelerate import Accelerator
from audio_core import config
from audio_core.train.player import Player
from audio_soundstream import original, task
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig
from audio_soundstream.model import SoundStream, TinyStream
from audio_soundstream.recipe import Recipe

from .test_discriminators import our_name

ORIGINAL = {
    "discriminators": {"wave": 16, "stft": 32, "swapped": True, "from_start": True, "begin": 0},
    "weights": {"mel": 0, "power": 1, "wave": 0, "adversarial": 1, "features": 100, "commitment": 0.25},
    "relative_features": False,
    "optimizer": {"lr": 1e-4, "betas": [0.8, 0.9]},
    "discriminator_optimizer": {"lr": 1e-4, "betas": [0.8, 0.9]},
    "average": 0,
}
BOOKS = {"embeddings.weight": "codebooks", "ema_cluster_size": "counts", "ema_w": "sums"}


@pytest.mark.parametrize("kind", ["soundstream", "tinystream"])
def test_two_steps_equal_the_original(stored_case, kind):
    case = stored_case(f"train_step_{kind}")
    state, sizes = case.state(), case.config["model_kwargs"]
    tiny = kind == "tinystream"
    cls, learning = (TinyStreamConfig, "gradient_original") if tiny else (SoundStreamConfig, "moving_original")
    settings = cls(
        sizes["C"], sizes["D"], layers=sizes["num_quantizers"], size=sizes["codebook_size"], learning=learning
    )
    recipe = config.build(Recipe, {**ORIGINAL, "model": {"kind": config.kind(cls)}})
    codec = (TinyStream if tiny else SoundStream)(settings)
    pairs = original.names(codec)
    codec.load_state_dict({ours: state[theirs] for ours, theirs in pairs.items()}, strict=False)
    books = [state[f"quantizer.quantizers.{at}.embeddings.weight"] for at in range(settings.layers)]
    codec.quantizer.load_codebooks(torch.stack(books))
    if not tiny:
        codec.quantizer.counts.zero_()
        codec.quantizer.sums.zero_()
    discriminators = task.discriminators(recipe)
    theirs = [name for name in state if name.startswith(("wave_disc.", "stft_disc."))]
    discriminators.load_state_dict({our_name(name): state[name] for name in theirs})

    accelerator = Accelerator(cpu=True)
    players = [
        Player(net, rule.build(net.parameters()), recipe.schedule, recipe.clip)
        for net, rule in ((task.Learner(codec), recipe.optimizer), (discriminators, recipe.discriminator_optimizer))
    ]
    for player in players:
        player.join(accelerator)
    work = task.Coding(*players, recipe)
    used = case.config["num_quantizers_used"]
    work._counts = lambda items, device: torch.full((items,), used)
    for step, batch in enumerate(case.inputs["x"]):
        told = work.step(batch, step)
        wanted = {
            name[6:]: float(v) for name, v in case.outputs.items() if name.startswith(f"step{step}_") and not v.ndim
        }
        found = {
            **{"g_total": told["total"], "g_adv": told["adversarial"], "g_feat": told["features"]},
            **{"g_rec": told["power"], "commitment": told["commitment"], "d_loss": told["discriminators"]},
            **{"g_grad_norm": players[0].norm, "d_grad_norm": players[1].norm},
            "g_lr": 1e-4 * recipe.schedule(players[0].updates),
            "d_lr": 1e-4 * recipe.schedule(players[1].updates),
        }
        for name, value in found.items():
            assert float(value) == pytest.approx(wanted[name], rel=1e-3), (step, name)
    back = {theirs: ours for ours, theirs in pairs.items()}
    for name, value in case.outputs.items():
        if not name.startswith("after."):
            continue
        name = name.removeprefix("after.")
        if name.startswith("discriminator."):
            ours = discriminators.state_dict()[our_name(name.removeprefix("discriminator."))]
        elif name.startswith("quantizer."):
            _, _, at, leaf = name.split(".", 3)
            ours = codec.state_dict()[f"quantizer.{BOOKS[leaf]}"][int(at)]
        else:
            ours = codec.state_dict()[back[name]]
        assert (ours - value).abs().max() <= 1e-3 * max(value.abs().max(), 1e-3), name
