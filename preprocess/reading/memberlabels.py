"""What a member of a tar says of a sample's labels: text of one class, or JSON of one or several."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from preprocess.reading.class_names import tidy
from preprocess.reading.json_objects import each_key_once
from preprocess.reading.listcells import as_list
from preprocess.reading.separators import are_numbers
from shards.errors import DataError

MAX_CLASSES = 100_000
OWN_FIELD = "labels"  # of our own shards, beside which are the classes that nobody knows
IGNORED_FIELD = "ignored"
# suffixes of what other tools write as arrays or pickles; a pickle can run code
ARRAYS = frozenset(
    (
        "npy",
        "npz",
        "pyd",
        "pickle",
        "pkl",
        "pth",
        "pt",
        "ten",
        "tenbin",
        "tb",
        "mp",
        "msg",
        "msgpack",
        "cbor",
        "bin",
    )
)
_SHOWN = 60  # characters of a value in a message
_CODE = re.compile(r"(tensor|array|np\.\w+|numpy\.\w+)\(.*\)", re.DOTALL)

_NAMES = "and their names with --class-list"

Label = int | str


def of_text(content: bytes, where: str) -> Label:
    """Read the one class of a text member: a number, or a name. Raises DataError."""
    try:
        name = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise DataError(f"{where} is no text; give --label-member") from None
    if not name or len(name) > 1000 or "\n" in name:
        raise DataError(f"{where} holds {name[:40]!r}, not one class; give --label-member")
    return int(name) if re.fullmatch(r"[+-]?\d{1,18}", name) else _name(name, where)


def of_json(content: bytes, field: str, where: str) -> tuple[Label | list[Label], tuple[int, ...]]:
    """Read the class or the list of classes under a key of a JSON member, and the classes that it
    ignores. Raises DataError.
    """
    try:
        parsed = json.loads(content, object_pairs_hook=each_key_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}); correct it") from None
    value = parsed
    ignored: tuple[int, ...] = ()
    if isinstance(parsed, dict):
        if field not in parsed:
            keys = ", ".join(map(repr, parsed))[:500]
            raise DataError(
                f"{where} has no key {field!r}, it has {keys}; give one with --label-field"
            )
        value = parsed[field]
        if field == OWN_FIELD and _are_class_numbers(value):
            ignored = _ignored(parsed)
    if isinstance(value, list):
        return _several(value, where), ignored
    return _one(value, where), ignored


def _ignored(parsed: dict[str, Any]) -> tuple[int, ...]:
    """Return the classes that a sample of our own shards lists as ignored; of others none."""
    given = parsed.get(IGNORED_FIELD)
    return tuple(given) if _are_class_numbers(given) else ()


def _are_class_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int for number in value)


def _several(values: list[Any], where: str) -> list[Label]:
    if any(isinstance(value, (bool, float)) for value in values):
        _refuse_vector(values, where)
    labels = [_one(value, where) for value in values]
    numbers = [label for label in labels if isinstance(label, int)]
    # a vector of 0 and 1 would give every image the classes 0 and 1
    if len(set(numbers)) < len(numbers):
        raise DataError(
            f"{where}: {str(values)[:_SHOWN]} has a number twice: a list holds class numbers, not "
            "a vector of 0 and 1; write [2, 5] where the classes 2 and 5 are shown"
        )
    return labels


def _refuse_vector(values: Iterable[Any], where: str, more: str = _NAMES) -> None:
    raise DataError(
        f"{where}: {str(values)[:_SHOWN]} is a vector, a place per class: a list holds class "
        f"numbers or names; write [2, 5] where the classes 2 and 5 are shown, {more}"
    )


def _one(value: Any, where: str) -> Label:
    if isinstance(value, str) and value.strip():
        return _name(value, where)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(
            f"{where}: label {str(value)[:_SHOWN]!r} is neither a whole number nor a name; correct "
            "it or give --label-field"
        )
    return value


def _name(text: str, where: str) -> str:
    """Write a name in one way. Raises DataError for what is no name but a list, numbers, code or no
    text.
    """
    name = tidy(text)
    numbers = are_numbers(re.split(r"[\s,;|/]+", name))
    if as_list(name) is not None or name[0] in "[{" or (numbers and not re.fullmatch(r"\d+", name)):
        what = "a fraction" if numbers and name.replace(".", "").isalnum() else "a list or vector"
        raise DataError(
            f"{where}: {name[:_SHOWN]!r} is {what}, not one class; write the number or name of the "
            "class, or a JSON list of several"
        )
    if _CODE.fullmatch(name) or not name.isprintable():
        raise DataError(
            f"{where}: {name[:_SHOWN]!r} is no name of a class; write its number or name as plain "
            f"text"
        )
    return name


def check_number(label: Label, where: str) -> None:
    """Raise DataError for a number that no class can have."""
    if isinstance(label, int) and not 0 <= label < MAX_CLASSES:
        raise DataError(f"{where}: label {label} is no class number; use 0 to {MAX_CLASSES - 1:,}")


def refuse_vectors(
    samples: Iterable[tuple[str, tuple[Label, ...]]], num_classes: int, more: str = _NAMES
) -> None:
    """Raise DataError where the lists of all samples, (where, labels), are as long and hold 0 and 1
    only.

    Vectors of two classes, [1, 0] and [0, 1], would give every image both; longer ones have a
    number twice. Where a list names other than two classes (`num_classes`; 0: there is none) these
    are class numbers. `more` ends the message.
    """
    first = None
    width = 0
    for where, labels in samples:
        if not labels:
            continue
        if not all(str(label) in ("0", "1") for label in labels) or len(labels) not in (
            width or len(labels),
            0,
        ):
            return
        first = first or (where, labels)
        width = len(labels)
    if first is not None and width > 1 and num_classes in (0, width):
        values = [str(label) if isinstance(label, str) else label for label in first[1]]
        _refuse_vector(values, first[0], more)


def refuse_joined(names: Mapping[str, str]) -> None:
    """Raise DataError for a name made of others, `cat dog` beside `cat` and `dog`; `names` maps
    them to a sample.
    """
    for name, where in names.items():
        for char in ",;|/+& ":
            parts = [tidy(part) for part in name.split(char)]
            if len(parts) > 1 and all(part in names for part in parts):
                raise DataError(
                    f"{where}: label {name!r} is made of {' and '.join(map(repr, parts[:4]))}, "
                    "labels of their own; write several labels as a JSON list, or rename it if it "
                    "is one"
                )


def refuse_gaps(numbers: set[int], root: object) -> None:
    """Raise DataError where most class numbers up to the largest do not occur, and nothing names
    the classes.
    """
    top = max(numbers)
    if top + 1 > 2 * len(numbers):
        some = ", ".join(map(str, sorted(numbers)[:5])) + (", ..." if len(numbers) > 5 else "")
        raise DataError(
            f"{root}: class numbers go up to {top:,}, but only {len(numbers):,} occur ({some}), so "
            "most classes would have no image; give the names of all with --class-list, or number "
            "the classes from 0 without gaps"
        )
