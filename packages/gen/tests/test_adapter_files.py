"""Files of adapters give back what was stored, on the weights that it was trained on, and are refused elsewhere."""

import copy
import json
import math

import pytest
import safetensors.torch
import torch
from audio_core.files import InputError
from audio_core.testing import close
from audio_gen import adapters

from .adapter_toys import SEVERAL, learnt, output, small_dit


@pytest.fixture
def stored(tmp_path):
    """The base, the file of its adapter, and outputs with the adapter."""
    dit = small_dit()
    model = copy.deepcopy(dit)
    base = adapters.base_fingerprint(model)
    learnt(model, SEVERAL[1])
    adapters.save_adapter(tmp_path / "voice.v2.safetensors", model, base)
    return dit, tmp_path / "voice.v2.safetensors", output(model)


@torch.no_grad()
def test_a_stored_adapter_gives_the_same_outputs(stored):
    dit, path, adapted = stored
    assert adapters.load_adapter(path, dit) == "voice.v2"
    close(output(dit), adapted)
    assert not dit.get_parameter("transformer.layers.0.ff.up.adapters.0.down").requires_grad
    assert adapters.adapter_state(dit, "voice.v2").keys() == safetensors.torch.load_file(path).keys()
    count = sum(tensor.numel() for tensor in adapters.adapter_state(dit, "voice.v2").values())
    assert path.stat().st_size < 4 * count + 8000  # the adapter alone


@torch.no_grad()
def test_a_file_can_be_loaded_beside_others_and_at_a_strength(stored):
    dit, path, _ = stored
    once, twice = copy.deepcopy(dit), copy.deepcopy(dit)
    adapters.load_adapter(path, once, 0.5)
    assert [adapters.load_adapter(path, twice, 0.2, "a"), adapters.load_adapter(path, twice, 0.3, "b")] == ["a", "b"]
    close(output(once), output(twice), 2e-6)
    assert adapters.adapter_names(twice) == ["a", "b"]


def test_loading_draws_nothing(stored):
    dit, path, _ = stored
    torch.manual_seed(3)
    before = torch.get_rng_state()
    adapters.load_adapter(path, dit)
    assert torch.equal(torch.get_rng_state(), before)


def rewritten(path, tensors=None, **changes):
    """The file with other tensors or other settings."""
    with safetensors.safe_open(path, "pt") as file:
        head = json.loads(file.metadata()["adapter"])
    state = safetensors.torch.load_file(path) if tensors is None else tensors(safetensors.torch.load_file(path))
    path.write_bytes(safetensors.torch.save(state, {"adapter": json.dumps(head | changes)}))


def without_first(state):
    state.pop(min(state))
    return state


def not_finite(state):
    return state | {min(state): torch.full_like(state[min(state)], math.nan)}


WRONG = {
    "garbage": (lambda path: path.write_bytes(b"no tensors" * 9), "damaged or not safetensors"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged or not safetensors"),
    "missing": (lambda path: path.unlink(), "is missing"),
    "of a model": (
        lambda path: path.write_bytes(safetensors.torch.save({"weight": torch.zeros(2)})),
        "is no adapter; give the adapter.safetensors of a `finetune`",
    ),
    "settings": (lambda path: rewritten(path, config=[1]), "expected keys and values"),
    "setting": (lambda path: rewritten(path, config={"ranks": 2}), "unknown key ranks; did you mean rank"),
    "format": (lambda path: rewritten(path, format=2), "has the format 2, and this version reads 1"),
    "base": (lambda path: rewritten(path, base="abc"), "settings are damaged"),
    "another base": (lambda path: rewritten(path, base="00" * 8), "adapter of model 0{16}, not of [0-9a-f]{16}; load"),
    "rank": (
        lambda path: rewritten(path, config={"rank": 3, "method": "dora"}),
        "does not fit DiT: 28 of another shape",
    ),
    "method": (lambda path: rewritten(path, config={"rank": 2}), r"does not fit DiT: 14 unexpected \("),
    "layers": (
        lambda path: rewritten(path, config={"layers": ["*.conv"]}),
        "does not fit this model: layers: '.*.conv' ",
    ),
    "names": (lambda path: rewritten(path, without_first), r"does not fit DiT: 1 missing \(transformer"),
    "numbers": (lambda path: rewritten(path, not_finite), "holds values that are not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_do_not_fit_are_refused_in_one_line(stored, name):
    dit, path, _ = stored
    change, message = WRONG[name]
    change(path)
    with pytest.raises(InputError, match=message) as caught:
        adapters.load_adapter(path, dit)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    assert adapters.adapter_names(dit) == [] and not any(".adapters" in key for key in dit.state_dict())


@torch.no_grad()
def test_weights_that_were_changed_since_are_another_base(stored):
    dit, path, _ = stored
    dit.transformer.layers[0].ff.up.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match="load the weights that it was trained on"):
        adapters.load_adapter(path, dit)
