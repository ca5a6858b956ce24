"""What users pass as audio: taken as it is meant, or refused with a line that says what to pass."""

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core import audio
from audio_core.testing import noise, refused


@pytest.mark.parametrize(
    "kind", [np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64, list]
)
def test_floating_point_numbers_of_every_kind_become_float32_of_two_axes(kind):
    values = [0.0, 0.5, -1.0, 1.5]
    if kind is list:
        array = values
    elif isinstance(kind, torch.dtype):
        array = torch.tensor(values, dtype=kind, requires_grad=True)
    else:
        array = np.array(values, kind)
    taken = audio.samples(array)
    assert (taken.dtype, taken.tolist()) == (np.float32, [values])


def test_channels_stay_and_short_clips_may_have_more_of_them_than_samples():
    assert audio.samples(noise(channels=32)).shape == (32, 16000)
    assert audio.samples(np.zeros((8, 1), np.float32)).shape == (8, 1)


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (np.zeros(9, np.int16), "x: holds int16, not floats in -1 to 1; divide by 32768"),
        (torch.zeros(9, dtype=torch.int16), "x: holds int16, not floats in -1 to 1; divide by 32768"),
        (np.zeros(9, np.int32), "x: holds int32, not floats in -1 to 1; divide by 2147483648"),
        (np.zeros(9, np.int64), "x: holds int64, not floats in -1 to 1; convert it"),
        (np.zeros(9, bool), "x: holds bool, not floats in -1 to 1; convert it"),
        (np.zeros(9, complex), "x: holds complex128, not floats in -1 to 1; convert it"),
        ("a.wav", "x: is no array of numbers but str; pass samples, (T,) or (C, T)"),
        (Path("a.wav"), f"x: is no array of numbers but {type(Path()).__name__}; pass samples, (T,) or (C, T)"),
        ([None, 1.0], "x: is no array of numbers but list; pass samples, (T,) or (C, T)"),
        ([[0.1, 0.2], [0.3]], "x: its channels differ in length; pass one array (C, T)"),
        (np.zeros((100, 2)), "x: 100 channels of 2 samples look like (T, C); pass the transpose, (C, T)"),
        (torch.zeros(1, 2, 100), "x: has the shape (1, 2, 100); pass one recording, (T,) or (C, T)"),
        (0.5, "x: has the shape (); pass one recording, (T,) or (C, T)"),
        (np.zeros((2, 0)), "x: is empty, of shape (2, 0); pass at least one sample"),
        ([], "x: is empty, of shape (1, 0); pass at least one sample"),
        ([[0.0, 1.0], [0.0, np.nan]], "x: holds NaN or infinity at sample 1"),
        (torch.tensor([0.0, 0.0, -torch.inf]), "x: holds NaN or infinity at sample 2"),
        (np.array([1e300]), "x: holds NaN or infinity at sample 0"),
    ],
)
def test_what_would_be_misread_is_refused(array, line):
    assert refused(audio.samples, array, "x") == line


def test_a_batch_for_a_model_passes_as_it_is():
    for kind in (torch.float32, torch.bfloat16):
        x = torch.zeros(3, 2, 100, dtype=kind)
        assert audio.batch(x, 2) is x


@pytest.mark.parametrize(
    ("tensor", "line"),
    [
        (np.zeros((1, 1, 9)), "x: is a numpy array; pass a tensor (B, 1, T), torch.from_numpy(x)[None]"),
        ("a.wav", "x: is no tensor but str; pass a tensor (B, 1, T)"),
        (torch.zeros(1, 1, 9, dtype=torch.int16), "x: holds int16, not floats in -1 to 1; divide by 32768"),
        (torch.zeros(1, 9), "x: has the shape (1, 9); pass a batch (B, 1, T)"),
        (torch.zeros(1, 2, 9), "x: has 2 channels, and the model takes 1; pass (B, 1, T)"),
        (torch.zeros(1, 9, 1), "x: (1, 9, 1) looks like (B, T, C); pass (B, 1, T), x.transpose(1, 2)"),
        (torch.zeros(1, 1, 0), "x: is empty, of shape (1, 1, 0); pass at least one sample"),
        (torch.full((1, 1, 9), torch.nan), "x: holds NaN or infinity"),
    ],
)
def test_a_batch_that_a_model_would_misread_is_refused(tensor, line):
    assert refused(audio.batch, tensor, 1, "x") == line


@pytest.mark.parametrize("array", [np.full(100, 1000, np.int16), np.zeros((100, 2)), np.full((1, 9), np.nan)])
def test_a_file_is_not_written_from_what_would_be_misread(array, tmp_path):
    """Sixteen-bit integers, taken for floats, were written as noise at full scale."""
    path = tmp_path / "a.wav"
    assert refused(audio.write, path, array, 16000).startswith(f"{path}: ")
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_checked_against_the_channels_of_their_file(tmp_path):
    path = tmp_path / "a.wav"
    with audio.Writer(path, 16000, 32) as writer:
        writer.write(np.zeros((32, 10)))  # the last block of a file may be short,
        writer.write(np.zeros((32, 0)))  # or empty
        assert "holds int16" in refused(writer.write, np.zeros((32, 10), np.int16))
        assert refused(writer.write, np.zeros((10, 32))).endswith("look like (T, C); pass the transpose, (C, T)")
        assert refused(writer.write, np.zeros((2, 10))) == f"{path}: has 2 channels; 32 are expected"
    assert audio.info(path).frames == 10
