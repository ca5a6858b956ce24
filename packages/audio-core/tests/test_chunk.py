"""Long audio in pieces: the same length, the same result where that is possible, the same memory for an hour."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from audio_core import audio
from audio_core.chunk import pieces, process, process_blocks, process_file
from audio_core.files import InputError
from torch import Tensor, nn

FIELD = 12  # samples to either side that an output of the convolution below depends on


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def identity(samples: Tensor) -> Tensor:
    return samples


def convolution(channels: int = 2) -> nn.Conv1d:
    return nn.Conv1d(channels, 3, 2 * FIELD + 1, padding=FIELD, bias=False)


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
    numbers = process(lambda x: torch.full_like(x, next(calls)), torch.zeros(1, 1, 250), 100, overlap=9, margin=10)
    result = numbers[0, 0]
    # Segments start at 0, 71, 142, ... and are kept from their tenth sample on, the first one from its start.
    assert torch.equal(result[:81], torch.zeros(81))
    assert torch.allclose(result[81:90], torch.arange(1, 10) / 10)
    assert torch.equal(result[90:152], torch.ones(62))
    assert torch.allclose(result[152:161], 1 + torch.arange(1, 10) / 10)
    assert result.shape == (250,)


def test_with_a_margin_as_wide_as_the_receptive_field_nothing_differs():
    model, samples = convolution(), torch.randn(3, 2, 1000)
    expected = model(samples).detach()
    for overlap, margin in [(0, FIELD), (10, FIELD), (20, 15)]:
        result = process(model, samples, 100, overlap=overlap, margin=margin, batch=4)
        assert (result - expected).abs().max() < 1e-6


def test_a_deep_model_equals_itself_to_the_end_when_nothing_is_padded():
    """Its later layers pad with zeros, and the earlier ones turn zeros into something else."""
    model = nn.Sequential(nn.Conv1d(1, 8, 5, padding=2), nn.Tanh(), nn.Conv1d(8, 1, 5, padding=2))
    samples = torch.randn(1, 1, 1001)
    result = process(model, samples, 256, margin=4, multiple=1)
    assert (result - model(samples)).abs().max() < 1e-6


@pytest.mark.parametrize(("overlap", "margin"), [(0, 0), (0, 5), (4, 0), (4, 5), (20, 0), (20, 5)])
def test_without_it_only_the_samples_near_a_seam_differ(overlap, margin):
    model, samples = convolution(), torch.randn(1, 2, 1000)
    error = (process(model, samples, 100, overlap=overlap, margin=margin) - model(samples)).abs().amax((0, 1))
    hop, beyond = 100 - overlap - 2 * margin, max(0, FIELD - margin - overlap)
    near = torch.zeros(1000, dtype=torch.bool)
    for start in range(hop, 1000 - overlap - 2 * margin, hop):
        fade = start + margin
        near[fade - beyond : fade + overlap + beyond] = True
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


def test_the_end_is_padded_with_silence_and_no_gradients_are_kept():
    inputs = []
    net = nn.Conv1d(1, 1, 1)
    result = process(lambda x: net(inputs.append(x) or x), torch.ones(1, 1, 13), 80, multiple=10)
    assert inputs[0][0, 0].tolist() == [1.0] * 13 + [0.0] * 7
    assert not result.requires_grad


def test_what_cannot_work_is_refused_at_once():
    with pytest.raises(InputError, match=r"must keep the length of a segment, got \(1, 1, 50\) for \(1, 1, 100\)"):
        process(lambda x: x[..., ::2], torch.zeros(1, 1, 1000), 100)
    for wrong in ({"overlap": 51}, {"margin": 50, "overlap": 0}, {"overlap": -1}, {"margin": -1}, {"batch": 0}):
        with pytest.raises(InputError, match="a segment must hold two overlaps and two margins"):
            process_blocks(identity, [], 100, **wrong)
    with pytest.raises(InputError, match="segment 0"):
        process_blocks(identity, [], 0)
    with pytest.raises(ValueError, match="0 samples"):
        process(identity, torch.zeros(1, 1, 0), 100)


# --- pieces ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize(("segment", "hop"), [(10, 10), (10, 5), (11, 5), (10, 3), (10, 1)])
def test_pieces_are_the_windows_of_the_whole(segment, hop, size):
    """Windows slide until one reaches the end, and only that one may be shorter."""
    for length in (1, segment - 1, segment, segment + 1, segment + hop, 3 * hop + 7, 50):
        samples = torch.arange(length)
        starts = range(0, max(1, length - segment + hop), hop)
        result = list(pieces(samples.split(size), segment, hop))
        assert [piece.start for piece in result] == list(starts)
        assert [piece.last for piece in result] == [False] * (len(starts) - 1) + [True]
        for start, piece, _ in result:
            assert torch.equal(piece, samples[start : start + segment])


def test_no_audio_has_no_pieces():
    assert list(pieces([], 10, 5)) == list(pieces([torch.zeros(1, 0)], 10, 5)) == []


# --- several outputs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 99, 100, 101, 3 * 70 + 7])
@pytest.mark.parametrize("batch", [1, 3])
def test_several_outputs_of_one_pass_are_what_several_passes_give(length, batch):
    samples, models = torch.randn(2, 2, length), {"a": convolution(), "b": convolution()}
    options = {"overlap": 10, "margin": 10, "batch": batch}
    expected = [process(model, samples, 100, **options) for model in models.values()]
    named = process(lambda x: {name: model(x) for name, model in models.items()}, samples, 100, **options)
    assert list(named) == ["a", "b"]
    assert all(torch.equal(*pair) for pair in zip(named.values(), expected, strict=True))
    ordered = process(lambda x: tuple(model(x) for model in models.values()), samples, 100, **options)
    assert isinstance(ordered, tuple) and all(map(torch.equal, ordered, expected))


# --- a ratio of lengths ----------------------------------------------------------------------------------------

HOP = 8


def encoder() -> nn.Module:
    """A frame of 8 samples depends on 14 samples before it and 15 behind it: two strided layers and a dilated one."""
    torch.manual_seed(0)
    first = nn.Conv1d(1, 4, 7, padding=3)
    return nn.Sequential(
        first, nn.Tanh(), nn.Conv1d(4, 4, 8, 4, padding=2), nn.Tanh(), nn.Conv1d(4, 3, 4, 2, padding=1)
    )


def decoder() -> nn.Module:
    """A frame becomes 8 samples, which depend on three frames to either side."""
    torch.manual_seed(0)
    up = nn.ConvTranspose1d(4, 4, 2 * HOP, HOP, padding=HOP // 2)
    return nn.Sequential(nn.Conv1d(3, 4, 5, padding=2), nn.Tanh(), up, nn.Tanh(), nn.Conv1d(4, 1, 3, padding=1))


SEGMENT = 12 * HOP  # hop of the pieces 6 * HOP at margin 3 * HOP


@pytest.mark.parametrize("length", [1, HOP - 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * 6 * HOP + 7, 1000, 1001])
@pytest.mark.parametrize(("overlap", "margin"), [(0, 2), (0, 3), (1, 3), (2, 4)])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_encoder_in_pieces_equals_the_encoder_at_once(length, overlap, margin, batch):
    """The whole is padded to full frames, as the last piece is."""
    net, samples = encoder(), torch.randn(2, 1, length)
    expected = net(torch.nn.functional.pad(samples, (0, -length % HOP))).detach()
    options = {"overlap": overlap * HOP, "margin": margin * HOP, "batch": batch, "ratio": Fraction(1, HOP)}
    result = process(net, samples, SEGMENT, **options)
    assert result.shape == expected.shape == (2, 3, math.ceil(length / HOP))
    assert (result - expected).abs().max() < 1e-6
    pieced = process_blocks(net, samples.split(37, -1), SEGMENT, **options)
    assert torch.equal(torch.cat(list(pieced), -1), result)


@pytest.mark.parametrize("frames", [1, 11, 12, 13, 3 * 6 + 7, 100])
@pytest.mark.parametrize(("overlap", "margin"), [(0, 3), (1, 3), (2, 4)])
def test_a_decoder_in_pieces_equals_the_decoder_at_once(frames, overlap, margin):
    net, latents = decoder(), torch.randn(1, 3, frames)
    result = process(net, latents, 12, overlap=overlap, margin=margin, ratio=HOP, batch=2)
    assert result.shape == (1, 1, frames * HOP)
    assert (result - net(latents)).abs().max() < 1e-6


@pytest.mark.parametrize(("overlap", "margin"), [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)])
def test_with_a_ratio_only_the_outputs_near_a_seam_differ(overlap, margin):
    """The receptive field of the decoder above is 3 frames; the bound is the one of the module's docstring."""
    net, latents = decoder(), torch.randn(1, 3, 100)
    error = (process(net, latents, 12, overlap=overlap, margin=margin, ratio=HOP) - net(latents)).abs().amax((0, 1))
    hop, beyond = 12 - overlap - 2 * margin, max(0, 3 - margin - overlap)
    near = torch.zeros(100, dtype=torch.bool)
    for start in range(hop, 100 - overlap - 2 * margin, hop):
        fade = start + margin
        near[fade - beyond : fade + overlap + beyond] = True
    near = near.repeat_interleave(HOP)
    assert error[~near].max() < 1e-6
    assert error[near].max() > 1e-3


@pytest.mark.parametrize("length", [1, 9, 10, 11, 37, 95])
def test_fractions_of_a_sample_are_rounded_up(length):
    samples = torch.arange(float(length))[None, None]
    result = process(lambda x: x.repeat_interleave(3, -1)[..., ::2], samples, 10, overlap=2, ratio=Fraction(3, 2))
    assert torch.equal(result, samples.repeat_interleave(3, -1)[..., ::2])
    assert result.shape[-1] == math.ceil(length * 3 / 2)


def test_a_model_that_rounds_down_keeps_its_own_end_when_nothing_is_padded():
    samples = torch.randn(1, 1, 1007)
    net = nn.Conv1d(1, 1, HOP, HOP)
    result = process(net, samples, 10 * HOP, overlap=0, multiple=1, ratio=Fraction(1, HOP))
    assert result.shape[-1] == 1007 // HOP
    assert (result - net(samples)).abs().max() < 1e-6


def test_codes_are_joined_and_never_faded():
    samples = torch.arange(1000)[None, None]
    codes = process(lambda x: x[..., ::HOP], samples, 80, overlap=0, margin=HOP, ratio=Fraction(1, HOP))
    assert torch.equal(codes, samples[..., ::HOP])
    with pytest.raises(InputError, match="codes cannot be faded; use overlap=0"):
        process(lambda x: x[..., ::HOP], samples[..., :8], 80, overlap=HOP, ratio=Fraction(1, HOP))


def test_a_wrong_ratio_is_refused():
    with pytest.raises(InputError, match="multiples of 8 samples, one frame; got segment 100"):
        process(encoder(), torch.zeros(1, 1, 1), 100, ratio=Fraction(1, HOP))
    with pytest.raises(InputError, match="multiples of 8 samples, one frame; got segment 80, overlap 8, margin 4"):
        process(encoder(), torch.zeros(1, 1, 1), 80, margin=4, ratio=Fraction(1, HOP))
    with pytest.raises(InputError, match=r"must keep the ratio 1/4 of lengths, got \(1, 3, 10\) for \(1, 1, 80\)"):
        process(encoder(), torch.zeros(1, 1, 200), 80, ratio=Fraction(1, 4))


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
    channels = set()

    def model(samples: Tensor) -> Tensor:
        channels.add(samples.shape[1])
        return samples.repeat(1, 3, 1) * 4

    clipped = process_file(model, tmp_path / "a.wav", tmp_path / "b.flac", 5000, rate=16000, channels=1, progress=False)
    info = audio.info(tmp_path / "b.flac")
    assert (info.rate, info.channels, info.frames) == (16000, 3, 16001)
    assert channels == {1}
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


def halves(samples: Tensor) -> dict[str, Tensor]:
    return {"loud": samples, "soft": samples / 2, "unused": samples * 0}


def test_several_files_are_written_in_one_pass(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 20_001)).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    targets = {"soft": tmp_path / "out/soft.wav", "loud": tmp_path / "loud.wav"}
    process_file(halves, tmp_path / "a.wav", targets, 3000, encoding="FLOAT")
    assert np.array_equal(audio.read(targets["loud"]).samples, samples)
    assert np.array_equal(audio.read(targets["soft"]).samples, samples / 2)
    assert names(tmp_path) == ["a.wav", "loud.wav", "out"] and names(tmp_path / "out") == ["soft.wav"]


def test_of_several_files_all_are_written_or_none(tmp_path, monkeypatch):
    """The disk fills up when the second of two files is closed: neither replaces what was there."""
    audio.write(tmp_path / "a.wav", np.zeros((1, 1000)), 8000)
    for name in ("loud", "soft"):
        (tmp_path / f"{name}.wav").write_text("old")
    close = audio.Writer.close
    for full in ("loud", "soft"):

        def failing(self, full=full):
            if self.path.stem == full:
                raise InputError(f"{self.path}: cannot be written to its end (is the disk full?)")
            close(self)

        monkeypatch.setattr(audio.Writer, "close", failing)
        with pytest.raises(InputError, match=f"{full}.wav: cannot be written"):
            process_file(halves, tmp_path / "a.wav", {n: tmp_path / f"{n}.wav" for n in ("loud", "soft")}, 100)
        assert names(tmp_path) == ["a.wav", "loud.wav", "soft.wav"]
        assert (tmp_path / "loud.wav").read_text() == (tmp_path / "soft.wav").read_text() == "old"


def test_targets_that_cannot_be_written_stop_the_work_before_it_begins(tmp_path):
    audio.write(tmp_path / "a.wav", np.zeros((1, 100)), 8000)
    (tmp_path / "b.wav").write_text("old")
    (tmp_path / "folder.wav").mkdir()

    def never(samples: Tensor) -> Tensor:
        raise AssertionError("the model ran")

    for targets, message in [
        ({"loud": "c.wav", "soft": "a.wav"}, r"a\.wav: the result would overwrite the input"),
        ({"loud": "c.wav", "soft": "b.wav"}, r"b\.wav: exists already; give --force"),
        ({"loud": "c.wav", "soft": "folder.wav"}, r"folder\.wav: is a folder"),
        ({"loud": "c.wav", "soft": "x/../c.wav"}, r"c\.wav: would be the result of both loud and soft"),
    ]:
        paths = {name: tmp_path / path for name, path in targets.items()}
        with pytest.raises(InputError, match=message):
            process_file(never, tmp_path / "a.wav", paths, 100, force=False)
    with pytest.raises(InputError, match=r"nowhere\.wav: No such file"):
        process_file(never, tmp_path / "nowhere.wav", tmp_path / "b.wav", 100)


def test_outputs_and_files_must_have_the_same_names(tmp_path):
    audio.write(tmp_path / "a.wav", np.zeros((1, 100)), 8000)
    with pytest.raises(ValueError, match="there are files for bass, but the model returned loud, soft, unused"):
        process_file(halves, tmp_path / "a.wav", {"bass": tmp_path / "b.wav"}, 100)
    with pytest.raises(ValueError, match="there are files for bass, but the model returned Tensor"):
        process_file(identity, tmp_path / "a.wav", {"bass": tmp_path / "b.wav"}, 100)
    with pytest.raises(ValueError, match="the model returned dict a segment"):
        process_file(halves, tmp_path / "a.wav", tmp_path / "b.wav", 100)
    with pytest.raises(ValueError, match="process_file keeps the length"):
        process_file(identity, tmp_path / "a.wav", tmp_path / "b.wav", 100, ratio=2)
    assert names(tmp_path) == ["a.wav"]


MEASURED = """
import re, sys
from pathlib import Path
import torch
from audio_core.chunk import process_file
torch.set_num_threads(1)
for source in sys.argv[1:]:
    process_file(lambda x: x, source, source + ".out.wav", 10 * 44100, encoding="FLOAT")
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_a_quarter_of_an_hour_takes_the_memory_of_a_minute(tmp_path):
    """Peak memory of a process after each; a quarter of an hour of this audio would fill 160 MB."""
    minute = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 60 * 44100)).astype(np.float32)
    sources = {minutes: tmp_path / f"{minutes}.wav" for minutes in (1, 15)}
    try:
        for minutes, source in sources.items():
            with audio.Writer(source, 44100, 1) as writer:
                for _ in range(minutes):
                    writer.write(minute)
        result = warm.run("-c", MEASURED, *sources.values())
        assert result.returncode == 0, result.stderr
        for minutes, source in sources.items():
            target = tmp_path / f"{source.name}.out.wav"
            assert audio.info(target).frames == minutes * 60 * 44100
            for before, after in zip(audio.blocks(source), audio.blocks(target), strict=True):
                assert np.abs(before - after).max() <= 1e-6
        first, last = (int(peak) / 1024 for peak in result.stdout.split())
        assert last - first < 80, (first, last)
    finally:  # large files, which pytest would keep for three runs
        for path in tmp_path.glob("*.wav"):
            path.unlink()


def test_a_deep_model_with_a_margin_equals_the_whole_to_the_last_sample():
    """Padding the end would show here, in what the second layer computes of the first one's output."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv1d(1, 4, 9, padding=4), nn.Tanh(), nn.Conv1d(4, 1, 9, padding=4)).eval()
    samples = torch.randn(1, 1, 1001)
    with torch.no_grad():
        assert (process(net, samples, 128, margin=8) - net(samples)).abs().max() < 1e-6
