"""Separation of arrays and streams: equality with the original, lengths, rates, channels, silence, what is refused."""

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from audio_core import audio
from audio_core.files import InputError
from audio_core.metrics import snr
from audio_core.testing import close, noise, tone
from audio_sep import load
from audio_sep.channels import groups
from audio_sep.separate import Separator, separate

from .sep_toys import Toy, gain, halves

RATE = 8000


def ramp(samples, segment=16000):
    """The model of the stored case: a gain that grows within a segment, so that every cut shows."""
    return samples * (0.5 + torch.arange(samples.shape[-1]) / segment)


# --- equality with the original ----------------------------------------------------------------------------


def original(model, samples, name="vocals"):
    separator = Separator(model, stitch="bytesep", segment=2.0)
    return torch.from_numpy(separator(samples, RATE)[name])


def test_segments_are_cut_as_in_the_original(stored_case):
    case = stored_case("separator_7s")
    close(original(Toy({"vocals": ramp}), case.inputs["x"]), case.outputs["separated"], 1e-6)


def test_a_short_recording_of_two_sources_equals_the_original(stored_case):
    case = stored_case("separator_7s")
    model = Toy({"vocals": ramp, "other": torch.neg})
    both = [original(model, case.inputs["x_short"], name) for name in ("vocals", "other")]
    close(torch.cat(both), case.outputs["separated_short_two_sources"], 1e-6)


def test_a_condition_is_the_same_for_all_segments(stored_case):
    case = stored_case("separator_7s")
    total = float(case.inputs["condition"].sum())
    model = Toy({"vocals": lambda x: ramp(x) + 0.1 * total * ramp(torch.ones_like(x))}, channels=1)
    close(original(model, case.inputs["x_condition"]), case.outputs["separated_condition"], 1e-6)


# --- shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [4000, 8000, 44100, 192000])
@pytest.mark.parametrize("frames", [1, 10, 3001])
def test_any_length_and_rate_keeps_its_shape(rate, frames):
    for shape in ((frames,), (1, frames), (2, frames), (6, frames)):
        stems = Separator(halves(), segment=0.1)(0.1 * torch.randn(shape), rate)
        assert [*stems] == ["vocals", "accompaniment"]
        for stem in stems.values():
            assert stem.shape == shape and stem.dtype == np.float32 and np.isfinite(stem).all()


def test_resampling_there_and_back_keeps_what_the_model_hears():
    x = tone(440, 0.5, 44100, 2).numpy()
    stem = separate(halves(), x, 44100)["vocals"]
    assert np.abs(stem - 0.25 * x)[:, 2000:-2000].max() < 1e-4


def test_what_the_model_cannot_hear_is_in_the_residual_alone():
    x = tone(10000, 0.5, 44100, 2).numpy()
    stems = Separator(halves(), residual="rest")(x, 44100)
    assert np.abs(stems["vocals"])[:, 2000:-2000].max() < 1e-4
    np.testing.assert_allclose(sum(stems.values()), x, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "channels", "expected"),
    [
        (2, 2, [(0, 1)]),
        (1, 2, [(0,)]),
        (3, 1, [(0,), (1,), (2,)]),
        (3, 2, [(0,), (1,), (2,)]),
        (5, 2, [(0, 1), (3, 4), (2,)]),
        (6, 2, [(0, 1), (4, 5), (2,), (3,)]),
        (8, 2, [(0, 1), (4, 5), (6, 7), (2,), (3,)]),
        (4, 4, [(0, 1, 2, 3)]),
        (1, 4, [(0,)]),
    ],
)
def test_channels_go_through_a_model_in_groups(count, channels, expected):
    assert groups(count, channels) == expected


def test_channels_that_no_model_can_take_are_refused():
    with pytest.raises(InputError, match="has 2 channels, and the model separates 4"):
        separate(Toy({"vocals": gain(1)}, channels=4), np.zeros((2, 400), np.float32), RATE)


def test_surround_keeps_its_places():
    """Each pair of loudspeakers is separated by itself; the centre is copied to both sides, and their mean is kept."""
    x = noise(0, 0.2, RATE, 6).numpy()
    sides = torch.tensor([[0.5], [1.0]])
    stem = separate(Toy({"vocals": lambda audio: sides * audio}), x, RATE)["vocals"]
    np.testing.assert_allclose(stem, np.array([[0.5, 1, 0.75, 0.75, 0.5, 1]]).T * x, atol=1e-6)


# --- segments ----------------------------------------------------------------------------------------------


def test_the_last_segment_is_no_longer_than_what_is_left():
    model = halves()
    Separator(model, segment=1.0, overlap=0.25)(noise(0, 2.0, RATE, 2), RATE)
    assert [shape[-1] for shape in model.seen] == [8000, 8000, 4000]
    model.seen.clear()
    Separator(model)(noise(0, 3.0, RATE, 2), RATE)
    assert [shape[-1] for shape in model.seen] == [24000]


def test_segments_begin_where_the_coarsest_frames_of_the_network_do(bundle):
    """So that pooling sees the same frames as in the whole recording."""
    model = load(bundle)
    unit = 16 * 4 * 2  # hop, subbands, frames that are pooled to one
    assert (model.config.hop, model.config.bands, model.frames_unit) == (16, 4, 2)
    for segment, overlap in itertools.product((0.2, 1.0, 1.337), (0, 0.1, 0.5)):
        sizes = Separator(model, segment=segment, overlap=overlap).sizes
        hop = sizes["segment"] - sizes["overlap"]
        assert hop % unit == 0 and abs(hop - (1 - overlap) * sizes["segment"]) < unit and hop >= sizes["overlap"]
    x = noise(0, 3.0, RATE, 2)
    whole = Separator(model, segment=4.0)(x, RATE)["vocals"]
    parts = Separator(model, segment=2.0)(x, RATE)["vocals"]
    np.testing.assert_allclose(parts[:, :8000], whole[:, :8000], atol=1e-5)
    np.testing.assert_allclose(parts[:, 18000:], whole[:, 18000:], atol=1e-5)


def test_segments_are_cross_faded():
    """A gain that differs from segment to segment goes over without a step."""
    gains = itertools.count()
    model = Toy({"vocals": lambda audio: next(gains) * audio})
    stem = Separator(model, segment=1.0, overlap=0.25)(np.ones((2, 4 * RATE), np.float32), RATE)["vocals"]
    assert np.abs(np.diff(stem)).max() < 1.01 / 2000 and stem.max() == 4


def test_shifts_average_estimates_that_begin_at_other_samples():
    model = Toy({"vocals": lambda audio: audio * torch.arange(audio.shape[-1])})
    stem = Separator(model, shifts=4)(np.ones((2, 100), np.float32), RATE)["vocals"]
    expected = np.arange(100) + np.mean([0, 1000, 2000, 3000])
    np.testing.assert_allclose(stem, np.stack([expected, expected]), rtol=1e-6)


def test_several_models_share_a_pass_and_average_the_stems_that_both_give():
    models = [halves(), Toy({"vocals": gain(0.75), "drums": gain(2)}, channels=1)]
    x = noise(0, 0.2, RATE, 2).numpy()
    stems = Separator(models)(x, RATE)
    assert [*stems] == ["vocals", "accompaniment", "drums"]
    for stem, factor in zip(stems.values(), (0.5, 0.75, 2), strict=True):
        np.testing.assert_allclose(stem, factor * x, atol=1e-6)


def test_models_without_a_wanted_stem_are_not_computed():
    models = [halves(), Toy({"drums": gain(2)})]
    stems = Separator(models, stems=["accompaniment"])(noise(0, 0.2, RATE, 2), RATE)
    assert [*stems] == ["accompaniment"] and not models[1].seen


def test_some_of_the_stems_are_computed_alone(bundle):
    models = [halves(), Toy({"drums": gain(2)})]
    separator = Separator(models, residual="rest")
    assert separator.only(["rest", "drums"]) is separator
    stems = separator.only(["vocals"])(noise(0, 0.2, RATE, 2), RATE)
    assert (
        [*stems] == ["vocals"]
        and not models[1].seen
        and separator.names == (*["vocals", "accompaniment", "drums", "rest"],)
    )


def test_blocks_come_as_they_are_ready_and_equal_the_whole():
    model = halves()
    separator = Separator(model, residual="rest", segment=1.0)
    x = noise(0, 20.0, RATE, 2).numpy()
    whole = separator(x, RATE)
    parts = separator.blocks(iter(np.array_split(x, 37, 1)), RATE)
    model.seen.clear()
    first = next(parts)
    assert len(model.seen) < 12, "most is still to come"
    blocks = [first, *parts]
    assert len(blocks) == 3
    for name, stem in whole.items():
        np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks], 1), stem)


def test_blocks_that_have_their_stems_are_not_kept():
    """Memory of arrays at most, for 10 and for 100 blocks of the size in which recordings are read."""
    separator, block = Separator(halves(), segment=2.0), noise(0, audio.BLOCK / RATE, RATE, 2).numpy()
    peaks = []
    for count in (10, 100):
        tracemalloc.start()
        assert sum(1 for _ in separator.blocks(itertools.repeat(block, count), RATE)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + block.nbytes


# --- quiet and loud ----------------------------------------------------------------------------------------


class Loud(Toy):
    """A model that finds something in silence."""

    def __init__(self):
        super().__init__({"vocals": lambda audio: audio + 0.01 * torch.sin(torch.arange(audio.shape[-1]))})


def test_silence_stays_silence_and_costs_nothing():
    model = Loud()
    stems = Separator(model, residual="rest")(np.zeros((2, 30 * RATE), np.float32), RATE)
    assert not any(stem.any() for stem in stems.values()) and not model.seen


def test_what_is_nearly_silent_is_not_amplified():
    x = 1e-5 * noise(0, 1.0, RATE, 2).numpy()
    stem = separate(Loud(), x, RATE)["vocals"]
    assert 0 < np.square(stem).sum() <= 1.001 * np.square(x).sum()
    loud = 1e4 * x
    assert np.abs(separate(Loud(), loud, RATE)["vocals"] - loud).max() > 0.009


def test_a_result_that_is_no_audio_is_refused():
    with pytest.raises(InputError, match="gives NaN or infinity"):
        separate(Toy({"vocals": gain(float("inf"))}), noise(0, 0.1, RATE, 2), RATE)


def test_half_precision_is_near_full_precision(bundle, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    model, x = load(bundle), noise(0, 1.0, RATE, 2)
    full, half = (torch.from_numpy(Separator(model, precision=kind)(x, RATE)["vocals"]) for kind in ("float32", "bf16"))
    assert half.dtype == torch.float32 and 30 < snr(half.flatten(), full.flatten()) < 100


def test_the_models_of_bundles_are_separated_as_the_network_does(bundle):
    model, x = load(bundle), noise(0, 1.0, RATE, 2)
    stems = Separator(model)(x, RATE)
    for name, stem in model.separate(x[None]).items():
        close(torch.from_numpy(stems[name]), stem[0], 1e-4)
    assert separate(model, x[:, :5], RATE)["vocals"].shape == (2, 5)


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(100, np.int16), "divide by 32768"),
        (np.zeros((4000, 2), np.float32), r"look like \(T, C\)"),
        (np.full(100, np.nan, np.float32), "NaN"),
        (np.zeros(0, np.float32), "is empty"),
        (iter([np.full((2, 10), np.nan, np.float32)]), "NaN"),
        (iter([np.zeros((2, 10), np.float32), np.zeros((1, 10), np.float32)]), "has 1 channels; 2 are expected"),
    ],
)
def test_audio_that_would_be_misread_is_refused(samples, message):
    with pytest.raises(InputError, match=message):
        list(Separator(halves()).blocks(samples, RATE))


def test_a_stream_without_audio_has_no_stems():
    assert not list(Separator(halves()).blocks(iter([]), RATE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stems": ["drums"]}, "there is no model for drums; the models give vocals, accompaniment"),
        ({"stems": []}, "none was asked for"),
        ({"residual": "vocals"}, "vocals is the name of a stem already"),
        ({"segment": 0.001}, r"must be at least 0\.002 s"),
        ({"overlap": 0.6}, "from 0 to 0.5"),
        ({"shifts": 0}, "1 or more"),
        ({"stitch": "hann"}, "expected fade or bytesep"),
        ({"stitch": "bytesep", "overlap": 0.1}, "has no overlap"),
        ({"stitch": "bytesep", "segment": 1.0001}, "a multiple of 4 samples, got 8001"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Separator(halves(), **options)


def test_models_of_several_rates_are_refused():
    with pytest.raises(InputError, match="differ in their rate, 8000 Hz and 16000 Hz"):
        Separator([halves(), Toy({"drums": gain(1)}, rate=16000)])


def test_a_device_without_half_precision_is_told_so(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(InputError, match="cpu does not compute bf16"):
        Separator(halves(), precision="bf16")


def test_a_rate_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="rate: expected a number of Hz"):
        separate(halves(), noise(0, 0.1, RATE), "8000")
    assert audio.BLOCK < 20 * RATE  # the test of blocks needs several
