"""PESQ of batches in worker processes: the right numbers, NaN for what has none, and no process left behind."""

import importlib.util
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from audio_core.files import InputError
from audio_core.testing import noise
from audio_semamba import scores
from audio_semamba.scores import PesqPool, pesq


@pytest.fixture
def batch(stored_case):
    """Two utterances, silence, and NaN: clean and estimate (B, T)."""
    case = stored_case("pesq")
    rows = [
        [case.inputs[f"{name}.{side}"][:24000].float() / 32768 for name in ("p257_152", "p232_162")]
        for side in ("clean", "enhanced")
    ]
    clean, estimate = (torch.stack([*each, torch.zeros(24000), each[0]]) for each in rows)
    estimate[3, 100] = math.nan
    return clean, estimate


def test_a_pool_gives_what_pesq_gives_and_nan_where_there_is_none(batch):
    clean, estimate = batch
    pool = PesqPool(16000, workers=1)
    try:
        first, second = pool.submit(estimate, clean), pool.submit(clean, clean)
        wanted = [pesq(x, y, 16000) for x, y in zip(estimate[:2].numpy(), clean[:2].numpy(), strict=True)]
        assert first.result()[:2].tolist() == pytest.approx(wanted, abs=1e-6) and min(wanted) > 3
        assert first.result()[2:].isnan().all()
        assert second.result()[:2].min() > 4.6 and second.result()[2].isnan()
    finally:
        pool.close()


def test_other_rates_are_resampled_and_short_clips_have_no_pesq(batch):
    clean, estimate = (each[0].numpy() for each in batch)
    doubled = [scores.audio.resample(x[None], 16000, 48000)[0] for x in (estimate, clean)]
    assert pesq(*doubled, 48000) == pytest.approx(pesq(estimate, clean, 16000), abs=0.05)
    assert math.isnan(pesq(estimate[:3999], clean[:3999], 16000))
    assert math.isnan(pesq(np.zeros_like(clean), clean, 16000))


def test_batches_of_two_shapes_are_refused():
    pool = PesqPool(16000)
    with pytest.raises(ValueError, match=r"expected two \(B, T\)"):
        pool.submit(noise(0, 0.5), noise(0, 0.4))
    pool.close()


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"audio-semamba\[metrics\]"):
        PesqPool(16000)


SCRIPT = """
import sys, time, torch
from audio_semamba.scores import PesqPool
if __name__ == "__main__":
    pool = PesqPool(16000, workers=1)
    sound = torch.randn(1, 8000)
    pool.submit(sound, sound).result()
    print(*(process.pid for process in pool._pool._processes.values()), flush=True)
    time.sleep(float(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="asking for a process ends it there")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    parent, output, _ = warm.start([path, 60])
    with open(output.fileno(), closefd=False) as stream:
        worker = int(stream.readline())
    assert _lives(worker)
    parent.kill()
    parent.join()
    until = time.monotonic() + 30
    while _lives(worker):
        assert time.monotonic() < until
        time.sleep(0.05)


def _lives(process: int) -> bool:
    """Whether it runs: one that has ended and whose parent has not asked for it does not."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_script_without_guard_is_told_what_to_do(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run([sys.executable, str(path), "0"], capture_output=True, text=True, timeout=240)
    assert done.returncode and 'needs `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
