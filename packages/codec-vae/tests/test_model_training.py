"""How the originals were trained, as our recipes say it: what is published becomes a recipe, what is wrong a line."""

import json

import pytest
from audio_codec_vae import model_config
from audio_codec_vae.recipe import (
    DACDiscriminator,
    EncodecDiscriminator,
    LyraInverse,
    Mel,
    OobleckDiscriminator,
    Recipe,
)
from audio_core import config
from audio_core.files import InputError
from audio_core.testing import mutations
from audio_core.train.optimize import SGD, Adam, AdamW, Constant, Cosine, InverseLR, Staircase

from . import published_configs
from .test_model_config import LATER, LYRA, changed, refused

SIZES = (2048, 1024, 512, 256, 128, 64, 32)


def recipe(data):
    return config.build(Recipe, dict(model_config.understood(data).training))


def learning(network, **choices):
    """A published configuration with another optimizer or scheduler of a network."""
    path = f"training__optimizer_configs__{network}__"
    return changed(published_configs.stable_audio_2(), **{path + name: choice for name, choice in choices.items()})


def test_the_training_of_stable_audio_2_is_a_recipe():
    ours = recipe(published_configs.stable_audio_2())
    spectral = ours.losses.spectral
    assert (spectral.weight, spectral.windows, spectral.weighting, spectral.sides) == (1.0, SIZES, "A", 1.0)
    assert (spectral.convergence, spectral.log_magnitude, spectral.divide_by) == (1.0, 1.0, "estimate")
    assert (ours.losses.kl.weight, ours.losses.kl.convention) == (1e-4, "sum_over_channels")
    assert (ours.losses.time.l1, ours.losses.time.l2, ours.losses.mel) == (0.0, 0.0, None)
    assert ours.discriminator == EncodecDiscriminator(width=64, windows=SIZES[:5], adversarial=0.1, features=5.0)
    assert ours.optimizer == AdamW(1.5e-4, (0.8, 0.99), weight_decay=1e-3)
    assert ours.discriminator_optimizer == AdamW(3e-4, (0.8, 0.99), weight_decay=1e-3)
    inverse = InverseLR(inv_gamma=200000, power=0.5, warmup=0.999)
    assert ours.schedule == ours.discriminator_schedule == inverse
    assert ours.average == 0.9999


def test_the_other_published_trainings_are_recipes():
    first, third = recipe(published_configs.stable_audio_1()), recipe(published_configs.dac_2048())
    falling = Staircase(every=1, factor=0.999996)
    assert first.schedule == first.discriminator_schedule == third.schedule == falling
    assert (first.optimizer.lr, third.discriminator_optimizer.lr, first.losses.kl.weight) == (1e-4, 5e-5, 1e-6)
    assert third.discriminator == EncodecDiscriminator(width=32, windows=SIZES)
    musicgen = recipe(published_configs.musicgen())
    assert musicgen.optimizer == musicgen.discriminator_optimizer == AdamW(1e-4, (0.8, 0.99))
    assert musicgen.schedule == Constant() and musicgen.losses.quantizer == 1.0


def test_the_steps_of_the_case_are_a_recipe(stored_case):
    data = {"model_type": "autoencoder", **stored_case("training_steps").config}
    data.pop("float32_noise", None)
    ours = recipe({key: data[key] for key in ("model_type", "sample_rate", "model", "training")})
    assert (ours.optimizer, ours.discriminator_optimizer) == (SGD(1e-3, 0.0), SGD(1e-2, 0.0))
    assert (ours.losses.time.l1, ours.losses.time.l2, ours.losses.kl.weight) == (0.5, 0.2, 1e-4)
    assert ours.losses.spectral.windows == (512, 128, 32)
    assert ours.discriminator == EncodecDiscriminator(width=4, windows=(512, 128))


def test_other_losses_and_discriminators_are_understood():
    base = published_configs.stable_audio_2()
    mel = {"config": {"n_mels": [5, 10], "window_lengths": [32, 64], "pow": 1.0}, "weights": {"mrmel": 2.0}}
    data = changed(base, training__loss_configs__mrmel=mel, training__loss_configs__spectral__decay=0.9)
    data = changed(data, training__loss_configs__spectral__config__scale="mel", training__clip_grad_norm=0.5)
    data = changed(data, training__loss_configs__spectral__config__n_bins=64, training__warmup_steps=1001)
    ours = recipe(changed(data, training__warmup_mode="full", training__loss_configs__bottleneck=None))
    assert ours.losses.mel == Mel(2.0, (32, 64), (5, 10), 1.0, 1.0, 1.0)
    assert (ours.losses.spectral.decay, ours.losses.spectral.mel_bands, ours.losses.kl.weight) == (0.9, 64, 1e-6)
    assert (ours.discriminator.warmup, ours.discriminator.warmup_mode, ours.clip) == (501, "full", 0.5)

    def discriminator(kind, **settings):
        place = "training__loss_configs__discriminator__"
        return recipe(changed(base, **{place + "type": kind, place + "config": settings})).discriminator

    assert discriminator("dac", periods=[2, 3], use_hinge=True) == DACDiscriminator(
        periods=(2, 3), loss="shifted_hinge", adversarial=0.1, features=5.0
    )
    halves = discriminator("dac", bands=[[0.0, 0.5], [0.5, 1.0]], fft_sizes=[512])
    assert (halves.bands, halves.windows, halves.loss) == ((0.5,), (512,), "least_squares")
    assert discriminator("oobleck", in_channels=2) == OobleckDiscriminator(adversarial=0.1, features=5.0)
    place = "training__loss_configs__discriminator__config__"
    own = changed(base, **{place + "stride": [1, 2], place + "spec_scale_pow": -0.25, place + "normalize_losses": True})
    ours = recipe(own).discriminator
    assert (ours.stride, ours.power, ours.relative_features) == (2, -0.25, True)
    assert recipe(changed(base, training__loss_configs__discriminator=None)).discriminator is None


def test_without_losses_the_usual_ones_are_meant():
    ours = recipe(changed(published_configs.stable_audio_2(), training__loss_configs=None))
    assert ours.discriminator == EncodecDiscriminator(width=32, windows=SIZES)
    assert (ours.losses.spectral.windows, ours.losses.spectral.weighting) == (SIZES, "A")


def test_optimizers_and_schedules_are_understood():
    adam = learning("autoencoder", optimizer={"type": "Adam", "config": {"lr": 1e-3}}, scheduler=None)
    assert (recipe(adam).optimizer, recipe(adam).schedule) == (Adam(1e-3), Constant())
    fused = learning("autoencoder", optimizer={"type": "FusedAdam", "config": {"lr": 1e-3, "betas": [0.9, 0.95]}})
    assert recipe(fused).optimizer == AdamW(1e-3, (0.9, 0.95))
    assert recipe(learning("autoencoder", optimizer={"type": "SGD"})).optimizer == SGD(1e-3, 0.0)
    steps = learning("discriminator", scheduler={"type": "StepLR", "config": {"step_size": 7, "gamma": 0.5}})
    assert recipe(steps).discriminator_schedule == Staircase(every=7, factor=0.5)
    cosine = {"type": "CosineAnnealingLR", "config": {"T_max": 100, "eta_min": 3e-5}}
    assert recipe(learning("discriminator", scheduler=cosine)).discriminator_schedule == Cosine(total=100, final=0.1)
    inverse = {"type": "InverseLR", "config": {"final_lr": 1.5e-5}}
    assert recipe(learning("autoencoder", scheduler=inverse)).schedule == InverseLR(final=0.1)


def test_what_no_recipe_holds_is_said():
    data = changed(published_configs.stable_audio_2(), training__latent_mask_ratio=0.1, training__force_input_mono=True)
    assert model_config.understood(data).remarks == (
        "training.force_input_mono: is left out, since no recipe holds it",
        "training.latent_mask_ratio: is left out, since no recipe holds it",
    )


def test_wrong_trainings_are_one_clear_line():
    base = published_configs.stable_audio_2()
    losses = "training__loss_configs__"
    refused(changed(base, training__learning_rat=1), "training.learning_rat; did you mean training.learning_rate?")
    refused(changed(base, **{losses + "spectral__weights": {"mrstf": 1.0}}), "'mrstf' is not one of mrstft")
    hops = changed(base, **{losses + "spectral__config__hop_sizes": [128] * 7})
    refused(hops, "hop_sizes: windows here are as long as fft_sizes, and hops a quarter of them")
    refused(changed(base, **{losses + "spectral__config__w_diff": 2.0}), "w_diff: is 2, and the loss here has 1")
    refused(changed(base, **{losses + "spectral__config__scale": "mel"}), "n_bins: are those of scale mel")
    refused(changed(base, **{losses + "hubert": {}}), "hubert: its network is fetched from elsewhere")
    text = (
        "training.loss_configs.discriminator.type: 'encodc' is not one of encodec, dac, oobleck; did you mean encodec?"
    )
    refused(changed(base, **{losses + "discriminator__type": "encodc"}), text)
    text = "discriminator.config: unknown key filter; did you mean filters?"
    refused(changed(base, **{losses + "discriminator__config__filter": 3}), text)
    wide = changed(base, **{losses + "discriminator__config__in_channels": 1})
    refused(wide, "discriminator.config.in_channels: is 1, and the audio has 2")
    refused(learning("autoencoder", optimizer={"type": "Adagrad"}), "autoencoder.optimizer.type: 'Adagrad' is not one")
    refused(learning("autoencoder", scheduler={"type": "InversLR"}), "did you mean InverseLR?")
    text = "discriminator.scheduler.config: unknown key gama; did you mean gamma?"
    refused(learning("discriminator", scheduler={"type": "ExponentialLR", "config": {"gama": 1}}), text)
    nothing = changed(base, training__optimizer_configs=None, training__learning_rate=None)
    refused(nothing, "training.learning_rate: is missing, and there are no optimizer_configs")


def test_mutilated_trainings_are_refused_or_understood():
    base = published_configs.stable_audio_2()
    for mutated in mutations(base["training"]):
        try:
            recipe({**base, "training": mutated})
        except InputError as error:
            assert "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"{mutated} ends in {type(error).__name__}: {error}") from error


def test_both_trainings_of_lyracodec_are_recipes():
    first, later = (recipe(config.parse(text, "config.yaml")) for text in (LYRA, LATER))
    assert first.optimizer == AdamW(1e-4, weight_decay=1e-4) and first.losses.spectral is None
    assert (first.losses.time.l2, first.clip, first.batch, first.epochs) == (1.0, 1.0, 4, 500)
    kl = first.losses.kl
    assert (kl.weight, kl.convention, kl.anneal_epochs, kl.anneal_steps) == (1e-6, "mean_over_channels", 2, 0)
    assert later.optimizer == Adam(1e-4, (0.8, 0.99), weight_decay=3e-4)
    assert later.schedule == LyraInverse() and later.losses.kl.anneal_steps == 5000
    assert (later.losses.spectral.divide_by, later.losses.spectral.windows, later.batch) == ("target", SIZES, 12)


def test_a_configuration_becomes_a_recipe_in_yaml(tmp_path):
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(published_configs.musicgen()))
    text = model_config.migrated(path, ["batch=3"])
    first, second, *_ = text.splitlines()
    assert first == "# From model_config.json, a configuration of stable-audio-tools"
    assert "upsamples by [4, 4, 5, 8]" in second
    ours = config.build(Recipe, config.parse(text, "recipe.yaml"))
    assert ours.batch == 3 and ours.model == model_config.read(path).model
    with pytest.raises(InputError, match=r"model_config\.json: .*unknown key batsch; did you mean batch"):
        model_config.migrated(path, ["batsch=3"])
