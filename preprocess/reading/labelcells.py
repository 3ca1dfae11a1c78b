"""How the cells of a column become labels: lists, or names with a separator between them.

What cannot be labels is refused: vectors of numbers, missing values, line breaks.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from preprocess.reading.class_names import tidy
from preprocess.reading.listcells import as_list
from preprocess.reading.separators import (
    BETWEEN_NUMBERS,
    COMMAS,
    NO_SEPARATOR,
    SURE,
    are_numbers,
    as_flag,
    find_separator,
    quote,
    refuse_made_of_others,
    split_cell,
)
from shards.errors import DataError

_MISSING = ("nan", "<na>", "#n/a", "\\n", "null")  # how programs write an empty cell


@dataclass(frozen=True)
class Column:
    """The labels of each distinct cell of a column, and how they were found, for the user."""

    labels: Mapping[str, tuple[str, ...]]
    how: str


def read_column(cells: Mapping[str, str], separator: str, multiclass: bool) -> Column:
    """Split cells into labels; `cells` maps each distinct text, not empty, to the place (file:line)
    of its first.

    `separator` is a character, NO_SEPARATOR, or "" to find it. `multiclass`: a cell is one label.
    Raises DataError for vectors of numbers, and for cells that are not certainly what they are
    taken for.
    """
    lists = _lists(cells, separator, multiclass)
    if lists is not None:
        labels = lists
        how = "written as lists"
    else:
        _refuse_line_breaks(cells, separator)
        if not separator and not multiclass:
            separator = find_separator(cells)
        whole = multiclass or separator == NO_SEPARATOR
        labels = {cell: (tidy(cell),) if whole else split_cell(cell, separator) for cell in cells}
        how = (
            f"separated by {as_flag(separator)}"
            if any(len(found) > 1 for found in labels.values())
            else "one a cell"
        )
        if multiclass:
            refuse_made_of_others(cells, labels, (*COMMAS, *SURE), "--task multilabel and ")
        elif not whole and how == "one a cell":
            refuse_made_of_others(cells, labels, (*COMMAS, *SURE, " "), "")
    _refuse_pairs(cells, labels)
    _refuse_missing(cells, labels)
    _refuse_vectors(cells, labels, lists is not None or not multiclass)
    _refuse_same_numbers(cells, labels)
    return Column(labels, how)


def _refuse_missing(cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]]) -> None:
    for cell, found in labels.items():
        for label in found:
            if label.lower() in _MISSING:
                raise DataError(
                    f"{cells[cell]}: {label!r} is what programs write for an empty cell; leave the "
                    "cell empty if the image shows no class, leave out the row if nobody knows, "
                    "or rename the class"
                )


def _refuse_line_breaks(cells: Mapping[str, str], separator: str) -> None:
    for cell in cells:
        if separator != "\n" and ("\n" in cell or "\r" in cell):
            raise DataError(
                f"{cells[cell]}: the cell {quote(cell)} has a line break; is a quote missing? "
                "Correct the row, or give --label-separator newline if each line is a label"
            )


# lists


def _lists(
    cells: Mapping[str, str], separator: str, multiclass: bool
) -> dict[str, tuple[str, ...]] | None:
    """Read cells that are lists such as ['cat', 'dog']; None where none is one, or where names just
    have brackets.
    """
    found = {cell: as_list(cell) for cell in cells}
    odd = next((cell for cell, items in found.items() if items is not None and items.quoted), None)
    if odd is None and (separator or multiclass) and not _all_lists(found.values()):
        return None  # such as [unknown], by whoever has said that this is a name
    if all(items is None for items in found.values()):
        starts = next((cell for cell in cells if cell.startswith(("[", "{"))), None)
        if starts is not None and not separator and not multiclass:
            _no_list(starts, cells)
        return None
    if not _all_lists(found.values()):
        _no_list(next(cell for cell, items in found.items() if items is None), cells)
    first = next(iter(cells))
    if separator:
        raise DataError(
            f"{cells[first]}: {quote(first)} is a list, as every cell is; leave --label-separator "
            f"out"
        )
    if multiclass:
        raise DataError(
            f"{cells[first]}: {quote(first)} is a list; give --task multilabel, or write bare "
            f"names, one a cell"
        )
    items = {cell: items for cell, items in found.items() if items is not None}
    if not any(item.commas for item in items.values()):
        for cell, item in items.items():
            if not item.quoted and any(" " in name for name in item.names):
                raise DataError(
                    f"{cells[cell]}: {quote(cell)} may be one label or several; write ['traffic "
                    "light', 'dog'], with quotes and commas"
                )
    return {
        cell: tuple(name for part in item.names if (name := tidy(part)))
        for cell, item in items.items()
    }


def _all_lists(found: Iterable[object]) -> bool:
    return all(items is not None for items in found)


def _no_list(cell: str, cells: Mapping[str, str]) -> NoReturn:
    other = next((other for other in cells if other != cell and as_list(other) is not None), None)
    what = (
        f"is no list, {quote(other)} at {cells[other]} is one"
        if other
        else "starts as a list and is none"
    )
    raise DataError(
        f"{cells[cell]}: {quote(cell)} {what}; write all labels in one way, such as cat|dog, or "
        f"give --label-separator {NO_SEPARATOR} if every cell is one label"
    )


# numbers


def _refuse_pairs(cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]]) -> None:
    """Raise DataError for cat:1, dog=0 and the like: a class with a number, which would become part
    of its name.
    """
    names = [label for found in labels.values() for label in found]
    if names and all(
        re.fullmatch(r"[^:=]*[^\W\d][^:=]*[:=] ?[-+]?\d+(\.\d*)?%?", name) for name in names
    ):
        cell = next(cell for cell in cells if labels[cell])
        raise DataError(
            f"{cells[cell]}: {quote(cell)} gives each class a number; write the names of the "
            "classes shown, such as cat|dog, or a column of 0 and 1 per class and --label-columns"
        )


def _refuse_vectors(
    cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]], multilabel: bool
) -> None:
    """Raise DataError where cells are vectors, a number per class: every image would show the
    classes 0 and 1.
    """
    filled = {cell: found for cell, found in labels.items() if found}
    if not multilabel:
        filled = {
            cell: tuple(part for part in BETWEEN_NUMBERS.split(cell) if part) for cell in filled
        }
    if not all(are_numbers(found) for found in filled.values()):
        return
    widths = {len(found) for found in filled.values()}
    names = {label.lower() for found in filled.values() for label in found}
    joined = multilabel and widths == {1} and _are_digit_vectors(names)
    if widths <= {1} and not joined:
        return
    alike = len(widths) == 1 and names <= {"0", "1"}
    for cell, found in filled.items():
        repeated = len(set(found)) < len(found)
        if joined or alike or repeated or not all(re.fullmatch(r"\d+", label) for label in found):
            raise DataError(
                f"{cells[cell]}: {quote(cell)} is a vector of numbers, a place per class, and "
                "nothing names the classes; write the names of the classes shown, such as "
                "cat|dog, or a column of 0 and 1 per class and --label-columns"
            )


def _are_digit_vectors(names: set[str]) -> bool:
    """Tell cells such as 010 and 110."""
    return len({len(name) for name in names}) == 1 and all(
        re.fullmatch("[01]{2,}", name) for name in names
    )


def _refuse_same_numbers(cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]]) -> None:
    """Raise DataError for 1 and 01, or 1 and 1.0: one class would become two."""
    seen: dict[float, tuple[str, str]] = {}
    for cell, found in labels.items():
        for label in found:
            if not re.fullmatch(r"[-+]?\d+(\.0*)?", label):
                continue
            other, where = seen.setdefault(float(label), (label, cells[cell]))
            if other != label:
                raise DataError(
                    f"{cells[cell]}: label {label!r} is {other!r} at {where}; write it in one way"
                )
