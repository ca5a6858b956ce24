"""The .tflite file: what is in it, and that the interpreter for microcontrollers computes the integer model with it."""

import platform
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tflite as schema
import torch
from audio_core.export.tflite import arena
from audio_core.files import InputError
from audio_core.testing import noise, tone
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig
from audio_soundstream.export import chain, tflite
from audio_soundstream.export.quantise import IntegerModel, quantise, recorded
from audio_soundstream.model import NeuralCodec, SoundStream, TinyStream, spread

TINY = TinyStreamConfig(4, 16, layers=3, size=32, causal=True, learning="none")
KINDS = [TINY, replace(TINY, activation="hardswish"), replace(TINY, causal=False, strides=(2, 4, 2, 6))]
interpreted = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="tflite-micro is made for Linux on x86-64 alone"
)


def sounds() -> list[torch.Tensor]:
    """Noise and tones, from loud to soft, each (1, 1, 8000)."""
    heard = [noise(1, 0.5, 16000), tone(440, 0.5, 16000), tone(3000, 0.5, 16000)]
    return [level * sound.reshape(1, 1, -1) for level in (0.5, 0.05) for sound in heard]


def toy(config: TinyStreamConfig) -> TinyStream:
    """Its codebooks hold what it makes of sounds, and what they leave of it."""
    model = TinyStream(config).eval()
    spread(model)
    with torch.no_grad():
        left, books = torch.cat([model.encode(sound)[0].T for sound in sounds()]), []
        for _ in range(config.layers):
            books.append(left[torch.randperm(len(left))[: config.size]])
            left = left - books[-1][torch.cdist(left, books[-1]).argmin(1)]
    model.quantizer.load_codebooks(torch.stack(books))
    return model


def encode(model: IntegerModel, data: bytes, audio: torch.Tensor, frames: int) -> np.ndarray:
    """Codes (N, F) of audio (1, 1, T), window by window, in an arena of just the size that is told."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena(data))
    size, samples = tflite.window(model, frames), recorded(audio)[0, 0].numpy()
    calls = -(-len(samples) // size.frames)
    line = np.pad(samples, (size.before, calls * size.frames - len(samples) + size.after))
    found = []
    for at in range(calls):
        interpreter.set_input(line[at * size.frames :][: sum(size)].reshape(1, 1, -1, 1), 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0)[0])
    return np.concatenate(found, -1)[:, : -(-len(samples) // model.config.hop)]


def tensors(data: bytes, values: np.ndarray) -> dict[str, np.ndarray]:
    """What the tensors of the file hold after one window (1, 1, T, 1), by their names."""
    from tflite_micro import runtime

    everything = runtime.InterpreterConfig.kPreserveAllTensors
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=1 << 23, intrepreter_config=everything)
    interpreter.set_input(values, 0)
    interpreter.invoke()
    graph = schema.Model.GetRootAsModel(data, 0).Subgraphs(0)
    names = [graph.Tensors(at).Name().decode() for at in range(graph.TensorsLength())]
    return {name: interpreter.GetTensor(at, 0)["tensor_data"] for at, name in enumerate(names)}


def window_of(model: IntegerModel, frames: int) -> np.ndarray:
    samples = torch.cat(sounds(), -1)[..., 6000:][..., : sum(tflite.window(model, frames))]
    return recorded(samples).numpy()[..., None]


@interpreted
@pytest.mark.parametrize("config", KINDS)
def test_every_layer_in_the_interpreter_is_that_of_the_integer_model(config):
    model = quantise(toy(config), sounds())
    values = window_of(model, 3)
    held = tensors(tflite.to_bytes(model, sounds(), 3), values)
    lines = [torch.from_numpy(values[:, 0].transpose(0, 2, 1).astype(float))]
    for at, layer in enumerate(model.layers):
        bare = replace(layer, real=replace(layer.real, pads=(0, 0)))  # windows hold what is around
        made = {part: held[f"{layer.name}{part}"] for part in ("", "/sum", "/gated") if f"{layer.name}{part}" in held}
        found = {part: torch.from_numpy(each[:, 0].transpose(0, 2, 1).astype(float)) for part, each in made.items()}
        skip = layer.real.skip
        if skip is not None:
            start = sum(each.real.pads[0] for each in model.layers[skip : at + 1])
            rest = lines[skip][..., start:][..., : found[""].shape[-1]]
            expected = bare(lines[-1], rest)
            # TensorFlow Lite rounds what is halfway away from zero, the integer model up.
            assert (found["/sum"] - expected).abs().max() <= (layer.skip_shift > 0), layer.name
            lines.append(found["/sum"])
        elif "/gated" in found:
            expected = bare(lines[-1], None)
            assert (found["/gated"] - expected).abs().max() < 2e-4 * 32767, layer.name  # no straight pieces here
            lines.append(found["/gated"])
        else:
            expected = bare(lines[-1], None)
            assert torch.equal(found[""], expected), layer.name
            lines.append(found[""])
        assert expected.abs().max() > 1000
    assert len(lines) == 47


@interpreted
@pytest.mark.parametrize("loud", [1, 0.03])
@pytest.mark.parametrize("longer", [1, 512])
def test_the_search_finds_entries_as_near_as_any(loud, longer):
    """Also among entries that are longer than any latent, so much that they have more than 16 bits."""
    codec = toy(TINY)
    codec.quantizer.load_codebooks(codec.quantizer.codebooks * torch.where(torch.arange(32) < 3, longer, 1)[:, None])
    model = quantise(codec, sounds())
    values = (window_of(model, 6) * loud).astype(np.int16)
    held = tensors(tflite.to_bytes(model, sounds(), 6), values)
    residual = held[model.layers[-1].name][0, 0].astype(int)  # (F, D)
    for at, book in enumerate(model.books):
        entries = book.entries.astype(int) << book.shift[:, None].astype(int)
        assert len(np.unique(book.shift)) > 2 and (abs(entries).max() > 32767) == (longer > 1)
        squares = ((residual[:, None] - entries) ** 2).sum(-1)  # (F, K)
        chosen = held["codes"][0, at]
        units = 4 << book.coarsest  # what the integer model rounds
        assert (squares[np.arange(6), chosen] <= squares.min(-1) + 1e-3 * (residual**2).sum(-1) + units).all()
        residual = residual - entries[chosen]
        if at < len(model.books) - 1:
            assert np.array_equal(held[f"codebook{at}/left"][0, 0], residual)
    assert len(np.unique(held["codes"])) >= 4


@interpreted
@pytest.mark.parametrize("layers", [1, 12])
def test_any_number_of_layers_is_coded(layers):
    """Of twelve, which the interpreter does not join in one go, and of a single one."""
    model = quantise(toy(replace(TINY, layers=layers)), sounds())
    audio = torch.cat(sounds(), -1)[..., 3000:7000]
    found, expected = encode(model, tflite.to_bytes(model, sounds(), 4), audio, 4), model.codes(audio)[0].numpy()
    assert found.shape == expected.shape == (layers, 16)
    assert (found == expected).mean() >= 0.9 and len(np.unique(expected, axis=0)) > layers / 2


@interpreted
@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("frames", [1, 4])
def test_windows_give_the_codes_of_the_whole(config, frames):
    """A causal codec's also where the recording begins and ends."""
    model = quantise(toy(config), sounds())
    audio = torch.cat(sounds(), -1)[..., 3000:9100]
    data = tflite.to_bytes(model, sounds(), frames)
    found, expected = encode(model, data, audio, frames), model.codes(audio)[0].numpy()
    size = tflite.window(model, frames)
    if not config.causal:
        edges = -(-size.before // config.hop), -(-size.after // config.hop)
        found, expected = (each[:, edges[0] : each.shape[1] - edges[1]] for each in (found, expected))
    agree = (found == expected).mean(-1)
    assert found.shape[1] > 10 and agree[0] >= 0.95 and agree.mean() >= (0.9 if config.activation == "relu" else 0.7)


@interpreted
@pytest.mark.parametrize("name", ["ts_ultra_tiny", "ts_medium"])
def test_codes_of_the_originals_weights_survive(name, stored):
    case, codec = stored(name)
    heard = [case.inputs["x"][:1] * level for level in (1, 0.1)]
    model = quantise(codec, heard)
    audio = heard[0][..., : heard[0].shape[-1] // codec.hop * codec.hop]
    found = encode(model, tflite.to_bytes(model, heard, 4), audio, 4)
    edge = tflite.window(model).before // codec.hop + 1
    same = found[0, edge:-edge] == codec.codes(audio)[0, 0, edge:-edge].numpy()
    assert len(same) and same.mean() >= 0.9


@pytest.mark.parametrize("config", KINDS)
def test_the_window_is_what_a_frame_is_made_of(config):
    codec = toy(config)
    model = quantise(codec, sounds())
    size = tflite.window(model, 2)
    assert size.frames == 2 * codec.hop and size.after == chain.lookahead(chain.layers(codec))
    line = torch.zeros(1, 1, 40 * codec.hop, requires_grad=True)
    codec.double().encode(line.double() + 0.1)[..., 20:22].square().sum().backward()
    used = torch.nonzero(line.grad[0, 0])
    assert 20 * codec.hop - used.min() == size.before and used.max() + 1 - 22 * codec.hop == size.after


def test_the_file_holds_each_number_once_and_tells_what_it_takes():
    codec = toy(replace(TINY, width=64, size=128))
    data = tflite.to_bytes(quantise(codec, sounds()), sounds(), 2)
    model = schema.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    audio, codes = graph.Tensors(graph.Inputs(0)), graph.Tensors(graph.Outputs(0))
    assert (data[4:8], model.Version()) == (b"TFL3", 3)
    assert audio.ShapeAsNumpy().tolist() == [1, 1, 2552 + 512, 1] and codes.ShapeAsNumpy().tolist() == [1, 3, 2]
    assert (audio.Type(), codes.Type()) == (schema.TensorType.INT16, schema.TensorType.INT32)
    assert audio.Quantization().Scale(0) == 2**-15
    said = "2552 samples, then 512 that are coded, then 0, at 16000 Hz; 2 frames of 3 codes below 128"
    assert model.Description().decode().endswith(said)
    parameters = sum(part.numel() for part in codec.encoder.parameters()) + codec.quantizer.codebooks.numel()
    assert parameters < len(data) < parameters + 60_000
    start = np.frombuffer(data, np.uint8).ctypes.data
    places = [model.Buffers(at).DataAsNumpy().ctypes.data - start for at in range(1, model.BuffersLength())]
    assert all(place % 16 == 0 for place in places)
    names = [schema.opcode2name(model.OperatorCodes(at).BuiltinCode()) for at in range(model.OperatorCodesLength())]
    used = Counter(names[graph.Operators(at).OpcodeIndex()] for at in range(graph.OperatorsLength()))
    assert (used["DEPTHWISE_CONV_2D"], used["SLICE"], used["ARG_MAX"], used["GATHER"]) == (16, 12, 3, 4)


@interpreted
def test_silence_and_a_model_without_any_weight_are_coded():
    model = TinyStream(TINY).eval()
    for part in model.parameters():
        part.data.zero_()
    made = quantise(model, sounds())
    assert not encode(made, tflite.to_bytes(made, sounds(), 2), torch.zeros(1, 1, 700), 2).any()


def refused(codec: NeuralCodec, frames: int = 2) -> str:
    with pytest.raises(InputError) as caught:
        tflite.to_bytes(quantise(codec, sounds()[:1]), sounds()[:1], frames)
    return str(caught.value)


def test_what_cannot_be_written_or_run_is_said_in_one_line(monkeypatch):
    assert "SoundStream needs an ELU" in refused(SoundStream(SoundStreamConfig(2, 4, layers=1, size=4)))
    assert "at least one frame, got 0" in refused(TinyStream(TINY), 0)
    data = tflite.to_bytes(quantise(TinyStream(TINY), sounds()[:1]), sounds()[:1], 1)
    for name in ("tflite", "tflite_micro"):
        monkeypatch.setitem(sys.modules, name, None)
    assert 'pip install "audio-core[tflite]"' in refused(TinyStream(TINY))
    assert arena(data) is None
