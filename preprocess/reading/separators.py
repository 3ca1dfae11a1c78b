"""Find what is between the labels of a cell, from all cells of a column.

Only what is certain is taken. Where a cell could be one label or several, an error names it and the
flag to give.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NoReturn

from preprocess.reading.class_names import tidy
from shards.errors import DataError

NO_SEPARATOR = "none"  # a cell is one label
# hardly a class has one of these in its name; also as wide characters
SURE = ("|", ";", "\t", "\uff5c", "\uff1b")
# of Latin, Chinese, Japanese and Arabic writing: names may have them
COMMAS = (",", "\uff0c", "\u3001", "\u060c")
_SIGNS = ("/", "+", "&", "#", ":", "~", "^", "\\", "\u30fb")
_JOINTS = ("-", "_", ".")  # usual inside names
_SHOWN = 60  # characters of a cell in a message
_NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)|true|false", re.IGNORECASE
)
BETWEEN_NUMBERS = re.compile(r"[\s,;|/]+")


def as_flag(character: str) -> str:
    """Write a separator as it is given to a flag."""
    return {"\t": "tab", " ": "space", "\n": "newline"}.get(character, f"'{character}'")


def quote(cell: str) -> str:
    """Quote a cell for a message."""
    return repr(cell if len(cell) <= _SHOWN else cell[:_SHOWN] + "...")


def split_cell(cell: str, separator: str) -> tuple[str, ...]:
    parts = tidy(cell).split() if separator == " " else cell.split(separator)
    return tuple(label for part in parts if (label := tidy(part)))


def find_separator(cells: Mapping[str, str]) -> str:
    """Return the separator that the cells show beyond doubt, or NO_SEPARATOR. Raises DataError in
    doubt.
    """
    if all(are_numbers(BETWEEN_NUMBERS.split(cell)) for cell in cells):
        return _number_separator(cells)
    there = {
        char: cell
        for char in (*SURE, *COMMAS)
        if (cell := next((c for c in cells if char in c), None)) is not None
    }
    if len(there) > 1:
        (first, one), (second, other), *_ = there.items()
        raise DataError(
            f"{cells[one]}: labels are separated by {as_flag(first)} in {quote(one)}, by "
            f"{as_flag(second)} in {quote(other)} at {cells[other]}; give --label-separator "
            f"{as_flag(first)} or {as_flag(second)}"
        )
    for char in there:
        labels = {cell: split_cell(cell, char) for cell in cells}
        if char in COMMAS and _several(labels) and not _recur(labels):
            _ask(cells, labels, char)
        _refuse_words(cells, labels, char)
        return char
    if any(len(cell.split()) > 1 for cell in cells):
        labels = {cell: split_cell(cell, " ") for cell in cells}
        _refuse_bare_signs(cells, labels)
        if not _are_certainly_words(labels):
            _ask(cells, labels, " ")
        return " "
    refuse_made_of_others(cells, {cell: (tidy(cell),) for cell in cells}, (*_SIGNS, *_JOINTS), "")
    for char in (*_SIGNS, *_JOINTS):
        labels = {cell: split_cell(cell, char) for cell in cells}
        if _are_certainly_words(labels) if char in _JOINTS else _recur(labels):
            _ask(cells, labels, char)
    return NO_SEPARATOR


def _ask(cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]], char: str) -> NoReturn:
    cell = next(cell for cell in cells if len(labels[cell]) > 1)
    parts = " and ".join(map(repr, labels[cell][:4]))
    raise DataError(
        f"{cells[cell]}: {quote(cell)} may be one label or {len(labels[cell])}; give "
        f"--label-separator {NO_SEPARATOR} or --task multiclass if every cell is one label, "
        f"--label-separator {as_flag(char)} if it is {parts}"
    )


def _several(labels: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [found for found in labels.values() if len(found) > 1]


def _recur(labels: Mapping[str, tuple[str, ...]]) -> bool:
    """Tell whether parts of cells occur in other cells too, as labels do and pieces of one name do
    not.

    Half of the parts must, in half of the cells that have several: `cat,dog` and `dog`, not `tench,
    Tinca tinca`.
    """
    several = _several(labels)
    times = Counter(label for found in labels.values() for label in set(found))
    parts = {label for found in several for label in found}
    recurring = {label for label in parts if times[label] > 1}
    with_one = sum(not recurring.isdisjoint(found) for found in several)
    return 2 * len(recurring) >= len(parts) and 2 * with_one >= len(several) > 0


def _are_certainly_words(labels: Mapping[str, tuple[str, ...]]) -> bool:
    """Tell whether words between spaces are labels: most cells of several words show that these
    combine freely.

    Words of one name have places: `light` ends `traffic light`, `dog` ends `hot dog` and is a class
    of its own too.
    Labels combine: one that is before another in a cell is alone or last in a different cell, `cat
    dog` and `dog cat` both occur, or `cat dog` where `cat dog bird` does.
    """
    several = _several(labels)
    before = {word for found in several for word in found[:-1]}
    mixed = before & {found[-1] for found in labels.values() if found}
    orders = Counter(frozenset(found) for found in set(several))
    every = set(several)
    supported = set()
    for found in every:
        shorter = {found[:at] + found[at + 1 :] for at in range(1, len(found))} & every
        if shorter or orders[frozenset(found)] > 1 or not mixed.isdisjoint(found):
            supported |= {found, *shorter}
    return 2 * len(supported) >= len(every) > 0


def _refuse_bare_signs(cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse `cat & dog` and `cat and dog`, in which the sign or word would become a class."""
    for cell, found in labels.items():
        for word in found[1:-1]:
            if word.lower() in ("and", "or") or not any(char.isalnum() for char in word):
                remedy = (
                    f"--label-separator {as_flag(word)}"
                    if len(word) == 1
                    else "another separator, such as ;"
                )
                raise DataError(
                    f"{cells[cell]}: {word!r} is between the labels in {quote(cell)}; give "
                    f"{remedy}, or --label-separator {NO_SEPARATOR} if every cell is one label"
                )


def _refuse_words(
    cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]], char: str
) -> None:
    """Refuse a cell `cat dog` in a column of `cat|dog`, `cat` and `dog`."""
    names = {label for found in labels.values() for label in found}
    for cell, found in labels.items():
        words = cell.split()
        if len(found) == 1 and len(words) > 1 and names.issuperset(words):
            raise DataError(
                f"{cells[cell]}: {quote(cell)} has a space where others have {as_flag(char)}; "
                f"correct it, or give --label-separator {as_flag(char)} if it is one label"
            )


def refuse_made_of_others(
    cells: Mapping[str, str],
    labels: Mapping[str, tuple[str, ...]],
    separators: Iterable[str],
    flag: str,
) -> None:
    """Raise DataError where a label is made of others, separated by another character than the one
    given.
    """
    names = {label for found in labels.values() for label in found}
    for cell, found in labels.items():
        for label in found:
            for char in separators:
                parts = [part for part in map(tidy, label.split(char)) if part]
                if len(parts) > 1 and names.issuperset(parts):
                    meant = "rename it" if flag else f"--label-separator {NO_SEPARATOR}"
                    raise DataError(
                        f"{cells[cell]}: label {label!r} is made of "
                        f"{' and '.join(map(repr, parts[:4]))}, labels of their own; give "
                        f"{flag}--label-separator {as_flag(char)}, or {meant} if it is one label"
                    )


def are_numbers(parts: Iterable[str]) -> bool:
    """Tell whether all parts of a text are numbers, or true and false."""
    return all(_NUMBER.fullmatch(part) for part in parts if part)


def _number_separator(cells: Mapping[str, str]) -> str:
    """Return what is between numbers: whatever it is, no number has it."""
    found = {char: cell for cell in cells for char in re.sub(r"[^\s,;|/]", "", cell)}
    signs = {char: cell for char, cell in found.items() if not char.isspace()} or found
    if len(signs) > 1:
        (first, one), (second, other), *_ = signs.items()
        raise DataError(
            f"{cells[one]}: numbers are separated by {as_flag(first)} in {quote(one)}, by "
            f"{as_flag(second)} in {quote(other)} at {cells[other]}; write all in one way"
        )
    return next(iter(signs), NO_SEPARATOR)
