"""The models compute what the original computes, on weights that both fill alike."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from audio_core.dsp.stft import STFT, magnitude_phase
from audio_core.testing import close
from audio_sep import original
from audio_sep.config import MobileNetSubbandTimeConfig
from audio_sep.models import MobileNetSubbandTime
from audio_sep.models.head import Mixture, SourcePlanes, estimates
from audio_sep.models.separator import sliced

STEMS = ("vocals", "bass", "drums", "other")
CLASSES = {
    "unet": "UNet",
    "unet_subbandtime": "UNetSubbandTime",
    "conditional_unet": "ConditionalUNet",
    "mobilenet_subbandtime": "MobileNetSubbandTime",
    "mobilenet_subbandtime_4stems": "MobileNetSubbandTime",
    "resunet143_subbandtime": "ResUNet143SubbandTime",
    "resunet143_decoupleplus": "ResUNet143DecouplePlus",
    "resunet143_ismir2021": "ResUNet143",
}


def snr_db(actual, expected):
    return float(10 * torch.log10(expected.double().square().sum() / (actual - expected).double().square().sum()))


def tapped(model):
    """What the parts of the model give in its next pass, under the original's names."""
    taps = {}

    def tap(name, layer, change=lambda y: y):
        layer.register_forward_hook(lambda _, x, y: taps.update({name: change(y)}))

    tap("bn0", model.norm, lambda y: y.transpose(1, 3))
    for at in (0, 5):
        stride = model.body.strides[at]
        tap(f"encoder_block{at + 1}", model.body.encoders[at], lambda y, stride=stride: F.avg_pool2d(y, stride))
    tap("conv_block7", model.body.centre[-1])
    tap("conv_block7d", model.body.centre[-1])
    tap("decoder_block1", model.body.decoders[0])
    tap("after", model.body.after)
    return taps


def thinned(x, how):
    """As the case stores it: `how` is an index such as [..., ::4, :]."""
    parts = (text.split(":") for text in how.strip("[]").split(", "))
    return x[tuple(... if part == ["..."] else slice(*(int(n) if n else None for n in part)) for part in parts)]


@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_a_model_equals_the_original(stored_case, name):
    case = stored_case(name)
    settings, state = case.config, case.state()
    state.pop("encoder_block1.conv_block1.abn2.num_batches_tracked", None)  # early versions of in-place norms had none
    hints = original.Settings(STEMS[: settings["target_sources_num"]], model_type=settings["model_type"])
    if "mobilenet" in name or name == "resunet143_subbandtime":
        hints = original.Settings(hints.sources, layout="v2")
    model = original.model_of(state, Path(name), hints)
    assert type(model).__name__ == CLASSES[name]
    taps = tapped(model)
    audio = model(*case.inputs.values())
    assert audio.shape == (1, case.outputs["waveform"].shape[1] // 2, 2, settings["samples"])
    if name in ("resunet143_decoupleplus", "resunet143_ismir2021"):  # their outputs are large, and so is the rounding
        assert snr_db(audio.flatten(1, 2), case.outputs["waveform"]) >= 80
    else:
        assert (audio.flatten(1, 2) - case.outputs["waveform"]).abs().max() <= 1e-5
    weight, bias = (state[f"after_conv2.{leaf}"] for leaf in ("weight", "bias"))
    taps["after_conv2"] = F.conv2d(taps["after"], weight, bias)
    for part, stored in settings["stored_intermediates"].items():
        close(thinned(taps[part], stored["stored"]), case.outputs[part])


@pytest.mark.parametrize("kind", ["k3", "k4_linear", "k4_tanh"])
@torch.no_grad()
def test_masks_and_rotations_equal_the_original(stored_case, kind):
    case, stft = stored_case("decouple_heads"), STFT(512, 110)
    spectrum = stft(case.inputs["x"]).mT
    mixture = Mixture(*magnitude_phase(spectrum.real, spectrum.imag), 1500)
    planes = case.inputs[f"features_{kind}"].unflatten(1, (2, 2, -1)).transpose(2, 3)  # to (B, S, planes, C, T, F)
    audio = stft.inverse(estimates(planes, mixture, kind == "k4_tanh").mT, 1500)
    close(audio.flatten(1, 2), case.outputs[f"waveform_{kind}"])


def test_slices_of_spectrograms_are_the_original_s(stored_case):
    case = stored_case("spectrogram_subband")
    x = sliced(case.inputs["x"], 4)
    assert torch.equal(x, case.outputs["analysis"])
    last = SourcePlanes(24, sources=1, channels=2, planes=3, bands=1, slices=4)
    with torch.no_grad():
        last.weight.copy_(torch.eye(24)[..., None, None])
        last.bias.zero_()
    planes = last(x, [0])  # (B, S, planes, C, T, F)
    assert torch.equal(planes.transpose(2, 3).flatten(1, 3), case.outputs["synthesis_of_analysis"])


def test_in_place_norms_become_plain_ones(stored_case):
    case = stored_case("inplace_abn")
    x, weight, bias, mean, var = (case.inputs[k] for k in ("x", "weight", "bias", "running_mean", "running_var"))
    assert weight.min() < 0
    norm = torch.nn.BatchNorm2d(6, momentum=0.01)
    norm.load_state_dict(
        {"weight": original.in_place_scale(weight), "bias": bias, "running_mean": mean, "running_var": var},
        strict=False,
    )
    close(F.leaky_relu(norm.eval()(x), 0.01), case.outputs["eval"])
    close(F.leaky_relu(norm.train()(x), 0.01), case.outputs["train"])
    close(norm.running_mean, case.outputs["running_mean_after"])
    close(norm.running_var, case.outputs["running_var_after"])


@pytest.mark.parametrize(("channels", "name"), [(2, "stereo"), (1, "mono")])
@torch.no_grad()
def test_the_earlier_order_of_planes_becomes_ours(stored_case, channels, name):
    order = stored_case("subband_head_v1_to_v2").outputs[f"permutation_{name}"]
    model = MobileNetSubbandTime(MobileNetSubbandTimeConfig(channels=channels, widths=(4,)))
    rows = torch.arange(16.0 * channels)
    model.planes.bias.copy_(rows)
    model.planes.weight.copy_(rows[:, None, None, None].expand_as(model.planes.weight))
    original.by_plane(model)
    assert torch.equal(model.planes.bias, order.float())
    assert torch.equal(model.planes.weight[:, 0, 0, 0], order.float())
