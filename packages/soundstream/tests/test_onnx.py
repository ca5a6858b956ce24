"""ONNX files: the codes and the audio of the model, in another program."""

import sys
from dataclasses import replace

import numpy as np
import onnx as files
import onnxruntime
import pytest
import torch
from audio_core.files import InputError
from audio_soundstream.config import TinyStreamConfig
from audio_soundstream.export import onnx
from audio_soundstream.model import NeuralCodec, TinyStream, spread


def session(path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def compare_encoder(model: NeuralCodec, path, x: torch.Tensor) -> None:
    onnx.write(model, path)
    files.checker.check_model(path, full_check=True)
    program, hop = session(path), model.hop
    for audio in (x, x[:1], x[..., : 2 * hop], x[..., : 2 * hop + 1], x[..., 4 * hop - 1 :], x[..., :1]):
        output = program.run(None, {"audio": audio.numpy()})[0]
        assert output.dtype == np.int64
        assert np.array_equal(output, model.codes(audio).numpy())
    assert [(value.name, value.shape) for value in (*program.get_inputs(), *program.get_outputs())] == [
        ("audio", ["batch", 1, "samples"]),
        ("codes", ["batch", model.config.layers, "frames"]),
    ]
    facts = {entry.key: entry.value for entry in files.load(path).metadata_props}
    assert facts == {"rate": str(model.sample_rate), "hop": str(model.hop)}


@pytest.mark.parametrize("name", ["ss_small", "ts_ultra_tiny", "ts_medium"])
def test_codes_are_those_of_the_model_whatever_the_length(name, stored, tmp_path):
    case, model = stored(name)
    compare_encoder(model, tmp_path / "a.onnx", case.inputs["x"])


def test_a_causal_codec_encodes_alike(tmp_path):
    config = TinyStreamConfig(4, 8, layers=2, size=16, causal=True, activation="hardswish", learning="none")
    model = TinyStream(config).eval()
    spread(model)
    x = torch.randn(2, 1, 8000) / 4
    with torch.no_grad():
        latents = model.encode(x)[0].T
    model.quantizer.load_codebooks(torch.stack([latents[:16], latents[:16] - latents[8:24]]))
    assert len(model.codes(x).unique()) == 16
    compare_encoder(model, tmp_path / "a.onnx", x)


@pytest.mark.parametrize("name", ["ss_small", "ts_ultra_tiny"])
def test_the_decoder_makes_the_audio_of_the_model(name, stored, tmp_path):
    case, model = stored(name)
    onnx.write(model, tmp_path / "a.onnx", decoder=True)
    program, codes = session(tmp_path / "a.onnx"), case.outputs["codes"].long()
    for few in (codes, codes[:1, :, :1]):
        expected = model.decode(model.from_codes(few)).detach().numpy()
        output = program.run(None, {"codes": few.numpy()})[0]
        assert output.shape == expected.shape
        assert np.abs(output - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    assert program.get_outputs()[0].shape == ["batch", 1, "samples"]


def test_what_only_training_needs_stays_out_and_the_model_stays_as_it_is(stored, tmp_path):
    case, fixed = stored("ts_ultra_tiny")
    model = TinyStream(replace(fixed.config, learning="moving"))
    model.load_state_dict(fixed.state_dict(), strict=False)
    onnx.write(model, tmp_path / "a.onnx")
    wanted = [*fixed.encoder.parameters(), fixed.quantizer.codebooks]
    assert (tmp_path / "a.onnx").stat().st_size < 4 * sum(part.numel() for part in wanted) + 30_000
    assert model.training
    output = session(tmp_path / "a.onnx").run(None, {"audio": case.inputs["x"].numpy()})[0]
    assert np.array_equal(output, fixed.codes(case.inputs["x"]).numpy())


def test_a_missing_library_is_named_with_what_installs_it(stored, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        InputError, match=r'needs onnx, which is not installed: pip install "audio-soundstream\[onnx\]"'
    ):
        onnx.write(stored("ts_ultra_tiny")[1], tmp_path / "a.onnx")
