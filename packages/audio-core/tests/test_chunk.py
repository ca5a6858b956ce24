"""Long audio in pieces: the same length, and the same result where that is possible."""

import math
from fractions import Fraction

import pytest
import torch
from audio_core.chunk import pieces, process, process_blocks
from audio_core.files import InputError
from torch import Tensor, nn

FIELD = 12  # samples to either side that an output of the convolution below depends on


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


def test_a_deep_model_with_a_margin_equals_the_whole_to_the_last_sample():
    """Padding the end would show here, in what the second layer computes of the first one's output."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv1d(1, 4, 9, padding=4), nn.Tanh(), nn.Conv1d(4, 1, 9, padding=4)).eval()
    samples = torch.randn(1, 1, 1001)
    with torch.no_grad():
        assert (process(net, samples, 128, margin=8) - net(samples)).abs().max() < 1e-6
