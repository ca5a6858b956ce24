"""Weights and settings of the originals for our modules."""

from audio_gen.config import language
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.transformer import AttentionConfig, FeedForwardConfig, NormConfig, TransformerConfig

# Where the originals nest a module once more.
NAMES = {"backbone.model.": "transformer.", "backbone.": ""} | {
    ".ff.ff.0.proj.": ".ff.up.",
    ".ff.ff.0.1.": ".ff.up.",
    ".ff.ff.2.": ".ff.down.",
}
PARTS = {
    "attn_kwargs": ("attention", AttentionConfig),
    "ff_kwargs": ("feed_forward", FeedForwardConfig),
    "norm_kwargs": ("norm", NormConfig),
}
SIZES = ("dim", "depth", "dim_heads", "dim_in", "dim_out", "cond_token_dim", "global_cond_dim", "cross_attend")
PATTERNS = {
    "delay": language.DelayConfig,
    "parallel": language.ParallelConfig,
    "coarse": language.CoarseFirstConfig,
    "musiclm": language.MusicLMConfig,
    "unroll": language.UnrollConfig,
}
# What an original's DiT is told and ours is not: it is another part's business.
ELSEWHERE = ("transformer_type", "diffusion_objective")


def loaded(model, case, prefix=""):
    """The model with those weights of a case whose names begin with `prefix`, in eval mode."""
    state = {}
    for name, value in case.state().items():
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            for old, new in NAMES.items():
                name = name.replace(old, new)
            state[name] = value
    model.load_state_dict(state)
    return model.eval()


def transformer_config(settings):
    """From the original's keyword arguments, without those in SIZES."""
    ours = {name: value for name, value in settings.items() if name not in PARTS}
    for name, (field, cls) in PARTS.items():
        ours[field] = cls(**settings.get(name, {}))
    return TransformerConfig(**ours)


def dit_config(settings):
    """From the original's keyword arguments."""
    settings = {name: value for name, value in settings.items() if name not in ELSEWHERE}
    own = {name: settings.pop(name) for name in [*settings] if name in DiTConfig.__dataclass_fields__}
    return DiTConfig(**own, transformer=transformer_config(settings))


def language_config(settings):
    """From what a case says of the original's model."""
    transformer = {
        name: value
        for name, value in settings["backbone"].items()
        if name not in language.LanguageModelConfig.__dataclass_fields__
    }
    sizes = {name: value for name, value in settings["backbone"].items() if name not in transformer}
    return language.LanguageModelConfig(
        codebooks=settings["num_quantizers"],
        codebook_size=settings["codebook_size"],
        pattern=PATTERNS[settings["pattern"]](),
        transformer=transformer_config(transformer | {"causal": True}),
        **sizes,
    )
