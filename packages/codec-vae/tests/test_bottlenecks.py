"""Bottlenecks: the originals' numbers, codes that come back as latents, determinism, and what their encoders learn."""

import pytest
import torch
from audio_codec_vae import config as configs
from audio_codec_vae.models import bottleneck, quantise
from audio_codec_vae.models.discrepancy import mean_discrepancy
from audio_codec_vae.models.weight_norm import fit_weight_norm
from audio_core.config import build as build_config
from audio_core.files import InputError
from audio_core.testing import close

# One of each kind that fits an encoder of 12 channels. The discrete ones have one and several codebooks.
CONTINUOUS = {
    "none": None,
    "log_variance": configs.LogVarianceConfig(),
    "vae": configs.VAEConfig(),
    "tanh": configs.TanhConfig(),
    "l2_norm": configs.L2NormConfig(),
    "wasserstein": configs.WassersteinConfig(noise_augment_dim=3, use_tanh=True),
    "soft_norm": configs.SoftNormConfig(12, noise_augment_dim=3, noise_regularize=True),
    "dac_rvq_late": configs.DACRVQConfig(12, 2, 3, 16, quantize_on_decode=True),
}
DISCRETE = {
    "rvq_1": configs.RVQConfig(12, 16, 1),
    "rvq": configs.RVQConfig(12, 16, 4),
    "rvq_vae": configs.RVQVAEConfig(6, 16, 2),
    "dac_rvq_1": configs.DACRVQConfig(12, 1, 3, 16),
    "dac_rvq": configs.DACRVQConfig(12, 4, 3, 16, quantizer_dropout=0.5, noise_augment_dim=3),
    "dac_rvq_vae": configs.DACRVQVAEConfig(6, 2, (3, 2), 16),
    "fsq_1": configs.FSQConfig((5, 4, 3, 2, 8, 7, 5, 4, 3, 2, 3, 2)),
    "fsq": configs.FSQConfig((8, 5, 5, 4), 3, noise_augment_dim=3),
    "fsq_projected": configs.FSQConfig((8, 5, 5), 2, 12),
    "dithered_fsq_1": configs.DitheredFSQConfig(12, 5),
    "dithered_fsq": configs.DitheredFSQConfig(4, (8, 5, 4, 2), 3),
}
ALL = {**CONTINUOUS, **DISCRETE}


def built(name, training=False):
    model = bottleneck.build(ALL[name], 12)
    if isinstance(model, quantise.RVQ):  # its entries are zeros before it learns
        model.quantizer.load_codebooks(torch.randn(model.quantizer.codebooks.shape))
    return model.train(training)


def part(case, prefix):
    """The weights of a stored case whose names begin with `prefix`."""
    return {name.removeprefix(prefix): value for name, value in case.state().items() if name.startswith(prefix)}


def loaded(model, state):
    """A bottleneck with weights under the original's names."""
    if isinstance(model, quantise.RVQ):
        books = [state[f"quantizer.layers.{at}._codebook.embed"] for at in range(len(model.codebooks))]
        model.quantizer.load_codebooks(torch.cat(books))
    else:
        model.load_state_dict(fit_weight_norm(state, model))
    return model.eval()


# --- the originals' numbers ------------------------------------------------------------------------------------


def test_bottlenecks_without_weights_equal_the_originals(stored_case):
    case = stored_case("bottlenecks")
    x, out = case.inputs["x"], case.outputs
    for name, config in {
        "tanh0": configs.TanhConfig(1.0),
        "tanh1": configs.TanhConfig(5.0),
        "l2": configs.L2NormConfig(),
        "wasserstein": configs.WassersteinConfig(use_tanh=True, tanh_scale=5.0),
    }.items():
        close(bottleneck.build(config, 8).eval().encode(x).latents, out[name], case.tolerance(name))
    close(bottleneck.build(configs.L2NormConfig(), 8).decode(x), out["l2_decode"], case.tolerance("l2_decode"))
    discrepancy = mean_discrepancy(x.transpose(1, 2).flatten(0, 1), case.inputs["noise_flat"])
    close(discrepancy, out["mmd"], case.tolerance("mmd"))


def test_the_gaussian_equals_the_original(stored_case, monkeypatch):
    case = stored_case("bottlenecks")
    monkeypatch.setattr(bottleneck, "normal", lambda *_: case.inputs["eps"])
    encoded = bottleneck.build(configs.VAEConfig(), 8).train().encode(case.inputs["x"])
    close(encoded.latents, case.outputs["vae.sampled"], case.tolerance("vae.sampled"))
    close(encoded.losses["kl"], case.outputs["vae.kl"], case.tolerance("vae.kl"))


def test_soft_norm_equals_the_original(stored_case):
    """Which no configuration of the original could reach."""
    case = stored_case("bottlenecks")
    model = loaded(bottleneck.build(configs.SoftNormConfig(8), 8), part(case, "softnorm.")).train()
    encoded = model.encode(case.inputs["x"])
    close(encoded.latents, case.outputs["softnorm"], case.tolerance("softnorm"))
    close(encoded.losses["softnorm"], case.outputs["softnorm.loss"], case.tolerance("softnorm.loss"))


@pytest.mark.parametrize(
    ("name", "key", "config"),
    [
        ("fsq0", "fsq4", configs.FSQConfig((8, 5, 5, 5))),
        ("fsq1", "fsq6", configs.FSQConfig((4, 4, 3), 2)),
        ("dithered_fsq0", "df3", configs.DitheredFSQConfig(3, 5)),
        ("dithered_fsq1", "df8", configs.DitheredFSQConfig(4, (8, 5, 4, 2), 2)),
    ],
)
def test_scalar_quantizers_equal_the_originals(stored_case, name, key, config):
    case = stored_case("bottlenecks")
    x, out = case.inputs[key], case.outputs
    model = bottleneck.build(config, x.shape[1]).eval()
    encoded = model.encode(x)
    close(encoded.latents, out[f"{name}.quantized"], case.tolerance(f"{name}.quantized"))
    assert torch.equal(encoded.codes, out[f"{name}.indices"].view(2, 9, -1).transpose(1, 2).long())
    close(model.from_codes(encoded.codes), out[f"{name}.from_indices"], case.tolerance(f"{name}.from_indices"))


def test_residual_quantizers_equal_the_originals(stored_case):
    case = stored_case("bottleneck_rvq")
    out = case.outputs
    rvq = loaded(bottleneck.build(configs.RVQConfig(12, 16, 4), 12), part(case, "rvq."))
    encoded = rvq.encode(case.inputs["x"])
    close(encoded.latents, out["rvq.z"])
    assert torch.equal(encoded.codes, out["rvq.indices"].transpose(1, 2))
    assert not encoded.losses and out["rvq.loss"] == 0  # the original's is one of training only
    close(rvq.from_codes(encoded.codes), out["rvq.from_indices"])

    dac = loaded(bottleneck.build(configs.DACRVQConfig(12, 4, 3, 16, 0.5), 12), part(case, "dac_rvq."))
    encoded = dac.encode(case.inputs["y"])
    close(encoded.latents, out["dac_rvq.z"])
    assert torch.equal(encoded.codes, out["dac_rvq.codes"])
    close(projections(dac.quantizer, case.inputs["y"], encoded.codes), out["dac_rvq.latents"])
    for loss in ("commitment", "codebook"):
        close(encoded.losses[loss], out[f"dac_rvq.{loss}"])
    close(dac.from_codes(encoded.codes), out["dac_rvq.from_codes"])


def projections(quantizer, x, codes):
    """What each codebook of DAC's compares with its entries, (B, all channels, F)."""
    residuals = [x, *(x - quantizer.from_codes(codes[:, :at]) for at in range(1, codes.shape[1]))]
    return torch.cat(
        [each.in_proj(residual) for each, residual in zip(quantizer.quantizers, residuals, strict=True)], 1
    )


@pytest.mark.parametrize(
    ("name", "config", "codes"),
    [
        ("rvq_vae", configs.RVQVAEConfig(6, 8, 2), "indices"),
        ("dac_rvq_vae", configs.DACRVQVAEConfig(6, 2, (3, 2), 8), "codes"),
    ],
)
def test_a_gaussian_before_a_quantizer_equals_the_original(stored_case, monkeypatch, name, config, codes):
    case = stored_case("bottleneck_rvq")
    monkeypatch.setattr(bottleneck, "normal", lambda *_: case.inputs["eps"])
    model = loaded(bottleneck.build(config, 12), part(case, f"{name}."))
    encoded = model.encode(case.inputs["y"], torch.Generator())  # which lets it draw
    close(encoded.latents, case.outputs[f"{name}.z"])
    wanted = case.outputs[f"{name}.{codes}"]
    assert torch.equal(encoded.codes, wanted.transpose(1, 2) if codes == "indices" else wanted)
    close(encoded.losses["kl"], case.outputs[f"{name}.kl"])


def test_the_quantizer_of_seanet_equals_the_original(stored_case):
    case = stored_case("seanet_rvq")
    model = loaded(bottleneck.build(configs.RVQConfig(12, 16, 3), 12), part(case, "bottleneck."))
    encoded = model.encode(case.inputs["q0"])
    close(encoded.latents, case.outputs["q0.quantized"])
    assert torch.equal(encoded.codes, case.outputs["q0.indices"].transpose(1, 2))


def test_the_quantizer_of_dac_equals_the_original(stored_case):
    """Whose losses are sums over codebooks, where stable-audio-tools divides by their number."""
    case = stored_case("dac_codec")
    z, out = case.inputs["z"], case.outputs
    state = {name: value for name, value in case.state().items() if name.startswith("quantizer.")}
    model = loaded(bottleneck.build(configs.DACRVQConfig(96, 4, 4, 16), 96), state)
    encoded = model.encode(z)
    close(encoded.latents, out["z.quantized"], case.tolerance("z.quantized"))
    assert torch.equal(encoded.codes, out["z.codes"])
    close(projections(model.quantizer, z, encoded.codes), out["z.latents"], case.tolerance("z.latents"))
    for loss in ("commitment", "codebook"):
        close(4 * encoded.losses[loss], out[f"z.{loss}_loss"], case.tolerance(f"z.{loss}_loss"))
    close(model.from_codes(encoded.codes), out["from_codes"], case.tolerance("from_codes"))
    close(model.from_codes(encoded.codes[:, :2]), out["z.quantized_2_of_4"], case.tolerance("z.quantized_2_of_4"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("levels", "books"), [((8, 5, 5, 5), 1), ((4, 4, 3), 2)])
def test_scalar_quantization_equals_the_library(levels, books, training):
    from vector_quantize_pytorch import FSQ

    ours = bottleneck.build(configs.FSQConfig(levels, books), len(levels) * books).train(training)
    library = FSQ([*levels], num_codebooks=books).train(training)
    x = 3 * torch.randn(2, ours.inputs, 50)
    gradients = []
    for quantize in (lambda y: ours.encode(y)[:2], lambda y: library(y.transpose(1, 2))):
        y = x.clone().requires_grad_()
        latents, codes = quantize(y)
        latents = latents if latents.shape == x.shape else latents.transpose(1, 2)
        (latents * torch.linspace(-1, 1, 50)).sum().backward()
        gradients.append((latents, y.grad, codes))
    (own, own_gradient, own_codes), (wanted, gradient, codes) = gradients
    close(own, wanted)
    close(own_gradient, gradient)
    assert torch.equal(own_codes, codes.view(2, 50, -1).transpose(1, 2).long())


# --- codes and latents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISCRETE)
def test_codes_come_back_as_the_latents(name):
    """Of the original, codes of `fsq` with one codebook and of `rvq` failed, others came back in a wrong layout."""
    model = built(name)
    latents, codes, _ = model.encode(torch.randn(2, 12, 9))
    assert latents.shape == (2, model.width, 9) and codes.shape == (2, len(model.codebooks), 9)
    assert codes.dtype == torch.long and not codes.requires_grad
    close(model.from_codes(codes), latents, 1e-6)
    close(model.decode(model.from_codes(codes)), model.decode(latents), 1e-6)
    for book, size in enumerate(model.codebooks):
        assert codes[:, book].min() >= 0 and codes[:, book].max() < size
    assert model.from_codes(codes[:, :1]).shape == latents.shape


@pytest.mark.parametrize("config", [configs.FSQConfig((4, 3)), configs.DitheredFSQConfig(2, (4, 3))])
def test_every_code_of_a_scalar_quantizer_is_reached(config):
    model = bottleneck.build(config, 2).eval()
    grid = torch.cartesian_prod(torch.linspace(-4, 4, 50), torch.linspace(-4, 4, 50)).T[None]
    assert model.encode(grid).codes.unique().tolist() == [*range(12)]
    latents = model.from_codes(torch.arange(12)[None, None])
    assert len(latents[0, 0].unique()) == 4 and len(latents[0, 1].unique()) == 3
    assert (latents[0, 0, :4].diff() > 0).all(), "the first channel counts fastest"


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 1, 4), "integers"),
        (torch.zeros(1, 4, dtype=torch.long), "shape"),
        (torch.zeros(1, 5, 4, dtype=torch.long), "shape"),
        (torch.full((1, 4, 4), 16), "from 16 to 16"),
        (torch.full((1, 4, 4), -1), "from -1 to -1"),
    ],
)
@pytest.mark.parametrize("name", ["rvq", "dac_rvq"])
def test_wrong_codes_are_refused(name, codes, message):
    with pytest.raises(InputError, match=message):
        built(name).from_codes(codes)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_latents_have_no_codes(name):
    model = built(name)
    assert model.codebooks == () and model.encode(torch.randn(2, 12, 9)).codes is None
    with pytest.raises(TypeError, match="no codes"):
        model.from_codes(torch.zeros(1, 1, 4, dtype=torch.long))


def test_quantization_on_decoding_gives_what_quantization_on_encoding_gives():
    """The original's `encode` then returned a pair where latents were asked for."""
    late = built("dac_rvq_late")
    early = bottleneck.build(configs.DACRVQConfig(12, 2, 3, 16), 12).eval()
    early.load_state_dict(late.state_dict())
    x = torch.randn(2, 12, 9)
    assert torch.equal(late.encode(x).latents, x)
    assert torch.equal(late.decode(x), early.decode(early.encode(x).latents))


# --- what is drawn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_evaluation_is_deterministic(name):
    """The original drew latents and channels of noise also in evaluation, without a seed."""
    model, x = built(name), torch.randn(2, 12, 9)
    latents = model.encode(x).latents
    assert torch.equal(latents, model.encode(x).latents)
    decoded = model.decode(latents)
    assert torch.equal(decoded, model.decode(latents)) and decoded.shape == (2, model.outputs, 9)
    if model.noise:
        assert not decoded[:, model.width :].any(), "the mean of the noise is 0"


@pytest.mark.parametrize("name", ALL)
def test_a_generator_repeats_what_it_draws(name):
    """Every `encode` and `decode` takes one; the original's took different arguments for each type."""
    model, x = built(name), torch.randn(2, 12, 9)
    runs = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        latents = model.encode(x, generator).latents
        runs.append((latents, model.decode(latents, generator)))
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert torch.equal(runs[0][0], runs[2][0]) is (name not in ("vae", "log_variance", "rvq_vae", "dac_rvq_vae"))
    if model.noise:
        assert not torch.equal(runs[0][1], runs[2][1])


@pytest.mark.parametrize("name", ["vae", "log_variance"])
def test_a_gaussian_draws_its_distribution(name):
    model = built(name)
    x = torch.randn(1, 12, 1).expand(1, 12, 20000)
    mean, deviation, _ = model.distribution(x[..., :1])
    latents = model.encode(x, torch.Generator().manual_seed(0)).latents
    assert torch.equal(model.encode(x).latents[..., :1], mean)
    assert ((latents.mean(2, keepdim=True) - mean).abs() < 0.05 * deviation).all()
    assert ((latents.std(2, keepdim=True) / deviation - 1).abs() < 0.05).all()


def test_the_two_divergences_differ_by_their_unit():
    mean, deviation = torch.randn(2, 5, 9), torch.rand(2, 5, 9) + 0.1
    scale = torch.log(torch.expm1(deviation - 1e-4))
    lyra = bottleneck.build(configs.LogVarianceConfig(), 10).encode(torch.cat([mean, 2 * deviation.log()], 1))
    vae = bottleneck.build(configs.VAEConfig(), 10).encode(torch.cat([mean, scale], 1))
    close(vae.losses["kl"], 2 * 5 * lyra.losses["kl"], 1e-4)


@pytest.mark.parametrize("name", ALL)
def test_half_precision_around_a_bottleneck_does_not_reach_it(name):
    model, x = built(name), torch.randn(2, 12, 50)
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encode(x)
        decoded = model.decode(encoded.latents)
    close(encoded.latents, model.encode(x).latents, 1e-6)
    close(decoded, model.decode(model.encode(x).latents), 1e-6)
    assert encoded.codes is None or torch.equal(encoded.codes, model.encode(x).codes)


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [configs.RVQConfig(8), configs.DACRVQConfig(8), configs.FSQConfig((3,) * 5)])
def test_a_width_that_does_not_fit_the_encoder_is_refused(config):
    with pytest.raises(InputError, match="the encoder gives 12"):
        bottleneck.build(config, 12)


def test_a_gaussian_needs_an_even_width():
    with pytest.raises(InputError, match="two values"):
        bottleneck.build(configs.VAEConfig(), 5)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (configs.TanhConfig, {"scale": 0.0}, "scale must be above 0"),
        (configs.WassersteinConfig, {"noise_augment_dim": -1}, "noise_augment_dim must be at least 0"),
        (configs.RVQConfig, {"codebook_size": 1}, "codebook_size must be from 2"),
        (configs.RVQConfig, {"decay": 1.5}, "decay must be from 0 to 1"),
        (configs.RVQVAEConfig, {"num_quantizers": 0}, "num_quantizers must be from 1"),
        (configs.DACRVQConfig, {"n_codebooks": 3, "codebook_dim": (8, 8)}, "codebook_dim needs 3 numbers"),
        (configs.DACRVQConfig, {"quantizer_dropout": 2.0}, "quantizer_dropout must be from 0 to 1"),
        (configs.FSQConfig, {"levels": ()}, "levels must be from 2"),
        (configs.FSQConfig, {"levels": (1,)}, "levels must be from 2"),
        (configs.FSQConfig, {"levels": (500,) * 4}, "and at most"),
        (configs.DitheredFSQConfig, {"dim": 3, "levels": (5, 5)}, "levels needs 3 numbers"),
    ],
)
def test_settings_that_cannot_be_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_a_setting_that_was_never_read_is_refused():
    with pytest.raises(InputError, match="dither_inference"):
        build_config(configs.AutoencoderConfig, {"bottleneck": {"kind": "DitheredFSQ", "dither_inference": True}})
