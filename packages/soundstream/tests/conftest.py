from pathlib import Path

import pytest
import torch
from audio_core.testing import Case
from audio_soundstream import original


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same seed, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def stored_case():
    """A stored case by its name."""
    return lambda name: Case.load(Path(__file__).parent / "fixtures" / name)


@pytest.fixture
def stored(stored_case):
    """A stored case by its name, and the codec that it was computed with."""

    def load(name: str):
        case = stored_case(name)
        return case, original.from_state(case.state(), rate=case.config["sample_rate"])

    return load
