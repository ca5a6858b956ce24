"""The integer model: its input, its arithmetic, and how close it stays to the real one."""

import numpy as np
import pytest
import torch
from audio_acdnet.config import FIRST_BLOCK, MICRO, ACDNetConfig
from audio_acdnet.export import quantise
from audio_acdnet.model import ACDNet

TINY = ACDNetConfig(20000, 12000, (2, 8, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8), ("a", "b", "c"))


@pytest.fixture
def scaling(stored_case):
    return stored_case("input_quantisation")


def test_audio_becomes_the_integers_that_a_model_expects(scaling):
    audio = scaling.inputs["x"].numpy()
    expected = scaling.outputs["affine_int8"].numpy()
    integers = quantise.affine(audio, scaling.config["scale"], scaling.config["zero_point"])
    assert integers.dtype == np.int8 and np.array_equal(integers, expected)
    assert quantise.affine(np.array([5.0, -5.0], np.float32), 0.0187, 1).tolist() == [127, -128]


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16"])
def test_the_scaling_by_peaks_is_that_of_the_published_programs(scaling, kind):
    integers = quantise.by_peak(scaling.inputs["x"].numpy(), kind)
    assert integers.dtype == kind and np.array_equal(integers, scaling.outputs[kind].numpy())


def settled(config: ACDNetConfig, crops: torch.Tensor) -> ACDNet:
    """A model whose normalisations have seen the crops, so that its values are as large as a trained one's."""
    model = ACDNet(config).train()
    with torch.no_grad():
        for _ in range(20):
            model(crops)
    return model.eval()


def by_hand(layer: quantise.IntegerLayer, values: np.ndarray) -> np.ndarray:
    """One layer for one item, in Python's unlimited integers, as the formula in its docstring says."""
    out, _, tall, wide = layer.weight.shape
    around = (layer.padding, layer.padding)
    values = np.pad(values.astype(int) - layer.input_zero, [(0, 0), around, around])
    height, width = values.shape[1] - tall + 1, (values.shape[2] - wide) // layer.stride + 1
    output = np.zeros((out, height, width), int)
    low, high = layer.output_limits
    for c in range(out):
        for y in range(height):
            for x in range(width):
                at = x * layer.stride
                window = values[:, y : y + tall, at : at + wide]
                total = int(layer.bias[c]) + int((layer.weight[c].astype(int) * window).sum())
                assert -(2**31) <= total < 2**31
                shift = int(layer.shift[c])
                scaled = (total * int(layer.multiplier[c]) + (1 << (shift - 1))) >> shift
                output[c, y, x] = min(high, max(low, scaled + layer.output_zero))
    tall, wide = layer.pool
    height, width = height // tall, width // wide
    return output[:, : height * tall, : width * wide].reshape(out, height, tall, width, wide).max((2, 4))


KINDS = [("int16", "int8"), ("int8", "int8"), ("int16", "int16")]


@pytest.mark.parametrize(("input_type", "map_type"), KINDS)
def test_every_layer_computes_what_its_formula_says(input_type, map_type):
    """In plain integers with 32-bit sums: this is what the C export does."""
    crops = 0.3 * torch.randn(4, 1, 12000)
    model = quantise.quantise(settled(TINY, crops), [crops], input_type, map_type)
    values = model.quantised(crops[:1, :, :].numpy())
    assert values.dtype == input_type
    maps = values[:, :, None]
    for layer in model.layers[:-1]:
        maps = maps.transpose(0, 2, 1, 3) if layer.name == "conv3" else maps
        part = maps[..., :900] if layer.name in FIRST_BLOCK else maps  # loops in Python are slow
        assert np.array_equal(layer(part)[0], by_hand(layer, part[0])), layer.name
        maps = layer(maps)
    height, width = quantise.average_window(TINY)
    sums = maps[:, :, :height, :width].astype(int).sum((2, 3), keepdims=True)
    logits = by_hand(model.layers[-1], sums[0])[:, 0, 0]
    assert np.array_equal(model.integers(values)[0], logits)
    assert np.array_equal(model(crops[:1].numpy())[0], logits.astype(np.int16) * np.float32(model.output_scale))


@pytest.mark.parametrize(
    ("input_type", "map_type", "allowed"), [(*KINDS[0], 0.05), (*KINDS[1], 0.05), (*KINDS[2], 0.03)]
)
def test_the_integer_model_stays_close_to_the_real_one(input_type, map_type, allowed):
    """The corrected biases keep the mean; without them it is off by 0.05."""
    crops = 0.3 * torch.randn(6, 1, 30225) * torch.linspace(0.05, 1, 6)[:, None, None]
    real = settled(ACDNetConfig(channels=MICRO), crops)
    integers = quantise.quantise(real, [crops[:2], crops[2:]], input_type, map_type)
    with torch.no_grad():
        expected = real(crops).numpy()
    gap = integers(crops.numpy()) - expected
    assert np.square(gap).mean() < allowed * expected.var(0).mean()
    assert np.abs(gap.mean(0)).max() < 1e-3 * expected.std()


def test_soft_sounds_survive_16_bits_at_the_input_and_not_8():
    crops = 0.5 * torch.randn(4, 1, 12000)
    real = settled(TINY, crops)
    soft = (0.003 * crops).numpy()
    inputs = {kind: quantise.quantise(real, [crops], kind).quantised(soft) for kind in ("int16", "int8")}
    assert len(np.unique(inputs["int16"])) > 300 and len(np.unique(inputs["int8"])) <= 3


def test_dead_channels_and_silence_are_harmless():
    crops = torch.zeros(2, 1, 12000)
    model = ACDNet(TINY).eval()
    model.seeing.conv4.weight.data.zero_()
    integers = quantise.quantise(model, [crops])
    with torch.no_grad():
        assert np.abs(integers(crops.numpy()) - model(crops).numpy()).max() < 1e-3


def test_factors_become_31_bits_and_a_shift():
    factors = np.array([1.0, 0.75, 3e-4, 1e-8, 1 - 2**-40, 1e-30])
    multiplier, shift = quantise._fixed_point(factors)
    assert (multiplier[:5] >= 2**30).all() and multiplier.dtype == np.int32
    assert multiplier[:4] / 2.0 ** shift[:4] == pytest.approx(factors[:4], rel=2**-30)
    assert (multiplier[4], shift[4]) == (2**30, 30)  # rounded up to 1
    assert (multiplier[5], shift[5]) == (0, 62)


def test_quantising_leaves_the_model_alone_and_needs_something_to_hear():
    model = ACDNet(TINY).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantise.quantise(model, [torch.randn(1, 1, 12000)])
    assert model.training and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="at least one batch"):
        quantise.quantise(model, [])
    with pytest.raises(ValueError, match=r"\(B, 1, 12000\)"):
        quantise.quantise(model, [torch.randn(1, 1, 12000)]).integers(np.zeros((1, 1, 9999), np.int16))
