"""Configurations of stable-audio-tools: what is published is understood, what is wrong is one clear line."""

import json

import pytest
from audio_core import config
from audio_core.files import InputError
from audio_core.testing import mutations
from audio_core.train.optimize import Adam, AdamW, Constant, Cosine, InverseLR, Staircase
from audio_core.weights import no_values
from audio_gen import model_config
from audio_gen.config import conditioners as ours
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.discriminators import ArcWeights, ConvNeXtHeadConfig
from audio_gen.config.masks import MaskConfig
from audio_gen.config.timesteps import (
    ConstantConfig,
    DistributionShiftConfig,
    LogitNormalConfig,
    LogSNRConfig,
    LogSNRUniformConfig,
    TruncLogitNormalConfig,
    UniformConfig,
)
from audio_gen.config.transformer import AttentionConfig, FeedForwardConfig, NormConfig, TransformerConfig
from audio_gen.config.unets import ADPConfig, DanceDiffusionUNetConfig
from audio_gen.models.diffusion import Diffusion

from .original_configs import changed, recipe_of, refused
from .published_models import NAMES, one, published

DIT = {"io_channels": 64, "embed_dim": 64, "depth": 1, "num_heads": 1}


def with_training(**training):
    return changed(published("open_1"), training={"learning_rate": 1e-4, **training})


def with_conditioner(kind, **settings):
    """Open 1.0 with one more conditioner, on the frames."""
    data = changed(published("open_1"), model__diffusion__input_concat_ids=["more"])
    data["model"]["conditioning"]["configs"].append(one("more", kind, **settings))
    data["model"]["diffusion"]["config"]["input_concat_dim"] = settings.get("output_dim", 768)
    return data


# --- the published ones ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions"),
    [("stable_audio_1", 906.7), ("stable_audio_2", 1056.8), ("open_1", 1056.8), ("open_small", 340.9)],
)
def test_published_models_have_their_parameters(name, millions):
    """Of Open 1.0 and Small they were counted in the original, and the paper on 1.0 tells 907 million."""
    with no_values():
        model = Diffusion(model_config.understood(published(name)).settled())
    assert round(sum(each.numel() for each in model.backbone.parameters()) / 1e6, 1) == millions


def test_published_latent_models_are_understood():
    first, second = (model_config.understood(published(name)).settled() for name in ("stable_audio_1", "open_1"))
    assert isinstance(first.backbone, ADPConfig) and first.backbone.context_embedding_max_length == 79
    assert (first.rate, first.channels, first.samples, first.hop, first.width) == (44100, 2, 4194304, 1024, 64)
    assert first.conditioning.conditioners == {
        "prompt": ours.CLAPTextConfig(use_text_features=True, feature_layer_ix=-2),
        "seconds_start": ours.IntConfig(),
        "seconds_total": ours.IntConfig(),
    }
    assert isinstance(second.backbone, DiTConfig) and not second.backbone.project_cond_tokens
    assert (second.hop, second.frames, second.objective, second.codec) == (2048, 1024, "v", None)
    assert second.conditioning.conditioners["prompt"] == ours.T5Config()
    assert second.conditioning.conditioners["seconds_total"] == ours.NumberConfig(max_val=512)
    assert second.cross_attention_cond_ids == ("prompt", "seconds_start", "seconds_total")
    assert second.global_cond_ids == ("seconds_start", "seconds_total")
    small = model_config.understood(published("open_small")).settled()
    assert (small.objective, small.samples, small.backbone.transformer.attention.qk_norm) == (
        "rf_denoiser",
        524288,
        "ln",
    )


def test_dance_diffusion_is_audio_itself():
    stated = model_config.understood(published("dance_diffusion"))
    model = stated.settled()
    assert not stated.has_codec and stated.kind == "diffusion_uncond"
    assert model.backbone == DanceDiffusionUNetConfig(n_attn_layers=5)
    assert (model.rate, model.channels, model.samples, model.hop) == (48000, 2, 65536, 1)


def test_the_content_stays_as_it_is():
    for name in NAMES:
        data = published(name)
        model_config.understood(data)
        assert data == published(name)


# --- networks --------------------------------------------------------------------------------------------------


def test_all_keys_of_the_transformer_are_understood():
    settings = {
        **DIT,
        "patch_size": 2,
        "diffusion_objective": "v",
        "num_memory_tokens": 4,
        "conformer": True,
        "attn_kwargs": {"qk_norm": "l2", "differential": True},
        "ff_kwargs": {"mult": 2, "no_bias": True},
        "norm_kwargs": {"bias": True, "eps": 1e-6},
    }
    data = {**published("dance_diffusion"), "audio_channels": 64, "model": {"type": "dit", "config": settings}}
    assert model_config.understood(data).settled().backbone == DiTConfig(
        **DIT,
        patch_size=2,
        transformer=TransformerConfig(
            num_memory_tokens=4,
            conformer=True,
            attention=AttentionConfig(qk_norm="l2", differential=True),
            feed_forward=FeedForwardConfig(mult=2, no_bias=True),
            norm=NormConfig(bias=True, eps=1e-6),
        ),
    )


@pytest.mark.parametrize(("kind", "conditions"), [("adp_uncond_1d", {}), ("adp_1d", {"context_channels": [768]})])
def test_unets_of_audio_diffusion_pytorch(kind, conditions):
    settings = {"in_channels": 64, "channels": 32, "multipliers": [1, 1], "factors": [2], "num_blocks": [1]}
    settings |= {"attentions": [0], "use_snake": False, **conditions}
    if conditions:
        data = with_conditioner("pretransform", use_model_pretransform=True)
        data["model"]["diffusion"] = {"type": kind, "input_concat_ids": ["more"], "config": settings}
    else:
        data = {**published("dance_diffusion"), "audio_channels": 64, "model": {"type": kind, "config": settings}}
    backbone = model_config.understood(data).settled().backbone
    assert (backbone.in_channels, backbone.context_channels) == (64, tuple(conditions.get("context_channels", ())))


def test_inpainting_and_shifts_are_understood():
    ids = ["inpaint_mask", "inpaint_masked_input"]
    data = changed(published("open_1"), model_type="diffusion_cond_inpaint", model__diffusion__input_concat_ids=ids)
    data["model"]["diffusion"]["config"]["input_concat_dim"] = 65
    data["model"]["diffusion"] |= {"diffusion_objective": "rectified_flow", "distribution_shift_options": {}}
    model = model_config.understood(data).settled()
    assert model.inpaints and model.distribution_shift == DistributionShiftConfig()
    without = changed(data, model__diffusion__input_concat_ids=ids[:1])
    refused(without, "model.diffusion.input_concat_ids: inpainting needs inpaint_mask and inpaint_masked_input")


# --- conditioners ----------------------------------------------------------------------------------------------

MORE = {
    "phoneme": ({"max_length": 80}, ours.PhonemeConfig(max_length=80)),
    "list": ({"options": ["a", "b"]}, ours.ListConfig(options=("a", "b"))),
    "clap_audio": ({"finetune": False, "project_out": True}, ours.CLAPAudioConfig(project_out=True)),
    "t5": ({"enable_grad": True}, ours.T5Config(enable_grad=True)),
    "pretransform": ({"use_model_pretransform": True}, ours.PretransformConfig(encoded_channels=64)),
    "source_mix": (
        {"pretransform_config": {"type": "patched", "config": {"channels": 2, "patch_size": 8}}, "source_keys": ["a"]},
        ours.SourceMixConfig(encoded_channels=16, source_keys=("a",)),
    ),
    "number": (
        {"min_val": -2, "max_val": 2.5, "output_dim": 5},
        ours.NumberConfig(min_val=-2, max_val=2.5, output_dim=5),
    ),
}


@pytest.mark.parametrize("kind", MORE)
def test_conditioners_are_understood(kind):
    settings, expected = MORE[kind]
    assert (
        model_config.understood(with_conditioner(kind, **settings)).settled().conditioning.conditioners["more"]
        == expected
    )


def test_substitutes_and_ready_tensors_are_kept():
    data = published("open_1")
    data["model"]["conditioning"] |= {"default_keys": {"prompt": "title"}, "pre_encoded_keys": ["prompt"]}
    conditioning = model_config.understood(data).settled().conditioning
    assert (conditioning.default_keys, conditioning.pre_encoded_keys) == ({"prompt": "title"}, ("prompt",))


def test_what_a_file_does_not_say_is_a_setting():
    """The rows of a table of tokens follow from a tokenizer; a least number other than 0 never worked there."""
    table = with_conditioner("lut", tokenizer_name="bert", special_tokens=["<a>"])
    refused(table, "conditioning.conditioners.more.vocab_size is missing")
    settings = ["conditioning.conditioners.more.vocab_size=9"]
    expected = ours.LUTConfig(tokenizer_name="bert", vocab_size=9, special_tokens=("<a>",))
    assert model_config.understood(table).settled(settings).conditioning.conditioners["more"] == expected
    refused(with_conditioner("int", min_val=5, max_val=9), "set from_min_val")
    model_config.understood(published("open_1")).settled(["codec.name=codec-vae", "codec.path=folder"])


# --- training --------------------------------------------------------------------------------------------------


def test_trainings_are_understood(tmp_path):
    recipe, text = recipe_of(tmp_path, published("open_1"), "model.codec.name=codec-vae", "data.root=latents")
    assert recipe.optimizer == AdamW(5e-5, (0.9, 0.999), weight_decay=1e-3)
    assert recipe.schedule == InverseLR(inv_gamma=1e6, power=0.5, warmup=0.99)
    assert (recipe.average, recipe.cfg_dropout, recipe.timesteps.distribution) == (0.9999, 0.1, UniformConfig())
    assert str(recipe.data.root) == "latents" and recipe.model.codec.name == "codec-vae"
    assert text.startswith("# From model_config.json, a configuration of stable-audio-tools\n# training.demo: is left")
    assert config.build(type(recipe), config.parse(text, "recipe")) == recipe
    text = recipe_of(tmp_path, published("open_1"))[1]
    assert "# its latents become audio by a codec, which model.codec.name" in text
    recipe = recipe_of(tmp_path, published("dance_diffusion"))[0]
    assert (recipe.optimizer, recipe.schedule) == (Adam(1e-4), Constant())


def test_all_settings_of_a_training_are_understood(tmp_path):
    data = with_training(
        use_ema=False,
        pre_encoded=True,
        cfg_dropout_prob=0.2,
        timestep_sampler="log_snr",
        timestep_sampler_options={"mean_logsnr": -1, "std_logsnr": 1.5},
        p_one_shot=0.25,
        mask_padding=True,
        mask_padding_dropout=0.1,
        inpainting={"mask_kwargs": {"max_mask_segments": 3, "mask_type_probabilities": [0.5, 0.5, 0]}},
        log_loss_info=True,
        trim_config={"trim_prob": 0.5},
    )
    recipe, text = recipe_of(tmp_path, data)
    assert recipe.timesteps.distribution == LogSNRConfig(-1, 1.5) and recipe.timesteps.p_one_shot == 0.25
    assert (recipe.average, recipe.cfg_dropout, recipe.mask_padding, recipe.mask_padding_dropout) == (0, 0.2, True, 0.1)
    assert recipe.inpainting == MaskConfig(max_mask_segments=3, mask_type_probabilities=(0.5, 0.5, 0))
    for name in ("log_loss_info", "trim_config", "pre_encoded"):
        assert f"# training.{name}: " in text
    always = changed(published("dance_diffusion"), training__use_ema=False)
    assert recipe_of(tmp_path, always)[0].average == 0.9999  # an unconditional model always has averaged weights


@pytest.mark.parametrize(
    ("name", "distribution"),
    [("logit_normal", LogitNormalConfig()), ("trunc_logit_normal", TruncLogitNormalConfig())],
)
def test_distributions_of_times(tmp_path, name, distribution):
    assert recipe_of(tmp_path, with_training(timestep_sampler=name))[0].timesteps.distribution == distribution


@pytest.mark.parametrize(
    ("scheduler", "schedule"),
    [
        ({"type": "ExponentialLR", "config": {"gamma": 0.9}}, Staircase(every=1, factor=0.9)),
        ({"type": "StepLR", "config": {"step_size": 7}}, Staircase(every=7, factor=0.1)),
        ({"type": "CosineAnnealingLR", "config": {"T_max": 9, "eta_min": 1e-6}}, Cosine(total=9, final=0.1)),
    ],
)
def test_schedules(tmp_path, scheduler, schedule):
    adam = {"type": "Adam", "config": {"lr": 1e-5}}
    data = with_training(optimizer_configs={"diffusion": {"optimizer": adam, "scheduler": scheduler}})
    recipe = recipe_of(tmp_path, data)[0]
    assert recipe.optimizer == Adam(1e-5) and recipe.schedule(100) == pytest.approx(schedule(100))


ADAM = {"optimizer": {"type": "Adam", "config": {"lr": 1e-5}}}
ARC = {
    "discriminator": {
        "type": "convnext",
        "config": {"channels": 64, "c_mults": [1, 2], "strides": [2, 4], "num_blocks": [1, 1]},
        "dit_hidden_layer": 11,
        "contrastive": True,
        "include_grad_penalties": True,
        "weights": {"generator": 2, "contrastive": 0.5},
    },
    "noise_dist": {"generator": "logsnr_uniform", "discriminator": "one_shot"},
    "use_model_as_teacher": True,
    "use_model_as_discriminator": True,
    "ode_warmup": {"warmup_steps": 100},
}


def post_trained(**changes):
    """Open Small with ARC, whose discriminator has a schedule."""
    both = {"diffusion": ADAM, "discriminator": {**ADAM, "scheduler": {"type": "StepLR", "config": {"step_size": 7}}}}
    data = changed(published("open_small"), training={"optimizer_configs": both, "arc": ARC})
    return changed(data, **{f"training__{path}": value for path, value in changes.items()})


def test_adversarial_post_training_is_understood(tmp_path):
    recipe, text = recipe_of(tmp_path, post_trained())
    arc = recipe.arc
    head = ConvNeXtHeadConfig(channels=64, c_mults=(1, 2), strides=(2, 4), num_blocks=(1, 1))
    assert arc.discriminator.head == head and arc.discriminator.dit_hidden_layer == 11
    assert arc.discriminator.contrastive and arc.discriminator.include_grad_penalties
    assert arc.discriminator.weights == ArcWeights(generator=2, discriminator=1, contrastive=0.5)
    assert (arc.noise_dist.generator, arc.noise_dist.discriminator) == (LogSNRUniformConfig(), ConstantConfig(1))
    assert recipe.optimizer == arc.optimizer == Adam(1e-5) and arc.schedule == Staircase(every=7, factor=0.1)
    for line in ("arc: post-trains a bundle", "arc.ode_warmup: is left out", "arc.use_model_as_teacher: is left out"):
        assert f"# training.{line}" in text
    plain = recipe_of(tmp_path, post_trained(arc__noise_dist={"discriminator": "denoised"}))[0].arc.noise_dist
    assert (plain.generator, plain.discriminator) == (UniformConfig(), ConstantConfig(0))


def test_adversarial_post_training_that_is_wrong_is_one_clear_line(tmp_path):
    where = "training.arc"
    refused(post_trained(arc__noise_dst={}), f"{where}: unknown key noise_dst; did you mean noise_dist?")
    refused(post_trained(arc__discriminator__contrastve=True), "contrastve; did you mean discriminator.contrastive?")
    text = f"{where}.discriminator.config: unknown key stride; did you mean strides?"
    refused(post_trained(arc__discriminator__config={"stride": [2]}), text)
    refused(post_trained(arc__noise_dist={"generator": "unifrm"}), "'unifrm' is not one of uniform, logit_normal")
    refused(post_trained(optimizer_configs__discriminator=None), "optimizer_configs.discriminator: is missing")
    refused(post_trained(arc__discriminator__dit_hidden_layer=None), "dit_hidden_layer")
    with pytest.raises(InputError, match="arc: post-trains rectified flows"):
        recipe_of(tmp_path, changed(post_trained(), model__diffusion__diffusion_objective="v"))


# --- what is wrong ---------------------------------------------------------------------------------------------


def test_what_is_unknown_is_one_clear_line():
    data = published("open_1")
    refused(changed(data, sample_rat=3), "unknown key sample_rat; did you mean sample_rate?")
    refused(changed(data, model__pretransfrm={}), "model: unknown key pretransfrm; did you mean pretransform?")
    refused(changed(data, model__diffusion__config__embed_dm=3), "model.diffusion.config: unknown key embed_dm; did")
    text = "model.diffusion.config.attn_kwargs: unknown key qk_nrm; did you mean qk_norm?"
    refused(changed(data, model__diffusion__config__attn_kwargs={"qk_nrm": "ln"}), text)
    refused(changed(data, training__use_emma=True), "training: unknown key use_emma; did you mean use_ema?")
    text = "model_type: 'diffusion_con' is not one of diffusion_uncond, diffusion_cond, diffusion_cond_inpaint, "
    refused(changed(data, model_type="diffusion_con"), text)
    refused(changed(data, model_type="autoencoder"), "'autoencoder', which audio-codec-vae reads, is not one of")
    refused(changed(data, model__diffusion__type="dot"), "model.diffusion.type: 'dot' is not one of dit, adp")
    refused(changed(published("dance_diffusion"), model__type="DAU"), "model.type: 'DAU' is not one of DAU1d, adp")
    text = "model.conditioning.configs[3].type: 'nmber' is not one of t5, clap_text, clap_audio, int, number"
    refused(with_conditioner("nmber"), text)
    refused(with_conditioner("number", min_vl=2), "configs[3].config: unknown key min_vl; did you mean min_val?")
    refused(with_training(timestep_sampler="unifrm"), "'unifrm' is not one of uniform, logit_normal")
    text = "model.pretransform.type: 'pqmf', a filter bank that no codec here is, is not one of autoencoder"
    refused(changed(data, model__pretransform__type="pqmf"), text)
    refused({"layers": 3}, "is no configuration of stable-audio-tools: it has no model_type")


def test_what_does_not_fit_is_one_clear_line():
    data = published("open_1")
    refused(changed(data, model__io_channels=32), "model.io_channels: is 32, and the network has 64")
    refused(changed(data, model__pretransform__config__latent_dim=32), "have 32 channels, and the network 64")
    refused(changed(data, audio_channels=1), "audio_channels: is 1, and the pretransform has 2")
    refused(changed(data, model__diffusion__global_cond_ids=["seconds_total"]), "global_cond_dim: conditions make 768")
    refused(changed(data, model__diffusion__prepend_cond_ids=["x"]), "there is no conditioner 'x'; there are prompt")
    refused(changed(data, training__optimizer_configs=None), "training.learning_rate: is missing")
    refused(with_conditioner("pretransform"), "pretransform_config: is missing, and use_model_pretransform is not set")
    refused(with_conditioner("clap_text", finetune=True), "configs[3].config: finetune: True is not one of False")
    twice = changed(data)
    twice["model"]["conditioning"]["configs"][1]["id"] = "prompt"
    refused(twice, "model.conditioning.configs[1].id: 'prompt' is there twice")
    unguided = changed(published("stable_audio_1"), model__diffusion__config__context_embedding_features=None)
    refused(unguided, "model.diffusion.config: ADP: context_embedding_features and context_embedding_max")


@pytest.mark.parametrize("name", ["stable_audio_1", "open_small", "dance_diffusion"])
def test_mutilated_configurations_are_refused_or_understood(name):
    for mutated in mutations(published(name)):
        try:
            model_config.understood(mutated).settled()
        except InputError as error:
            assert "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"{mutated} ends in {type(error).__name__}: {error}") from error


def test_files_are_named(tmp_path):
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(changed(published("open_1"), model__io_channels=3)))
    with pytest.raises(InputError, match=r"model_config\.json: model\.io_channels: is 3"):
        model_config.read(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        model_config.migrated(path)
