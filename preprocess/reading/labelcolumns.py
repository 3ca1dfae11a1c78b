"""Tables with a column of 0 and 1 per class instead of names: which columns these are, and what
their cells say.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from preprocess.reading.class_names import tidy
from shards.errors import DataError

_VALUES = {"1": "1", "0": "0", "true": "1", "false": "0", "t": "1", "f": "0", "yes": "1", "no": "0"}
_BLANK = ("", "nan", "na", "n/a", "<na>", "null", "none")
BLANK = "blank"  # how --unknown and --negative name an empty cell
# Columns of 0 and 1 that say something else than a class, or of which nobody can know.
_NO_CLASSES = re.compile(
    r"labels?|class(es)?|targets?|category|y|truth|gt|id|index|idx|fold|split|set|"
    r"(is[ _]?)?(train(ing)?|val(id|idation)?|test(ing)?)"
)


class LabelColumns:
    """How the cells of one row become labels: 1 is shown, 0 is not; what else becomes ignored or
    negative is asked for.

    `unknown` and `negative` are values as a user lists them, separated by commas, such as
    `-1,blank`.
    """

    def __init__(self, names: Sequence[str], unknown: str, negative: str) -> None:
        self.names = tuple(names)
        self._means = {"1": "1", "0": "0"}
        for flag, given, meaning in (("--unknown", unknown, "?"), ("--negative", negative, "0")):
            for value in map(_value, given.split(",") if given else ()):
                if self._means.get(value, meaning) != meaning or value in ("0", "1"):
                    raise DataError(
                        f"{flag}={given}: {value} means something else already; leave it out"
                    )
                self._means[value] = meaning

    def read(self, cells: Sequence[str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the classes that a row shows, and those that nobody knows of it. Raises DataError."""
        labels = []
        ignored = []
        for name, cell in zip(self.names, cells, strict=True):
            meaning = self._means.get(cell) or self._means.get(_value(cell))
            if meaning is None:
                _refuse_value(name, cell, where)
            if meaning == "1":
                labels.append(name)
            elif meaning == "?":
                ignored.append(name)
        return tuple(labels), tuple(ignored)


def _value(cell: str) -> str:
    """Write the spellings of one value in one way: 1.0 is 1, nan is blank."""
    text = cell.strip().lower()
    if text in _BLANK or text == BLANK:
        return BLANK
    if text in _VALUES:
        return _VALUES[text]
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _refuse_value(name: str, cell: str, where: str) -> NoReturn:
    value = _value(cell)
    what = "an empty cell" if not cell.strip() else repr(cell.strip()[:40])
    raise DataError(
        f"{where}: column {name!r} has {what}, neither 0 nor 1; give --unknown={value} if nobody "
        f"knows (ignored in loss and metrics), --negative={value} if the class is not shown, or "
        "correct it"
    )


def chosen(given: str, header: Sequence[str], path: Path) -> list[str]:
    """List the columns that --label-columns names: `cat,dog`, or `cat..zebra` for all from one to
    another.
    """
    names: list[str] = []
    for part in [tidy(part) for part in given.split(",") if part.strip()]:
        first, dots, last = map(str.strip, part.partition(".."))
        ends = (first, last) if dots and part not in header else (part, part)
        for name in ends:
            if header.count(name) != 1:
                found = "has no" if name not in header else "has more than one"
                raise DataError(
                    f"{path} {found} column {name!r}; it has "
                    f"{', '.join(map(repr, header))[:1000]}: correct --label-columns"
                )
        start, stop = map(header.index, ends)
        if stop < start:
            raise DataError(
                f"{path}: column {last!r} is before {first!r}; turn {part} in --label-columns "
                f"around"
            )
        names += header[start : stop + 1]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"--label-columns {given} names {twice!r} twice; leave one out")
    return names


def find_label_columns(
    header: Sequence[str],
    rows: Iterator[tuple[int, list[str]]],
    others: Sequence[str],
    meant: str = "",
) -> list[str]:
    """List the columns, without `others`, that hold 0 or 1 somewhere and else only 0, 1, -1,
    nothing, and the values in `meant`, as --unknown and --negative list them.
    """
    allowed = {"0", "1", "-1", BLANK, *map(_value, meant.split(",") if meant else ())}
    may_be = {at: False for at, name in enumerate(header) if name not in others}
    for _, cells in rows:
        for at in list(may_be):
            value = _value(cells[at]) if at < len(cells) else ""
            if value not in allowed:
                del may_be[at]
            elif value in ("0", "1"):
                may_be[at] = True
        if not may_be:
            break
    return [header[at] for at, has_values in may_be.items() if has_values]


def are_certainly_classes(names: Sequence[str]) -> bool:
    """Tell whether columns of 0 and 1 can only be classes: two or more, none called like something
    else.
    """
    return len(names) > 1 and not any(_NO_CLASSES.fullmatch(name.lower()) for name in names)


def suggested(names: Sequence[str], header: Sequence[str]) -> str:
    """Write columns as --label-columns takes them."""
    start = header.index(names[0])
    stop = header.index(names[-1])
    together = list(header[start : stop + 1]) == list(names)
    given = f"{names[0]}..{names[-1]}" if together and len(names) > 3 else ",".join(names)
    return shlex.quote(given)
