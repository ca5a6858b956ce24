"""The U-Net of Dance Diffusion computes what the original was meant to compute; its lengths, settings and noise."""

import pytest
import torch
from audio_core.testing import check_bundle, check_gradients, check_repeats, close, refused
from audio_core.weights import no_values
from audio_gen.config.unets import DanceDiffusionUNetConfig
from audio_gen.models.dance_diffusion import DanceDiffusionUNet, Downsample, Upsample
from audio_gen.models.fourier import FourierFeatures
from torch import nn

SMALL = {"depth": 3, "n_attn_layers": 1, "channels": (32, 32, 64), "strides": (2, 2)}
LEARNED = {"depth": 3, "n_attn_layers": 0, "channels": (4, 6, 8), "strides": (3, 2), "learned_resample": True}


def built(**settings):
    return DanceDiffusionUNet(DanceDiffusionUNetConfig(**settings)).eval()


def at_half(model):
    """The model as a function of audio alone."""
    alone = nn.Module()
    alone.model, alone.forward = model, lambda x: model(x, torch.full((len(x),), 0.5))
    return alone


# --- the original's numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "cond"])
@torch.no_grad()
def test_the_network_equals_the_original(stored_case, name):
    """The original could not be built, since it passed an argument that its block refused."""
    case = stored_case("dance_diffusion_unet")
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in case.config[name].items()}
    model = built(**settings)
    state = case.state()
    model.load_state_dict({key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")})
    condition = [case.inputs["cond"]] if name == "cond" else []
    close(model(case.inputs["x"], case.inputs["t"], *condition), case.outputs[name])


@pytest.mark.parametrize("name", ["down_cubic", "up_cubic", "down_linear", "up_lanczos3"])
@torch.no_grad()
def test_resampling_equals_the_original(stored_case, name):
    case = stored_case("dance_diffusion_unet")
    direction, kernel = name.split("_")
    layer = (Downsample if direction == "down" else Upsample)(kernel)
    close(layer(case.inputs["x"]), case.outputs[name])


@torch.no_grad()
def test_features_of_the_time_equal_the_original(stored_case):
    case = stored_case("dance_diffusion_unet")
    features = FourierFeatures(8)
    features.weight.copy_(case.state()["plain.timestep_embed.weight"])
    close(features(case.inputs["t"]), case.outputs["fourier16"])


# --- published settings ----------------------------------------------------------------------------------------


def test_the_published_configuration_is_built():
    """14 levels, of which the inner six have attention."""
    with no_values():
        model = DanceDiffusionUNet(DanceDiffusionUNetConfig(n_attn_layers=5))
    names = [name for name, _ in model.named_parameters()]
    assert model.net[0].main[0].weight.shape == (128, 2 + 16, 5)
    assert max(name.count("main.7.") for name in names) == 12
    attention = {name.count("main.7.") + 2 for name in names if name.endswith("qkv_proj.weight")}
    assert attention == {9, 10, 11, 12, 13, 14}
    assert model.config.ratio == 8192


def test_all_weights_of_the_network_begin_halved():
    model = built(**SMALL)
    assert model.net[0].main[1].weight.tolist() == [0.5] * 32
    assert model.net[0].main[0].weight.abs().max() <= 0.5 / (18 * 5) ** 0.5


# --- lengths and conditions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SMALL, LEARNED])
@torch.no_grad()
def test_the_length_stays(settings):
    model = built(**settings)
    ratio = model.config.ratio
    for frames in (3 * ratio, 7 * ratio):
        assert model(torch.randn(1, 2, frames), torch.tensor([0.5])).shape == (1, 2, frames)
    message = refused(model, torch.randn(1, 2, 3 * ratio + 1), torch.tensor([0.5]))
    assert f"a multiple of {ratio}" in message


def test_the_shortest_lengths():
    """Fixed filters reflect three frames of the innermost level; learnt ones need one."""
    assert "from 12 on" in refused(built(**SMALL), torch.randn(1, 2, 8), torch.tensor([0.5]))
    assert built(**LEARNED)(torch.randn(1, 2, 6), torch.tensor([0.5])).shape == (1, 2, 6)


@torch.no_grad()
def test_a_condition_is_needed_where_it_is_set():
    x, t = torch.randn(1, 2, 12), torch.tensor([0.5])
    assert "takes none" in refused(built(**SMALL), x, t, torch.randn(1, 3, 12))
    conditioned = built(**SMALL, cond_dim=3)
    assert "none is given" in refused(conditioned, x, t)
    assert "has 2 channels" in refused(conditioned, x, t, torch.randn(1, 2, 12))


@torch.no_grad()
def test_noise_of_the_condition_follows_its_generator():
    """In training its level is random too; in use there is noise only where a level is given."""
    model = built(**SMALL, cond_dim=3, cond_noise_aug=True)
    x, t, cond = torch.randn(2, 2, 12), torch.tensor([0.5, 0.1]), torch.randn(2, 3, 6)
    draw = lambda seed, **more: model(x, t, cond, generator=torch.Generator().manual_seed(seed), **more)  # noqa: E731
    assert torch.equal(draw(1), draw(2))
    level = torch.tensor([0.0, 0.7])
    first, second = draw(1, noise_level=level), draw(2, noise_level=level)
    assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])
    model.train()
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1)[0], draw(2)[0])


# --- the rest --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SMALL, LEARNED])
def test_the_model_repeats_and_learns(settings):
    model = at_half(built(**settings))
    x = torch.randn(3, 2, 24)
    check_repeats(model, x)
    check_gradients(model, x)


@torch.no_grad()
def test_half_precision_keeps_the_time_apart():
    """Sines of the time are computed in float32."""
    model, x, t = built(**SMALL), torch.randn(1, 2, 12), torch.tensor([0.3])
    whole, half = model(x, t), model.bfloat16()(x.bfloat16(), t)
    assert half.dtype == torch.bfloat16
    close(half.float(), whole, 0.1)


def test_a_bundle_keeps_the_model(tmp_path):
    check_bundle(built(**SMALL), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (32, 32)}, "channels needs 3 numbers, got 2"),
        ({"strides": (2,)}, "strides needs 2 numbers, got 1"),
        ({"strides": (2, 4)}, "need learned_resample"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"channels": (32, 32, 40)}, "multiples of 32"),
        ({"channels": (32, 40, 64)}, "multiples of 32"),
        ({"io_channels": 0}, "io_channels must be at least 1"),
        ({"cond_noise_aug": True}, "set cond_dim"),
        ({"depth": 1, "channels": (32,), "strides": ()}, "depth must be at least 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DanceDiffusionUNetConfig(**SMALL | change)
