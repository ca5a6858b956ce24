"""Audio files: what is written is read again, and whatever is wrong is one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_core import audio
from audio_core.files import InputError
from audio_core.testing import noise, tone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RATE = 48000  # which every format knows, Opus too
ALL = [(extension, encoding) for extension, (_, encodings) in audio.FORMATS.items() for encoding in encodings]
EXACT = {"PCM_16": 2.0**-16, "PCM_24": 2.0**-24, "FLOAT": 0.0}  # the largest error


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def music(frames: int, channels: int = 2, rate: int = RATE) -> np.ndarray:
    """Tones that lossy codecs keep, no two channels alike."""
    time = np.arange(frames) / rate
    tones = [0.4 * np.sin(2 * np.pi * 300 * (at + 1) * time) + 0.1 * np.sin(6000 * time) for at in range(channels)]
    return np.array(tones, np.float32)


def sweep(rate: int, low: float, high: float, seconds: float = 5.0) -> np.ndarray:
    """A linear sweep of amplitude 0.5, the same moment by moment at every rate."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (low * time + (high - low) / (2 * seconds) * time**2))


def in_a_child(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


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


# --- what is wrong with files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", audio.FORMATS)
def test_a_file_that_was_cut_short_is_an_error(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    audio.write(path, np.random.default_rng(0).uniform(-0.9, 0.9, (2, RATE)), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(InputError, match=r"truncated|cannot be decoded|malformed"):
        audio.read(path)
    with pytest.raises(InputError, match=r"truncated|cannot be decoded|malformed"):
        list(audio.blocks(path))


@pytest.mark.parametrize("off", [8, 40, -36])
def test_a_wav_whose_samples_are_whole_is_read_whatever_its_head_says_of_the_rest(tmp_path, off):
    """Programs write the file's size, count what was stripped, or leave an unfinished list behind the samples."""
    path = tmp_path / "a.wav"
    audio.write(path, music(100), RATE)
    data = path.read_bytes()
    path.write_bytes(data[:4] + (len(data) - 8 + off).to_bytes(4, "little") + data[8:])
    assert audio.read(path).samples.shape == (2, 100)
    path.write_bytes(data + b"LIST\x64\0\0\0INFO")
    assert audio.read(path).samples.shape == (2, 100)


def test_an_ogg_cut_inside_its_last_page_or_followed_by_another_is_an_error(tmp_path):
    """libsndfile reads either without a word: the samples before the cut, or the first stream alone."""
    path = tmp_path / "a.ogg"
    audio.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2 * RATE)), RATE)  # of several pages
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(InputError, match="is truncated: its last Ogg page"):
        audio.info(path)
    audio.write(path, music(20_000), RATE)
    path.write_bytes(data + path.read_bytes())
    with pytest.raises(InputError, match="holds several Ogg streams"):
        audio.info(path)


def test_a_flac_that_does_not_tell_its_length_is_an_error(tmp_path):
    path = tmp_path / "a.flac"
    audio.write(path, music(1000), RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # 36 bits of the first block
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(InputError, match="does not say how long it is"):
        audio.info(path)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg", ".mp3"])
def test_an_empty_file_is_an_error(tmp_path, extension):
    (tmp_path / f"a{extension}").touch()
    with pytest.raises(InputError, match=rf"a{extension}: is empty \(0 bytes\)"):
        audio.info(tmp_path / f"a{extension}")


@pytest.mark.parametrize("extension", [".wav", ".ogg", ".w64", ".aiff", ".caf"])
def test_a_file_without_samples_is_an_error(tmp_path, extension):
    soundfile.write(tmp_path / f"a{extension}", np.zeros((0, 1)), RATE)
    with pytest.raises(InputError, match="holds no samples"):
        audio.read(tmp_path / f"a{extension}")


def test_samples_that_are_not_numbers_are_an_error(tmp_path):
    samples = music(100_000)
    samples[1, 70_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples.T, RATE, "FLOAT")
    with pytest.raises(InputError, match=r"a\.wav: holds NaN or infinity at sample 70000"):
        audio.read(tmp_path / "a.wav")
    assert audio.read(tmp_path / "a.wav", 0, 70_000).samples.shape == (2, 70_000)


def test_content_decides_and_not_the_extension(tmp_path):
    audio.write(tmp_path / "a.wav", music(100), RATE)
    (tmp_path / "a.wav").rename(tmp_path / "a.flac")
    assert audio.info(tmp_path / "a.flac").container == "WAV"
    for name in ("b.wav", "b.mp3", "b.txt", "b"):
        (tmp_path / name).write_text("these are words\n" * 1000)
        with pytest.raises(InputError, match=r"not audio that can be read \(Format not recognised\); supported: wav"):
            audio.read(tmp_path / name)


def test_what_is_no_readable_file_says_so(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"a\.wav: No such file or directory$"):
        audio.info(tmp_path / "a.wav")
    with pytest.raises(InputError, match="is a folder, not an audio file"):
        audio.info(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")  # opening one waits for a writer for ever
    with pytest.raises(InputError, match="is no regular file"):
        audio.info(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with pytest.raises(InputError, match=r"loop\.wav: "):
        audio.info(tmp_path / "loop.wav")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    audio.write(tmp_path / "a.wav", music(10), RATE)
    for step in ("open", "stat"):  # the file may not be read, or a folder above it may not be entered
        monkeypatch.setattr(Path, step, refuse)
        with pytest.raises(InputError, match=r"a\.wav: Permission denied$"):
            audio.info(tmp_path / "a.wav")
        monkeypatch.undo()


def test_foreign_formats_go_through_ffmpeg_when_it_is_there(tmp_path, monkeypatch):
    source, samples = tmp_path / "-a b.m4a", music(5000)
    source.write_bytes(b"\0\0\0 ftypM4A not really")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"a b\.m4a: not audio .*put ffmpeg on the PATH to read it"):
        audio.read(source)
    audio.write(tmp_path / "made.w64", samples, RATE, "FLOAT")
    tool = tmp_path / "ffmpeg"
    working = f"""#!{sys.executable}
import shutil, sys
assert sys.argv[sys.argv.index("-i") + 1] == {f"file:{source}"!r}
shutil.copy({str(tmp_path / "made.w64")!r}, sys.argv[-1])
"""
    tool.write_text(working)
    tool.chmod(0o755)
    assert audio.info(source)[2:] == (5000, "M4A", "through ffmpeg")
    assert np.array_equal(audio.read(source, 1000, 50).samples, samples[:, 1000:1050])
    tool.write_text(f"{working}\nsys.stderr.buffer.write(b'[info]     title : caf\\xe9')\n")  # a tag in Latin-1
    assert audio.info(source)[2:] == (5000, "M4A", "through ffmpeg")
    for line, encoding in [("aac (LC), 48000 Hz, fltp, 69 kb/s", "AAC"), ("alac, stereo, s32p (24 bit)", "ALAC_24")]:
        log = f"[info]   Stream #0:0[0x1](und): Audio: {line}\\n[info]   Stream #0:0: Audio: pcm_f32le"
        tool.write_text(f"{working}\nprint('{log}', file=sys.stderr)\n")
        assert audio.info(source)[3:] == ("M4A", encoding)
    for log in ("moov atom\\nnot found", "[info] Input #0\\n[mov @ 0x1] [error] moov atom not found\\n[info] bye"):
        tool.write_text(f"#!{sys.executable}\nimport sys; sys.exit('{log}')\n")
        with pytest.raises(InputError, match=r"a b\.m4a: ffmpeg cannot read it: moov atom not found$"):
            audio.read(source)


@pytest.fixture(scope="module")
def mangled(tmp_path_factory) -> Path:
    """One name for all examples."""
    return tmp_path_factory.mktemp("mangled") / "a.wav"


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
    words=st.lists(st.tuples(st.integers(0, 28), st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**32 - 1])), max_size=2),
    encoding=st.sampled_from(["PCM_16", "PCM_24", "FLOAT"]),
    length=st.integers(0, 700),
)
def test_a_mangled_header_is_an_error_or_a_file_and_nothing_else(mangled, changes, words, encoding, length):
    audio.write(mangled, music(50), RATE, encoding)
    data = bytearray(mangled.read_bytes())
    for word, value in words:
        data[word * 4 : word * 4 + 4] = value.to_bytes(4, "little")
    for place, value in changes:
        data[place] = value
    mangled.write_bytes(data[: 44 + length])
    try:
        info = audio.info(mangled)
        samples = audio.read(mangled).samples
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert samples.shape == (info.channels, info.frames)
        assert np.isfinite(samples).all()


# --- writing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", audio.FORMATS)
def test_a_write_that_fails_half_way_leaves_nothing_behind(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    with pytest.raises(InputError, match="the result holds NaN"), audio.Writer(path, RATE, 2) as writer:
        writer.write(music(70_000))
        writer.write(np.full((2, 10), np.nan))
    with pytest.raises(ZeroDivisionError), audio.Writer(path, RATE, 2) as writer:
        writer.write(music(70_000))
        raise ZeroDivisionError
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "rate", "channels", "said"),
    [
        ("a.wav", 0, 1, "cannot write 1 channels at 0 Hz as PCM_16"),
        ("a.mp3", 96000, 1, "cannot write 1 channels at 96000 Hz"),
        ("a.mp3", 44100, 3, "cannot write 3 channels"),
        ("a.opus", 44100, 1, "Opus knows the rates"),
        ("a.m4a", 44100, 1, "cannot write .m4a; supported: wav, flac"),
        ("a", 44100, 1, "cannot write a file without extension"),
    ],
)
def test_what_a_format_cannot_hold_costs_nothing(tmp_path, name, rate, channels, said):
    (tmp_path / name).write_text("what was here before")
    with pytest.raises(InputError, match=said):
        audio.write(tmp_path / name, music(100, channels), rate)
    assert (tmp_path / name).read_text() == "what was here before"
    assert names(tmp_path) == [name]


def test_opus_takes_a_bitrate(tmp_path):
    """A wish more than a promise: of noise it becomes twice as much."""
    sizes = []
    for bitrate in (6, 24, 96):
        audio.write(tmp_path / "a.opus", 0.3 * music(5 * RATE), RATE, bitrate=bitrate)
        sizes.append((tmp_path / "a.opus").stat().st_size)
    assert 2 * sizes[0] < sizes[1] < sizes[2] / 1.5
    audio.write(tmp_path / "a.ogg", music(RATE), RATE, "opus", bitrate=6)
    assert audio.info(tmp_path / "a.ogg").encoding == "OPUS"


@pytest.mark.parametrize(
    ("name", "bitrate"), [("a.wav", 64), ("a.ogg", 64), ("a.opus", 5.9), ("a.opus", 257), ("a.opus", float("nan"))]
)
def test_a_bitrate_is_for_opus_and_within_its_limits(tmp_path, name, bitrate):
    with pytest.raises(InputError, match="a bitrate is for Opus, from 6 to 256 kbit/s"):
        audio.write(tmp_path / name, music(1000), RATE, bitrate=bitrate)
    assert names(tmp_path) == []


FULL_DISK = """
import os, resource, sys
import numpy as np
from audio_core import audio
from audio_core.files import InputError
folder, *names = sys.argv[1:]
samples = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 48000))
for name in names:
    path = os.path.join(folder, name)
    audio.write(path, samples, 48000)
    size = os.path.getsize(path)
    os.remove(path)
    for limit in (0, 100, size // 2, size - 3000, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            audio.write(path, samples, 48000)
            print(name, "of", size, "bytes was written within", limit)
        except InputError as error:
            assert str(error) == f"{path}: cannot be written: File too large", error
        assert os.listdir(folder) == [], os.listdir(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_full_disk_leaves_no_file_and_says_the_same_in_every_format(tmp_path):
    """Encoders write their last bytes on closing, where libsndfile reports nothing; elsewhere it says System error."""
    result = in_a_child(FULL_DISK, tmp_path, *(f"a{extension}" for extension in audio.FORMATS))
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_clipped_samples_are_counted(tmp_path):
    samples = np.array([[0.5, 1.0, 1.5, -2.0]])
    with audio.Writer(tmp_path / "a.wav", RATE, 1) as writer:
        writer.write(samples)
    assert (writer.clipped, writer.frames) == (2, 4)
    assert audio.read(tmp_path / "a.wav").samples.tolist() == [[0.5, 1 - 2**-15, 1 - 2**-15, -1.0]]
    with audio.Writer(tmp_path / "b.wav", RATE, 1, "FLOAT") as writer:
        writer.write(samples)
    assert writer.clipped == 0
    assert audio.read(tmp_path / "b.wav").samples.tolist() == samples.tolist()


def test_a_wav_too_long_for_its_header_becomes_rf64(tmp_path):
    with audio.Writer(tmp_path / "a.wav", RATE, 2, frames=2**30) as writer:
        writer.write(music(100))
    assert audio.info(tmp_path / "a.wav").container == "RF64"


def test_wrong_encodings_and_channels_are_told(tmp_path):
    with pytest.raises(InputError, match="FLAC is written as PCM_16, PCM_24, not as FLOAT"):
        audio.write(tmp_path / "a.flac", music(10), RATE, "float")
    with (
        pytest.raises(InputError, match="has 1 channels; 2 are expected"),
        audio.Writer(tmp_path / "a.wav", RATE, 2) as w,
    ):
        w.write(music(10, 1))
    audio.write(tmp_path / "a.wav", music(10), RATE)
    with pytest.raises(InputError, match="exists already"):
        audio.write(tmp_path / "a.wav", music(10), RATE, force=False)


def test_an_mp3_whose_length_can_only_be_guessed_is_refused(tmp_path):
    """Without its first frame, which counts the others, libsndfile would silently read a part of it."""
    path = tmp_path / "a.mp3"
    samples = np.concatenate([tone(440, 2.0, 44100).numpy(), noise(1, 2.0, 44100).numpy()], 1)
    audio.write(path, samples, 44100)
    assert audio.info(path).frames == samples.shape[1]
    data = path.read_bytes()
    second = data.index(data[:2], 100)
    path.write_bytes(data[second:])
    with pytest.raises(InputError, match="does not say how long it is"):
        audio.info(path)
    path.write_bytes(b"ID3\x04\0\0\0\0\x01\x01" + bytes(129) + data)  # a tag in front of a whole one
    assert audio.info(path).frames == samples.shape[1]
