from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from audio_core import config
from audio_core.files import InputError
from hypothesis import given, settings
from hypothesis import strategies as st


@dataclass(frozen=True)
class Adam:
    lr: float = 1e-3
    """Step size."""
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Sgd:
    lr: float
    nesterov: bool = False


class UNet:
    @dataclass(frozen=True)
    class Config:
        base: int = 32
        """Channels of the first level;
        each level below has twice as many."""
        act: Literal["elu", "snake", "no"] = "elu"


@dataclass(frozen=True)
class MambaConfig:
    depth: int = 4
    rates: tuple[int, ...] = (2, 4)


@dataclass(frozen=True)
class Recipe:
    model: UNet.Config | MambaConfig = UNet.Config()
    """The network."""
    optimizer: Adam | Sgd = field(default_factory=lambda: Adam(lr=5e-4))
    steps: int = 1000
    name: str = "run"
    manifest: Path | None = None
    gain: int | float | None = None
    mixed: Literal["no", "bf16"] = "no"
    flags: dict[str, bool] = field(default_factory=dict)
    stages: list[Adam | Sgd] | None = None
    by_name: Mapping[str, Adam | Sgd] = field(default_factory=dict)
    pair: tuple[Adam | Sgd, str] = (Adam(), "a")
    limits: Adam = field(default_factory=lambda: Adam(lr=7.0))
    extra: Any = None


def fails(*arguments: Any, with_: Any = config.build) -> str:
    with pytest.raises(InputError) as caught:
        with_(*arguments)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=12) | st.sampled_from(
    ["no", "null", "3e-4", "1:30", "010", "~", "a: b", "- x", "<<", "2024-01-01"]
)
adams = st.builds(Adam, lr=numbers, betas=st.tuples(numbers, numbers))
optimizers = adams | st.builds(Sgd, lr=numbers, nesterov=st.booleans())
sizes = st.integers(1 - 2**31, 2**31 - 1)
models = st.builds(UNet.Config, base=sizes, act=st.sampled_from(["elu", "snake", "no"])) | st.builds(
    MambaConfig, depth=st.integers(-9, 9), rates=st.lists(sizes, max_size=3).map(tuple)
)
recipes = st.builds(
    Recipe,
    model=models,
    optimizer=optimizers,
    steps=st.integers(0, 10**9),
    name=texts,
    manifest=st.none() | st.sampled_from([Path("a/b.jsonl"), Path("no"), Path("3")]),
    gain=st.none() | numbers | st.integers(-5, 5),
    mixed=st.sampled_from(["no", "bf16"]),
    flags=st.dictionaries(texts, st.booleans(), max_size=3),
    stages=st.none() | st.lists(optimizers, max_size=2),
    by_name=st.dictionaries(texts, optimizers, max_size=2),
    pair=st.tuples(optimizers, texts),
    limits=adams,
    extra=st.none() | texts | st.integers() | st.lists(texts, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(recipes)
def test_what_is_written_reads_back_equal(recipe):
    assert config.build(Recipe, config.plain(recipe)) == recipe
    assert config.build(Recipe, json.loads(json.dumps(config.plain(recipe)))) == recipe
    again = config.build(Recipe, config.parse(config.dump(recipe), "dump"))
    assert again == recipe
    assert type(again.gain) is type(recipe.gain)
    assert config.differences(again, recipe) == []


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40) | st.text("{}[]:,-?&*!|>'\"#%@` \nax1.e!<=~", max_size=40))
def test_any_text_is_a_value_or_an_input_error(text):
    try:
        config.build(Recipe, config.parse(text, "x"))
    except InputError as error:
        assert "\n" not in str(error)


def test_yaml_reads_numbers_and_words_as_people_mean_them():
    data = config.parse("a: 3e-4\nb: no\nc: 500_000\nd: 1:30\ne: 2024-01-01\nf: true\ng: ~\nh: 010\ni: .5\nj: '3'", "x")
    assert data == {
        "a": 3e-4, "b": "no", "c": 500_000, "d": "1:30", "e": "2024-01-01",
        "f": True, "g": None, "h": 10.0, "i": 0.5, "j": "3",
    }  # fmt: skip
    recipe = config.build(
        Recipe, config.parse("optimizer: {lr: 3e-4}\nsteps: 1e5\nmixed: no\nflags: {a: yes, b: off}", "x")
    )
    assert recipe.optimizer == Adam(3e-4)
    assert recipe.steps == 100_000 and type(recipe.steps) is int
    assert recipe.mixed == "no"
    assert recipe.flags == {"a": True, "b": False}


def test_what_is_left_out_keeps_the_default_also_inside_a_field():
    """A recipe states only differences; losing a nested default would change a learning rate in silence."""
    recipe = config.build(Recipe, {"optimizer": {"betas": [0.5, 0.9]}, "limits": {}})
    assert recipe.optimizer == Adam(5e-4, (0.5, 0.9))
    assert recipe.limits.lr == 7.0
    assert config.build(Recipe, {"optimizer": {"kind": "Sgd", "lr": 1}}).optimizer == Sgd(1.0)
    assert config.build(Recipe, {}, ["model.base=8"]).model == UNet.Config(8)


def test_kind_is_the_name_of_the_class_that_owns_the_config():
    assert [config.kind(cls) for cls in (UNet.Config, MambaConfig, Adam)] == ["UNet", "Mamba", "Adam"]
    assert config.plain(Recipe())["model"] == {"kind": "UNet", "base": 32, "act": "elu"}
    assert "kind" not in config.plain(Recipe())["limits"]


def test_overrides_reach_inside_and_leave_the_data_alone():
    data = {"model": {"kind": "Mamba"}, "stages": None}
    overrides = ["model.depth=7", "name=3", "manifest=a b.jsonl", "mixed=bf16", "flags.x=yes", "model.rates=[1, 2]"]
    recipe = config.build(Recipe, data, [*overrides, "gain=3e-4", "extra={a: [1, no]}", "optimizer.lr=1"])
    assert recipe.model == MambaConfig(7, (1, 2))
    assert (recipe.name, recipe.manifest, recipe.mixed, recipe.flags) == ("3", Path("a b.jsonl"), "bf16", {"x": True})
    assert (recipe.gain, recipe.extra, recipe.optimizer.lr) == (3e-4, {"a": [1, "no"]}, 1.0)
    assert data == {"model": {"kind": "Mamba"}, "stages": None}
    assert config.build(Recipe, {"manifest": "x"}, ["manifest=null"]).manifest is None
    assert config.build(Recipe, {}, ["name=null", "mixed=no"]).name == "null"
    assert type(config.build(Recipe, {}, ["name=x"]).name) is str
    assert fails(Recipe, {}, ["steps"]) == "'steps' is not of the form key=value"
    assert fails(Recipe, {"steps": 3}, ["steps.x=1"]) == "steps.x: steps is 3, which has no keys"
    assert fails(Recipe, [], ["steps=1"]) == "expected keys and values, got []"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model": {"bas": 3}}, "unknown key model.bas; did you mean model.base?"),
        ({"stepz": 3}, "unknown key stepz; did you mean steps?"),
        ({"zzzz": 3}, "unknown key zzzz"),
        ({"a\nb": 3}, "unknown key 'a\\nb'"),
        ({3: 3}, "unknown key 3"),
        ({"model": {"base": "wide"}}, "model.base: expected int, got 'wide'"),
        ({"model": {"base": True}}, "model.base: expected int, got True"),
        ({"model": {"base": 2.5}}, "model.base: expected int, got 2.5"),
        ({"model": {"base": "3"}}, "model.base: expected int, got '3'"),
        ({"model": {"base": math.inf}}, "model.base: expected a finite number, got inf"),
        ({"limits": {"lr": math.nan}}, "limits.lr: expected a finite number, got nan"),
        ({"limits": {"betas": [1]}}, "limits.betas: expected 2 values, got 1"),
        ({"limits": {"betas": [1, "x"]}}, "limits.betas[1]: expected float, got 'x'"),
        ({"limits": {"betas": 3}}, "limits.betas: expected tuple[float, float], got 3"),
        (
            {"limits": {"betas": "1,2"}},
            "limits.betas: expected tuple[float, float], got '1,2'; a list is written [1,2]",
        ),
        ({"limits": 3}, "limits: expected keys and values for Adam, got 3"),
        ({"model": {"kind": "UNett"}}, "model.kind: got 'UNett'; expected one of UNet, Mamba; did you mean UNet?"),
        ({"model": 3}, "model: expected UNet | Mamba, got 3"),
        ({"model": "Mamba"}, "model: expected keys and values; Mamba is chosen with model.kind=Mamba"),
        ({"model": {"act": "relu"}}, "model.act: 'relu' is not one of elu, snake, no; did you mean elu?"),
        ({"model": {"act": "snak"}}, "model.act: 'snak' is not one of elu, snake, no; did you mean snake?"),
        ({"optimizer": {"kind": "Sgd"}}, "optimizer.lr is missing (float)"),
        ({"stages": [{}]}, "stages[0].kind: none is given; expected one of Adam, Sgd"),
        ({"name": 3}, "name: expected str, got 3; put it in quotes"),
        ({"gain": "x"}, "gain: expected int | float | null, got 'x'"),
        ({"flags": {"a": "maybe"}}, "flags.a: expected bool, got 'maybe'"),
        ({"flags": {1: True}}, "flags.1: expected str, got 1; put it in quotes"),
        ({"limits": {"kind": "Sgd"}}, "limits.kind: expected Adam, got 'Sgd'"),
        ([], "recipe: expected keys and values for Recipe, got []"),
    ],
)
def test_a_mistake_is_one_line_with_path_expected_and_given(data, message):
    assert fails(Recipe, data) == message


def test_a_check_of_the_dataclass_itself_is_told_with_its_path():
    @dataclass(frozen=True)
    class Even:
        n: int = 2

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError(f"n must be even, not {self.n}")

    outer = make_dataclass("Outer", [("inner", Even, Even())])
    assert fails(outer, {"inner": {"n": 3}}) == "inner: n must be even, not 3"
    assert fails(Even, {"n": 3}) == "Even: n must be even, not 3"


def test_huge_values_are_shown_short_and_deep_ones_do_not_break_the_message():
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert len(fails(Recipe, {"steps": deep})) < 200
    assert len(fails(Recipe, {"steps": "9" * 10**6})) < 200
    assert len(fails(Recipe, {"x" * 10**6: 1})) < 200
    assert fails(Recipe, {"limits": {"lr": 10**400}}).startswith("limits.lr: expected a finite number, got 1000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", "r.yaml: line 2: not valid YAML: aliases (*name) are not allowed in a recipe"),
        ("a: 1\nb: 2\na: 3\n", "r.yaml: line 3: not valid YAML: 'a' is given twice"),
        ("x: {a: 1, a: 2}", "r.yaml: line 1: not valid YAML: 'a' is given twice"),
        ("a: [1, 2", "r.yaml: line 1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n\tb: 2", "r.yaml: line 2: not valid YAML: found character '\\t' that cannot start any token"),
        (
            "!!python/object/apply:os.system ['true']",
            "r.yaml: line 1: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
    ],
)
def test_yaml_that_is_wrong_or_dangerous_is_refused_with_its_line(text, message):
    assert fails(text, "r.yaml", with_=config.parse) == message


@pytest.mark.parametrize(
    "text", ["!!int ''", "!!bool x", "!!timestamp x", "!!float ''", "!!map [1]", "!!set x", "\0", "9" * 5000]
)
def test_tags_and_values_that_make_pyyaml_stumble_are_input_errors(text):
    assert fails(text, "x", with_=config.parse).startswith("x: ")


def test_a_yaml_bomb_and_deep_nesting_are_refused():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "aliases" in fails(bomb, "x", with_=config.parse)
    assert "not valid YAML" in fails("[" * 10_000, "x", with_=config.parse)
    assert "not valid YAML" in fails("{a: " * 10_000, "x", with_=config.parse)


def test_files_that_are_no_recipe_are_one_line(tmp_path):
    path = tmp_path / "r.yaml"
    assert "No such file" in fails(Recipe, path, with_=config.load)
    path.write_bytes(b"\xff\xfe\x00")
    assert fails(Recipe, path, with_=config.load) == f"{path}: is not a text file"
    path.write_bytes(b"a" * ((1 << 20) + 1))
    assert fails(Recipe, path, with_=config.load) == f"{path}: larger than 1048576 bytes, which no such file should be"
    path.write_text("steps: x")
    assert fails(Recipe, path, with_=config.load) == f"{path}: steps: expected int, got 'x'"
    assert "Is a directory" in fails(Recipe, tmp_path, with_=config.load)


def test_files_are_loaded_with_overrides_from_yaml_and_json(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes("\ufeffsteps: 5\nname: Größe\n".encode())
    assert config.load(Recipe, path, ["steps=6"]) == Recipe(steps=6, name="Größe")
    path.write_text("# nothing but a comment\n")
    assert config.load(Recipe, path) == Recipe()
    path = tmp_path / "r.json"
    path.write_text(json.dumps(config.plain(Recipe(steps=9))))
    assert config.load(Recipe, path) == Recipe(steps=9)


def test_differences_are_dotted_names():
    changed = Recipe(optimizer=Adam(lr=1.0), steps=3, model=MambaConfig())
    names = config.differences(Recipe(), changed)
    assert names == ["model.kind", "model.base", "model.act", "model.depth", "model.rates", "optimizer.lr", "steps"]


def test_the_table_tells_type_default_and_the_text_under_each_field():
    rows = {row[0]: row[1:] for row in config.table(Recipe)}
    assert rows["model"] == ("UNet | Mamba", "UNet", "The network.")
    text = "Channels of the first level; each level below has twice as many."
    assert rows["model[UNet].base"] == ("int", "32", text)
    assert rows["model[UNet].act"] == ("elu | snake | no", "elu", "")
    assert rows["model[Mamba].rates"] == ("tuple[int, ...]", "(2, 4)", "")
    assert rows["optimizer[Adam].lr"] == ("float", "0.0005", "Step size.")  # the default's, not the class's
    assert rows["optimizer[Sgd].lr"] == ("float", "", "")
    assert rows["limits.lr"] == ("float", "7.0", "Step size.")
    assert rows["manifest"] == ("Path | null", "None", "")

    @dataclass(frozen=True)
    class Longer(Adam):
        more: int = 1
        """Added."""

    assert [row[3] for row in config.table(Longer)] == ["Step size.", "", "Added."]


@dataclass(frozen=True)
class Widths:
    widths: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class SizedConfig:
    size: int = 1
    inner: Widths = field(default_factory=Widths)


@dataclass(frozen=True)
class Sized:
    model: SizedConfig = field(default_factory=SizedConfig)
    seed: int = 0


def test_sizes_in_a_models_config_are_at_most_what_a_tensor_can_have():
    assert config.build(Sized, {"seed": 2**62, "model": {"size": 2**31 - 1}}).seed == 2**62
    expected = ": expected an integer up to 2147483647, got "
    for setting, place in (("model.size=2147483648", "model.size"), ("model.inner.widths=[1,3e9]", "inner.widths[1]")):
        with pytest.raises(InputError) as caught:
            config.build(Sized, {}, [setting])
        assert place + expected in str(caught.value)
