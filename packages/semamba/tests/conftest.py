from concurrent.futures import ProcessPoolExecutor

import pytest
import warm
from audio_semamba import scores


@pytest.fixture
def warm_pools(monkeypatch):
    """The processes that compute PESQ have PyTorch imported already, which saves each of them seconds."""
    monkeypatch.setattr(scores, "_pool", lambda count: ProcessPoolExecutor(count, warm.CONTEXT, scores._begin))
