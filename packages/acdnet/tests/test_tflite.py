"""The .tflite file: what is in it, and that the interpreter for microcontrollers computes the integer model with it."""

import platform
import sys
from collections import Counter
from dataclasses import replace

import audio_acdnet
import numpy as np
import pytest
import tflite as schema
import torch
from audio_acdnet.config import ACDNetConfig
from audio_acdnet.export import tflite
from audio_acdnet.export.quantise import IntegerLayer, IntegerModel, _fixed_point, average_window, quantise
from audio_acdnet.model import ACDNet
from audio_core.export.tflite import arena
from audio_core.files import InputError
from audio_core.testing import noise, tone

TINY = ACDNetConfig(20000, 12000, (2, 8, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8), ("a", "b", "c"))
interpreted = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="tflite-micro is made for Linux on x86-64 alone"
)


def sounds(samples: int) -> torch.Tensor:
    """Noise and tones from loud to soft, (6, 1, samples)."""
    heard = [noise(1, samples / 20000, 20000), tone(440, samples / 20000, 20000), tone(3000, samples / 20000, 20000)]
    loud = torch.stack([sound[..., :samples].reshape(1, samples) for sound in heard])
    return torch.cat([0.5 * loud, 0.05 * loud])


def interpret(data: bytes, values: np.ndarray) -> tuple[np.ndarray, int]:
    """int8 probabilities (B, classes) of integers (B, 1, T), in an arena of just the size that is told."""
    from tflite_micro import runtime

    size = arena(data)
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=size)
    outputs = []
    for value in values:
        interpreter.set_input(value[None, :, :, None], 0)
        interpreter.invoke()
        outputs.append(interpreter.get_output(0))
    return np.concatenate(outputs), size


@pytest.fixture(scope="module")
def shipped() -> IntegerModel:
    model = audio_acdnet.load()
    return quantise(model, [sounds(model.config.samples)], "int8")


@pytest.fixture(scope="module")
def written(shipped) -> bytes:
    return tflite.to_bytes(shipped)


def toy(config: ACDNetConfig) -> IntegerModel:
    """Its normalisations have seen the sounds, so that its values are as large as a trained model's."""
    crops, model = sounds(config.samples), ACDNet(config).train()
    with torch.no_grad():
        for _ in range(20):
            model(crops)
    return quantise(model.eval(), [crops], "int8")


def operators(data: bytes) -> list[tuple[str, int]]:
    """Name and version of each, in the order they run."""
    model = schema.Model.GetRootAsModel(data, 0)
    codes = [model.OperatorCodes(at) for at in range(model.OperatorCodesLength())]
    graph = model.Subgraphs(0)
    used = [codes[graph.Operators(at).OpcodeIndex()] for at in range(graph.OperatorsLength())]
    return [(schema.opcode2name(code.BuiltinCode()), code.Version()) for code in used]


def tensors(data: bytes, values: np.ndarray) -> dict[str, np.ndarray]:
    """What the tensors of the file hold after one crop (1, 1, T), by their names."""
    from tflite_micro import runtime

    everything = runtime.InterpreterConfig.kPreserveAllTensors
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=1 << 23, intrepreter_config=everything)
    interpreter.set_input(values[:, :, :, None], 0)
    interpreter.invoke()
    graph = schema.Model.GetRootAsModel(data, 0).Subgraphs(0)
    names = [graph.Tensors(at).Name().decode() for at in range(graph.TensorsLength())]
    return {name: interpreter.GetTensor(at, 0)["tensor_data"].astype(int) for at, name in enumerate(names)}


def compare(model: IntegerModel, data: bytes, values: np.ndarray) -> None:
    """Every layer of the file, on what the layer before it gave there, against the same layer of the model."""
    held, maps = tensors(data, values), values[:, :, None]
    *convolutions, output = model.layers
    for layer in convolutions:
        maps = maps.transpose(0, 2, 1, 3) if layer.name == "conv3" else maps
        output_maps = held[layer.name if layer.pool == (1, 1) else f"{layer.name}/pool"].transpose(0, 3, 1, 2)
        assert np.array_equal(output_maps, twice_rounded(layer, maps)), layer.name
        assert np.abs(output_maps - layer(maps)).max() <= 1, layer.name
        maps = output_maps
    height, width = average_window(model.config)
    assert np.abs(held["flat"] - maps[:, :, :height, :width].mean((2, 3))).max() <= 0.5
    logits = output(held["flat"][:, :, None, None] * height * width)[:, :, 0, 0] * model.output_scale
    unit = model.output_scale * 32767 / 127
    assert np.abs(held["logits"] - logits / unit).max() < 1
    assert np.abs(held["probabilities"] + 128 - 256 * softmax(held["logits"] * unit)).max() < 1


def twice_rounded(layer: IntegerLayer, maps: np.ndarray) -> np.ndarray:
    """The layer as TensorFlow Lite computes it: with scales of 32 bits, and rounding after 31 bits of the shift too."""
    scale = layer.multiplier / 2.0**layer.shift * layer.output_scale / layer.input_scale
    source, scale, target = (np.float32(each).astype(float) for each in (layer.input_scale, scale, layer.output_scale))
    multiplier, shift = (part.astype(np.int64)[:, None, None] for part in _fixed_point(source * scale / target))
    sums = torch.nn.functional.max_pool2d(layer.sums(maps), layer.pool).numpy().astype(np.int64).clip(0)  # ReLU
    high = ((sums << (31 - shift).clip(0)) * multiplier + 2**30) >> 31
    rest = (shift - 31).clip(0)
    return np.clip((high + ((1 << rest) >> 1) >> rest) + layer.output_zero, -128, 127)


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(-1).numpy()


def test_the_operators_are_those_of_the_authors_file(written):
    used = operators(written)
    assert Counter(name for name, _ in used) == {
        "CONV_2D": 12,
        "MAX_POOL_2D": 6,
        "TRANSPOSE": 1,
        "AVERAGE_POOL_2D": 1,
        "RESHAPE": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }
    assert {("CONV_2D", 3), ("MAX_POOL_2D", 2), ("FULLY_CONNECTED", 4)} < set(used)
    assert len(written) < 150_000  # theirs has 156,288 bytes


def test_the_file_tells_its_scales_its_labels_and_where_it_comes_from(shipped, written):
    model = schema.Model.GetRootAsModel(written, 0)
    graph = model.Subgraphs(0)
    audio, scores = graph.Tensors(graph.Inputs(0)), graph.Tensors(graph.Outputs(0))
    assert (written[4:8], model.Version()) == (b"TFL3", 3)
    assert audio.ShapeAsNumpy().tolist() == [1, 1, 30225, 1] and scores.ShapeAsNumpy().tolist() == [1, 10]
    assert audio.Type() == scores.Type() == schema.TensorType.INT8
    scales = [tensor.Quantization().Scale(0) for tensor in (audio, scores)]
    assert scales == [np.float32(shipped.input_scale), 1 / 256]
    assert [tensor.Quantization().ZeroPoint(0) for tensor in (audio, scores)] == [shipped.input_zero, -128]
    labels = model.Buffers(model.Metadata(0).Buffer()).DataAsNumpy().tobytes().decode()
    assert model.Metadata(0).Name() == b"labels" and tuple(labels.split("\n")) == shipped.config.labels
    assert model.Description().decode().endswith("30225 samples at 20000 Hz")


def test_weights_are_symmetric_and_begin_at_multiples_of_16_bytes(shipped, written):
    model = schema.Model.GetRootAsModel(written, 0)
    start = np.frombuffer(written, np.uint8).ctypes.data
    places = [model.Buffers(at).DataAsNumpy().ctypes.data - start for at in range(1, model.BuffersLength())]
    assert len(places) == 2 * 13 + 3 and all(place % 16 == 0 for place in places)
    assert all(np.abs(layer.weight.astype(int)).max() <= 127 for layer in shipped.layers)


@interpreted
def test_the_interpreter_agrees_with_the_integer_model_in_an_arena_of_the_planned_size(shipped, written):
    """TensorFlow Lite rounds twice, so one value in some hundred is off by one unit; twelve layers add that up."""
    values = shipped.quantised(sounds(30225).numpy())[:3]
    scores, size = interpret(written, values)
    expected = softmax(shipped.integers(values) * np.float64(shipped.output_scale))
    gap = np.abs((scores.astype(int) + 128) / 256 - expected)
    assert scores.dtype == np.int8 and gap.max() < 6 / 256 and gap.mean() < 1 / 256
    assert np.array_equal(scores.argmax(-1), expected.argmax(-1))
    assert 105_763 + 151_060 < size < 267_000  # input and output of conv2, and what the interpreter keeps for itself


@interpreted
def test_every_layer_in_the_interpreter_is_that_of_the_integer_model(shipped, written):
    for values in shipped.quantised(sounds(30225).numpy())[:2]:
        compare(shipped, written, values[None])


@interpreted
@pytest.mark.parametrize(
    ("changes", "pools", "average"),
    [
        ({}, 6, 0),
        ({"samples": 4000}, 5, 0),  # few columns: the last pools have nothing left to do
        ({"samples": 16000, "first_pool": 40}, 6, 1),  # the average does not see the last of three columns
        ({"samples": 30225, "last_pool": "global"}, 6, 1),
        ({"samples": 30225, "channels": (2, 63, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8)}, 6, 1),
    ],
)
def test_other_lengths_leave_out_pools_or_the_end_of_the_map(changes, pools, average):
    model = toy(replace(TINY, **changes))
    data = tflite.to_bytes(model)
    counts = Counter(name for name, _ in operators(data))
    assert (counts["MAX_POOL_2D"], counts["AVERAGE_POOL_2D"]) == (pools, average)
    compare(model, data, model.quantised(sounds(model.config.samples).numpy())[:1])


@interpreted
def test_a_channel_with_the_multiplier_0_is_0_whatever_it_sums_up():
    model = toy(TINY)
    layers = list(model.layers)
    layers[3] = replace(layers[3], multiplier=layers[3].multiplier * [0, 1, 1, 0])
    model = replace(model, layers=tuple(layers))
    data, values = tflite.to_bytes(model), model.quantised(sounds(12000).numpy())[:1]
    assert (tensors(data, values)["conv4"][..., [0, 3]] == -128).all()
    compare(model, data, values)


@interpreted
def test_the_input_is_audio_within_1_whatever_level_the_model_hears():
    model = toy(replace(TINY, normalisation="full_scale_twice"))
    data = tflite.to_bytes(model)
    audio = schema.Model.GetRootAsModel(data, 0).Subgraphs(0).Tensors(0)
    assert audio.Quantization().Scale(0) == np.float32(model.input_scale) * 32768
    compare(model, data, model.quantised(sounds(12000).numpy())[:1])


@interpreted
def test_a_model_without_any_weight_finds_every_class_as_likely():
    model = ACDNet(TINY).eval()
    for part in model.parameters():
        part.data.zero_()
    data = tflite.to_bytes(quantise(model, [torch.zeros(2, 1, 12000)], "int8"))
    assert interpret(data, np.zeros((1, 1, 12000), np.int8))[0].tolist() == [[-43, -43, -43]]


def test_what_cannot_be_written_or_run_is_said_in_one_line(written, monkeypatch):
    for kinds in (("int16", "int8"), ("int8", "int16")):
        with pytest.raises(ValueError, match=f"expected int8 .* got {kinds[0]} and {kinds[1]}"):
            tflite.to_bytes(quantise(ACDNet(TINY), [torch.randn(1, 1, 12000)], *kinds))
    for name in ("tflite", "tflite_micro"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'need tflite: pip install "audio-core\[tflite\]"'):
        tflite.to_bytes(quantise(ACDNet(TINY), [torch.randn(1, 1, 12000)], "int8"))
    assert arena(written) is None
