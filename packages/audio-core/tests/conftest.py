import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same seed, on one thread: two test workers share two cores."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
