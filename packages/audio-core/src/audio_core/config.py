"""Recipes: typed dataclasses from YAML or JSON plus `a.b.c=value` overrides, strictly checked.

One recursive builder serves recipes, overrides and the config.json of released models. A mistake is one line with the
dotted path, the expected type and the value. Where a field is annotated with a union of dataclasses, the key `kind`
chooses the class by its name, so the union is the registry. Settings that are left out keep their defaults, also inside
a nested dataclass.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import re
import reprlib
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .files import InputError, read_json, read_text, reason

T = TypeVar("T")
_NONE = type(None)
_hints = functools.cache(get_type_hints)
_YES_NO = {"yes": True, "on": True, "no": False, "off": False}
_LARGEST_SIZE = 2**31 - 1
_SHOWN = reprlib.Repr()  # short, whatever it shows
_SHOWN.maxstring = _SHOWN.maxother = 60


class _Text(str):
    """A value from the command line: text for fields that hold text, YAML for all others."""


def kind(cls: Any) -> str:
    """The name that chooses `cls` in a recipe: `UNet` for UNet, UNetConfig and UNet.Config."""
    name = cls.__qualname__.rsplit("<locals>.", 1)[-1].removesuffix(".Config").rsplit(".", 1)[-1]
    return name.removesuffix("Config") or name


def load(cls: type[T], path: str | Path, overrides: Iterable[str] = ()) -> T:
    """The recipe in the YAML or JSON file at `path`, with `key=value` overrides on top."""
    data = read_json(path) if Path(path).suffix == ".json" else parse(read_text(path, 1 << 20), str(path))
    try:
        return build(cls, {} if data is None else data, overrides)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def build(cls: type[T], data: Any, overrides: Iterable[str] = ()) -> T:
    """An instance of the dataclass `cls` from plain data; `overrides` are applied on a copy of the data."""
    for override in overrides:
        if not isinstance(data, Mapping):
            raise InputError(f"expected keys and values, got {_show(data)}")
        data = _overridden(data, override)
    return _build(cls, data, "")


def parse(text: str, name: str) -> Any:
    """Plain data from YAML text; `name` is the file it came from, for messages."""
    import yaml

    try:
        return yaml.load(text, _yaml()[0])
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{name}: {where}not valid YAML: {error.problem}") from None
    # PyYAML lets Python's own errors through where an explicit tag does not fit its value.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"{name}: not valid YAML: {reason(error)}") from None


@functools.cache
def _yaml() -> tuple[Any, Any]:
    """The YAML loader and dumper. PyYAML is imported with the first recipe, since that takes 20 ms."""
    import yaml

    class Loader(yaml.SafeLoader):
        """A safe loader that also refuses aliases, which can grow without bound, and repeated keys."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                problem = "aliases (*name) are not allowed in a recipe"
                raise yaml.composer.ComposerError(problem=problem, problem_mark=self.peek_event().start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            seen = set()
            for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
                if key.value in seen:
                    problem = f"{_show(key.value)} is given twice"
                    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    class Dumper(yaml.SafeDumper):
        """Quotes text that this loader or one of YAML 1.1 would read as another type."""

        def represent_str(self, text: str) -> Any:  # line breaks of all kinds survive only in double quotes
            return self.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"')

    Dumper.add_representer(str, Dumper.represent_str)
    Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1, where no, 3e-4, 1:30 and 010 surprise
    for tag, pattern in (
        ("null", r"~|null|Null|NULL|"),
        ("bool", r"true|True|TRUE|false|False|FALSE"),
        ("int", r"[-+]?(0|[1-9][0-9_]*)"),
        ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ):
        for cls in (Loader, Dumper):
            cls.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"), None)
    return Loader, Dumper


def _overridden(data: Mapping, override: str) -> dict:
    """A copy of `data` with the value of `a.b.c=value` at its place; only what changes is copied."""
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"{override!r} is not of the form key=value")
    *parents, last = dotted.split(".")
    changed = inner = dict(data)
    for at, key in enumerate(parents):
        child = {} if inner.get(key) is None else inner[key]
        if not isinstance(child, Mapping):
            raise InputError(f"{dotted}: {'.'.join(parents[: at + 1])} is {_show(child)}, which has no keys")
        inner[key] = inner = dict(child)
    inner[last] = _Text(value)
    return changed


def _options(expected: Any) -> tuple:
    return get_args(expected) if get_origin(expected) in (Union, types.UnionType) else (expected,)


def _build(expected: Any, value: Any, where: str, default: Any = MISSING) -> Any:
    options, origin = _options(expected), get_origin(expected)
    if isinstance(value, _Text):
        nothing = _NONE in options and value in ("", "null", "None")
        text = any(option in (str, Path) or get_origin(option) is Literal for option in options)
        value = None if nothing else value if text else parse(value, where)
    if expected is Any:
        return value
    if len(options) > 1:
        return _build_union(expected, value, where, default)
    if origin is Literal:
        return _build_literal(get_args(expected), value, where)
    if dataclasses.is_dataclass(expected):
        return _build_dataclass(expected, value, where, default)
    if origin in (list, tuple):
        return _build_sequence(expected, value, where)
    if origin in (dict, Mapping):
        return _build_dict(expected, value, where)
    return _build_plain(expected, value, where)


def _wrong(expected: Any, value: Any, where: str) -> InputError:
    hint = "; put it in quotes" if expected is str and isinstance(value, int | float) else ""
    listed = any(get_origin(option) in (list, tuple) for option in _options(expected))
    if isinstance(value, str) and listed and (get_origin(expected) in (list, tuple) or "," in value):
        hint = f"; a list is written [{value}]"
    return InputError(f"{where or 'recipe'}: expected {type_name(expected)}, got {_show(value)}{hint}")


def _build_union(expected: Any, value: Any, where: str, default: Any) -> Any:
    options = [option for option in _options(expected) if option is not _NONE]
    if value is None and _NONE in _options(expected):
        return None
    classes = {kind(option): option for option in options if dataclasses.is_dataclass(option)}
    if isinstance(value, Mapping) and classes:
        usual = kind(type(default)) if dataclasses.is_dataclass(default) else ""
        chosen = str(value.get("kind", next(iter(classes)) if len(classes) == 1 else usual))
        if chosen not in classes:
            problem = f"{_dot(where, 'kind')}: {'got ' + _show(chosen) if chosen else 'none is given'}"
            raise InputError(f"{problem}; expected one of {', '.join(classes)}{_nearest(chosen, classes)}")
        return _build_dataclass(classes[chosen], value, where, default)
    if isinstance(value, str) and value in classes:
        raise InputError(f"{where}: expected keys and values; {value} is chosen with {_dot(where, 'kind')}={value}")
    if len(options) == 1:
        return _build(options[0], value, where, default)
    # An exact type first, so that int | float keeps 3 an integer; then whatever accepts the value.
    for option in sorted(options, key=lambda option: option is not type(value)):
        try:
            return _build(option, value, where)
        except InputError:
            continue
    raise _wrong(expected, value, where)


def _build_literal(choices: tuple, value: Any, where: str) -> Any:
    typed = str(value) if isinstance(value, _Text) else None
    for choice in choices:
        if str(choice) == typed or (type(choice), choice) == (type(value), value):
            return choice
    names = [str(choice) for choice in choices]
    raise InputError(f"{where}: {_show(value)} is not one of {', '.join(names)}{_nearest(str(value), names)}")


def _build_dataclass(cls: Any, value: Any, where: str, default: Any = MISSING) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(f"{where or 'recipe'}: expected keys and values for {kind(cls)}, got {_show(value)}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key, item in value.items():
        if key == "kind" and "kind" not in fields:
            if str(item) != kind(cls):
                raise InputError(f"{_dot(where, 'kind')}: expected {kind(cls)}, got {_show(item)}")
        elif key not in fields:
            raise InputError(f"unknown key {_dot(where, str(key))}{_nearest(str(key), fields, where)}")
    arguments = {}
    for name, field in fields.items():
        usual = _default(field, default if type(default) is cls else None)
        if name not in value and usual is MISSING:
            raise InputError(f"{_dot(where, name)} is missing ({type_name(_hints(cls)[name])})")
        arguments[name] = _build(_hints(cls)[name], value[name], _dot(where, name), usual) if name in value else usual
    if cls.__qualname__.endswith("Config"):
        _check_sizes(arguments, where)
    try:
        return cls(**arguments)
    except ValueError as error:  # the dataclass's own __post_init__ checks
        raise InputError(f"{where or kind(cls)}: {reason(error)}") from None


def _check_sizes(value: Any, where: str) -> None:
    """Refuse integers in a model's Config that are larger than a tensor can be: each is a size or a count."""
    if isinstance(value, int) and abs(value) > _LARGEST_SIZE:
        raise InputError(f"{where}: expected an integer up to {_LARGEST_SIZE}, got {_show(value)}")
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_sizes(item, _dot(where, str(key)))
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            _check_sizes(item, f"{where}[{at}]")


def _default(field: dataclasses.Field, instance: Any) -> Any:
    """The default of `field`: its value in `instance`, where that is itself the default of an outer field."""
    if instance is not None:
        return getattr(instance, field.name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _build_sequence(expected: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(expected, value, where)
    options = tuple(option for option in get_args(expected) if option != ())  # tuple[()] of Python 3.10
    if get_origin(expected) is list or options[1:] == (Ellipsis,):
        options = options[:1] * len(value)
    if len(options) != len(value):
        raise InputError(f"{where}: expected {len(options)} values, got {len(value)}")
    items = [_build(option, value[i], f"{where}[{i}]") for i, option in enumerate(options)]
    return items if get_origin(expected) is list else tuple(items)


def _build_dict(expected: Any, value: Any, where: str) -> dict:
    if not isinstance(value, Mapping):
        raise _wrong(expected, value, where)
    of_key, of_item = get_args(expected)
    items = [(key, item, _dot(where, str(key))) for key, item in value.items()]
    return {_build(of_key, key, at): _build(of_item, item, at) for key, item, at in items}


def _build_plain(expected: Any, value: Any, where: str) -> Any:
    if expected is bool and isinstance(value, str):
        value = _YES_NO.get(value.lower(), value)
    if expected in (int, float) and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:  # also NaN, and integers that no float can hold
            raise InputError(f"{where}: expected a finite number, got {_show(value)}")
        if expected is float or value == int(value):  # steps=1e5 is an integer
            return expected(value)
    elif expected in (str, Path) and isinstance(value, str):
        return expected(value)
    elif expected in (bool, _NONE) and type(value) is expected:
        return value
    raise _wrong(expected, value, where)


def plain(config: Any) -> Any:
    """`config` as dictionaries, lists and plain values, from which `build` makes an equal object."""
    return _plain(config, type(config))


def _plain(value: Any, expected: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        is_only_class = set(_options(expected)) - {_NONE} == {type(value)}
        names = [field.name for field in dataclasses.fields(value) if field.init]
        shown = {name: _plain(getattr(value, name), hints[name]) for name in names}
        return shown if is_only_class else {"kind": kind(type(value))} | shown
    # The class of a container's items follows from an annotation with one class; everywhere else `kind` is written.
    inner = get_args(expected)
    if isinstance(value, list | tuple):
        alone = get_origin(expected) is list or inner[1:] == (Ellipsis,)
        return [_plain(item, inner[0] if alone else Any) for item in value]
    if isinstance(value, Mapping):
        of_item = inner[1] if get_origin(expected) in (dict, Mapping) else Any
        return {_plain(key, Any): _plain(item, of_item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def dump(config: Any) -> str:
    """YAML that loads back to an equal object."""
    import yaml

    style: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 110, "allow_unicode": True}
    return yaml.dump(plain(config), Dumper=_yaml()[1], **style)


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Dotted names of the fields in which two recipes differ."""
    a, b = _plain(a, type(a)), _plain(b, type(b))
    if isinstance(a, dict) and isinstance(b, dict):
        keys = list(dict.fromkeys([*a, *b]))
        return [name for key in keys for name in differences(a.get(key), b.get(key), _dot(where, str(key)))]
    return [] if a == b else [where]


def table(cls: type, where: str = "", instance: Any = None) -> list[tuple[str, str, str, str]]:
    """(dotted name, type, default, docstring) of every field. `instance`, if given, holds the defaults."""
    rows = []
    texts = {name: text for base in reversed(cls.__mro__) for name, text in _field_texts(base).items()}
    for field in [field for field in dataclasses.fields(cls) if field.init]:
        name, hint, default = _dot(where, field.name), _hints(cls)[field.name], _default(field, instance)
        shown = kind(type(default)) if dataclasses.is_dataclass(default) else str(default)
        rows.append((name, type_name(hint), "" if default is MISSING else shown, texts.get(field.name, "")))
        nested: list[Any] = [option for option in _options(hint) if dataclasses.is_dataclass(option)]
        for option in nested:
            prefix = f"{name}[{kind(option)}]" if len(nested) > 1 else name
            rows += table(option, prefix, default if type(default) is option else None)
    return rows


@functools.cache
def _field_texts(cls: type) -> dict[str, str]:
    """The docstring of each field, which is the string literal below it in the source."""
    texts = {}
    for pair in itertools.pairwise(getattr(_classes(cls.__module__).get(cls.__name__), "body", [])):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by name. Its source is parsed once, however many of them are asked for."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError, KeyError):
        return {}
    classes: dict[str, ast.ClassDef] = {}
    bodies = [tree.body]
    for body in bodies:  # which grows; a walk over all nodes, expressions too, takes three times as long
        classes |= {node.name: node for node in body if isinstance(node, ast.ClassDef)}
        for name in ("body", "orelse", "handlers", "finalbody"):
            bodies += [part for node in body if isinstance(part := getattr(node, name, None), list)]
    return classes


def type_name(expected: Any) -> str:
    """An annotation as a person would write it."""
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is _NONE:
        return "null"
    if len(_options(expected)) > 1:
        return " | ".join(map(type_name, arguments))
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is not None:
        inner = ("..." if argument is Ellipsis else type_name(argument) for argument in arguments)
        return f"{origin.__name__}[{', '.join(inner)}]"
    return kind(expected) if dataclasses.is_dataclass(expected) else getattr(expected, "__name__", str(expected))


def _dot(where: str, key: str) -> str:
    key = key if key.isprintable() and len(key) <= 60 else _show(key)
    return f"{where}.{key}" if where else key


def _show(value: Any) -> str:
    return _SHOWN.repr(str(value) if isinstance(value, str) else value)


def _nearest(name: str, names: Iterable[str], where: str = "") -> str:
    near = difflib.get_close_matches(name, list(names), 1, 0.5)
    return f"; did you mean {_dot(where, near[0])}?" if near else ""
