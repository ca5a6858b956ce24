"""Recipes: typed dataclasses from YAML or JSON plus `a.b.c=value` overrides, strictly checked.

One recursive builder serves recipes, overrides and the config.json of released models. A mistake is one line that
names the dotted path, what was expected and what was given. A field annotated with a union of dataclasses is chosen
by `kind`, the class's own name: the union is the registry.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import json
import math
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from .files import InputError, read_json, read_text, reason

T = TypeVar("T")
_YES_NO = {True: ("yes", "on", "true"), False: ("no", "off", "false")}  # what YAML 1.1 turns into booleans


class _Text(str):
    """A value typed on the command line: still text where text is wanted, YAML everywhere else."""


def kind(cls: type) -> str:
    """The name that picks `cls` in a recipe: `UNet` for UNet, UNetConfig and UNet.Config."""
    name = cls.__qualname__.rsplit("<locals>.", 1)[-1].removesuffix(".Config").rsplit(".", 1)[-1]
    return name.removesuffix("Config") or name


# --- reading ---------------------------------------------------------------------------------------------------------


def load(cls: type[T], path: str | Path, overrides: Iterable[str] = ()) -> T:
    """The recipe in the YAML or JSON file at `path`, with `key=value` overrides on top."""
    data = read_json(path) if Path(path).suffix == ".json" else parse(read_text(path, 1 << 20), str(path))
    try:
        return build(cls, {} if data is None else data, overrides)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def build(cls: type[T], data: Any, overrides: Iterable[str] = ()) -> T:
    """An instance of the dataclass `cls` from plain data; `overrides` are applied on a copy of the data."""
    overrides = list(overrides)
    if overrides:
        if not isinstance(data, Mapping):
            raise InputError(f"expected keys and values, got {_show(data)}")
        data = json.loads(json.dumps(data, default=str))
        for override in overrides:
            _override(data, override)
    return _build(cls, data, "")


def parse(text: str, name: str) -> Any:
    """Plain data from YAML text; `name` is the file it came from, for messages."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe, and refusing what recipes never need: aliases (they can blow up) and repeated keys."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise InputError(f"{name}: line {mark.line + 1}: aliases (*name) are not allowed in a recipe")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
            for key in keys:
                if keys.count(key) > 1:
                    raise InputError(f"{name}: line {node.start_mark.line + 1}: {key} is given twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506: a SafeLoader
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{name}: {where}not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{name}: not valid YAML: {reason(error)}") from None


def _override(data: dict, override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"{override!r} is not of the form key=value")
    *parents, last = dotted.split(".")
    for at, key in enumerate(parents):
        child = data.setdefault(key, {})
        if child is None:
            child = data[key] = {}
        if not isinstance(child, dict):
            raise InputError(f"{dotted}: {'.'.join(parents[: at + 1])} is {_show(child)}, which has no keys")
        data = child
    data[last] = _Text(value)


# --- building: one small function per kind of annotation ---------------------------------------------------------------


def _build(expected: Any, value: Any, where: str) -> Any:
    origin = get_origin(expected)
    if isinstance(value, _Text) and expected not in (str, Path) and origin is not Literal:
        options = get_args(expected) if origin in (Union, types.UnionType) else ()
        if not (str in options or Path in options) or value in ("null", "None", ""):
            value = parse("null" if value == "None" else str(value), where)
    if expected is Any:
        return value
    if origin in (Union, types.UnionType):
        return _build_union(get_args(expected), value, where)
    if origin is Literal:
        return _build_literal(get_args(expected), value, where)
    if dataclasses.is_dataclass(expected):
        return _build_dataclass(typing.cast(type, expected), value, where)
    if origin in (list, tuple):
        return _build_sequence(expected, value, where)
    if origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Mapping":
        return _build_dict(expected, value, where)
    return _build_plain(expected, value, where)


def _wrong(expected: Any, value: Any, where: str) -> InputError:
    return InputError(f"{where or 'recipe'}: expected {type_name(expected)}, got {_show(value)}")


def _build_union(options: tuple, value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    classes = {kind(option): option for option in options if dataclasses.is_dataclass(option)}
    if isinstance(value, Mapping) and classes:
        chosen = str(value.get("kind", next(iter(classes)) if len(classes) == 1 else ""))
        if chosen not in classes:
            found = f"got {chosen!r}" if chosen else "none is given"
            raise InputError(f"{_dot(where, 'kind')}: {found}; expected one of {', '.join(classes)}{_nearest(chosen, classes)}")
        return _build_dataclass(typing.cast(type, classes[chosen]), value, where)
    plain = [option for option in options if option is not type(None)]
    if len(plain) == 1:
        return _build(plain[0], value, where)
    # An exact type first, so that int | float keeps 3 an integer; then whatever accepts the value.
    for option in sorted(plain, key=lambda option: option is not type(value)):
        try:
            return _build(option, value, where)
        except InputError:
            continue
    raise _wrong(Union[options], value, where)  # noqa: UP007: options is a value here


def _build_literal(choices: tuple, value: Any, where: str) -> Any:
    if isinstance(value, bool) and value not in [choice for choice in choices if isinstance(choice, bool)]:
        value = next((choice for choice in choices if choice in _YES_NO[value]), value)
    for choice in choices:
        if choice == value and type(choice) is type(value):
            return choice
        if isinstance(value, _Text) and str(choice) == value:
            return choice
    names = ", ".join(map(str, choices))
    raise InputError(f"{where}: {_show(value)} is not one of {names}{_nearest(str(value), map(str, choices))}")


def _build_dataclass(cls: type, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(f"{where or 'recipe'}: expected keys and values for {kind(cls)}, got {_show(value)}")
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    arguments = {}
    for key, item in value.items():
        if key == "kind" and "kind" not in fields:
            if str(item) != kind(cls):
                raise InputError(f"{_dot(where, 'kind')}: expected {kind(cls)}, got {_show(item)}")
            continue
        if key not in fields:
            raise InputError(f"unknown key {_dot(where, str(key))}{_nearest(str(key), fields, where)}")
        arguments[key] = _build(hints[key], item, _dot(where, str(key)))
    for name, field in fields.items():
        if name not in arguments and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{_dot(where, name)} is missing ({type_name(hints[name])})")
    try:
        return cls(**arguments)
    except ValueError as error:  # the dataclass's own __post_init__ checks
        raise InputError(f"{where or kind(cls)}: {reason(error)}") from None


def _build_sequence(expected: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(expected, value, where)
    options = get_args(expected) or (Any,)
    if get_origin(expected) is list:
        return [_build(options[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if len(options) == 2 and options[1] is Ellipsis:
        return tuple(_build(options[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if options == ((),):
        options = ()
    if len(options) != len(value):
        raise InputError(f"{where}: expected {len(options)} values, got {len(value)}")
    return tuple(_build(option, item, f"{where}[{i}]") for i, (option, item) in enumerate(zip(options, value, strict=True)))


def _build_dict(expected: Any, value: Any, where: str) -> dict:
    if not isinstance(value, Mapping):
        raise _wrong(expected, value, where)
    of_key, of_item = get_args(expected) or (Any, Any)
    return {_build(of_key, key, f"{where} (key)"): _build(of_item, item, _dot(where, str(key))) for key, item in value.items()}


def _build_plain(expected: Any, value: Any, where: str) -> Any:
    if expected is bool and isinstance(value, bool):
        return value
    if expected in (int, float) and not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)  # YAML 1.1 reads 3e-4 as text
        except (ValueError, OverflowError):
            raise _wrong(expected, value, where) from None
        if isinstance(value, str) and not _looks_like_a_number(value):
            raise _wrong(expected, value, where)
        if not math.isfinite(number):
            raise InputError(f"{where}: expected a finite number, got {_show(value)}")
        if expected is float:
            return number
        if isinstance(value, int):
            return value
        if number.is_integer() and abs(number) < 2**53 and isinstance(value, str):
            return int(number)  # steps=1e5
    if expected is Path and isinstance(value, str):
        return Path(value)
    if expected is str and isinstance(value, str):
        return str(value)
    if expected is type(None) and value is None:
        return None
    raise _wrong(expected, value, where)


def _looks_like_a_number(text: str) -> bool:
    return bool(text) and text[-1] in "0123456789." and not text.strip(" +-0123456789.eE")


# --- writing -----------------------------------------------------------------------------------------------------------


def plain(config: Any) -> Any:
    """Dictionaries, lists and plain values that `build` turns back into an equal object."""
    return _plain(config, type(config))


def _plain(value: Any, expected: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        options = get_args(expected) if get_origin(expected) in (Union, types.UnionType) else ()
        named = {"kind": kind(type(value))} if sum(map(dataclasses.is_dataclass, options)) > 1 else {}
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return named | {name: _plain(getattr(value, name), hints[name]) for name in fields}
    inner = (get_args(expected) or (Any,))[-1 if get_origin(expected) is dict else 0]
    if isinstance(value, list | tuple):
        return [_plain(item, inner) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item, inner) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def dump(config: Any) -> str:
    """YAML that loads back to an equal object."""
    import yaml

    return yaml.safe_dump(plain(config), sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Dotted names of the fields in which two recipes differ."""
    a, b = (plain(x) if dataclasses.is_dataclass(x) else x for x in (a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        keys = list(dict.fromkeys([*a, *b]))
        return [name for key in keys for name in differences(a.get(key), b.get(key), _dot(where, str(key)))]
    return [] if a == b else [where]


# --- describing --------------------------------------------------------------------------------------------------------


def table(cls: type, where: str = "") -> list[tuple[str, str, str, str]]:
    """Every field that can be set: (dotted name, type, default, the text under the field in the source)."""
    rows = []
    hints, texts = _hints(cls), _field_texts(cls)
    for field in dataclasses.fields(cls):
        name, hint = _dot(where, field.name), hints[field.name]
        if field.default_factory is not dataclasses.MISSING:
            default: Any = field.default_factory()
        else:
            default = field.default
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        nested = [option for option in options if dataclasses.is_dataclass(option)]
        shown = "" if default is dataclasses.MISSING else kind(type(default)) if nested and default is not None else str(default)
        rows.append((name, type_name(hint), shown, texts.get(field.name, "")))
        for option in nested:
            prefix = f"{name}[{kind(option)}]" if len(nested) > 1 else name
            rows += table(typing.cast(type, option), prefix)
    return rows


@functools.cache
def _field_texts(cls: type) -> dict[str, str]:
    """The string literal under each field, read from the source: nothing is imported for it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    texts = {}
    for field, below in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
                texts[field.target.id] = " ".join(below.value.value.split())
    return texts


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def type_name(expected: Any) -> str:
    """An annotation as a person would write it."""
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in arguments)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is not None:
        inner = ", ".join("..." if argument is Ellipsis else type_name(argument) for argument in arguments)
        return f"{origin.__name__}[{inner}]"
    return kind(expected) if dataclasses.is_dataclass(expected) else getattr(expected, "__name__", str(expected))


def _dot(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _show(value: Any) -> str:
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _nearest(name: str, names: Iterable[str], where: str = "") -> str:
    near = difflib.get_close_matches(name, list(names), 1, 0.5)
    return f"; did you mean {_dot(where, near[0])}?" if near else ""
