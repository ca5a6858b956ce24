"""ONNX files: frames of the model in another program, and the example in the page beside them."""

import json
import re
import runpy
import sys

import numpy as np
import onnx as files
import onnxruntime
import pytest
import torch
from audio_core import audio
from audio_core.files import InputError
from audio_core.testing import close, noise, tone
from audio_semamba.config import SEMambaConfig
from audio_semamba.export import write
from audio_semamba.export.frame import states
from audio_semamba.model import SEMamba

SMALL = {"channels": 8, "blocks": 2, "state": 4, "expand": 2, "causal": True}
KINDS = {
    "correction": {**SMALL, "n_fft": 100, "hop": 40, "window": 80, "compress": 0.5, "phase": "correction"},
    "absolute": {**SMALL, "n_fft": 128, "hop": 64, "window": 128},
}


def model(kind: str) -> SEMamba:
    torch.manual_seed(1)
    model = SEMamba(SEMambaConfig(**KINDS[kind]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("A_log"):  # no weight stays at 0 or 1, where a mistake would not show
                parameter += 0.1 * torch.randn_like(parameter)
        noisy = model.stft(noise(seconds=0.3))
        model(noisy.magnitude, noisy.phase)  # nor any statistic of a norm
    return model.eval()


def session(path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def frames(model: SEMamba) -> torch.Tensor:
    """Complex (1, F, 54): silence, then a voice that gets louder, and louder than full scale."""
    hop = model.config.hop
    sound = (tone(seconds=1) + noise(seconds=1))[:, : 50 * hop]
    return model.stft.stft(torch.cat([torch.zeros(1, 4 * hop), sound * torch.linspace(0, 4, 50 * hop) ** 2], 1))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_frames_and_states_are_those_of_the_stream(kind, tmp_path):
    net = model(kind)
    write.export(net, tmp_path / "a.onnx", "onnx")
    files.checker.check_model(tmp_path / "a.onnx", full_check=True)
    program, power = session(tmp_path / "a.onnx"), net.config.compress
    state = net.start()
    values = {name: value.numpy() for name, value in states(state).items()}
    outputs = []
    for frame in frames(net).split(1, -1):
        estimate, state = net.stream(frame.abs() ** power, frame.angle(), state)
        expected = torch.polar(estimate.magnitude ** (1 / power), estimate.phase)[0, :, 0]
        spectrum = torch.view_as_real(frame)[0, :, 0].T.contiguous().numpy()
        enhanced, *after = program.run(None, {"spectrum": spectrum, **values})
        values = dict(zip(values, after, strict=True))
        outputs.append((torch.from_numpy(enhanced), torch.view_as_real(expected).T))
        for name, value in states(state).items():
            close(torch.from_numpy(values[name]), value, 1e-4)
    close(*(torch.stack(part) for part in zip(*outputs, strict=True)), 1e-4)
    assert len(outputs) == 55 and not outputs[0][0].any()


def test_the_file_says_how_to_feed_it(tmp_path):
    net = model("correction")
    facts = write.export(net, tmp_path / "a.onnx", "onnx")
    assert (facts["rate"], facts["latency_ms"], facts["states"]) == (16000, 6.25, 17)
    assert facts["files"] == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert "latency: 6.25 ms" in write.table(facts) and "a.onnx.md" in write.table(facts)
    program = session(tmp_path / "a.onnx")
    metadata = program.get_modelmeta().custom_metadata_map
    shapes = {name: list(value.shape) for name, value in states(net.start()).items()}
    assert json.loads(metadata.pop("states")) == shapes
    assert metadata == {"rate": "16000", "n_fft": "100", "hop": "40", "window": "80", "latency": "100"}
    inputs = {value.name: value.shape for value in program.get_inputs()}
    assert inputs == {"spectrum": [2, 51], **shapes}
    outputs = {value.name: value.shape for value in program.get_outputs()}
    assert outputs == {"enhanced": [2, 51], **{f"next_{name}": shape for name, shape in shapes.items()}}


def test_the_example_in_the_page_enhances_as_the_model_does(tmp_path, monkeypatch):
    net = model("correction")
    write.export(net, tmp_path / "a.onnx", "onnx")
    (example,) = re.findall(r"^```python\n(.*?)^```$", (tmp_path / "a.onnx.md").read_text("utf-8"), re.M | re.S)
    (tmp_path / "enhance.py").write_text(example, "utf-8")
    noisy = (0.2 * tone(seconds=0.2) + 0.1 * noise(seconds=0.2))[:, :3001]
    audio.write(tmp_path / "noisy.wav", noisy.numpy(), 16000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["enhance.py", "a.onnx", "noisy.wav", "enhanced.wav"])
    runpy.run_path("enhance.py", run_name="__main__")
    samples, _ = audio.read("noisy.wav")
    expected = net.enhance(torch.from_numpy(samples)).clamp(-1, 1).numpy()
    enhanced, rate = audio.read("enhanced.wav")
    assert rate == 16000 and enhanced.shape == expected.shape
    assert np.abs(enhanced - expected).max() < 2 / 32768 < np.abs(expected).max() / 100


def test_products_of_tiny_decays_stay_numbers(tmp_path):
    """A scan that divided by them would give infinities."""
    net = model("correction")
    with torch.no_grad():
        for block in net.blocks:
            for mixer in block.frequency.mixers:
                mixer.dt_proj.bias += 20
    write.export(net, tmp_path / "a.onnx", "onnx")  # which compares the outputs with the model's


def test_a_model_of_the_whole_recording_is_refused_and_nothing_is_left(tmp_path):
    net = SEMamba(SEMambaConfig(**{**SMALL, "causal": False}))
    with pytest.raises(InputError, match=r"--format onnx: takes causal models.*model\.causal=true"):
        write.export(net, tmp_path / "a.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_pages_of_others_are_not_overwritten(tmp_path):
    (tmp_path / "a.onnx.md").write_text("mine")
    with pytest.raises(InputError, match=r"a\.onnx\.md: exists already; give --force"):
        write.export(model("correction"), tmp_path / "a.onnx", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx.md"]
    write.export(model("correction"), tmp_path / "a.onnx", "onnx", force=True)
    assert (tmp_path / "a.onnx.md").read_text("utf-8").startswith("# a.onnx")


def test_a_missing_library_is_named_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r'needs onnx, which is not installed: pip install "audio-semamba\[onnx\]"'):
        write.export(model("correction"), tmp_path / "a.onnx", "onnx")
