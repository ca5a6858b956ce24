"""Latents and codes on disk: the same again, and one line for every file that holds something else."""

import json

import numpy as np
import pytest
from audio_core import latents
from audio_core.files import InputError
from audio_core.latents import Latents
from safetensors.numpy import save_file

MARK = bytes(range(8))


def some(values, samples: int | None = None, **facts) -> Latents:
    return Latents(values, 16000, 320, samples or values.shape[1] * 320 - 7, 1, MARK, facts)


def floats(scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal((4, 9))).astype(np.float32)


def refused(call, *args, **options) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
