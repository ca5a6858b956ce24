"""What is wrong with audio files, and writing that fails half way or loses something."""

import os
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

from .audio_files import RATE, in_a_child, music, names

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
