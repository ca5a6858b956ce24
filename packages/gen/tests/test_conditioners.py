"""Conditioners of numbers and choices, all of a model together, and what a backbone takes of them."""

import numpy as np
import pytest
import torch
from audio_core import config
from audio_core.testing import check_bundle, close, refused
from audio_gen.config.conditioners import (
    CodecSource,
    ConditioningConfig,
    IntConfig,
    ListConfig,
    NumberConfig,
    PrecomputedConfig,
)
from audio_gen.models.conditioners.base import Condition
from audio_gen.models.conditioners.multi import MultiConditioner, assembled
from audio_gen.models.conditioners.numbers import IntConditioner, ListConditioner, NumberConditioner

KINDS = {
    "number": (NumberConfig, NumberConditioner),
    "number_neg": (NumberConfig, NumberConditioner),
    "int": (IntConfig, IntConditioner),
    "list": (ListConfig, ListConditioner),
}


def multi(cond_dim=4, **conditioners):
    more = {key: conditioners.pop(key) for key in ("default_keys", "pre_encoded_keys") if key in conditioners}
    return MultiConditioner(ConditioningConfig(cond_dim=cond_dim, conditioners=conditioners, **more))


@pytest.fixture
def original(stored_case):
    """A conditioner of the case, by name, with its weights."""
    case = stored_case("conditioners")
    state = case.state()

    def original(name):
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in case.config[name].items()}
        make, cls = KINDS[name]
        conditioner = cls(make(**settings), settings["output_dim"])
        names = [key for key in state if key.startswith(f"{name}.")]
        conditioner.load_state_dict({key.removeprefix(f"{name}."): state[key] for key in names})
        return conditioner

    return case, original


# --- the originals' numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_conditioners_equal_the_originals(original, name):
    """Numbers beyond the range count as its end, and unknown options are the first row."""
    case, conditioner = original
    values, mask = conditioner(name)(case.inputs[name].tolist())
    close(values, case.outputs[name], 5e-6)
    assert torch.equal(mask.float(), case.outputs[f"{name}_mask"])


@torch.no_grad()
def test_conditions_are_assembled_as_by_the_original(original):
    case, conditioner = original
    number = NumberConfig(min_val=0, max_val=512)
    model = multi(48, seconds_start=number, seconds_total=number)
    for each in model.conditioners.values():
        each.load_state_dict(conditioner("number").state_dict())
    items = [{"seconds_start": 0, "seconds_total": 30}, {"seconds_start": [7], "seconds_total": 190.5}]
    keys = ["seconds_start", "seconds_total"]
    found = assembled(model(items), keys, keys, (), keys[1:], masks=True)
    names = ("cross_attn_cond", "cross_attn_mask", "global_cond", "prepend_cond", "prepend_cond_mask")
    assert tuple(sorted(found)) == names
    for name, value in found.items():
        close(value.float(), case.outputs[f"assembled_{name}"], 5e-6)


# --- numbers and choices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3), torch.tensor(3), torch.tensor([3.0])])
@torch.no_grad()
def test_numbers_of_any_library(value):
    for conditioner in (IntConditioner(IntConfig(max_val=9), 4), NumberConditioner(NumberConfig(max_val=9), 4)):
        assert torch.equal(conditioner([value]).value, conditioner([3]).value)


@pytest.mark.parametrize("value", ["three", None, True, float("nan"), float("inf"), np.zeros(2), {}])
def test_what_is_no_number_is_refused(value):
    for conditioner in (IntConditioner(IntConfig(max_val=9), 4), NumberConditioner(NumberConfig(max_val=9), 4)):
        assert "number, got" in refused(conditioner.read, value)


def test_whole_numbers_are_not_rounded_from_others():
    assert "a whole number, got 3.5" in refused(IntConditioner(IntConfig(), 4).read, 3.5)


@torch.no_grad()
def test_a_range_of_whole_numbers_may_begin_anywhere():
    """The original took the row of the number itself, so that a range from 5 to 8 ended in an error at 8."""
    with pytest.raises(ValueError, match="set from_min_val"):
        IntConfig(min_val=5, max_val=8)
    conditioner = IntConditioner(IntConfig(min_val=5, max_val=8, from_min_val=True), 4)
    assert conditioner.int_embedder.weight.shape == (4, 4)
    rows = conditioner([5, 6, 8, 4, 9]).value[:, 0]
    assert torch.equal(rows, conditioner.int_embedder.weight[[0, 1, 3, 0, 3]])
    below = IntConditioner(IntConfig(min_val=-3, max_val=0, from_min_val=True), 4)
    assert torch.equal(below([-3, 0]).value[:, 0], below.int_embedder.weight[[0, 3]])


def test_an_option_is_a_text():
    assert "the text of an option" in refused(ListConditioner(ListConfig(options=("a",)), 4).read, 1)


# --- all together ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_default_key_serves_only_the_item_that_lacks_the_key():
    """The original took it for all that followed in the batch."""
    model = multi(
        length=NumberConfig(max_val=9),
        other=NumberConfig(max_val=9),
        default_keys={"length": "seconds"},
    )
    items = [{"length": 1, "other": 0}, {"seconds": 2, "other": 0}, {"length": 3, "seconds": 8, "other": 0}]
    each = model.conditioners["length"]
    assert torch.equal(model(items)["length"].value, each([1, 2, 3]).value)


def test_a_missing_key_is_named_with_its_item():
    model = multi(length=NumberConfig(), style=ListConfig(options=("a",)), default_keys={"length": "seconds"})
    items = [{"length": 1, "style": "a"}, {"prompt": "x", "style": "a", "relpath": "b/c.wav"}]
    message = refused(model, items)
    assert message.startswith("item 1 (b/c.wav): length: there is no length, and no seconds for it")
    assert "the item has prompt, style, relpath" in message
    assert refused(model, [{"length": 1}]).startswith("item 0: style: there is no style; the item has length")


def test_a_wrong_value_is_named_with_its_item_and_key():
    model = multi(length=NumberConfig())
    assert refused(model, [{"length": 1}, {"length": "x"}]) == "item 1: length: expected a number, got 'x'"


@torch.no_grad()
def test_lists_of_one_are_unwrapped_and_longer_ones_are_not():
    """The original took the first of any list."""
    model = multi(length=NumberConfig(max_val=9))
    assert torch.equal(model([{"length": [3]}])["length"].value, model([{"length": (3,)}])["length"].value)
    assert "expected a number, got [3, 4]" in refused(model, [{"length": [3, 4]}])


@torch.no_grad()
def test_pre_encoded_keys_are_taken_as_they_are():
    model = multi(latent=PrecomputedConfig(width=3), pre_encoded_keys=("latent",))
    tensors = [torch.randn(5, 4), torch.randn(5, 4)]
    value, mask = model([{"latent": tensors[0].numpy()}, {"latent": [tensors[1]]}])["latent"]
    assert torch.equal(value, torch.stack(tensors)) and mask is None
    assert "expected a tensor of the condition itself" in refused(model, [{"latent": "x"}])
    shapes = refused(model, [{"latent": torch.randn(5, 4)}, {"latent": torch.randn(6, 4)}])
    assert shapes.startswith("latent: the items of a batch have the shapes (5, 4) and (6, 4)")


def test_conditions_without_masks_count_everywhere():
    conditions = {
        "a": Condition(torch.randn(2, 3, 4), None),
        "b": Condition(torch.randn(2, 4), None),
        "c": Condition(torch.randn(2, 1, 4), torch.tensor([[True], [False]])),
        "d": Condition(torch.randn(2, 5, 6), torch.ones(2, 6, dtype=torch.bool)),
        "e": Condition(torch.randn(2, 2, 6), torch.ones(2, 6, dtype=torch.bool)),
    }
    keys = ["a", "b", "c"], ["b", "c"], ["d", "e"]
    found = assembled(conditions, *keys, masks=True)
    assert found["cross_attn_cond"].shape == (2, 5, 4)
    assert found["cross_attn_mask"].tolist() == [[True] * 5, [True] * 4 + [False]]
    assert torch.equal(found["global_cond"], torch.cat([conditions["b"].value, conditions["c"].value[:, 0]], 1))
    assert found["input_concat_cond"].shape == (2, 7, 6)
    assert [*found] == ["cross_attn_cond", "cross_attn_mask", "global_cond", "input_concat_cond"]
    assert [*assembled(conditions, *keys)] == ["cross_attn_cond", "global_cond", "input_concat_cond"]
    assert "a: has 3 tokens" in refused(assembled, conditions, (), ["a"])


# --- configurations ------------------------------------------------------------------------------------------------


def test_a_conditioner_may_have_a_width_of_its_own():
    model = multi(8, a=NumberConfig(), b=NumberConfig(output_dim=3))
    widths = {key: condition.value.shape[-1] for key, condition in model([{"a": 1, "b": 0}]).items()}
    assert widths == {"a": 8, "b": 3}


def test_configurations_are_read_strictly():
    data = {"cond_dim": 8, "conditioners": {"seconds": {"kind": "Number", "max_val": 512}}}
    read = config.build(ConditioningConfig, data)
    assert read.conditioners == {"seconds": NumberConfig(max_val=512)}
    assert config.build(ConditioningConfig, config.plain(read)) == read
    wrong = {"conditioners": {"seconds": {"kind": "Numbre"}}}
    assert "did you mean Number?" in refused(config.build, ConditioningConfig, wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"default_keys": {"x": "y"}}, "default_keys: there is no conditioner 'x'"),
        ({"pre_encoded_keys": ("x",)}, "pre_encoded_keys: there is no conditioner 'x'"),
        ({"conditioners": {"a.b": NumberConfig()}}, "'a.b' is no possible key"),
        ({"cond_dim": 0}, "cond_dim must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ConditioningConfig(**settings)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (NumberConfig, {"min_val": 1.0, "max_val": 1.0}, "max_val must be above min_val"),
        (NumberConfig, {"output_dim": 0}, "output_dim must be at least 1"),
        (IntConfig, {"max_val": -1}, "max_val must be at least min_val"),
        (ListConfig, {"options": ()}, "at least one"),
        (CodecSource, {"name": "toy", "fingerprint": "abc"}, "fingerprint must be hexadecimal digits, got 'abc'"),
        (ListConfig, {"options": ("a", "a")}, "different ones"),
    ],
)
def test_settings_of_a_conditioner_that_cannot_be_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_a_key_that_no_module_can_have_is_refused():
    assert "'items' is no possible key" in refused(multi, items=NumberConfig())


def test_a_bundle_keeps_the_conditioners(tmp_path):
    model = multi(length=NumberConfig(), style=ListConfig(options=("a", "b")), count=IntConfig(max_val=9))
    check_bundle(model, tmp_path)
