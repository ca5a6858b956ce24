"""Steps of stable-audio-tools' training from stored weights, and what a step promises."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from audio_codec_vae import task
from audio_codec_vae.config import AutoencoderConfig
from audio_codec_vae.models import bottleneck
from audio_codec_vae.models.autoencoder import Autoencoder
from audio_codec_vae.models.weight_norm import fit_weight_norm
from audio_codec_vae.recipe import KL, Recipe
from audio_core import config
from audio_core.testing import Case, close, noise, tone

from .toys import CONFIGS, autoencoder

FIXTURES = Path(__file__).parent / "fixtures"


def joined(recipe: Recipe, model: Autoencoder, epoch_steps: int = 1, accumulate: int = 1) -> task.Coding:
    work = task.coding(recipe, model, epoch_steps)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    for player in work.players.values():
        player.join(accelerator)
        player.net.train()
    return work


# --- the original's steps ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.load(FIXTURES / "training_steps")


def recipe_of(case: Case, **adversary) -> Recipe:
    """The settings of the case."""
    losses = case.config["training"]["loss_configs"]
    windows = {
        name: losses[name]["config"]["n_ffts" if name == "discriminator" else "fft_sizes"]
        for name in losses
        if "config" in losses[name]
    }
    model = case.config["model"]
    optimizers = case.config["training"]["optimizer_configs"]
    settings = {
        "model": {
            "encoder": {"kind": "OobleckEncoder", **model["encoder"]["config"]},
            "decoder": {"kind": "OobleckDecoder", **model["decoder"]["config"]},
            "bottleneck": {"kind": "VAE"},
        },
        "losses": {
            "spectral": {"windows": windows["spectral"]},
            "time": losses["time"]["weights"],
            "kl": {"weight": losses["bottleneck"]["weights"]["kl"]},
        },
        "discriminator": {"kind": "EncodecDiscriminator", "width": 4, "windows": windows["discriminator"], **adversary},
        "optimizer": {"kind": "SGD", "momentum": 0, **optimizers["autoencoder"]["optimizer"]["config"]},
        "discriminator_optimizer": {"kind": "SGD", "momentum": 0, **optimizers["discriminator"]["optimizer"]["config"]},
    }
    return config.build(Recipe, settings)


NAMES = (("discriminator.discriminators.discriminators.", "resolutions."), ("convs.", "layers."), ("conv_post", "last"))


def our_name(name: str) -> str:
    """Of a parameter of the discriminator, with weight norm in the original's layout."""
    for old, new in (*NAMES, (".conv.", ".")):
        name = name.replace(old, new)
    return name


def of_the_case(case: Case, **adversary) -> task.Coding:
    """The task with the weights of the case."""
    state, recipe = case.state(), recipe_of(case, **adversary)
    model = Autoencoder(recipe.model)
    parts = {name.removeprefix("autoencoder."): value for name, value in state.items() if name.startswith("auto")}
    model.load_state_dict(fit_weight_norm(parts, model))
    work = joined(recipe, model)
    parts = {our_name(name): value for name, value in state.items() if name.startswith("discriminator.")}
    work.discriminator.raw.load_state_dict(fit_weight_norm(parts, work.discriminator.raw))
    return work


@pytest.fixture
def noise_of_the_case(case, monkeypatch):
    monkeypatch.setattr(bottleneck, "normal", lambda shape, like, generator: case.inputs["eps"])


LAYOUTS = (("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1"))


def with_our_layout(name: str) -> str:
    for old, new in LAYOUTS:
        name = name.replace(old, new)
    return name


def kept_gradients(work: task.Coding, monkeypatch) -> dict[str, float]:
    """The norms of all gradients of the next step, by the case's names; filled by the players' updates."""
    norms: dict[str, float] = {}
    for prefix, player in (("autoencoder.", work.generator), ("discriminator.", work.discriminator)):
        step = player.optimizer.step

        def keep(*arguments, prefix=prefix, player=player, step=step, **named):
            net = player.raw.autoencoder if prefix == "autoencoder." else player.raw
            for name, parameter in net.named_parameters():
                norms[prefix + name] = float(parameter.grad.norm())
            return step(*arguments, **named)

        monkeypatch.setattr(player.optimizer, "step", keep)
    return norms


@pytest.mark.usefixtures("noise_of_the_case")
@pytest.mark.parametrize("warming", [False, True])
def test_a_step_is_stable_audio_tools_s_two(case, monkeypatch, warming):
    """The original takes one step of the generator and one of the discriminator, each from the same weights."""
    work = of_the_case(case, warmup=1 if warming else 0)
    norms = kept_gradients(work, monkeypatch)
    values, weight = work.step(case.inputs["reals"], 0), task.weights(work.recipe.losses, work.recipe.discriminator)
    stem = "generator_warmup_step2" if warming else "generator_step0"
    wanted = {name.partition("train/")[2]: value for name, value in case.outputs.items() if name.startswith(stem)}
    ours = {
        "loss": values["total"],
        "latent_std": values["latent_std"],
        "data_std": case.inputs["reals"].std(),
        "mrstft_loss": values["spectral"],
        "l1_time_loss": weight["l1"] * values["l1"],
        "l2_time_loss": weight["l2"] * values["l2"],
        "kl_loss": work.recipe.losses.kl.weight * values["kl"],
        "loss_adv": weight["adversarial"] * values.get("adversarial", torch.tensor(0.0)),
        "feature_matching_loss": weight["features"] * values.get("features", torch.tensor(0.0)),
        "gen_lr": torch.tensor(work.recipe.optimizer.lr),
    }
    for name, value in ours.items():
        close(value.double(), wanted[name].double(), 1e-5)
    close(values["sides"].double(), wanted["stft_loss_left"] + wanted["stft_loss_right"], 1e-5)
    close(values["discriminator"].double(), case.outputs["discriminator_step1.train/discriminator_loss"], 1e-5)
    assert {"stft_loss_left", "stft_loss_right", "", *ours} == set(wanted)
    checked = 0
    for name, value in case.outputs.items():
        step, _, parameter = name.partition(".grad_norm.")
        # The discriminator is frozen while the generator learns, and hands no gradient on while it learns itself.
        if parameter.startswith("autoencoder.") and step == stem:
            assert norms[with_our_layout(parameter)] == pytest.approx(float(value), rel=5e-2), name
            checked += 1
        elif parameter.startswith("discriminator.") and step == "discriminator_step1":
            ours = "discriminator." + with_our_layout(our_name(parameter))
            assert norms[ours] == pytest.approx(float(value), rel=5e-4), name
            checked += 1
    assert checked == 8
    if not warming:
        after = "generator_step0.after.autoencoder.decoder.layers.0.bias"
        close(work.release().decoder.layers[0].bias, case.outputs[after], 1e-3)


# --- what a step promises ------------------------------------------------------------------------------------


SMALL = {
    "EncodecDiscriminator": {"width": 4, "windows": [64]},
    "DACDiscriminator": {"width": 4, "windows": [64], "periods": [2]},
    "OobleckDiscriminator": {"width": 4, "scales": 1, "periods": [2]},
    "LyraDiscriminator": {"width": 4, "window": 64, "hop": 16, "periods": [2], "scales": []},
}


def small(kind: str = "EncodecDiscriminator", name: str = "oobleck", **settings) -> Recipe:
    losses = {"spectral": {"windows": [64, 16], "weighting": "none"}, **settings.pop("losses", {})}
    discriminator = {"kind": kind, **SMALL[kind], **settings.pop("discriminator", {})}
    model = config.plain(CONFIGS[name])
    return config.build(Recipe, {"model": model, "losses": losses, "discriminator": discriminator, **settings})


def batch(items: int = 2, samples: int = 256) -> torch.Tensor:
    return torch.stack([noise(seed, samples / 800, 800, 2) for seed in range(items)])


def test_the_discriminator_leaves_no_gradient_in_the_autoencoder(monkeypatch):
    work = joined(small(), autoencoder("oobleck").train())
    monkeypatch.setattr(work.generator, "update", lambda loss: None)
    values = work.step(batch(), 0)
    assert {"adversarial", "features", "discriminator"} <= set(values)
    assert all(parameter.grad is None for parameter in work.generator.raw.parameters())
    work = joined(small(), autoencoder("oobleck").train())
    monkeypatch.setattr(work.discriminator, "update", lambda loss: None)
    work.step(batch(), 0)
    assert all(parameter.grad is None for parameter in work.discriminator.raw.parameters())
    assert all(parameter.requires_grad for parameter in work.discriminator.raw.parameters())


@pytest.mark.parametrize(("mode", "learns"), [("adv", True), ("full", False)])
def test_a_discriminator_in_its_warmup_learns_or_waits(mode, learns):
    work = joined(small(discriminator={"warmup": 2, "warmup_mode": mode}), autoencoder("oobleck").train())
    for at in range(3):
        values = work.step(batch(), at)
        assert ("adversarial" in values) == (at == 2)
        assert ("discriminator" in values) == (learns or at == 2)
    assert work.discriminator.updates == (3 if learns else 1) and work.generator.updates == 3


@pytest.mark.parametrize("left_out", [(), ("adversarial",), ("features",), ("adversarial", "features")])
def test_balanced_losses_leave_out_what_has_no_weight(left_out):
    settings = {"losses": {"balanced": True, "mel": {"windows": [64], "bands": [5]}, "phase": {"windows": [64]}}}
    work = joined(small(**settings, discriminator=dict.fromkeys(left_out, 0.0)), autoencoder("oobleck").train())
    values = work.step(batch(), 0)
    assert {"spectral", "sides", "mel", "phase", "kl", "total", "discriminator"} <= set(values)
    assert {"adversarial", "features"} - set(values) == set(left_out)
    assert all(value.isfinite() for value in values.values())


def test_spectra_count_from_the_update_that_the_recipe_says():
    losses = {"spectral": {"begin": 1, "windows": [64]}, "time": {"l1": 10.0}, "kl": {"weight": 0.0}}
    work = joined(small(losses=losses), autoencoder("oobleck").train())
    work.recipe = dataclasses.replace(work.recipe, discriminator=None)
    first, second = work.step(batch(), 0), work.step(batch(), 1)
    assert "spectral" not in first and "sides" not in first
    close(first["total"], 10 * first["l1"], 1e-6)
    close(second["total"], 10 * second["l1"] + second["spectral"] + second["sides"], 1e-6)


@pytest.mark.parametrize("name", ["lyra", "oobleck", "wavelet", "dac", "seanet", "taae"])
@pytest.mark.parametrize("kind", SMALL)
def test_every_autoencoder_learns_with_every_discriminator(name, kind):
    work = joined(small(kind, name), autoencoder(name).train())
    values = work.step(batch(), 0)
    assert all(value.isfinite() for value in values.values()), values
    assert work.generator.updates == work.discriminator.updates == 1
    with torch.no_grad():
        results = work.evaluate(torch.cat([batch(1), torch.zeros(1, 2, 256)]))
    assert math.isfinite(results["si_sdr"]) and math.isfinite(results["spectral"])


def test_both_conventions_of_the_divergence_are_the_same_training():
    """The sum over channels is twice their number times the mean: 6 for the three latents here."""
    results = []
    for name, own in (("oobleck", "sum_over_channels"), ("lyra", "mean_over_channels")):
        for convention in ("sum_over_channels", "mean_over_channels"):
            weight = 0.1 if convention == "sum_over_channels" else 0.6
            kl = {"weight": weight, "convention": convention}
            work = joined(small(name=name, losses={"kl": kl}), autoencoder(name).train())
            torch.manual_seed(0)
            values = work.step(batch(), 0)
            results.append(values)
        first, second = results[-2:]
        close(first["total"], second["total"], 1e-6)
        close(first["kl"], 6 * second["kl"], 1e-5)
        with torch.no_grad():
            given = autoencoder(name).train()(batch()).encoded.losses["kl"]
        close(given, (first if own == "sum_over_channels" else second)["kl"], 1e-5)


def test_lyra_s_divergence_and_total_are_its_own():
    case = Case.load(FIXTURES / "lyra_schedules")
    given = torch.cat([case.inputs["mu"], case.inputs["logvar"]], 1)
    encoded = bottleneck.build(config.build(AutoencoderConfig, {}).bottleneck, given.shape[1]).encode(given)
    close(encoded.losses["kl"], case.outputs["kl"])
    weight, anneal = case.config["seed_kl"].values()
    for epoch in range(3):
        annealed = KL(weight=weight, convention="mean_over_channels", anneal_epochs=anneal).at(epoch, 1)
        close(case.outputs["mse"] + annealed * encoded.losses["kl"], case.outputs[f"total_epoch{epoch}"])


def test_the_divergence_counts_from_its_second_epoch_on():
    kl = {"weight": 1.0, "convention": "mean_over_channels", "anneal_epochs": 2}
    work = joined(
        small(name="lyra", losses={"kl": kl}, discriminator={"adversarial": 0, "features": 0}),
        autoencoder("lyra").train(),
        epoch_steps=2,
    )
    for at in range(6):
        torch.manual_seed(0)
        values = work.step(batch(), at)
        divergence = values["total"] - values["spectral"] - values["sides"]
        assert float(divergence) == pytest.approx(min(1.0, at // 2 / 2) * float(values["kl"]), rel=1e-3, abs=1e-5)


def test_accumulated_parts_equal_a_large_batch():
    """In float64, as gradients through the discriminator are ill-conditioned; latents of this model are not drawn."""
    recipe = small(name="oobleck_odd", optimizer={"kind": "SGD", "lr": 0.01, "momentum": 0})
    weights = []
    for parts in (1, 4):
        torch.manual_seed(0)
        model = autoencoder("oobleck_odd").train().double()
        work = joined(recipe, model, accumulate=parts)
        work.discriminator.raw.double()
        for part in batch(4).double().chunk(parts):
            with work.generator.accelerator.accumulate():
                work.step(part, 0)
        weights.append({**model.state_dict(), **work.discriminator.raw.state_dict()})
    for name, value in weights[0].items():
        close(weights[1][name], value, 1e-6)


def tones(items: int, samples: int) -> torch.Tensor:
    """Two tones an item, in stereo at 44.1 kHz."""
    lengths = samples / 44100, 44100, 2
    return torch.stack([(tone(110 * at, *lengths) + tone(467 * at, *lengths)) / 2 for at in range(1, items + 1)])


def test_lyra_learns_two_recordings_by_heart():
    shape = {"base_channels": 16}
    settings = {
        "model": {"encoder": shape, "decoder": shape},
        "losses": {
            "spectral": None,
            "time": {"l2": 1},
            "kl": {"weight": 1e-6, "convention": "mean_over_channels", "anneal_epochs": 2},
        },
        "optimizer": {"kind": "AdamW", "lr": 2e-4, "betas": [0.9, 0.999], "weight_decay": 1e-4},
        "clip": 1.0,
    }
    torch.manual_seed(0)
    recipe = config.build(Recipe, settings)
    work, audio = joined(recipe, Autoencoder(recipe.model)), tones(2, 4096)
    errors = [float(work.step(audio, at)["l2"]) for at in range(100)]
    assert errors[-1] < 0.02 * float(audio.var())


def test_the_spectral_loss_of_oobleck_halves_soon():
    shape = {"channels": 16, "c_mults": [1, 2, 4, 8, 16], "strides": [2, 4, 4, 8, 8], "use_snake": True}
    encoder = {"kind": "OobleckEncoder", "latent_dim": 128, **shape}
    decoder = {"kind": "OobleckDecoder", "latent_dim": 64, "final_tanh": False, **shape}
    model = {"encoder": encoder, "decoder": decoder, "bottleneck": {"kind": "VAE"}}
    torch.manual_seed(0)
    recipe = config.build(Recipe, {"model": model})
    work, audio = joined(recipe, Autoencoder(recipe.model)), tones(2, 16384)
    values = [float(work.step(audio, at)["spectral"]) for at in range(25)]
    assert values[-1] < 0.5 * values[0]


def test_averaged_weights_are_what_is_released():
    work = joined(small(average=0.9999), autoencoder("oobleck").train())
    for at in range(4):
        work.step(batch(), at)
    assert work.release() is work.generator.average.net.autoencoder is not work.generator.raw.autoencoder
    trained, averaged = (net.decoder.layers[0].bias for net in (work.generator.raw.autoencoder, work.release()))
    assert not torch.equal(trained, averaged)
