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
from audio_soundstream.train import first

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
        for net, rule in ((task.Generator(codec), recipe.optimizer), (discriminators, recipe.discriminator_optimizer))
    ]
    for player in players:
        player.join(accelerator)
    work = task.Coding(*players, recipe)
    used = case.config["num_quantizers_used"]
    work._counts = lambda items, device: torch.full((items,), used)
    for step, batch in enumerate(case.inputs["x"]):
        values = work.step(batch, step)
        wanted = {
            name[6:]: float(v) for name, v in case.outputs.items() if name.startswith(f"step{step}_") and not v.ndim
        }
        ours = {
            **{"g_total": values["total"], "g_adv": values["adversarial"], "g_feat": values["features"]},
            **{"g_rec": values["power"], "commitment": values["commitment"], "d_loss": values["discriminators"]},
            **{"g_grad_norm": players[0].norm, "d_grad_norm": players[1].norm},
            "g_lr": 1e-4 * recipe.schedule(players[0].updates),
            "d_lr": 1e-4 * recipe.schedule(players[1].updates),
        }
        for name, value in ours.items():
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


@pytest.mark.parametrize("left_out", ["features", "adversarial", "both"])
def test_balanced_losses_leave_out_what_has_no_weight(left_out):
    """From the step on with which the discriminators begin, whose losses the balance does not know."""
    torch.manual_seed(0)
    shares = {"mel": 1, "wave": 1, "adversarial": 1, "features": 1, "balanced": True}
    shares |= dict.fromkeys(("adversarial", "features") if left_out == "both" else (left_out,), 0)
    model = {"kind": "TinyStream", "channels": 4, "width": 8, "layers": 2, "size": 8, "rate": 8000}
    settings = {"model": model, "weights": shares, "discriminators": {"wave": 4, "stft": 0, "begin": 0}}
    recipe = config.build(Recipe, settings)
    net, discriminator = task.generator(first(recipe.model), recipe.weights), task.discriminators(recipe)
    players = [Player(part, recipe.optimizer.build(part.parameters())) for part in (net, discriminator)]
    for player in players:
        player.join(Accelerator(cpu=True))
    values = task.Coding(*players, recipe).step(0.1 * torch.randn(2, 1, 4000), 0)
    assert {"mel", "wave", "discriminators"} <= set(values) and values["total"].isfinite()
    assert {"adversarial", "features"} - set(values) == {name for name in shares if not shares[name]}
