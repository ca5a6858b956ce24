"""Many files: found, named, done once, and one bad file does not stop the rest."""

import subprocess
import sys
from pathlib import Path

import pytest
from audio_core import batch
from audio_core.batch import Found, Job, find, run, targets
from audio_core.files import InputError


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    for name in ("in/b.wav", "in/a.WAV", "in/deep/a.flac", "in/deep/c.m4a", "in/read.me", "in/.hidden.wav", "x[1].wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def found(*names: str) -> list[Found]:
    return [Found(Path("in", name), Path(name)) for name in names]


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text() + " done")


# --- finding ---------------------------------------------------------------------------------------------------


def test_folders_files_and_patterns_are_found_in_order(tree):
    everything = found("a.WAV", "b.wav", "deep/a.flac", "deep/c.m4a")
    assert find("in") == find(["in"]) == find(Path("in")) == everything
    assert find("in/**/*.flac") == found("deep/a.flac")
    assert find("in/*") == everything  # a folder that matches is searched
    assert find("in/deep/?.*") == [
        Found(Path("in/deep/a.flac"), Path("a.flac")),
        Found(Path("in/deep/c.m4a"), Path("c.m4a")),
    ]
    assert find(str(tree / "in" / "*.wav")) == [Found(tree / "in" / "b.wav", Path("b.wav"))]
    assert find("in/read.me") == [Found(Path("in/read.me"), Path("read.me"))]  # named one by one, it is meant
    assert find("x[1].wav") == [Found(Path("x[1].wav"), Path("x[1].wav"))]


def test_a_file_that_is_meant_twice_is_found_once(tree):
    assert find(["in", "in/b.wav", str(tree / "in/deep"), "in/*.wav"]) == find("in")


def test_files_of_another_kind_are_found_by_their_extension(tree):
    for name in ("in/x.code", "in/deep/y.CODE", "in/.hidden.code", "in/deep/.git/z.code", "in/x.wav.code/song.wav"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    both = found("deep/y.CODE", "x.code")
    assert find("in", ".code") == find(["in/x.code", "in"], ".code")[::-1] == both
    assert find("in/*", ".code") == both and find("in/*.code", ".code") == found("x.code")
    assert find("in/b.wav", ".code") == [Found(Path("in/b.wav"), Path("b.wav"))]  # named, it is meant
    with pytest.raises(InputError, match=r"empty: holds no \.code files$"):
        find("empty", ".code")
    with pytest.raises(InputError, match=r"in/\*\.wav: matches no \.code files"):
        find("in/*.wav", ".code")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["in", "nowhere.wav"], "nowhere.wav: no such file or folder"),
        (["empty"], "empty: holds no audio files; known are .*wav"),
        (["in/*.txt"], r"in/\*\.txt: matches no audio files"),
        ([], "no input files were given"),
    ],
)
def test_an_input_that_means_nothing_is_an_error(tree, inputs, said):
    with pytest.raises(InputError, match=said):
        find(inputs)


# --- naming ----------------------------------------------------------------------------------------------------


def test_results_keep_the_tree_below_the_folder(tree):
    jobs = targets(find("in"), "out")
    assert [str(job.target) for job in jobs] == ["out/a.WAV", "out/b.wav", "out/deep/a.flac", "out/deep/c.wav"]
    assert [str(job.source) for job in jobs] == ["in/a.WAV", "in/b.wav", "in/deep/a.flac", "in/deep/c.m4a"]
    assert [str(job.target) for job in targets(find("in"), "out.v2", ".code")][2:] == [
        "out.v2/deep/a.code",
        "out.v2/deep/c.code",
    ]


def test_one_file_may_be_named_itself(tree):
    one = find("in/b.wav")
    assert targets(one, "sub/new.flac") == [Job(Path("in/b.wav"), Path("sub/new.flac"))]
    assert targets(one, "new.code", ".code") == [Job(Path("in/b.wav"), Path("new.code"))]
    assert targets(one, "sub") == [Job(Path("in/b.wav"), Path("sub/b.wav"))]
    Path("strange.wav").mkdir()
    assert targets(one, "strange.wav") == [Job(Path("in/b.wav"), Path("strange.wav/b.wav"))]
    with pytest.raises(InputError, match=r"new\.wav: is one file, but there are 4 inputs; give a folder"):
        targets(find("in"), "new.wav")


# --- running ---------------------------------------------------------------------------------------------------


def test_everything_is_done_once_and_again_only_by_force(tree, capsys):
    jobs = targets(find("in"), "out")
    summary = run(jobs, copy)
    assert (summary.done, summary.skipped, summary.failed, summary.code) == (4, 0, [], 0)
    assert Path("out/deep/a.flac").read_text() == "in/deep/a.flac done"
    assert capsys.readouterr() == ("", "4 done, 0 skipped, 0 failed\n")
    Path("out/b.wav").unlink()
    assert run(jobs, copy)[:2] == (1, 3)
    assert run(jobs, copy, force=True)[:2] == (4, 0)
    capsys.readouterr()
    assert run(jobs, copy, quiet=True)[:2] == (0, 4)
    assert capsys.readouterr() == ("", "")


def test_one_bad_file_does_not_stop_the_rest(tree, capsys):
    def work(source: Path, target: Path) -> None:
        if source.name == "b.wav":
            raise InputError(f"{source}: is truncated")
        if source.name == "c.m4a":
            raise OSError(28, "No space left\non device")
        copy(source, target)

    summary = run(targets(find("in"), "out"), work)
    assert (summary.done, summary.skipped, len(summary.failed), summary.code) == (2, 0, 2, 2)
    assert [failure.source.name for failure in summary.failed] == ["b.wav", "c.m4a"]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "in/b.wav: is truncated",
        "in/deep/c.m4a: No space left on device",
        "2 done, 0 skipped, 2 failed",
    ]


def test_our_own_mistakes_are_told_apart(tree, capsys):
    def work(source: Path, target: Path) -> None:
        if source.name == "a.WAV":
            raise InputError(f"{source}: is empty")
        raise KeyError("frames")

    summary = run(targets(find("in"), "out"), work, quiet=True)
    assert (summary.done, len(summary.failed), summary.code) == (0, 4, 1)
    assert capsys.readouterr().err.splitlines()[1] == "in/b.wav: unexpected KeyError: 'frames'"


def test_an_interruption_ends_at_once_and_says_how_far_it_came(tree, capsys):
    def work(source: Path, target: Path) -> None:
        if source.name == "b.wav":
            raise KeyboardInterrupt
        copy(source, target)

    with pytest.raises(KeyboardInterrupt):
        run(targets(find("in"), "out"), work)
    assert capsys.readouterr().err == "1 done, 0 skipped, 0 failed, interrupted\n"
    assert names("out") == ["a.WAV"]


def test_a_clash_costs_its_own_files_and_not_the_batch(tree, capsys):
    jobs = targets(find(["in/a.WAV", "in/deep/a.flac", "in/b.wav"]), "out", ".wav")
    summary = run(jobs, copy)
    assert (summary.done, len(summary.failed), summary.code, names("out")) == (1, 2, 2, ["b.wav"])
    line = "in/a.WAV and in/deep/a.flac would both become out/a.wav; give them different folders"
    assert capsys.readouterr().err.splitlines() == [line, "1 done, 0 skipped, 2 failed"]


def test_no_result_overwrites_an_input(tree, capsys):
    summary = run(targets(find("in"), "in"), copy, force=True)
    assert (summary.done, len(summary.failed), summary.code) == (1, 3, 2)  # c.m4a would become c.wav
    line = "in/b.wav: its result would overwrite the input in/b.wav; give another folder for results"
    assert line in capsys.readouterr().err.splitlines()
    assert Path("in/b.wav").read_text() == "in/b.wav" and Path("in/deep/c.wav").exists()
    with pytest.raises(InputError, match=r"^in/b\.wav: its result would overwrite the input in/b\.wav"):
        run(targets(find("in/b.wav"), "in/../in/b.wav"), copy, force=True)


def test_a_job_of_several_targets_is_finished_when_all_are_there(tree, capsys):
    """And what was not written before a stop is all that is written after it."""
    jobs = [Job(item.file, {"voice": Path("out", item.file.name, "v.wav"), 2: Path("out", item.file.name, "2.wav")})
            for item in find("in/*.wav")]  # fmt: skip
    asked = []

    def work(source: Path, paths: dict) -> None:
        asked.append(paths)
        for path in paths.values():
            copy(source, path)

    assert run(jobs, work).done == 1 and asked.pop() == jobs[0].target
    assert run(jobs, work).skipped == 1 and not asked
    Path("out/b.wav/2.wav").unlink()
    assert run(jobs, work).done == 1 and asked.pop() == {2: Path("out/b.wav/2.wav")}
    assert run(jobs, work, force=True).done == 1 and asked.pop() == jobs[0].target
    capsys.readouterr()
    one = Path("out/one.wav")
    with pytest.raises(InputError, match=r"^in/b\.wav: several of its results would become out/one\.wav"):
        run([Job(Path("in/b.wav"), {"voice": one, "rest": one})], work)
    run([Job(Path("in/a.WAV"), {"x": one}), Job(Path("in/b.wav"), {"x": Path("out/x.wav"), "y": one})], work)
    assert capsys.readouterr().err.startswith("in/a.WAV and in/b.wav would both become out/one.wav")


def test_a_result_of_other_settings_is_neither_skipped_in_silence_nor_overwritten(tree, capsys):
    jobs = targets(find("in"), "out")
    run(jobs, copy, quiet=True)

    def stale(target: Path) -> str:
        if target.name == "a.WAV":
            raise InputError(f"{target}: is truncated")
        return "exists with 8000 Hz, not with 16000 Hz" if target.name == "b.wav" else ""

    summary = run(jobs, copy, stale=stale)
    assert (summary.done, summary.skipped, len(summary.failed), summary.code) == (0, 2, 2, 2)
    assert capsys.readouterr().err.splitlines()[:2] == [
        "out/a.WAV: is truncated; give --force to redo it",
        "out/b.wav: exists with 8000 Hz, not with 16000 Hz; give --force to redo it",
    ]
    assert run(jobs, copy, force=True, quiet=True, stale=stale).done == 4


def test_processes_share_the_files_without_gap_or_overlap(tree, monkeypatch):
    jobs = [Job(Path("in/b.wav"), Path(f"out/{number}.wav")) for number in range(7)]
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        shares.append(run(jobs, copy, quiet=True).done)
    assert shares == [3, 2, 2]
    assert batch.mine("abcdefg") == "cf"
    assert len(names("out")) == 7


def test_progress_is_for_terminals(tree, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run(targets(find("in"), "out"), copy)
    assert "4/4" in capsys.readouterr().err


def test_finding_and_naming_do_not_wait_for_torch(tree):
    code = """
import sys
from audio_core import batch
assert "numpy" not in sys.modules
batch.run(batch.targets(batch.find("in"), "out"), lambda source, target: target)
sys.exit("torch" in sys.modules)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "4 done, 0 skipped, 0 failed\n")


def test_a_summary_reads_like_a_sentence():
    failure = batch.Failure(Path("a"), "a: is empty", ours=False)
    text = str(batch.Summary(12, 3, [failure]))
    assert text.startswith("12 done, 3 skipped, 1 failed; skipped are those whose results exist")
