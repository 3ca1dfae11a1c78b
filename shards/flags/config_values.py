"""A configuration file: which keys and values it has, held against the options' declarations.

The types and choices are the dataclass's own, as the command line takes them from there.
"""

import math
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shards.errors import DataError, one_line, remedy
from shards.options import check_bound, declared
from shards.pages.spelling import plain
from shards.yaml_files import Words, read_words

MAX_CONFIG_BYTES = 1 << 20  # a configuration has 2 kB; a tar given by mistake is not read whole
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


def read_options(path: Path) -> dict[Any, Any]:
    """Read a YAML file of options as it is. Raises DataError for what is not names with values."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise DataError(f"{path}: more than {MAX_CONFIG_BYTES:,} bytes; give another file")
        values = yaml.load(raw.decode("utf-8-sig"), Loader=Words)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {remedy(error)}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise DataError(f"{path}: {where}{plain(error.problem or one_line(error))}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: no YAML ({plain(one_line(error))}); correct it") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: a value cannot be read ({one_line(error)})") from None
    if not isinstance(values, dict):
        what = "is empty" if values is None else f"holds {shown_value(values)}"
        raise DataError(f"{path}: {what}: give options as `name: value`, one a line")
    return values


def typed_options(config_class: type, values: Mapping[str, Any], path: object) -> dict[str, Any]:
    """Return the values of options of `config_class` in their types. Raises DataError for the first
    that its flag would not take either, with the file, the key and what is allowed.
    """
    hints = typing.get_type_hints(config_class)
    found = {}
    for field in declared(config_class):
        if field.name not in values:
            continue
        given = values[field.name]
        try:
            found[field.name] = _fitted(hints[field.name], given)
        except (ValueError, OverflowError, yaml.YAMLError):
            raise DataError(
                f"{path}: {field.name} is {shown_value(given)}: give "
                f"{value_kind(hints[field.name])}"
            ) from None
        try:
            check_bound(field, found[field.name])
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    return found


def value_kind(hint: Any) -> str:
    """Say what a value of this type looks like."""
    if typing.get_origin(hint) is typing.Literal:
        *most, last = map(str, typing.get_args(hint))
        return f"{', '.join(most)} or {last}" if most else last
    if typing.get_origin(hint) is tuple:
        num = 0 if Ellipsis in typing.get_args(hint) else len(typing.get_args(hint))
        return f"{f'{num} ' if num else ''}numbers, such as [0.08,1.0]"
    kinds = set(typing.get_args(hint) or (hint,)) - {type(None)}
    if kinds == {int}:
        return "a whole number"
    if kinds <= {int, float}:
        return "a number"
    if kinds == {int, str}:
        return "a whole number, or text between quotes"
    return "true or false" if kinds == {bool} else "text, in a file between quotes"


def shown_value(value: Any) -> str:
    """Spell a value of YAML in a few words, however deep it is."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else plain(reprlib.repr(value))


def _fitted(hint: Any, value: Any) -> Any:
    """Return the value in the type; a number may be between quotes. Raises ValueError."""
    try:
        return _exact(hint, value)
    except ValueError:
        if not isinstance(value, str):
            raise
        return _exact(hint, read_words(value))


def _exact(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(typing.get_args(hint), value)
    if origin is typing.Literal:
        if isinstance(value, str) and value in typing.get_args(hint):
            return value
    elif origin is tuple:
        return _each_fitting(typing.get_args(hint), value)
    elif hint is bool and isinstance(value, str):
        if value.lower() in _BOOLEANS:
            return _BOOLEANS[value.lower()]
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif type(value) is hint:
        return value
    raise ValueError


def _first_fitting(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _exact(kind, value)
        except ValueError:
            continue
    raise ValueError


def _each_fitting(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    found = tuple(_exact(kind, each) for kind, each in zip(kinds, value, strict=True))
    if any(isinstance(each, float) and not math.isfinite(each) for each in found):
        raise ValueError
    return found
