from pathlib import Path

import pytest
import torch
from audio_acdnet import layout, original
from audio_acdnet.model import ACDNet
from audio_core.testing import Case


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
    """A stored case by its name, and the model that it was computed with."""

    def load(name: str, **settings) -> tuple[Case, ACDNet]:
        case = stored_case(name)
        labels = tuple(f"class {number}" for number in range(case.config["n_class"]))
        channels = tuple(case.config["ch_config"] or (*layout.ACDNET[:11], len(labels)))
        config = layout.ACDNetConfig(case.config["sr"], case.config["input_length"], channels, labels, **settings)
        model, state = ACDNet(config), case.state()
        tensors = {ours: state.pop(theirs) for ours, theirs in original.names(config).items()}
        assert not state
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        model.load_state_dict({name: tensor.reshape(shapes[name]) for name, tensor in tensors.items()})
        return case, model.eval()

    return load
