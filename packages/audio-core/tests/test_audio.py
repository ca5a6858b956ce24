"""Audio files: every format comes back, at any rate and with any channels."""

import numpy as np
import pytest
import soundfile
from audio_core import audio
from audio_core.files import InputError

from .audio_files import ALL, EXACT, RATE, in_a_child, music, names


def sweep(rate: int, low: float, high: float, seconds: float = 5.0) -> np.ndarray:
    """A linear sweep of amplitude 0.5, the same moment by moment at every rate."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (low * time + (high - low) / (2 * seconds) * time**2))


# --- round trips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("extension", "encoding"), ALL)
def test_every_format_comes_back_as_it_was_written(tmp_path, extension, encoding):
    path, samples = tmp_path / f"a{extension}", music(150_001)
    audio.write(path, samples, RATE, encoding.lower())
    info = audio.info(path)
    assert (info.rate, info.channels, info.frames) == (RATE, 2, 150_001)
    assert (info.container, info.encoding) == (audio.FORMATS[extension][0], encoding)
    back, rate = audio.read(path)
    assert (back.shape, back.dtype, rate) == (samples.shape, np.float32, RATE)
    if encoding in EXACT:
        assert np.abs(back - samples).max() <= EXACT[encoding]
    else:
        assert 10 * np.log10(np.square(samples).sum() / np.square(back - samples).sum()) > 15  # measured: 20 to 40 dB
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(("extension", "encoding"), ALL)
def test_seeking_gives_the_very_samples_of_the_whole_file(tmp_path, extension, encoding):
    path, length = tmp_path / f"a{extension}", 3 * RATE
    audio.write(path, music(length) + 0.1 * np.random.default_rng(0).standard_normal((2, length)), RATE, encoding)
    whole = audio.read(path).samples
    for start, frames in [(0, 10), (1, 1), (70_001, 2000), (length - 777, 777), (length, 0)]:
        assert np.array_equal(audio.read(path, start, frames).samples, whole[:, start : start + frames])
    assert np.array_equal(audio.read(path, 100_000).samples, whole[:, 100_000:])


@pytest.mark.parametrize(("extension", "encoding"), ALL)
def test_one_sample_is_a_file(tmp_path, extension, encoding):
    audio.write(tmp_path / f"a{extension}", music(1), RATE, encoding)
    assert audio.read(tmp_path / f"a{extension}").samples.shape == (2, 1)
    assert audio.read(tmp_path / f"a{extension}", rate=44100).samples.shape == (2, 1)


def test_sixteen_bits_come_back_bit_for_bit(tmp_path):
    numbers = np.arange(-(2**15), 2**15, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", numbers, RATE, "PCM_16")
    audio.write(tmp_path / "b.flac", audio.read(tmp_path / "a.wav").samples, RATE)
    assert np.array_equal(soundfile.read(tmp_path / "b.flac", dtype="int16")[0], numbers)


def test_a_segment_that_is_not_there_is_an_error(tmp_path):
    audio.write(tmp_path / "a.wav", music(100), RATE)
    for start, frames in [(-1, 5), (0, 101), (101, None), (90, 11)]:
        with pytest.raises(InputError, match="has 100 samples"):
            audio.read(tmp_path / "a.wav", start, frames)


def test_blocks_are_the_file_in_pieces_of_one_size(tmp_path):
    samples = music(1_000_00)
    audio.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    for size in (1000, 65536, 33333, 200_000):
        blocks = list(audio.blocks(tmp_path / "a.wav", size))
        assert all(block.shape[1] == size for block in blocks[:-1])
        assert np.array_equal(np.concatenate(blocks, 1), samples)


def test_two_minutes_of_vorbis_in_one_call_do_not_crash(tmp_path):
    """libvorbis takes its working memory from the stack: one long write ends the process without a word."""
    code = """
import sys, numpy as np
from audio_core import audio
audio.write(sys.argv[1], np.zeros((2, 120 * 44100), np.float32), 44100)
print(audio.info(sys.argv[1]).seconds)"""
    result = in_a_child(code, tmp_path / "a.ogg")
    assert (result.returncode, result.stdout) == (0, "120.0\n"), result.stderr


# --- converting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [("16000", 8000), (16000, None), ("16000", "16000")])
def test_a_rate_that_is_no_number_is_refused(rates):
    with pytest.raises(InputError, match="rate: expected a number of Hz, got"):
        audio.resample(np.zeros((1, 100), np.float32), *rates)


def test_resampling_keeps_a_sweep_and_lets_no_alias_through():
    kept, gone = sweep(44100, 20, 0.9 * 8000), sweep(44100, 1.1 * 8000, 0.95 * 22050)
    error = audio.resample(kept[None].astype(np.float32), 44100, 16000)[0] - sweep(16000, 20, 0.9 * 8000)
    inner = slice(200, -200)  # the sweep begins and ends like a knife, which no filter can follow
    assert 10 * np.log10(0.125 / np.square(error[inner]).mean()) >= 70
    alias = audio.resample(gone[None], 44100, 16000)[0][inner]
    assert 10 * np.log10(np.square(alias).mean() / 0.125) <= -120


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (16000, 44100), (48000, 44100), (8000, 48000)])
def test_resampling_block_by_block_equals_resampling_the_whole(tmp_path, source, target):
    samples = music(150_001, rate=source)
    audio.write(tmp_path / "a.wav", samples, source, "FLOAT")
    whole = audio.read(tmp_path / "a.wav", rate=target)
    assert (whole.rate, whole.samples.shape[1]) == (target, -(-150_001 * target // source))
    pieces = np.concatenate(list(audio.blocks(tmp_path / "a.wav", 10_000, target)), 1)
    assert pieces.shape == whole.samples.shape
    assert np.abs(pieces - whole.samples).max() < 1e-6


def test_channels_are_copied_or_averaged_and_never_guessed(tmp_path):
    left, right = music(100)
    assert np.array_equal(audio.convert_channels(left[None], 3), np.stack([left] * 3))
    assert np.allclose(audio.convert_channels(music(100), 1), (left + right)[None] / 2, atol=1e-7)
    audio.write(tmp_path / "a.wav", music(100, 32), RATE)
    assert audio.read(tmp_path / "a.wav").samples.shape == (32, 100)
    assert audio.read(tmp_path / "a.wav", channels=1).samples.shape == (1, 100)
    with pytest.raises(InputError, match=r"a.wav: has 32 channels; only 1 to n, .* not 2"):
        audio.read(tmp_path / "a.wav", channels=2)
    with pytest.raises(InputError, match="32 channels"):
        list(audio.blocks(tmp_path / "a.wav", channels=2))


def test_surround_is_mixed_down_as_the_itu_says_and_cannot_clip(tmp_path):
    half = 0.5**0.5
    x = music(100, 6)
    left, right, centre, _, rear_left, rear_right = x
    wanted = np.stack([left + half * (centre + rear_left), right + half * (centre + rear_right)]) / (1 + 2 * half)
    assert np.allclose(audio.convert_channels(x, 2), wanted, atol=1e-6)
    assert np.allclose(audio.convert_channels(x, 1), wanted.mean(0, keepdims=True), atol=1e-6)
    assert np.allclose(audio.convert_channels(np.delete(x, 3, 0), 2), wanted, atol=1e-6)  # 5.0
    seven = np.stack([left, right, centre, x[3], rear_left, rear_right, rear_left, rear_right])
    wanted = np.stack([left + half * (centre + 2 * rear_left), right + half * (centre + 2 * rear_right)])
    assert np.allclose(audio.convert_channels(seven, 2), wanted / (1 + 3 * half), atol=1e-6)
    for count in (5, 6, 8):
        assert np.abs(audio.convert_channels(np.ones((count, 9), np.float32), 2) - 1).max() < 1e-6
        assert "mixed down to stereo as in ITU-R BS.775" in audio.mixing(count, 2)
    assert audio.mixing(6, 1).startswith("5.1 (L R C LFE Ls Rs) mixed down to mono")
    assert not any(audio.mixing(*counts) for counts in [(2, 1), (1, 2), (3, 1), (6, 6), (32, 1)])
    assert all(audio.convertible(*counts) for counts in [(2, 1), (1, 2), (4, 4), (4, 1), (6, 2), (8, 1)])
    assert not any(audio.convertible(*counts) for counts in [(4, 2), (2, 6), (6, 5), (3, 2)])
    audio.write(tmp_path / "a.flac", x, RATE, "PCM_24")
    both = audio.read(tmp_path / "a.flac", channels=2).samples
    assert np.allclose(np.concatenate(list(audio.blocks(tmp_path / "a.flac", channels=2)), 1), both, atol=1e-6)
    with pytest.raises(InputError, match="has 4 channels; only 1 to n"):
        audio.convert_channels(music(100, 4), 2)


@pytest.mark.parametrize("encoding", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("count", [3, 5, 6, 7, 8])
def test_surround_in_ogg_has_its_own_order_in_the_file_and_that_of_wav_outside(tmp_path, encoding, count):
    """libsndfile leaves it to us; a centre written as the right side would come from the wrong loudspeaker."""
    time = np.arange(RATE) / RATE
    tones = [0.3 * np.sin(2 * np.pi * 300 * (at + 1) * time) for at in range(count)]
    if count > 5:
        tones[3] = 0.3 * np.sin(2 * np.pi * 50 * time)  # the bass has no other range
    audio.write(tmp_path / "a.ogg", np.array(tones, np.float32), RATE, encoding)
    back = audio.read(tmp_path / "a.ogg").samples
    assert [int(np.abs(np.fft.rfft(channel)).argmax()) for channel in back] == [
        50 if count > 5 and at == 3 else 300 * (at + 1) for at in range(count)
    ]
    raw = soundfile.read(tmp_path / "a.ogg")[0].T
    assert [int(np.abs(np.fft.rfft(channel)).argmax()) for channel in raw[:3]] == [300, 900, 600]  # L C R
    assert count <= 5 or np.abs(np.fft.rfft(raw[-1])).argmax() == 50


def test_the_depth_of_a_source_is_kept_where_the_format_has_it():
    kept = [
        ("PCM_16", ".wav", "PCM_16", ""),
        ("PCM_U8", ".wav", "PCM_16", ""),
        ("PCM_24", ".flac", "PCM_24", ""),
        ("ALAC_24", ".flac", "PCM_24", ""),
        ("FLOAT", ".WAV", "FLOAT", ""),
        ("PCM_32", ".wav", "FLOAT", "PCM_32 becomes FLOAT"),
        ("DOUBLE", ".aif", "FLOAT", "DOUBLE becomes FLOAT"),
        ("PCM_32", ".flac", "PCM_24", "PCM_32 becomes PCM_24"),
        ("FLOAT", ".flac", "PCM_24", "FLOAT becomes PCM_24, which cuts off what is beyond full scale"),
        ("FLOAT", ".mp3", "MPEG_LAYER_III", ""),
        ("OPUS", ".wav", "PCM_16", ""),
    ]
    assert [(*case[:2], *audio.encoding_like(*case[:2])) for case in kept] == kept
