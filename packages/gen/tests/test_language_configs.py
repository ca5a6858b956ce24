"""Configurations of stable-audio-tools' language models become ours."""

from audio_core import config
from audio_core.files import InputError
from audio_core.testing import mutations
from audio_core.train.optimize import Adam, AdamW
from audio_gen import model_config
from audio_gen.config.language import DelayConfig, MusicLMConfig, ParallelConfig, UnrollConfig
from audio_gen.config.transformer import TransformerConfig

from .original_configs import changed, recipe_of, refused
from .original_toys import language
from .published_models import one


def musicgen(**changes):
    """As large as MusicGen small, on the codec that is published for it."""
    bottleneck = {"type": "rvq", "config": {"num_quantizers": 4, "codebook_size": 2048, "dim": 128}}
    sizes = {"embed_dim": 1024, "depth": 24, "cross_attn_cond_dim": 768, "project_cross_attn_cond": True}
    data = language([one("prompt", "t5")], {"cross_attention_cond_ids": ["prompt"]}, **sizes)
    config = {"io_channels": 1, "downsampling_ratio": 640, "latent_dim": 128, "bottleneck": bottleneck}
    data |= {"sample_rate": 32000, "sample_size": 960000, "audio_channels": 1}
    data["model"]["conditioning"]["cond_dim"] = 768
    return changed(data, model__pretransform__config=config, **changes)


def test_language_models_are_understood():
    stated = model_config.understood(musicgen())
    model = stated.settled()
    assert stated.kind == "lm" and stated.has_codec and (model.rate, model.hop, model.frames) == (32000, 640, 1500)
    assert (model.lm.codebooks, model.lm.codebook_size, model.lm.pattern) == (4, 2048, DelayConfig())
    assert (model.lm.depth, model.lm.embed_dim, model.lm.dim_heads) == (24, 1024, 64)
    assert model.lm.transformer == TransformerConfig(causal=True) and model.cross_attention_cond_ids == ("prompt",)
    for name, pattern in {"parallel": ParallelConfig(), "unroll": UnrollConfig(), "musiclm": MusicLMConfig()}.items():
        assert model_config.understood(musicgen(model__lm__codebook_pattern=name)).settled().lm.pattern == pattern
    dac = {"type": "dac_rvq", "config": {"n_codebooks": 9, "codebook_size": 1024}}
    assert model_config.understood(musicgen(model__pretransform__config__bottleneck=dac)).settled().lm.codebooks == 9
    ignored = model_config.understood(musicgen(model__lm__global_cond_ids=["prompt"]))
    assert any("model.lm.global_cond_ids: are left out" in remark for remark in ignored.remarks)


def test_trainings_of_language_models_are_understood(tmp_path):
    recipe, text = recipe_of(tmp_path, musicgen(training={"learning_rate": 1e-4, "use_ema": True, "demo": {}}))
    assert recipe.optimizer == AdamW(1e-4, (0.9, 0.95), weight_decay=0.1) and recipe.average == 0.99
    assert config.build(type(recipe), config.parse(text, "recipe")) == recipe
    adam = {"type": "Adam", "config": {"lr": 1e-5}}
    recipe = recipe_of(tmp_path, musicgen(training={"optimizer_configs": {"lm": {"optimizer": adam}}}))[0]
    assert (recipe.optimizer, recipe.average) == (Adam(1e-5), 0)


def test_language_models_that_do_not_fit_are_one_clear_line():
    where = "model.pretransform.config.bottleneck"
    refused(musicgen(model__pretransform__config__bottleneck=None), f"{where}: is missing, and a language model needs")
    vae = {"type": "vae"}
    refused(musicgen(model__pretransform__config__bottleneck=vae), f"{where}.type: 'vae' is not one of rvq, rvq_vae")
    few = {"type": "rvq", "config": {"num_quantizers": 4}}
    refused(musicgen(model__pretransform__config__bottleneck=few), f"{where}.config.codebook_size: expected a number")
    refused(musicgen(model__lm__config__dept=1), "model.lm.config: unknown key dept; did you mean depth?")
    refused(musicgen(model__lm__config__depth=None), "model.lm.config.depth: is missing")
    refused(musicgen(model__lm__config__cross_attn_cond_dim=0), "lm.cross_attn_cond_dim: conditions make 768, got 0")
    refused(musicgen(model__lm__codebook_pattern="dely"), "'dely' is not one of delay, parallel")
    refused(musicgen(model__lm__type="x-transformers"), "'x-transformers' is not one of continuous_transformer")
    for mutated in mutations(musicgen(training={"learning_rate": 1e-4})):
        try:
            model_config.understood(mutated).settled()
        except InputError as error:
            assert "\n" not in str(error)
