"""A batch in several processes: shares, refusals, failures, interruptions."""

import time
from pathlib import Path

import pytest
from audio_core import batch
from audio_core.files import InputError
from audio_sep import parallel

from .work_toys import copying, ending, failing, never, waiting

RATE = 8000

pytestmark = pytest.mark.usefixtures("warm_processes")


def jobs_in(folder: Path, count: int = 4) -> list[batch.Job]:
    for number in range(count):
        (folder / f"{number}.in").write_text(str(number))
    return [batch.Job(folder / f"{number}.in", {"x": folder / f"{number}.wav"}) for number in range(count)]


def test_what_clashes_is_refused_in_whichever_process_it_would_be(tmp_path, capfd):
    jobs = jobs_in(tmp_path)
    jobs[3] = jobs[3]._replace(target=jobs[0].target)
    summary = parallel.run(jobs, copying, 2, False, True, never)
    assert summary.done == 2 and len(summary.failed) == 2 and summary.code == 2
    assert capfd.readouterr().err.count("would both become") == 1


def test_models_that_cannot_be_loaded_are_told_once(tmp_path):
    with pytest.raises(InputError, match="no such model"):
        parallel.run(jobs_in(tmp_path), failing, 2, False, True, never)


def test_a_process_that_ends_early_is_a_failure_of_ours(tmp_path):
    summary = parallel.run(jobs_in(tmp_path), ending, 2, False, True, never)
    assert summary.code == 1 and summary.done == 0


def test_processes_that_are_stopped_leave_no_half_file(tmp_path):
    jobs = jobs_in(tmp_path, 2)
    with parallel._children([([job], waiting, False, never, 2) for job in jobs]) as ends:
        deadline = time.monotonic() + 60
        while len([*tmp_path.glob("*.begun")]) < 2:
            assert time.monotonic() < deadline, [end.recv() for end in ends if end.poll()]
            time.sleep(0.02)
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name or path.suffix == ".wav"]


def test_shares_of_torchrun_are_shared_further(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    summary = parallel.run(jobs_in(tmp_path), copying, 2, False, True, never)
    assert summary.done == 2 and sorted(path.name for path in tmp_path.glob("*.wav")) == ["1.wav", "3.wav"]
