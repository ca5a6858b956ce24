"""Both codecs, whole and piece by piece."""

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core import bundle, codec, testing
from audio_core.files import InputError
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig
from audio_soundstream.cost import decoder_context, describe, latency
from audio_soundstream.live.stream import DecoderStream, EncoderStream
from audio_soundstream.model import NeuralCodec, SoundStream, TinyStream, finished, load, spread

CONFIGS = {
    "soundstream": SoundStreamConfig(4, 16, layers=4, size=32),
    "tinystream": TinyStreamConfig(4, 16, layers=4, size=32),
    "causal": TinyStreamConfig(4, 16, layers=4, size=32, causal=True, activation="hardswish"),
}


def made(name: str) -> NeuralCodec:
    config = CONFIGS[name]
    model = SoundStream(config) if isinstance(config, SoundStreamConfig) else TinyStream(config)
    spread(model)
    model.quantizer.load_codebooks(0.3 * torch.randn_like(model.quantizer.codebooks))
    return model.eval()


@pytest.fixture(params=list(CONFIGS))
def model(request) -> NeuralCodec:
    return made(request.param)


STREAMS = [(1, 1), (300, 1), (256, 37), (4351, 37)]  # length, chunk: sample by sample takes long
STREAMS += [(1, None), (256, 256), (4351, 256), (4351, 320), (4351, None), (16000, 320), (16000, 1000), (16000, None)]


@pytest.mark.parametrize(("length", "chunk"), STREAMS)
def test_a_stream_equals_the_whole(model, length, chunk):
    x = torch.randn(1, 1, length) * 0.3
    with torch.inference_mode():
        codes = model.codes(x)
        audio = model.decode(model.from_codes(codes))[..., :length]
    assert codes.shape[-1] == -(-length // model.hop) and audio.shape == x.shape
    stream = EncoderStream(model)
    parts = [stream.feed(piece) for piece in x.split(chunk or length, -1)]
    assert torch.equal(torch.cat([*parts, stream.finish()], -1), codes)
    back = DecoderStream(model, length)
    heard = [back.feed(piece) for piece in codes.split(max(1, (chunk or length) // model.hop), -1)]
    found = torch.cat([*heard, back.finish()], -1)
    assert found.shape == audio.shape
    assert (found - audio).abs().max() <= 1e-5 * max(1.0, float(audio.abs().max()))


def test_streams_of_a_batch_do_not_hear_each_other(model):
    x = torch.randn(3, 1, 2000)
    stream = EncoderStream(model, layers=2, batch=3)
    codes = torch.cat([stream.feed(x[..., :777]), stream.feed(x[..., 777:]), stream.finish()], -1)
    assert torch.equal(codes, torch.cat([model.codes(one, 2) for one in x.split(1)]))


@pytest.mark.parametrize(("name", "samples"), [("soundstream", 181), ("tinystream", 2934), ("causal", 255)])
def test_the_latency_is_what_a_change_shows(name, samples):
    model = made(name)
    assert latency(model) == samples == describe(model.config)["latency_samples"]
    # In float64, without rounding: the first sample that hears a change at `at` is `samples` before it.
    model = model.double()
    at, length = 16 * model.hop, 20 * model.hop
    x = torch.randn(1, 1, length, dtype=torch.float64)
    with torch.no_grad():
        whole = model.decode(model.encode(x))
    worst = 0
    for offset in range(0, model.hop, 5):
        changed = x.clone()
        changed[..., at + offset] += 1
        with torch.no_grad():
            first = int((model.decode(model.encode(changed)) != whole).nonzero()[0, -1])
        worst = max(worst, at + offset - first)
    assert samples - 64 < worst <= samples  # what a ReLU cuts off hides some


def test_history_is_what_a_frame_depends_on(model):
    model = model.double()
    frames = 2 * decoder_context(model) + 8
    z = torch.randn(1, model.width, frames, dtype=torch.float64)
    changed = z.clone()
    changed[..., 4] += 1
    with torch.no_grad():
        differ = (model.decode(z) != model.decode(changed))[0, 0].nonzero()
    assert int(differ.max()) < (4 + decoder_context(model)) * model.hop
    assert model.encoder.history > 0


def test_both_are_codecs_and_found_by_name(model):
    assert model.codebooks == (32,) * 4
    assert "soundstream" in codec.names()
    samples, frames = model.receptive_field
    length = (8 + 2 * max(samples // model.hop + 1, frames)) * model.hop - 7
    testing.check_codec(model, 0.1 * torch.randn(2, 1, length))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(1, 2, 1000), "audio: has 2 channels, and the model takes 1; pass (B, 1, T)"),
        (torch.zeros(1, 1000, 1), "looks like (B, T, C)"),
        (torch.zeros(1000), "audio: has the shape (1000,); pass a batch (B, 1, T)"),
        (torch.zeros(1, 1, 1000, dtype=torch.int16), "audio: holds int16"),
        (torch.full((1, 1, 1000), float("nan")), "audio: holds NaN or infinity"),
        (np.zeros((1, 1, 1000), np.float32), "audio: is a numpy array"),
    ],
)
def test_audio_that_would_be_misread_is_refused_in_one_line(model, audio, message):
    for function in (model.codes, model.encode, EncoderStream(model).feed):
        with pytest.raises(InputError) as error:
            function(audio)
        assert message in str(error.value) and "\n" not in str(error.value)


def test_codes_and_latents_that_would_be_misread_are_refused_in_one_line(model):
    for codes, message in (
        (torch.zeros(1, 4, 9), "codes: are of type torch.float32; pass a tensor of integers (B, N, F)"),
        (np.zeros((1, 4, 9), np.int64), "codes: are of type ndarray"),
        (torch.zeros(4, 9, dtype=torch.long), "codes: have the shape (4, 9); pass (B, N, F)"),
        (torch.zeros(1, 5, 9, dtype=torch.long), "codes of 5 layers, but the codec has 4"),
        (torch.full((1, 4, 9), 32), "codes from 32 to 32, but codebooks have 32 entries"),
    ):
        for function in (model.from_codes, DecoderStream(model).feed):
            with pytest.raises(InputError) as error:
                function(codes)
            assert message in str(error.value)
    with pytest.raises(InputError, match=r"latents: have the shape \(1, 9, 16\); pass \(B, 16, F\)"):
        model.decode(torch.zeros(1, 9, 16))
    with pytest.raises(InputError, match="layers: expected 1 to 4, got 0"):
        model.codes(torch.zeros(1, 1, 1000), 0)


def test_default_is_the_codec_in_the_wheel_unless_a_path_is_given(tmp_path, monkeypatch):
    own = made("causal")
    bundle.save(finished(own), tmp_path / "default", "audio-soundstream", "0", "# Mine")
    monkeypatch.chdir(tmp_path)
    assert len(load("default").codebooks) == 16
    for folder in (Path("default"), "./default", str(tmp_path / "default")):
        assert len(load(folder).codebooks) == 4


def test_the_standard_checks(model, tmp_path):
    class Rebuilding(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.codec = model

        def forward(self, x):
            return self.codec(x).audio

    testing.check_repeats(Rebuilding(), torch.randn(3, 1, 1500))
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.quantizer.learns = False
    testing.check_gradients(Rebuilding(), torch.randn(2, 1, 6000))
    testing.check_bundle(finished(model), tmp_path / "bundle")


def test_a_finished_codec_codes_as_before_and_is_half_as_large(model):
    x = torch.randn(1, 1, 3000)
    done = finished(model)
    assert torch.equal(done.codes(x), model.codes(x))
    assert done.config.learning == "none" and "quantizer.sums" not in done.state_dict()


def test_first_weights_keep_the_level(model):
    x = 0.1 * torch.randn(1, 1, 8000)
    with torch.no_grad():
        latents = model.encode(x)
        audio = model.decode(latents)
    assert 0.005 < latents.std() < 3 and 0.001 < audio.std() < 3  # PyTorch's own: 1e-4 and less
