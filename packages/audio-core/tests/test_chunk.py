"""Long audio in pieces: the same length, the same result where that is possible, the same memory for an hour."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core import audio
from audio_core.chunk import process, process_blocks, process_file
from audio_core.files import InputError
from torch import Tensor, nn

REACH = 12  # samples that the convolution below hears to either side


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def identity(samples: Tensor) -> Tensor:
    return samples


def convolution(channels: int = 2) -> nn.Conv1d:
    return nn.Conv1d(channels, 3, 2 * REACH + 1, padding=REACH, bias=False)


@pytest.mark.parametrize("length", [1, 2, 99, 100, 101, 137, 187, 188, 189, 1000, 1013])
@pytest.mark.parametrize(("overlap", "margin"), [(0, 0), (12, 0), (50, 0), (0, 49), (10, 40), (25, 25), (1, 3)])
def test_the_identity_changes_nothing_at_any_length(length, overlap, margin):
    samples = torch.randn(2, 3, length)
    assert torch.equal(process(identity, samples, 100, overlap=overlap, margin=margin), samples)


@pytest.mark.parametrize("batch", [1, 2, 3, 50])
@pytest.mark.parametrize("size", [1, 7, 100, 333, 2000])
def test_blocks_of_any_size_in_batches_of_any_size_give_the_same(batch, size):
    """The model weighs positions, so every segment that began elsewhere would show."""
    samples = torch.randn(2, 1, 1234)
    ramp = torch.arange(100.0)
    expected = process(lambda x: x * ramp[: x.shape[-1]], samples, 100, overlap=20, margin=5)
    blocks = process_blocks(
        lambda x: x * ramp[: x.shape[-1]], samples.split(size, -1), 100, overlap=20, margin=5, batch=batch
    )
    assert torch.equal(torch.cat(list(blocks), -1), expected)


def test_neighbours_are_faded_linearly_into_each_other():
    """Each call of the model returns its own number: what comes out shows the weights."""
    calls = iter(range(100))
    made = process(lambda x: torch.full_like(x, next(calls)), torch.zeros(1, 1, 250), 100, overlap=9, margin=10)[0, 0]
    # Segments start at 0, 71, 142, ... and are kept from their tenth sample on, the first one from its start.
    assert torch.equal(made[:81], torch.zeros(81))
    assert torch.allclose(made[81:90], torch.arange(1, 10) / 10)
    assert torch.equal(made[90:152], torch.ones(62))
    assert torch.allclose(made[152:161], 1 + torch.arange(1, 10) / 10)
    assert made.shape == (250,)


def test_with_a_margin_as_wide_as_the_model_hears_nothing_differs():
    model, samples = convolution(), torch.randn(3, 2, 1000)
    expected = model(samples).detach()
    for overlap, margin in [(0, REACH), (10, REACH), (20, 15)]:
        made = process(model, samples, 100, overlap=overlap, margin=margin, batch=4)
        assert (made - expected).abs().max() < 1e-6


def test_a_deep_model_equals_itself_to_the_end_when_nothing_is_padded():
    """Behind the end its later layers hear their own zeros, which the model makes of padded silence only by chance."""
    model = nn.Sequential(nn.Conv1d(1, 8, 5, padding=2), nn.Tanh(), nn.Conv1d(8, 1, 5, padding=2))
    samples = torch.randn(1, 1, 1001)
    made = process(model, samples, 256, margin=4, multiple=1)
    assert (made - model(samples)).abs().max() < 1e-6


@pytest.mark.parametrize(("overlap", "margin"), [(0, 0), (0, 5), (4, 0), (4, 5), (20, 0), (20, 5)])
def test_without_it_only_the_samples_near_a_seam_differ(overlap, margin):
    model, samples = convolution(), torch.randn(1, 2, 1000)
    error = (process(model, samples, 100, overlap=overlap, margin=margin) - model(samples)).abs().amax((0, 1))
    hop, reach = 100 - overlap - 2 * margin, max(0, REACH - margin - overlap)
    near = torch.zeros(1000, dtype=torch.bool)
    for start in range(hop, 1000 - overlap - 2 * margin, hop):
        fade = start + margin
        near[fade - reach : fade + overlap + reach] = True
    assert error[~near].max() < 1e-6
    assert error[near].max() > 1e-2  # and there it does, without enough margin


def test_stems_and_other_channels_keep_their_shape():
    samples = torch.randn(2, 2, 345)
    stems = process(lambda x: torch.stack([x, 2 * x, -x], 1), samples, 100)
    assert torch.equal(stems, torch.stack([samples, 2 * samples, -samples], 1))
    mono = process(lambda x: x.sum(1, keepdim=True), samples, 100)
    assert torch.allclose(mono, samples.sum(1, keepdim=True), atol=1e-6)


def test_the_last_piece_is_only_as_long_as_it_must_be():
    seen: list[tuple[int, ...]] = []

    def model(samples: Tensor) -> Tensor:
        seen.append(tuple(samples.shape))
        return samples

    process(model, torch.zeros(1, 2, 300), 3000, multiple=375)
    process(model, torch.zeros(1, 2, 1), 3000, multiple=1)
    process(model, torch.zeros(1, 2, 2990), 3000, multiple=700)  # never longer than a segment
    process(model, torch.zeros(1, 2, 30 + 29 * 20), 30, overlap=10, batch=8, multiple=15)
    assert seen[:3] == [(1, 2, 375), (1, 2, 1), (1, 2, 3000)]
    assert seen[3:] == [(8, 2, 30)] * 3 + [(6, 2, 30)]
    seen.clear()
    process(model, torch.zeros(2, 1, 145), 100, overlap=10, batch=8, multiple=20)
    assert seen == [(2, 1, 100), (2, 1, 60)]  # 145 - 90 = 55 samples are left


def test_the_model_hears_silence_after_the_end_and_keeps_no_gradients():
    heard = []
    net = nn.Conv1d(1, 1, 1)
    made = process(lambda x: net(heard.append(x) or x), torch.ones(1, 1, 13), 80, multiple=10)
    assert heard[0][0, 0].tolist() == [1.0] * 13 + [0.0] * 7
    assert not made.requires_grad


def test_what_cannot_work_is_told_at_once():
    with pytest.raises(InputError, match=r"must keep the length of a segment, got \(1, 1, 50\) for \(1, 1, 100\)"):
        process(lambda x: x[..., ::2], torch.zeros(1, 1, 1000), 100)
    for wrong in ({"overlap": 51}, {"margin": 50, "overlap": 0}, {"overlap": -1}, {"margin": -1}, {"batch": 0}):
        with pytest.raises(InputError, match="a segment must hold two overlaps and two margins"):
            process_blocks(identity, [], 100, **wrong)
    with pytest.raises(InputError, match="segment 0"):
        process_blocks(identity, [], 0)
    with pytest.raises(ValueError, match="0 samples"):
        process(identity, torch.zeros(1, 1, 0), 100)


# --- files -----------------------------------------------------------------------------------------------------


def test_a_file_comes_back_as_it_was(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 200_001)).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, 44100, "FLOAT")
    assert process_file(identity, tmp_path / "a.wav", tmp_path / "b.wav", 30_000, encoding="FLOAT", batch=2) == 0
    back = audio.read(tmp_path / "b.wav")
    assert back.rate == 44100
    assert np.array_equal(back.samples, samples)


def test_a_file_gets_the_rate_and_channels_that_the_model_wants_and_those_it_makes(tmp_path):
    audio.write(tmp_path / "a.wav", 0.5 * np.ones((2, 44101)), 44100, "FLOAT")
    heard = set()

    def model(samples: Tensor) -> Tensor:
        heard.add(samples.shape[1])
        return samples.repeat(1, 3, 1) * 4

    clipped = process_file(model, tmp_path / "a.wav", tmp_path / "b.flac", 5000, rate=16000, channels=1, progress=False)
    info = audio.info(tmp_path / "b.flac")
    assert (info.rate, info.channels, info.frames) == (16000, 3, 16001)
    assert heard == {1}
    assert 3 * 15990 < clipped <= 3 * 16001  # all but the ends, which the resampler rounds off


def test_a_model_that_fails_half_way_leaves_no_file(tmp_path):
    audio.write(tmp_path / "a.wav", np.zeros((1, 1000)), 8000)
    calls = iter([1, 2, 0])
    with pytest.raises(ZeroDivisionError):
        process_file(lambda x: x + 1 / next(calls) - 1, tmp_path / "a.wav", tmp_path / "b.wav", 100)
    with pytest.raises(InputError, match=r"b\.wav: the result holds NaN"):
        process_file(lambda x: x / 0, tmp_path / "a.wav", tmp_path / "b.wav", 100)
    with pytest.raises(ValueError, match=r"one file holds \(C, T\), the model returned \(2, 1, "):
        process_file(lambda x: torch.stack([x, x], 1), tmp_path / "a.wav", tmp_path / "b.wav", 100)
    assert names(tmp_path) == ["a.wav"]


MEASURED = """
import re, sys
from pathlib import Path
import torch
from audio_core.chunk import process_file
torch.set_num_threads(1)
process_file(lambda x: x, *sys.argv[1:3], 10 * 44100, encoding="FLOAT")
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_an_hour_takes_the_memory_of_a_minute(tmp_path):
    """Peak memory of whole processes; an hour of this audio would fill 1.3 GB."""
    minute = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 60 * 44100)).astype(np.float32)
    peaks = []
    source, made = tmp_path / "a.wav", tmp_path / "b.wav"
    try:
        for minutes in (1, 60):
            with audio.Writer(source, 44100, 2) as writer:
                for _ in range(minutes):
                    writer.write(minute)
            result = subprocess.run([sys.executable, "-c", MEASURED, source, made], capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
            peaks.append(int(result.stdout) / 1024)
            assert audio.info(made).frames == minutes * 60 * 44100
            for given, got in zip(audio.blocks(source), audio.blocks(made), strict=True):
                assert np.abs(given - got).max() <= 1e-6
        assert peaks[1] - peaks[0] < 150, peaks
    finally:  # two gigabytes, which pytest would keep for three runs
        source.unlink(missing_ok=True)
        made.unlink(missing_ok=True)


def test_a_deep_model_with_a_margin_equals_the_whole_to_the_last_sample():
    """Padding the end would show here: a second layer hears what the first makes of silence."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv1d(1, 4, 9, padding=4), nn.Tanh(), nn.Conv1d(4, 1, 9, padding=4)).eval()
    samples = torch.randn(1, 1, 1001)
    with torch.no_grad():
        assert (process(net, samples, 128, margin=8) - net(samples)).abs().max() < 1e-6
