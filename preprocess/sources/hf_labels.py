"""What the values of a label column say: numbers of classes with or without names, names, or lists."""

from collections.abc import Sequence
from typing import Any

from preprocess.reading.class_names import tidy
from preprocess.record import MAX_CLASSES
from shards.errors import DataError, count_of

_SHOWN = 60

Label = int | str


class NoLabelError(DataError):
    """A row has no label, as all of a split may have none whose labels are kept secret."""


def read_value_of(values: Any, names: Sequence[str] | None, where: str) -> tuple[Label, ...]:
    """Return the labels of one cell: a single one, or a list. Raises DataError with the place.

    `names` are those of the classes by number; None where the column has none.
    """
    if not isinstance(values, list):
        return (_label(values, names, where),)
    if len(values) > MAX_CLASSES:
        raise DataError(
            f"{where} has a list of {count_of(len(values), 'label')}; give --label-column"
        )
    if any(isinstance(value, bool | float) for value in values):
        _refuse_vector(values, where)
    labels = tuple(_label(value, names, where) for value in values)
    repeated = len(set(labels)) < len(labels)
    if repeated and names is None and set(labels) <= {0, 1}:
        _refuse_vector(values, where)
    return labels


def inner_value(value: Any, parts: Sequence[str]) -> Any:
    """Follow the names of a column inside another: of a list of objects, the list of their values."""
    for number, part in enumerate(parts):
        if isinstance(value, list):
            rest = parts[number:]
            return [inner_value(item, rest) for item in value if item is not None]
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _label(value: Any, names: Sequence[str] | None, where: str) -> Label:
    if value is None:
        raise NoLabelError(
            f"{where} has no label (null); write an empty list if the image shows no class, or leave "
            "the split out with --splits if it has no labels"
        )
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return _number(value, names, where)
    if isinstance(value, str):
        name = tidy(value)
        if not name:
            raise DataError(f"{where} has an empty label; give its name")
        if names is not None and name not in names:
            raise DataError(f"{where}: label {value[:_SHOWN]!r} is no class of the column")
        return name
    raise DataError(
        f"{where}: label {str(value)[:_SHOWN]!r} is of type {type(value).__name__}, neither the number "
        "nor the name of a class; give --label-column"
    )


def _number(value: int, names: Sequence[str] | None, where: str) -> Label:
    if value == -1:
        raise NoLabelError(
            f"{where} has label -1, as splits without labels have; leave this split out with --splits"
        )
    most = MAX_CLASSES if names is None else len(names)
    if not 0 <= value < most:
        raise DataError(f"{where}: label {value} is no class; there are 0 to {most - 1:,}")
    return value if names is None else names[value]


def _refuse_vector(values: list[Any], where: str) -> None:
    raise DataError(
        f"{where}: {str(values)[:_SHOWN]} is a vector, a place per class: a list holds numbers or names "
        "of the classes shown; or give columns of 0 and 1 with --label-columns"
    )
