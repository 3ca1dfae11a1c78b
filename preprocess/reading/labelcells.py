"""How the cells of a column become labels: what separates them is taken from all cells together, or
asked for.

Only what is certain is taken. Where a cell could be one label or several, an error names it and the
flag to give.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from preprocess.reading.class_names import normal_form
from preprocess.reading.listcells import as_list
from shards.errors import DataError

NO_SEPARATOR = "none"  # a cell is one label
# hardly a class has one of these in its name; also as wide characters
_SURE = ("|", ";", "\t", "\uff5c", "\uff1b")
# of Latin, Chinese, Japanese and Arabic writing: names may have them
_COMMAS = (",", "\uff0c", "\u3001", "\u060c")
_SIGNS = ("/", "+", "&", "#", ":", "~", "^", "\\", "\u30fb")
_JOINTS = ("-", "_", ".")  # usual inside names
_SHOWN = 60  # characters of a cell in a message
_NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)|true|false", re.IGNORECASE
)
_BETWEEN_NUMBERS = re.compile(r"[\s,;|/]+")
_MISSING = ("nan", "<na>", "#n/a", "\\n", "null")  # how programs write an empty cell


@dataclass(frozen=True)
class Column:
    """The labels of each distinct cell of a column, and how they were found, for the user."""

    labels: Mapping[str, tuple[str, ...]]
    how: str


def tidy(name: str) -> str:
    """Write a name of a class in one way: Unicode's form NFC, single spaces, none around it."""
    return " ".join(normal_form(name).split())


def as_flag(character: str) -> str:
    """Write a separator as it is given to a flag."""
    return {"\t": "tab", " ": "space", "\n": "newline"}.get(character, f"'{character}'")


def quote(cell: str) -> str:
    """Quote a cell for a message."""
    return repr(cell if len(cell) <= _SHOWN else cell[:_SHOWN] + "...")


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
            separator = _find_separator(cells)
        whole = multiclass or separator == NO_SEPARATOR
        labels = {cell: (tidy(cell),) if whole else _split(cell, separator) for cell in cells}
        how = (
            f"separated by {as_flag(separator)}"
            if any(len(found) > 1 for found in labels.values())
            else "one a cell"
        )
        if multiclass:
            _refuse_made_of_others(cells, labels, (*_COMMAS, *_SURE), "--task multilabel and ")
        elif not whole and how == "one a cell":
            _refuse_made_of_others(cells, labels, (*_COMMAS, *_SURE, " "), "")
    _refuse_pairs(cells, labels)
    _refuse_missing(cells, labels)
    _refuse_vectors(cells, labels, lists is not None or not multiclass)
    _refuse_same_numbers(cells, labels)
    return Column(labels, how)


def _split(cell: str, separator: str) -> tuple[str, ...]:
    parts = tidy(cell).split() if separator == " " else cell.split(separator)
    return tuple(label for part in parts if (label := tidy(part)))


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


# separators


def _find_separator(cells: Mapping[str, str]) -> str:
    """Return the separator that the cells show beyond doubt, or NO_SEPARATOR. Raises DataError in
    doubt.
    """
    if all(are_numbers(_BETWEEN_NUMBERS.split(cell)) for cell in cells):
        return _number_separator(cells)
    there = {
        char: cell
        for char in (*_SURE, *_COMMAS)
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
        labels = {cell: _split(cell, char) for cell in cells}
        if char in _COMMAS and _several(labels) and not _recur(labels):
            _ask(cells, labels, char)
        _refuse_words(cells, labels, char)
        return char
    if any(len(cell.split()) > 1 for cell in cells):
        labels = {cell: _split(cell, " ") for cell in cells}
        _refuse_bare_signs(cells, labels)
        if not _are_certainly_words(labels):
            _ask(cells, labels, " ")
        return " "
    _refuse_made_of_others(cells, {cell: (tidy(cell),) for cell in cells}, (*_SIGNS, *_JOINTS), "")
    for char in (*_SIGNS, *_JOINTS):
        labels = {cell: _split(cell, char) for cell in cells}
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


def _refuse_made_of_others(
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


def _refuse_vectors(
    cells: Mapping[str, str], labels: Mapping[str, tuple[str, ...]], multilabel: bool
) -> None:
    """Raise DataError where cells are vectors, a number per class: every image would show the
    classes 0 and 1.
    """
    filled = {cell: found for cell, found in labels.items() if found}
    if not multilabel:
        filled = {
            cell: tuple(part for part in _BETWEEN_NUMBERS.split(cell) if part) for cell in filled
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
