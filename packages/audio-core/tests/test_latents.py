"""Latents and codes on disk: the same again, and one line for every file that holds something else."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core import audio, batch, latents
from audio_core.files import InputError
from audio_core.latents import Latents
from audio_core.testing import noise, refused
from safetensors.numpy import save_file

spec = importlib.util.spec_from_file_location("codec_toys", Path(__file__).with_name("codec_toys.py"))
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
Toy = toys.Toy
MARK = bytes(range(8))


def some(values, samples: int | None = None, **facts) -> Latents:
    return Latents(values, 16000, 320, samples or values.shape[1] * 320 - 7, 1, MARK, facts)


def floats(scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal((4, 9))).astype(np.float32)


def test_latents_come_back_with_all_that_was_saved(tmp_path):
    path = tmp_path / "a.safetensors"
    latents.save(path, some(floats(), text="rain on a “tin” roof", start=1.5, tags=["a", None]))
    loaded = latents.load(path, MARK)
    assert np.array_equal(loaded.values, floats()) and loaded.values.dtype == np.float32
    assert (loaded.rate, loaded.hop, loaded.samples, loaded.channels) == (16000, 320, 9 * 320 - 7, 1)
    assert loaded.fingerprint == MARK and not loaded.is_codes and loaded.frames == 9
    assert loaded.facts == {"text": "rain on a “tin” roof", "start": 1.5, "tags": ["a", None]}


def test_half_precision_halves_the_file_and_rounds(tmp_path):
    latents.save(tmp_path / "a.safetensors", some(floats()), half=True)
    loaded = latents.load(tmp_path / "a.safetensors")
    assert np.array_equal(loaded.values, floats().astype(np.float16).astype(np.float32))
    text = refused(latents.save, tmp_path / "b.safetensors", some(floats(1e6)), half=True)
    assert "do not fit into float16" in text and not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(("largest", "width"), [(0, 1), (255, 1), (256, 2), (65535, 2), (65536, 4)])
def test_codes_take_the_smallest_integers_that_hold_them(tmp_path, largest, width):
    codes = np.full((3, 1000), largest)
    latents.save(tmp_path / "a.safetensors", some(codes))
    loaded = latents.load(tmp_path / "a.safetensors")
    assert np.array_equal(loaded.values, codes) and loaded.values.dtype == np.int64 and loaded.is_codes
    assert 0 <= (tmp_path / "a.safetensors").stat().st_size - 3000 * width < 400


def test_the_same_latents_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        latents.save(tmp_path / name, some(floats(), text="x", label=3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_latents_of_another_model_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    latents.save(path, some(floats()))
    text = refused(latents.load, path, bytes(8))
    assert text == (
        f"{path}: was encoded by model 0001020304050607, not by 0000000000000000; "
        "use that model, or encode the audio again"
    )


def test_damaged_files_are_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    latents.save(path, some(floats()))
    data = path.read_bytes()
    for cut in (0, 1, 8, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        assert refused(latents.load, path).startswith(f"{path}: is cut short or not safetensors: ")
    assert refused(latents.load, tmp_path / "none").startswith(f"{tmp_path / 'none'}: No such file")
    assert refused(latents.load, tmp_path).startswith(f"{tmp_path}: ")


def test_files_of_something_else_are_one_line(tmp_path):
    path, head = tmp_path / "a.safetensors", {"rate": 1, "hop": 4, "samples": 8, "channels": 1, "fingerprint": "00"}
    values, whole = {"values": np.zeros((1, 2), np.float32)}, {"latents": json.dumps(head)}
    save_file(values, path, whole)
    assert latents.load(path).frames == 2
    for tensors, metadata, message in [
        (values, None, "holds no latents: 'latents'"),
        ({"weight": values["values"]}, whole, "File does not contain tensor"),
        (values, {"latents": "{"}, "holds no latents: Expecting"),
        (values, {"latents": "[]"}, "holds no latents: "),
        (values, {"latents": json.dumps(head | {"fingerprint": "xy"})}, "holds no latents: non-hexadecimal"),
        (values, {"latents": json.dumps(head | {"more": 1})}, "holds no latents: .*'more'"),
        (values, {"latents": json.dumps(head | {"hop": True})}, "hop: expected a whole number from 1 on, got True"),
        (values, {"latents": json.dumps(head | {"samples": 12})}, "2 frames of 4 samples cannot hold 12 samples"),
        (values, {"latents": json.dumps(head | {"facts": [1]})}, r"facts: expected values by name, got \[1\]"),
        ({"values": np.full((1, 2), np.nan, np.float32)}, whole, "hold NaN or infinity"),
        ({"values": np.full((1, 2), -1)}, whole, "codes begin at 0, got -1"),
        ({"values": np.zeros(2, np.float32)}, whole, r"expected latents \(width, F\) or codes \(K, F\), got float32"),
    ]:
        save_file(tensors, path, metadata)
        with pytest.raises(InputError, match=message) as caught:
            latents.load(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_what_cannot_be_latents_is_refused_before_it_is_saved(tmp_path):
    assert refused(some, np.full((1, 2), np.inf)) == "the latents hold NaN or infinity"
    assert refused(some, np.zeros((1, 2, 3))).startswith("expected latents (width, F)")
    assert refused(some, np.zeros((4, 0)), samples=1).startswith("expected latents (width, F)")
    text = refused(latents.save, tmp_path / "a", some(floats(), what=object()))
    assert text.startswith(f"{tmp_path / 'a'}: facts must be what JSON can hold: ")
    latents.save(tmp_path / "a", some(floats()))
    assert "exists already; give --force" in refused(latents.save, tmp_path / "a", some(floats()), force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_padding_behind_the_audio_is_allowed():
    """Clips are padded to one length for training; `samples` says where the audio ends."""
    assert some(floats(), samples=1).frames == 9


# --- encoding and decoding -------------------------------------------------------------------------------------

PIECE = 20 * 8  # samples that go through the toy at once, in these tests


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(latents, "PIECE_SECONDS", PIECE / 8000)


def recording(length: int) -> torch.Tensor:
    return noise(length, length / 8000, 8000, 2)


@pytest.mark.parametrize("length", [1, 7, 8, PIECE - 1, PIECE, PIECE + 17, 3 * PIECE + 7, 5000])
@pytest.mark.parametrize("field", [(5, 3), None])
@torch.no_grad()
def test_long_recordings_are_encoded_and_decoded_as_at_once(length, field, small_pieces, monkeypatch):
    monkeypatch.setattr(Toy, "receptive_field", field)
    model, samples = Toy(2), recording(length)
    whole = model.encode(samples[None])
    encoded = latents.encode(model, samples, 8000)
    assert encoded.samples == length and encoded.values.shape == (3, -(-length // 8))
    assert np.abs(encoded.values - whole[0].numpy()).max() < 1e-6
    assert np.abs(latents.decode(model, encoded) - model.decode(whole, length)[0].numpy()).max() < 1e-6
    codes = latents.encode(model, samples, 8000, codes=True, layers=1)
    assert np.array_equal(codes.values, model.codes(samples[None], 1)[0].numpy())
    expected = model.decode(model.from_codes(model.codes(samples[None], 1)), length)[0].numpy()
    assert np.abs(latents.decode(model, codes) - expected).max() < 1e-6


def test_a_long_recording_goes_through_the_codec_in_small_pieces(small_pieces, monkeypatch):
    sizes = []
    encode = Toy.encode

    def counting(self, samples, generator=None):
        sizes.append(samples.shape[-1])
        return encode(self, samples, generator)

    monkeypatch.setattr(Toy, "encode", counting)
    latents.encode(Toy(), recording(5000), 8000)
    assert len(sizes) > 20 and max(sizes) == PIECE + 2 * 8


def test_other_rates_and_channels_are_converted():
    model = Toy()
    mono = noise(0, 0.1, 16000)[0].numpy()
    encoded = latents.encode(model, mono, 16000)
    stereo = audio.resample(np.stack([mono, mono]), 16000, 8000)
    assert np.array_equal(encoded.values, latents.encode(model, stereo, 8000).values)
    assert (encoded.samples, encoded.channels, encoded.rate, encoded.hop) == (800, 2, 8000, 8)


def test_the_mean_is_taken_unless_a_seed_asks_for_a_sample():
    model, samples = Toy(), recording(100)
    mean = latents.encode(model, samples, 8000).values
    first, again, other = (
        latents.encode(model, samples, 8000, generator=torch.Generator().manual_seed(seed)).values for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first, mean)


def test_an_array_of_a_generative_model_is_decoded_to_its_whole_length():
    model = Toy(2)
    values = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    with torch.no_grad():
        expected = model.decode(torch.from_numpy(values)[None])[0].numpy()
    assert np.array_equal(latents.decode(model, latents.from_array(model, values)), expected)
    codes = np.zeros((1, 50), np.int64)
    assert latents.decode(model, latents.from_array(model, codes)).shape == (2, 400)


def test_frames_of_padding_are_decoded_and_cut_off():
    model, samples = Toy(), recording(400)
    samples[:, 300:] = 0
    padded = latents.encode(model, samples, 8000)
    short = latents.from_array(model, padded.values, 300)
    assert np.array_equal(latents.decode(model, short), latents.decode(model, padded)[:, :300])


@pytest.mark.parametrize("length", [PIECE + 7, 3 * PIECE + 1])
@torch.no_grad()
def test_a_codec_whose_frames_end_before_the_audio_decodes_its_whole_length(length, small_pieces):
    class Rounding(Toy):
        """Samples behind the last whole frame have none of their own."""

        def frames(self, samples):
            return samples // self.hop

        def encode(self, samples, generator=None):
            return super().encode(samples[..., : self.frames(samples.shape[-1]) * self.hop], generator)

        def decode(self, values, samples=None):
            extra = max(0, (samples or 0) - values.shape[-1] * self.hop)
            return super().decode(torch.nn.functional.pad(values, (0, extra > 0)), samples)

    model = Rounding()
    encoded = latents.encode(model, recording(length), 8000)
    assert encoded.frames == length // 8
    expected = model.decode(torch.from_numpy(encoded.values)[None], length)[0].numpy()
    assert expected.shape == (2, length) and np.abs(latents.decode(model, encoded) - expected).max() < 1e-6


def test_what_a_codec_cannot_decode_is_one_line():
    model, floats = Toy(2), np.zeros((3, 2), np.float32)
    assert "was encoded by model" in refused(latents.decode, Toy(1), latents.from_array(model, floats))
    text = refused(latents.decode, model, latents.from_array(model, np.zeros((4, 2), np.float32)))
    assert text == "latents: expected 3 values a frame, got 4"
    text = refused(latents.decode, model, latents.from_array(model, np.zeros((3, 2), np.int64)))
    assert text == "latents: expected codes of at most 2 codebooks, got 3"
    text = refused(latents.decode, model, latents.from_array(model, np.full((2, 2), 16)))
    assert text == "latents: expected codes below 16, got 16"


def test_what_a_codec_cannot_encode_is_one_line(tmp_path):
    assert "divide by 32768" in refused(latents.encode, Toy(), np.zeros((2, 9), np.int16), 8000)
    assert "has no codebooks" in refused(latents.encode, Toy(), recording(9), 8000, codes=True)
    text = refused(latents.encode, Toy(2), recording(9), 8000, codes=True, layers=3)
    assert text == "layers: expected codes of 1 to 2 codebooks, got 3"
    with audio.Writer(tmp_path / "a.wav", 8000, 1):
        pass
    assert refused(latents.encode_file, Toy(), tmp_path / "a.wav").endswith("a.wav: holds no samples")


def test_files_are_encoded_and_decoded_as_arrays_are(tmp_path, small_pieces):
    model, samples = Toy(2), recording(2001).numpy()
    audio.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    encoded = latents.encode_file(model, tmp_path / "a.wav")
    assert np.array_equal(encoded.values, latents.encode(model, samples, 8000).values)
    assert encoded.facts == {"source_rate": 8000, "source_channels": 2} and encoded.samples == 2001
    latents.decode_file(model, encoded, tmp_path / "b.wav", "FLOAT")
    back = audio.read(tmp_path / "b.wav")
    assert back.rate == 8000 and np.array_equal(back.samples, latents.decode(model, encoded))
    assert "exists already" in refused(latents.decode_file, model, encoded, tmp_path / "b.wav", force=False)


def test_a_folder_is_encoded_in_a_batch_that_goes_on_where_it_stopped(tmp_path):
    model, encoded = Toy(2), []
    for name in ("a", "b/c"):
        audio.write(tmp_path / f"in/{name}.wav", recording(99).numpy(), 8000)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")

    def work(source: Path, target: Path) -> None:
        latents.save(target, latents.encode_file(model, source, codes=True))
        encoded.append(source.name)

    jobs = batch.targets(batch.find(tmp_path / "in"), tmp_path / "out", ".safetensors")
    assert [(failure.source.name, failure.ours) for failure in batch.run(jobs, work, quiet=True).failed] == [
        ("broken.wav", False)
    ]
    (tmp_path / "out/a.safetensors").unlink()
    assert batch.run(jobs, work, quiet=True)[:2] == (1, 1) and encoded == ["a.wav", "c.wav", "a.wav"]
    paths = [item.file for item in batch.find(tmp_path / "out", ".safetensors")]
    assert [latents.load(path, model.fingerprint()).values.shape for path in paths] == [(2, 13), (2, 13)]


@pytest.mark.parametrize("inside", [False, True])
def test_a_header_is_read_without_the_values(tmp_path, inside):
    """Of a file, and of one inside a tar."""
    item = latents.Latents(np.arange(36).reshape(4, 9), 1000, 100, 850, 2, b"12345678", {"text": "x"})
    latents.save(tmp_path / "a.safetensors", item)
    place = tmp_path / "a.safetensors"
    if inside:
        content = place.read_bytes()
        (tmp_path / "a.tar").write_bytes(b"-" * 7 + content + b"-" * 9)
        place = audio.Section(tmp_path / "a.tar", 7, len(content), "a.safetensors")
    header, again = latents.look(place), latents.load(place)
    assert (header.shape, header.is_codes) == ((4, 9), True)
    for name in ("rate", "hop", "samples", "channels", "facts", "fingerprint"):
        assert getattr(header, name) == getattr(again, name) == getattr(item, name)
    assert np.array_equal(again.values, item.values)


def test_headers_of_damaged_files_are_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    latents.save(path, latents.Latents(np.zeros((4, 9)), 1000, 100, 850, 2, b"12345678"))
    content = path.read_bytes()
    for damaged in (content[:-1], content[:30], content[:8], b"", b"\xff" * 60, b"\2" + bytes(7) + b"{}"):
        path.write_bytes(damaged)
        assert "a.safetensors: " in refused(latents.look, path)
