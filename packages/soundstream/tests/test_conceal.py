"""Gaps in a stream are bridged; without gaps nothing changes; losses come as often and as long as asked for."""

import numpy as np
import pytest
import torch
from audio_soundstream.live.conceal import FADE, HOLD, Concealer, gilbert
from audio_soundstream.live.stream import DecoderStream

FRAMES = 40


@pytest.fixture(params=["soundstream", "tinystream", "causal"])
def model(request, toy):
    return toy(request.param)


def played(model, codes: np.ndarray, lost: set[int], packet: int = 1) -> np.ndarray:
    """(samples,) of codes (N, F) in packets of so many frames, of which some do not arrive."""
    concealer = Concealer(model, DecoderStream(model, codes.shape[1] * model.hop))
    parts = []
    for number, at in enumerate(range(0, codes.shape[1], packet)):
        group = codes[:, at : at + packet]
        parts.append(concealer.feed(None if number in lost else group, group.shape[1]))
    parts.append(concealer.finish())
    return torch.cat(parts, -1)[0, 0].numpy()


@pytest.fixture
def codes(model) -> np.ndarray:
    return np.random.default_rng(1).integers(0, model.codebooks[0], (4, FRAMES))


@pytest.mark.parametrize("packet", [1, 7])
def test_nothing_lost_changes_nothing(model, codes, packet):
    with torch.inference_mode():
        whole = model.decode(model.from_codes(torch.from_numpy(codes)[None]))[0, 0].numpy()
    np.testing.assert_allclose(played(model, codes, set(), packet), whole, atol=1e-5 * np.abs(whole).max())


def test_a_short_gap_is_filled_with_what_was_there_and_heard_only_near_it(model, codes):
    whole, bridged = played(model, codes, set()), played(model, codes, {20, 21})
    hop, reach = model.hop, 16 * model.hop  # what comes before, the decoder has in view
    level = np.abs(whole).mean()
    assert np.abs(bridged[20 * hop : 22 * hop]).mean() > level / 4
    assert not np.allclose(bridged[20 * hop : 22 * hop], whole[20 * hop : 22 * hop])
    np.testing.assert_allclose(bridged[: 20 * hop - reach], whole[: 20 * hop - reach], atol=1e-5)
    assert bridged.shape == whole.shape


def test_a_long_gap_fades_to_silence_and_comes_back(model, codes):
    hop, rate = model.hop, model.sample_rate
    lost = set(range(8, 30))
    whole, bridged = played(model, codes, set()), played(model, codes, lost)
    silent = 8 * hop + int((HOLD + FADE) * rate) + hop  # a frame more, since gains change on a line
    assert np.abs(bridged[8 * hop : 8 * hop + hop]).max() > 0
    assert not bridged[silent : 30 * hop].any()
    level = np.abs(bridged[8 * hop : silent]).reshape(-1, hop // 4).max(1)
    assert level[-4:].max() < level[:4].max()
    assert np.abs(np.diff(bridged[30 * hop - 1 : 30 * hop + 2])).max() < 0.1 * np.abs(whole).max()  # no click
    assert np.abs(bridged[31 * hop :]).mean() > np.abs(whole[31 * hop :]).mean() / 4


def test_each_gap_is_held_anew(model, codes):
    """Together they are longer than what is held, each is shorter."""
    hop = model.hop
    lost = {at for begin in range(10, 34, 5) for at in range(begin, begin + 3)}
    assert len(lost) * hop / model.sample_rate > HOLD + FADE > HOLD > 3 * hop / model.sample_rate
    bridged = played(model, codes, lost)
    last = np.abs(bridged[32 * hop : 33 * hop]).mean()
    assert last > np.abs(bridged[12 * hop : 13 * hop]).mean() / 4 > 0


def test_a_lost_beginning_is_silent(model, codes):
    hop = model.hop
    bridged = played(model, codes, {0, 1, 2})
    assert not bridged[: 3 * hop].any() and bridged[4 * hop :].any()
    assert not played(model, codes, set(range(FRAMES))).any()


@pytest.mark.parametrize(("packet", "last"), [(1, FRAMES - 1), (3, FRAMES // 3)])
def test_the_length_stays(model, codes, packet, last):
    assert played(model, codes, {0, 5, 6, last}, packet).shape == (FRAMES * model.hop,)


def test_packets_of_many_frames_fade_as_single_ones(model, codes):
    single = played(model, codes, set(range(8, 24)))
    np.testing.assert_allclose(played(model, codes, {1, 2}, 8), single, atol=1e-5 * np.abs(single).max())


@pytest.mark.parametrize(("rate", "burst"), [(0.05, 1.5), (0.3, 4.0), (0.5, 1.0), (0.0, 1.0)])
def test_losses_are_as_many_and_as_long_as_asked_for(rate, burst):
    lost = gilbert(200_000, rate, burst, 3)
    assert lost.shape == (200_000,) and abs(lost.mean() - rate) < 0.006
    if rate:
        bursts = int((np.diff(lost.astype(int), prepend=0) == 1).sum())
        assert lost.sum() / bursts == pytest.approx(burst, rel=0.03)


def test_losses_repeat_with_their_seed():
    assert np.array_equal(gilbert(500, 0.2, 2, 7), gilbert(500, 0.2, 2, 7))
    assert not np.array_equal(gilbert(500, 0.2, 2, 7), gilbert(500, 0.2, 2, 8))
    firsts = [gilbert(1, 0.4, 2, seed)[0] for seed in range(2000)]  # the first packet is lost as often as others
    assert abs(np.mean(firsts) - 0.4) < 0.04 and len(gilbert(0, 0.4, 2, 0)) == 0


@pytest.mark.parametrize(
    ("rate", "burst"), [(1.5, 1.5), (-0.1, 2), (0.9, 1.5), (0.1, 0.5), (float("nan"), 2), (0.1, float("nan"))]
)
def test_what_no_network_does_is_refused(rate, burst):
    with pytest.raises(ValueError, match="cannot be lost"):
        gilbert(10, rate, burst, 0)
