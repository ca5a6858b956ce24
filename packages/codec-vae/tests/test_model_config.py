"""Configurations of the originals: what is published is understood, what is wrong is one clear line."""

import copy
import json
from functools import reduce

import pytest
from audio_codec_vae import model_config
from audio_codec_vae.config import (
    DACDecoderConfig,
    DACEncoderConfig,
    DACRVQConfig,
    DitheredFSQConfig,
    FilterBankConfig,
    LogVarianceConfig,
    LyraDecoderConfig,
    LyraEncoderConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
    PatchedConfig,
    RVQConfig,
    RVQVAEConfig,
    SEANetDecoderConfig,
    SEANetEncoderConfig,
    SoftNormConfig,
    TAAEDecoderConfig,
    TAAEEncoderConfig,
    TanhConfig,
    VAEConfig,
    WaveletConfig,
)
from audio_codec_vae.model_config import descript
from audio_codec_vae.model_config import lyra as lyra_config
from audio_codec_vae.models.autoencoder import Autoencoder
from audio_core import config
from audio_core.files import InputError
from audio_core.testing import mutations
from audio_core.weights import no_values

from . import published_configs


def changed(data, **changes):
    """A copy with other values at `a__b__c`; None takes one away."""
    data = copy.deepcopy(data)
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = reduce(lambda part, key: part[key], parents, data)
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return data


def refused(data, text):
    with pytest.raises(InputError) as caught:
        model_config.understood(data)
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def published():
    return {name: make() for name, make in published_configs.ALL.items()}


def test_published_configurations_are_understood(published):
    first = model_config.understood(published["stable_audio_1_0_vae"]).model
    assert first.encoder == DACEncoderConfig(in_channels=2, latent_dim=128, d_model=128, strides=(4, 4, 8, 8))
    assert first.decoder == DACDecoderConfig(out_channels=2, latent_dim=64, channels=1536, rates=(8, 8, 4, 4))
    second = model_config.understood(published["stable_audio_2_0_vae"]).model
    shape = {"c_mults": (1, 2, 4, 8, 16), "strides": (2, 4, 4, 8, 8), "use_snake": True}
    assert second.encoder == OobleckEncoderConfig(latent_dim=128, **shape)
    assert second.decoder == OobleckDecoderConfig(latent_dim=64, final_tanh=False, **shape)
    third = model_config.understood(published["dac_2048_32_vae"]).model
    assert third.encoder == DACEncoderConfig(latent_dim=64, strides=(4, 8, 8, 8))
    for model, channels in ((first, 2), (second, 2), (third, 1)):
        assert (model.rate, model.channels, model.bottleneck) == (44100, channels, VAEConfig())
        assert not model.soft_clip and not model.frozen and model.pretransform is None


def test_the_autoencoder_of_a_diffusion_model_is_taken(published):
    inside = model_config.understood(published["stable_audio_2_0"])
    assert inside.model == model_config.understood(published["stable_audio_2_0_vae"]).model
    assert inside.remarks == ()
    scaled = model_config.understood(changed(published["stable_audio_2_0"], model__pretransform__scale=0.5))
    assert scaled.remarks == ("the diffusion_cond divides the latents by 0.5; the autoencoder alone does not",)
    refused(changed(published["stable_audio_2_0"], model__pretransform=None), "works without an autoencoder")
    refused(changed(published["stable_audio_2_0"], model__pretransform__type="wavelet"), "is 'wavelet', where an auto")
    refused(changed(published["stable_audio_2_0"], sample_rate=None), "sample_rate is missing")
    wrong = changed(published["stable_audio_2_0"], model__pretransform__config__encoder__config__chanels=3)
    refused(wrong, "model.pretransform.config.encoder.config: unknown key chanels; did you mean channels?")


def test_seanets_keep_the_order_of_their_lists(published):
    """Of the encoder as it downsamples, of the decoder as it upsamples; the published pair is no mirror."""
    whole = published["encodec_musicgen_rvq"]
    musicgen = model_config.understood(whole)
    size = {"n_filters": 64, "ratios": (4, 4, 5, 8)}
    assert musicgen.model.encoder == SEANetEncoderConfig(**size)
    assert musicgen.model.decoder == SEANetDecoderConfig(**size)
    assert musicgen.model.bottleneck == RVQConfig(num_quantizers=4, codebook_size=2048)
    (remark,) = musicgen.remarks
    assert "upsamples by [4, 4, 5, 8] in this order" in remark and "would be [8, 5, 4, 4]" in remark
    mirrored = model_config.understood(changed(whole, model__decoder__config__ratios=[8, 5, 4, 4]))
    assert mirrored.remarks == () and mirrored.model.decoder.ratios == (8, 5, 4, 4)
    two = changed(whole, model__encoder__config__ratios=None, model__downsampling_ratio=32)
    two = changed(two, model__decoder__config__ratios=[2] * 5)
    assert model_config.understood(two).model.encoder.ratios == (2,) * 5


def test_nothing_is_changed_by_reading(published):
    for data in published.values():
        before = json.dumps(data)
        assert model_config.understood(data) == model_config.understood(data)
        assert json.dumps(data) == before


COUNTS = {"stable_audio_1_0_vae": 133431300, "stable_audio_2_0_vae": 156112514, "dac_2048_32_vae": 134592930}
COUNTS |= {"encodec_musicgen_rvq": 53259458, "lyra": 255858050, "dac_44khz": 76651890}


def test_published_models_have_their_parameters():
    models = {name: model_config.understood(make()).model for name, make in published_configs.ALL.items()}
    models["lyra"] = lyra_config.Network().autoencoder(44100, False)
    models["dac_44khz"] = descript.understood({}).model
    for name, count in COUNTS.items():
        with no_values():
            model = Autoencoder(models[name])
        assert sum(values.numel() for values in model.parameters()) == count, name


def test_models_are_the_same_after_writing_and_reading(published):
    for data in published.values():
        model = model_config.understood(data).model
        assert config.build(type(model), config.plain(model)) == model


def test_configurations_of_the_cases_are_understood(stored_case):
    for name in ("oobleck_elu_tanh", "oobleck_nearest_antialias", "dac_vae", "seanet_rvq", "taae"):
        data = dict(stored_case(name).config)
        data.pop("float32_noise", None)
        shown = {key: value for key, value in data.items() if key in ("model_type", "sample_rate", "model")}
        model = model_config.understood(shown).model
        for side in ("encoder", "decoder"):
            stated, ours = shown["model"][side]["config"], config.plain(getattr(model, side))
            same = {key: value for key, value in stated.items() if key != "norm"}
            assert {key: ours[key] for key in same} == same


SMALL = {
    "model_type": "autoencoder",
    "sample_rate": 16000,
    "model": {
        "encoder": {"type": "oobleck", "config": {"in_channels": 1, "latent_dim": 8}},
        "decoder": {"type": "oobleck", "config": {"out_channels": 1, "latent_dim": 8}},
        "latent_dim": 8,
        "downsampling_ratio": 512,
        "io_channels": 1,
    },
}


@pytest.mark.parametrize(
    ("stated", "expected", "before", "after"),
    [
        ({"type": "tanh"}, TanhConfig(), 8, 8),
        ({"type": "tanh", "config": {"scale": 5}}, TanhConfig(5.0), 8, 8),
        ({"type": "softnorm", "config": {"dim": 8, "noise_augment_dim": 3}}, SoftNormConfig(8, 3), 8, 11),
        ({"type": "rvq", "config": {"dim": 8, "kmeans_init": False}}, RVQConfig(dim=8), 8, 8),
        ({"type": "rvq_vae", "config": {"dim": 8, "commitment_weight": 2.0}}, RVQVAEConfig(dim=8), 16, 8),
        (
            {"type": "dac_rvq", "config": {"input_dim": 8, "codebook_dim": [2, 3], "n_codebooks": 2}},
            DACRVQConfig(8, 2, (2, 3)),
            8,
            8,
        ),
        (
            {"type": "dithered_fsq", "config": {"dim": 4, "levels": [8] * 4, "num_codebooks": 2}},
            DitheredFSQConfig(4, (8,) * 4, 2),
            8,
            8,
        ),
    ],
)
def test_bottlenecks_are_understood(stated, expected, before, after):
    data = changed(SMALL, model__bottleneck=stated, model__encoder__config__latent_dim=before)
    data = changed(data, model__decoder__config__latent_dim=after)
    assert model_config.understood(data).model.bottleneck == expected
    wrong = changed(data, model__decoder__config__latent_dim=after + 1)
    refused(wrong, f"model: decoder: takes {after + 1} channels, and the bottleneck gives {after} for latent_dim 8")


@pytest.mark.parametrize(
    ("stated", "expected", "rows"),
    [
        ({"type": "patched", "config": {"channels": 1, "patch_size": 4}}, PatchedConfig(1, 4), 4),
        ({"type": "wavelet", "config": {"channels": 1, "levels": 2}}, WaveletConfig(1, 2), 4),
        ({"type": "pqmf", "config": {"channels": 1}, "enable_grad": True}, FilterBankConfig(1), 16),
    ],
)
def test_pretransforms_are_understood(stated, expected, rows):
    data = changed(SMALL, model__pretransform=stated, model__downsampling_ratio=512 * rows)
    data = changed(data, model__encoder__config__in_channels=rows, model__decoder__config__out_channels=rows)
    assert model_config.understood(data).model.pretransform == expected
    few = changed(data, model__encoder__config__in_channels=1)
    refused(few, f"encoder: has 1 channels of audio, and io_channels is 1 in {rows} rows each")
    refused(changed(data, model__downsampling_ratio=512), f"encoder: has the ratio {512 * rows}, and downsampling")
    refused(changed(data, model__pretransform__scale=2), "pretransform.scale: is 2, and no such pretransform has one")


def test_transformers_keep_their_window():
    sides = {"model__encoder__type": "taae", "model__decoder__type": "taae"}
    model = model_config.understood(changed(SMALL, **sides)).model
    assert (model.encoder, model.decoder) == (
        TAAEEncoderConfig(in_channels=1, latent_dim=8, sliding_window=(63, 64)),
        TAAEDecoderConfig(out_channels=1, latent_dim=8, sliding_window=(63, 64)),
    )
    whole = changed(SMALL, **sides, model__encoder__config__checkpointing=True)
    whole["model"]["encoder"]["config"]["sliding_window"] = None
    assert model_config.understood(whole).model.encoder.sliding_window is None
    wrong = changed(SMALL, **sides, model__encoder__config__layer_scale=False)
    refused(wrong, "model.encoder.config: layer_scale: False is not one of True")


def test_parts_that_do_not_learn_and_soft_clipping_are_kept():
    data = changed(SMALL, model__encoder__requires_grad=False, model__decoder__soft_clip=True)
    data = changed(data, model__bottleneck={"type": "tanh", "requires_grad": False})
    model = model_config.understood(data).model
    assert model.frozen == ("encoder", "bottleneck") and model.soft_clip


def test_what_does_not_fit_is_one_clear_line(published):
    whole = published["stable_audio_2_0_vae"]
    refused(changed(whole, model__latent_dim=32), "encoder: gives 128 channels, and the bottleneck takes 64")
    refused(changed(whole, model__bottleneck=None), "encoder: gives 128 channels, and the bottleneck takes 64")
    refused(changed(whole, model__downsampling_ratio=1024), "encoder: has the ratio 2048, and downsampling_ratio is 1")
    refused(changed(whole, model__decoder__config__strides=[2, 4, 4, 8, 4]), "decoder: has the ratio 1024, and down")
    refused(changed(whole, model__io_channels=1), "audio_channels: is 2, and model.io_channels 1")
    mono = changed(whole, model__io_channels=1, audio_channels=1)
    refused(mono, "model: encoder: has 2 channels of audio, and io_channels is 1")
    refused(changed(whole, model__out_channels=1), "model.out_channels: is 1 for 2 that go in")
    refused(changed(whole, model__latent_dim=None), "model.latent_dim is missing")
    musicgen = published["encodec_musicgen_rvq"]
    refused(changed(musicgen, model__bottleneck__config__dim=64), "bottleneck: has the width 64, and latent_dim is 128")


def test_what_is_unknown_is_one_clear_line(published):
    whole = published["stable_audio_2_0_vae"]
    refused(changed(whole, sample_rat=3), "unknown key sample_rat; did you mean sample_rate?")
    refused(changed(whole, model__encodr=3), "unknown key model.encodr; did you mean model.encoder?")
    text = "model.encoder.config: unknown key use_snak; did you mean use_snake?"
    refused(changed(whole, model__encoder__config__use_snak=True), text)
    text = "model.encoder.type: 'ooblek' is not one of oobleck, dac, seanet, taae; did you mean oobleck?"
    refused(changed(whole, model__encoder__type="ooblek"), text)
    text = "model.decoder.type: 'local_attn', which the original itself cannot build, is not one of oobleck"
    refused(changed(whole, model__decoder__type="local_attn"), text)
    text = "model.bottleneck.type: 'vqvae' is not one of vae, tanh, l2_norm"
    refused(changed(whole, model__bottleneck__type="vqvae"), text)
    refused(changed(whole, model__bottleneck__config={"dim": 3}), "model.bottleneck.config: unknown key dim")
    refused(changed(whole, model_type="autoencodr"), "'autoencodr' is not one of autoencoder, diffusion_cond")
    refused(changed(whole, model_type="diffusion_autoencoder"), "whose decoder is a diffusion model")
    text = "norm: 'none' is not one of weight_norm"
    refused(changed(published["encodec_musicgen_rvq"], model__encoder__config__norm="none"), text)
    refused({"layers": 3}, "is no configuration of stable-audio-tools, diffusers or LyraCodec")
    refused([1], "is no configuration of")


def test_mutilated_configurations_are_refused_or_understood(published):
    for name, data in published.items():
        data = {key: value for key, value in data.items() if key != "training"}
        for mutated in mutations(data):
            try:
                model_config.understood(mutated)
            except InputError as error:
                assert "\n" not in str(error)
            except Exception as error:
                raise AssertionError(f"{name}: {mutated} ends in {type(error).__name__}: {error}") from error


def test_mutilated_files_of_the_others_are_refused_or_understood():
    dac = {"encoder_dim": 64, "encoder_rates": [2, 4], "latent_dim": None, "decoder_rates": [4, 2], "codebook_dim": [8]}
    readers = [(model_config.understood, config.parse(text, "config.yaml")) for text in (LYRA, LATER)]
    for read, data in [*readers, (model_config.understood, DIFFUSERS), (descript.understood, dac)]:
        for mutated in mutations(data):
            try:
                read(mutated)
            except InputError as error:
                assert "\n" not in str(error)
            except Exception as error:
                raise AssertionError(f"{mutated} ends in {type(error).__name__}: {error}") from error


def test_files_are_named(tmp_path):
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(SMALL))
    assert model_config.read(path).model.rate == 16000
    path.write_text(json.dumps(changed(SMALL, model__latent_dim=9)))
    with pytest.raises(InputError, match=r"model_config\.json: model: encoder: gives 8 channels"):
        model_config.read(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        model_config.read(path)


# --- LyraCodec, diffusers ----------------------------------------------------------------------------------

LYRA = """
model: {in_channels: 2, base_channels: 128, latent_dim: 64, c_mults: [[1, 1], [1, 2], [2, 4], [4, 8], [8, 16]],
  strides: [2, 4, 4, 8, 8]}
training: {batch_size: 4, num_epochs: 500, learning_rate: 1e-4, weight_decay: 1.0e-4, kl_weight: 1e-6,
  kl_anneal_epochs: 2, adam_betas: [0.9, 0.999], gradient_clip: 1.0}
data: {train_dir: ./data/vocal_dataset, target_length: 40960, target_sr: 44100, train_split: 0.9, num_workers: 2}
checkpointing: {save_dir: ./checkpoints, save_every_n_epochs: 2, keep_last_n: 3}
logging: {wandb_project: LyraCodec, log_every_n_steps: 10, save_audio_every_n_epochs: 10, num_audio_samples: 4}
system: {device: cuda, mixed_precision: true}
"""
LATER = """
hyperparameters:
  training: {learning_rate: 0.0001, batch_size: 12, kl_weight: 0.0001, kl_warmup_steps: 5000, betas: [0.8, 0.99]}
  data: {path: data/vocal_dataset/, sample_rate: 48000, target_length: 71680, num_workers: 4}
  model: {in_channels: 1, base_channels: 128, latent_dim: 64, c_mults: [[1, 1], [1, 2], [2, 4], [4, 8], [8, 16]],
    strides: [2, 4, 4, 8, 8]}
device: {use_cuda: true}
wandb: {project: VocalVAE, run_name: null}
"""


@pytest.fixture
def lyra(tmp_path):
    def read(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return model_config.read(path)

    return read


def test_both_arrangements_of_lyracodec_are_understood(lyra):
    first = lyra(LYRA)
    assert (first.model.encoder, first.model.decoder) == (LyraEncoderConfig(), LyraDecoderConfig())
    assert (first.model.rate, first.model.channels, first.model.bottleneck) == (44100, 2, LogVarianceConfig())
    assert first.training["optimizer"]["lr"] == 1e-4, "which the original reads as text"
    later = lyra(LATER)
    assert later.model.encoder == LyraEncoderConfig(in_channels=1, group_norm=True)
    assert (later.model.rate, later.model.channels) == (48000, 1)
    assert "group norm" in later.remarks[0]


def test_wrong_files_of_lyracodec_are_one_clear_line(lyra):
    for text, old, new in (
        (
            "unknown key training.kl_anneal_epoch; did you mean training.kl_anneal_epochs",
            "anneal_epochs",
            "anneal_epoch",
        ),
        ("c_mults: a block gives 2 times base_channels, and the next takes 3", "[2, 4], [4", "[3, 4], [4"),
        ("c_mults: 5 are given, and 4 strides", "[2, 4, 4, 8, 8]", "[2, 4, 4, 8]"),
    ):
        with pytest.raises(InputError) as caught:
            lyra(LYRA.replace(old, new))
        assert text in str(caught.value) and "config.yaml: " in str(caught.value)
    with pytest.raises(InputError, match=r"hyperparameters\.data: sample_rate is missing"):
        lyra(LATER.replace("sample_rate: 48000, ", ""))


DIFFUSERS = {
    "_class_name": "AutoencoderOobleck",
    "_diffusers_version": "0.30.0",
    "audio_channels": 2,
    "channel_multiples": [1, 2, 4, 8, 16],
    "decoder_channels": 128,
    "decoder_input_channels": 64,
    "downsampling_ratios": [2, 4, 4, 8, 8],
    "encoder_hidden_size": 128,
    "sampling_rate": 44100,
}


def test_the_model_of_diffusers_is_that_of_stable_audio(published):
    ours = model_config.understood(published["stable_audio_2_0_vae"]).model
    assert model_config.understood(DIFFUSERS).model == ours
    refused({**DIFFUSERS, "_class_name": "AutoencoderKL"}, "is 'AutoencoderKL', and of diffusers' models")
    refused({**DIFFUSERS, "decoder_input_channels": 32}, "do not make encoder_hidden_size 128")
    refused({**DIFFUSERS, "sampling_rat": 1}, "unknown key sampling_rat; did you mean sampling_rate?")
