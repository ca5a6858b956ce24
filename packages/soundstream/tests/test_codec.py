"""Audio files to streams on disk and back: exact lengths, parts, damage, and memory that does not grow."""

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import warm
from audio_core import audio, bundle, latents
from audio_core.files import InputError
from audio_core.testing import noise, tone
from audio_soundstream import codec
from audio_soundstream.config import bitrates
from audio_soundstream.model import TinyStream, finished, load
from audio_soundstream.sstr import bitstream
from audio_soundstream.sstr.header import HEADER_BYTES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KINDS = ["soundstream", "tinystream", "causal"]
LSB = 1 / 2**15


@pytest.fixture
def make(toy, tmp_path):
    """An .sstr file of noise and a tone, and its model."""

    def made(kind: str, seconds: float = 2.3, **how):
        model = toy(kind)
        sound = 0.3 * noise(5, seconds, model.sample_rate) + 0.2 * tone(300, seconds, model.sample_rate)
        audio.write(tmp_path / "in.wav", sound.numpy(), model.sample_rate)
        codec.encode_file(model, tmp_path / "in.wav", tmp_path / "out.sstr", **how)
        return model, tmp_path / "out.sstr"

    return made


def heard(model, path, *more, **how) -> np.ndarray:
    """(T,) of an .sstr file, as decoded."""
    codec.decode_file(model, path, path.with_suffix(".wav"), *more, force=True, **how)
    return audio.read(path.with_suffix(".wav")).samples[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [None, 2])
def test_a_file_comes_back_as_the_model_alone_makes_it(make, kind, layers):
    model, path = make(kind, layers=layers)
    sound = torch.from_numpy(audio.read(path.with_name("in.wav")).samples)[None]
    with torch.inference_mode():
        alone = model.decode(model.from_codes(model.codes(sound, layers)))[0, 0, : sound.shape[-1]].clamp(-1, 1)
    found = heard(model, path)
    assert found.shape == alone.shape
    np.testing.assert_allclose(found, alone.numpy(), atol=1.6 * LSB)
    facts = bitstream.describe(path)
    assert facts["samples"] == sound.shape[-1] and facts["layers"] == (layers or 4)
    assert facts["nominal_kbps"] == bitrates(model.config)[(layers or 4) - 1]


@pytest.mark.parametrize("samples", [1, 2, 255, 256, 257, 5000])
def test_every_length_comes_back(toy, tmp_path, samples):
    model = toy("causal")
    audio.write(tmp_path / "in.wav", 0.5 * np.ones((1, samples), np.float32), model.sample_rate)
    codec.encode_file(model, tmp_path / "in.wav", tmp_path / "out.sstr")
    assert heard(model, tmp_path / "out.sstr").shape == (samples,)


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(8000, 1, 0.5), (96000, 2, 0.5), (44100, 2, 0.333)])
def test_other_rates_and_channels_are_converted_with_one_remark(toy, tmp_path, capsys, rate, channels, seconds):
    model = toy("causal")
    sound = np.repeat(tone(300, seconds, rate).numpy(), channels, 0) * 0.3
    audio.write(tmp_path / "in.flac", sound, rate)
    codec.encode_file(model, tmp_path / "in.flac", tmp_path / "out.sstr")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"resampled from {rate} to 16000 Hz" in said
    assert ("2 channels mixed to one" in said) == (channels == 2)
    assert heard(model, tmp_path / "out.sstr").shape == (-(-sound.shape[1] * 16000 // rate),)
    codec.encode_file(model, tmp_path / "in.flac", tmp_path / "out.sstr", force=True, quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "seconds"), [(0.0, 0.1), (0.5, 0.7), (1.2345, None), (2.29, 5.0), (1.0, 1e-4)])
def test_a_part_is_that_part_of_the_whole(make, kind, start, seconds):
    model, path = make(kind)
    whole, part = heard(model, path), heard(model, path, None, start, seconds)
    first = round(start * model.sample_rate)
    last = None if seconds is None else first + round(seconds * model.sample_rate)
    assert part.shape == whole[first:last].shape
    # A convolution over fewer frames may add in another order: the last bit may turn.
    np.testing.assert_allclose(part, whole[first:last], atol=1.1 * LSB)


def test_fewer_layers_of_a_stream_are_those_of_a_smaller_one(make):
    model, path = make("causal")
    low = heard(model, path, 2)
    codec.encode_file(model, path.with_name("in.wav"), path, 2, force=True)
    np.testing.assert_array_equal(low, heard(model, path))
    with pytest.raises(InputError, match=r"no more than 0\.5 kbit/s; possible are 0\.25, 0\.5$"):
        heard(model, path, 3)


def test_entropy_coding_changes_nothing_to_hear(make, toy):
    model, path = make("causal")
    with pytest.raises(InputError, match="does not know how often its codes occur"):
        codec.encode_file(model, path.with_name("in.wav"), path, entropy=True, force=True)
    plain = heard(model, path)
    model.quantizer.counts.copy_(torch.arange(1, 17).expand(4, 16))
    codec.encode_file(model, path.with_name("in.wav"), path, entropy=True, force=True)
    assert bitstream.describe(path)["entropy_coded"]
    np.testing.assert_allclose(heard(model, path), plain, atol=1.1 * LSB)  # its packets have other sizes
    part = heard(model, path, None, 1.5)
    np.testing.assert_allclose(part, plain[24000:], atol=1.1 * LSB)


# --- what is wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said"), [("tinystream", "another model"), ("soundstream", "another codec"), ("wav", "is a WAV file")]
)
def test_what_another_made_is_refused(make, toy, kind, said):
    path = make("tinystream" if kind == "wav" else kind)[1]
    if kind == "wav":
        path = path.with_name("in.wav")
    with pytest.raises(InputError, match=said):
        codec.decode_file(toy("causal"), path, path.with_name("x.flac"))
    assert not path.with_name("x.flac").exists()


def test_where_a_part_cannot_begin(make):
    model, path = make("causal")
    with pytest.raises(InputError, match=r"out\.sstr: ends at 2\.3 s, before --start 2\.3"):
        heard(model, path, None, 2.3)


def test_damage_is_an_error_or_bridged_and_told(make):
    model, path = make("causal")
    whole, data = heard(model, path), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    path.with_suffix(".wav").unlink()
    with pytest.raises(InputError, match="is damaged"):
        heard(model, path)
    assert not path.with_suffix(".wav").exists()
    assert codec.decode_file(model, path, path.with_suffix(".wav"), conceal=True) == (
        "1 packet was damaged or lost, and bridged"
    )
    bridged = audio.read(path.with_suffix(".wav")).samples[0]
    assert bridged.shape == whole.shape and not np.array_equal(bridged, whole)
    np.testing.assert_allclose(bridged[:8000], whole[:8000], atol=1.1 * LSB)
    np.testing.assert_allclose(bridged[-2000:], whole[-2000:], atol=1.1 * LSB)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_is_played_as_if_nothing_were(toy, tmp_path, data):
    """Any byte changed or any end cut off: an error, and nothing written; or bridged and told."""
    model, path, result = toy("causal"), tmp_path / "x.sstr", tmp_path / "x.wav"
    if not path.exists():
        audio.write(tmp_path / "in.wav", 0.3 * noise(1, 0.6, 16000).numpy(), 16000)
        codec.encode_file(model, tmp_path / "in.wav", path)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    bad = data.draw(st.sampled_from([whole[:at], whole[:at] + changed + whole[at + 1 :]]))
    broken = tmp_path / "broken.sstr"
    broken.write_bytes(bad)
    with pytest.raises(InputError, match=r"broken\.sstr"):
        codec.decode_file(model, broken, result)
    assert not result.exists()
    try:
        said = codec.decode_file(model, broken, result, conceal=True)
    except InputError as error:
        assert at < HEADER_BYTES or "holds no audio to decode" in str(error)
        assert "broken.sstr" in str(error) and not result.exists()
        return
    frames = audio.info(result).frames
    result.unlink()
    assert said and (frames == 9600 if len(bad) == len(whole) else frames <= 9600)


def test_a_missing_end_is_an_error_or_told(make):
    model, path = make("causal")
    whole, data = heard(model, path), path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match="is truncated"):
        heard(model, path)
    assert codec.decode_file(model, path, path.with_suffix(".wav"), conceal=True, force=True) == "the end is missing"
    begin = audio.read(path.with_suffix(".wav")).samples[0]
    assert 0 < len(begin) < len(whole)
    np.testing.assert_allclose(begin, whole[: len(begin)], atol=1.1 * LSB)


def test_a_header_that_contradicts_itself_is_refused(make):
    model, path = make("causal")
    head = codec.header(model, 4, 100, 32)
    object.__setattr__(head, "frames", 2)
    with path.open("wb") as file:
        writer = bitstream.Writer(file, head)
        writer.write(np.zeros((4, 2), np.int32))
        writer.close()
    with pytest.raises(InputError, match="promises 100 samples in 2 frames"):
        heard(model, path)


def test_the_fingerprint_is_that_of_what_decodes(toy):
    model, mark = toy("causal"), toy("causal").fingerprint()
    assert len(mark) == 8 and model.fingerprint() == mark
    same = TinyStream(replace(toy("tinystream").config, learning="moving"))  # what a run holds, before it is finished
    same.load_state_dict(toy("tinystream").state_dict(), strict=False)
    assert same.fingerprint() == toy("tinystream").fingerprint() != mark  # of the same weights
    with torch.no_grad():
        next(model.encoder.parameters()).add_(1)
    assert model.fingerprint() == mark
    with torch.no_grad():
        model.quantizer.codebooks[0, 0, 0] += 1
    assert model.fingerprint() != mark


# --- memory ----------------------------------------------------------------------------------------------------

_PROGRAM = """
import resource, sys, torch
from audio_soundstream import codec
from audio_soundstream.model import load
torch.set_num_threads(1)
model = load(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
codec.encode_file(model, sys.argv[2], sys.argv[2] + ".sstr")
codec.decode_file(model, sys.argv[2] + ".sstr", sys.argv[2] + ".out.wav")
first = peak()
codec.encode_file(model, sys.argv[3], sys.argv[3] + ".sstr")
codec.decode_file(model, sys.argv[3] + ".sstr", sys.argv[3] + ".out.wav")
print(peak() - first)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_long_file_takes_the_memory_of_a_short_one(bundles, tmp_path):
    """A minute, which would be 4 MB in single floats for every channel of a layer at full rate."""
    for name, seconds in (("short.wav", 5), ("long.wav", 60)):
        audio.write(tmp_path / name, 0.1 * noise(1, seconds, 16000).numpy(), 16000)
    result = warm.run("-c", _PROGRAM, bundles / "causal", tmp_path / "short.wav", tmp_path / "long.wav")
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 20


def test_a_bundle_with_numbers_that_are_none_is_refused(toy, tmp_path):
    for name, value in (("codebooks", float("nan")), ("counts", float("nan")), ("counts", -1.0)):
        model = copy.deepcopy(toy("causal"))
        getattr(model.quantizer, name)[0, 0] = value
        bundle.save(model, tmp_path / "bundle", "audio-soundstream", "0", "# Broken", force=True)
        with pytest.raises(InputError, match=f"bundle: quantizer.{name} holds values that are not finite"):
            load(tmp_path / "bundle")


def test_the_fingerprint_of_the_shipped_codec_stays():
    """Streams that were written with it would be refused."""
    assert load().fingerprint().hex() == "098c78d567f46be8"


def test_codes_of_a_file_are_kept_with_all_that_decoding_needs(toy, tmp_path):
    model = toy("causal")
    sound = 0.1 * np.random.default_rng(0).standard_normal((1, 5000)).astype(np.float32)
    codes = latents.encode(model, sound, model.sample_rate, codes=True, layers=2)
    latents.save(tmp_path / "a.safetensors", codes)
    loaded = latents.load(tmp_path / "a.safetensors", model.fingerprint())
    with torch.no_grad():
        expected = model.decode(model.from_codes(model.codes(torch.from_numpy(sound)[None], 2)), 5000)[0].numpy()
    assert np.abs(latents.decode(model, loaded) - expected).max() < 1e-6


def test_learning_leaves_the_fingerprint_as_it_is(toy):
    model = toy("causal")
    learning = TinyStream(replace(model.config, learning="gradient_original"))
    learning.load_state_dict({k: v for k, v in model.state_dict().items() if k != "quantizer.counts"})
    assert learning.fingerprint() == model.fingerprint() == finished(learning).fingerprint()
