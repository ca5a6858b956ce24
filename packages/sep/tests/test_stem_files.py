"""From files to files: formats, sums, clipping, names, half files, memory, the command."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import warm
from audio_core import audio, batch
from audio_core.files import InputError
from audio_core.testing import noise
from audio_sep import stem_files
from audio_sep.cli import main, parser
from audio_sep.data.pack import KINDS
from audio_sep.separate import Separator
from audio_sep.stem_files import FORMATS, separate_file

from .sep_toys import Toy, gain, halves

RATE = 8000


def recording(path: Path, seconds: float = 2.0, channels: int = 2, scale: float = 1.0, **options) -> np.ndarray:
    """White noise in a file, and the samples as the file holds them."""
    audio.write(path, scale * noise(0, seconds, RATE, channels).numpy(), RATE, **options)
    return audio.read(path).samples


def separated(separator, source: Path, format: str = "wav16", **options) -> tuple[dict[str, np.ndarray], str]:
    """The stems that a file's stems hold, and the remark."""
    (job,) = stem_files.jobs(batch.find(source), source.parent / "out", separator.names, format)
    remark = separate_file(separator, source, job.target, FORMATS[format][1], quiet=True, **options)
    return {name: audio.read(path).samples for name, path in job.target.items()}, remark


# --- what is written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_holds_the_stems(tmp_path, format):
    x = recording(tmp_path / "song.wav")
    stems, remark = separated(Separator(halves()), tmp_path / "song.wav", format)
    header = audio.info(tmp_path / f"out/song/vocals{FORMATS[format][0]}")
    expected = {"wav16": "PCM_16", "wav24": "PCM_24", "float32": "FLOAT", "flac": "PCM_16"}
    assert header.encoding == expected.get(format, header.encoding) and (header.rate, header.channels) == (RATE, 2)
    for name, factor in (("vocals", 0.25), ("accompaniment", 0.75)):
        assert stems[name].shape == x.shape and not remark
        if format in expected:
            np.testing.assert_allclose(stems[name], factor * x, atol=1e-4)


def test_flac_is_as_deep_as_the_source(tmp_path):
    recording(tmp_path / "song.wav", encoding="FLOAT")
    separated(Separator(halves()), tmp_path / "song.wav", "flac")
    assert audio.info(tmp_path / "out/song/vocals.flac").encoding == "PCM_24"


@pytest.mark.parametrize(
    ("format", "step"), [("wav16", 2**-15), ("wav24", 2**-23), ("float32", 1e-7), ("flac", 2**-15)]
)
@pytest.mark.parametrize("clip", ["clamp", "rescale"])
def test_stems_and_residual_add_up_to_the_recording(tmp_path, format, step, clip):
    x = recording(tmp_path / "song.wav")
    sources = {name: gain(factor) for name, factor in (("a", 0.111), ("b", 0.222), ("c", 0.333), ("d", -0.444))}
    stems, _ = separated(Separator(Toy(sources), residual="residual"), tmp_path / "song.wav", format, clip=clip)
    assert len(stems) == 5 and np.abs(sum(stem.astype(np.float64) for stem in stems.values()) - x).max() <= step


def test_what_is_cut_off_a_stem_is_in_the_residual(tmp_path):
    x = recording(tmp_path / "song.wav")
    separator = Separator(Toy({"vocals": gain(4)}), residual="rest")
    stems, remark = separated(separator, tmp_path / "song.wav")
    assert np.abs(stems["vocals"]).max() == 1 and "samples were beyond full scale and cut off" in remark
    np.testing.assert_allclose(stems["vocals"] + stems["rest"], x, atol=2**-15)


def test_rescaling_makes_all_stems_softer_alike(tmp_path):
    x = recording(tmp_path / "song.wav")
    separator = Separator(Toy({"loud": gain(4), "soft": gain(1)}))
    stems, remark = separated(separator, tmp_path / "song.wav", clip="rescale")
    assert 0.9999 < np.abs(stems["loud"]).max() < 1
    factor = 0.25 * np.abs(stems["loud"]).max() / np.abs(x).max()
    np.testing.assert_allclose(stems["loud"], 4 * factor * x, atol=1e-4)
    np.testing.assert_allclose(stems["soft"], factor * x, atol=1e-4)
    assert remark == f"all stems are {-20 * np.log10(factor):.1f} dB softer, so that nothing clips"


def test_floats_keep_what_is_beyond_full_scale(tmp_path):
    x = recording(tmp_path / "song.wav")
    stems, remark = separated(Separator(Toy({"vocals": gain(4)})), tmp_path / "song.wav", "float32")
    np.testing.assert_array_equal(stems["vocals"], 4 * x)
    assert not remark


def test_silence_stays_silence(tmp_path):
    audio.write(tmp_path / "song.wav", np.zeros((2, RATE), np.float32), RATE)
    for clip in ("clamp", "rescale"):
        stems, remark = separated(Separator(halves()), tmp_path / "song.wav", clip=clip, force=True)
        assert not any(stem.any() for stem in stems.values()) and not remark


@pytest.mark.parametrize("channels", [1, 6])
def test_mono_and_surround_keep_their_channels(tmp_path, channels):
    x = recording(tmp_path / "song.wav", channels=channels)
    stems, _ = separated(Separator(halves()), tmp_path / "song.wav")
    np.testing.assert_allclose(stems["vocals"], 0.25 * x, atol=1e-4)


# --- what is refused, and what is left ---------------------------------------------------------------------


def test_a_recording_is_not_overwritten(tmp_path):
    recording(tmp_path / "vocals.wav")
    before = (tmp_path / "vocals.wav").read_bytes()
    with pytest.raises(InputError, match="would overwrite the input"):
        separate_file(Separator(halves()), tmp_path / "vocals.wav", {"vocals": tmp_path / "vocals.wav"}, force=True)
    with pytest.raises(InputError, match="several of its results would become"):
        both = dict.fromkeys(("vocals", "accompaniment"), tmp_path / "one.wav")
        separate_file(Separator(halves()), tmp_path / "vocals.wav", both)
    assert (tmp_path / "vocals.wav").read_bytes() == before


@pytest.mark.parametrize("clip", ["clamp", "rescale"])
def test_an_interruption_leaves_no_half_file(tmp_path, clip):
    calls = itertools.count()

    def interrupted(samples):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return samples

    recording(tmp_path / "song.wav", 30.0)
    with pytest.raises(KeyboardInterrupt):
        separated(Separator(Toy({"vocals": interrupted})), tmp_path / "song.wav", clip=clip)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["song.wav"]


def test_foreign_files_need_ffmpeg(tmp_path, monkeypatch):
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="put ffmpeg on the PATH to read it"):
        separated(Separator(halves()), tmp_path / "song.m4a")


def test_a_long_file_takes_the_memory_of_a_short_one(tmp_path):
    """Peak memory of a process, at 20 and at 200 s. As floats one stem of the longer has 70 MB."""
    code = """
import resource, sys
from pathlib import Path
from audio_sep.separate import Separator
from audio_sep.stem_files import separate_file
sys.path.insert(0, sys.argv[1])
from sep_toys import halves
folder, peaks = Path(sys.argv[2]), []
separator = Separator(halves(rate=44100), residual="residual", segment=2.0)
for name in ("short", "long"):
    targets = {stem: folder / name / f"{stem}.wav" for stem in separator.names}
    separate_file(separator, folder / f"{name}.wav", targets, quiet=True)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(peaks[1] - peaks[0])
"""
    for name, seconds in (("short", 20), ("long", 200)):
        with audio.Writer(tmp_path / f"{name}.wav", 44100, 2) as writer:
            for _ in range(seconds // 10):
                writer.write(noise(0, 10.0, 44100, 2).numpy())
    child = warm.run("-c", code, Path(__file__).parent, tmp_path)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) < 50


# --- names -------------------------------------------------------------------------------------------------


def test_folders_are_kept_and_names_follow_a_template(tmp_path):
    (tmp_path / "album/cd1").mkdir(parents=True)
    recording(tmp_path / "album/cd1/song.v2.wav", 0.1)
    found = batch.find(tmp_path / "album")
    (job,) = stem_files.jobs(found, Path("out"), ["vocals"], "mp3")
    assert job.target == {"vocals": Path("out/cd1/song.v2/vocals.mp3")}
    (job,) = stem_files.jobs(found, Path("out"), ["vocals"], "flac", "{stem}/{track}-x.{ext}")
    assert job.target == {"vocals": Path("out/vocals/cd1/song.v2-x.flac")}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{track}.{ext}", "{stem} is missing"),
        ("{song}/{stem}.wav", "{song} is unknown"),
        ("{stem", "expected '}'"),
        ("../{stem}.{ext}", "leads out of the folder"),
        ("/{stem}.{ext}", "leads out of the folder"),
    ],
)
def test_templates_that_name_no_files_are_refused(template, message):
    with pytest.raises(InputError, match=message):
        stem_files.jobs([], Path("out"), ["vocals"], "wav16", template)


# --- the command -------------------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    return main([str(argument) for argument in ("separate", *arguments, "--device", "cpu")])


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_command_separates_files_and_skips_what_is_there(bundle, tmp_path, capsys):
    recording(tmp_path / "in/one.wav", 1.0)
    recording(tmp_path / "in/two.wav", 0.5, channels=1)
    (tmp_path / "in/broken.wav").write_bytes(b"nothing")
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--model", bundle) == 2
    err = capsys.readouterr().err
    assert "broken.wav: not audio" in err and "2 done, 0 skipped, 1 failed" in err
    expected = [f"{song}/{stem}.wav" for song in ("one", "two") for stem in ("accompaniment", "vocals")]
    assert names(tmp_path / "out") == expected
    (tmp_path / "in/broken.wav").unlink()
    vocals = tmp_path / "out/one/vocals.wav"
    before = vocals.read_bytes()
    vocals.unlink()
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--model", bundle) == 0
    assert "1 done, 1 skipped, 0 failed" in capsys.readouterr().err and vocals.read_bytes() == before
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--model", bundle, "--format", "wav24") == 2
    assert "exists with PCM_16, not with PCM_24; give --force to redo it" in capsys.readouterr().err


def test_two_stems_are_one_and_the_rest(bundle, tmp_path):
    x = recording(tmp_path / "song.wav")
    assert (
        run(tmp_path / "song.wav", "-o", tmp_path / "out", "--model", bundle, "--two-stems", "vocals", "--quiet") == 0
    )
    assert names(tmp_path / "out") == ["song/no_vocals.wav", "song/vocals.wav"]
    stems = [audio.read(tmp_path / f"out/song/{name}.wav").samples for name in ("no_vocals", "vocals")]
    np.testing.assert_allclose(sum(stems), x, atol=2**-15)


def test_options_reach_the_files(bundle, tmp_path):
    recording(tmp_path / "song.wav")
    options = "--stems vocals --residual --format flac --overlap 0.25 --shifts 2 --clip rescale --segment 1"
    template = ["--filename", "{stem}-{track}.{ext}"]
    assert run(tmp_path / "song.wav", "-o", tmp_path / "out", "--model", bundle, *options.split(), *template) == 0
    assert names(tmp_path / "out") == ["residual-song.flac", "vocals-song.flac"]


def test_mistakes_are_one_line(bundle, tmp_path, capsys):
    recording(tmp_path / "song.wav")
    for options, message in (
        (["--stems", "drums"], "there is no model for drums; the models give vocals, accompaniment"),
        (["--stems", "rest"], "; a residual gives the rest"),
        (["--two-stems", "vocals", "--residual"], "leave --residual out"),
        (
            ["--model", "vocals-mobilenet-subband"],
            "is a published checkpoint, not a bundle; `audio-sep",
        ),
        (["--jobs", "0"], "--jobs: expected 1 or more"),
        (["--filename", "{song}"], "{song} is unknown"),
    ):
        assert run(tmp_path / "song.wav", "-o", tmp_path / "out", "--model", bundle, *options) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_choices_of_the_command_are_those_of_the_modules():
    (verbs,) = [action.choices for action in parser()._actions if action.choices]
    (formats,) = [action.choices for action in verbs["separate"]._actions if action.dest == "format"]
    (kinds,) = [action.choices for action in verbs["pack"]._actions if action.dest == "kind"]
    assert [*formats] == [*FORMATS] and [*kinds] == [*KINDS]


def test_several_processes_share_the_files(bundle, tmp_path, capfd, monkeypatch, warm_processes):
    """Each loads the models, and the first, which shares out the files, needs none."""
    monkeypatch.setattr("audio_core.bundle.load", None)  # here, not in the processes
    for number in range(3):
        recording(tmp_path / f"in/{number}.wav", 0.5)
    (tmp_path / "in/broken.wav").write_bytes(b"nothing")
    arguments = [tmp_path / "in", "-o", tmp_path / "out", "--model", bundle, "--jobs", "2"]
    assert run(*arguments, "--overlap", "0.9") == 2
    assert capfd.readouterr().err == "audio-sep: error: overlap: expected a share of a segment from 0 to 0.5, got 0.9\n"
    assert run(*arguments) == 2
    err = capfd.readouterr().err
    assert "3 done, 0 skipped, 1 failed" in err and err.count("broken.wav: not audio") == 1
    assert len(names(tmp_path / "out")) == 6
