import pytest
from audio_acdnet import original
from audio_acdnet.config import ACDNET, ACDNetConfig
from audio_acdnet.model import ACDNet
from audio_core.testing import Case


@pytest.fixture
def stored(stored_case):
    """A stored case by its name, and the model that it was computed with."""

    def load(name: str, **settings) -> tuple[Case, ACDNet]:
        case = stored_case(name)
        labels = tuple(f"class {number}" for number in range(case.config["n_class"]))
        channels = tuple(case.config["ch_config"] or (*ACDNET[:11], len(labels)))
        config = ACDNetConfig(case.config["sr"], case.config["input_length"], channels, labels, **settings)
        model, state = ACDNet(config), case.state()
        tensors = {ours: state.pop(theirs) for ours, theirs in original.names(config).items()}
        assert not state
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        model.load_state_dict({name: tensor.reshape(shapes[name]) for name, tensor in tensors.items()})
        return case, model.eval()

    return load
