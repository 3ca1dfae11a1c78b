"""Read the tables of Open Images: labels that people verified, boxes, and the names of classes."""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from preprocess.reading.class_names import tidy
from preprocess.reading.tablecells import read_cells
from preprocess.record import MAX_CLASSES
from shards.errors import DataError, count_of

_COLUMNS = ("ImageID", "LabelName", "Confidence")
_SHOWN = 60


@dataclass
class Verified:
    """What the tables of a split say of its images, by image id: label ids, positive and negative.

    `contradicted` are those that one row says are shown and another says are not, `absent` the
    images in the tables that have no file.
    """

    positive: dict[str, set[str]] = field(default_factory=dict)
    negative: dict[str, set[str]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    contradicted: dict[str, set[str]] = field(default_factory=dict)

    def add_table(self, path: Path, there: Container[str], wanted: Container[str] | None) -> None:
        """Read a table; of images that are not `there`, and of classes not `wanted`, no label."""
        for image, label, shown in _rows(path):
            if image not in there:
                self.absent.add(image)
                continue
            self.positive.setdefault(image, set())
            if wanted is None or label in wanted:
                (self.positive if shown else self.negative).setdefault(image, set()).add(label)

    def settle(self) -> None:
        """Make unknown what rows contradict each other about."""
        for image, labels in self.positive.items():
            both = labels & self.negative.get(image, set())
            if both:
                self.contradicted[image] = both
                labels -= both
                self.negative[image] -= both

    def labels(self) -> set[str]:
        """Return the ids of the labels that are verified of any image."""
        parts = (*self.positive.values(), *self.negative.values())
        return {label for part in parts for label in part}


def read_descriptions(path: Path) -> dict[str, str]:
    """Read class-descriptions.csv: names by label id. Raises DataError."""
    names: dict[str, str] = {}
    for number, cells in read_cells(path, ","):
        if number == 1 and cells[0].strip() == "LabelName":
            continue
        if len(cells) != 2 or not cells[0].strip() or not tidy(cells[1]):
            raise DataError(f"{path}:{number}: expected a label id and its name; correct the line")
        label = cells[0].strip()
        name = tidy(cells[1])
        if names.setdefault(label, name) != name:
            raise DataError(f"{path}:{number}: label {label} is {names[label]!r} above; keep one")
        if len(names) > MAX_CLASSES:
            raise DataError(f"{path} has more than {MAX_CLASSES:,} classes; it is another file")
    return names


def read_wanted(path: Path, names: dict[str, str]) -> list[str]:
    """Read a list of classes, one a line, by label id or name: the ids. Raises DataError."""
    ids: dict[str, list[str]] = {}
    for label, name in names.items():
        ids.setdefault(name, []).append(label)
    found: dict[str, int] = {}
    for number, cells in read_cells(path, "\t"):
        given = tidy(cells[0])
        here = (
            [given] if given in names or re.fullmatch(r"/[mgt]/\w+", given) else ids.get(given, [])
        )
        if number == 1 and given == "LabelName":
            continue
        if len(here) != 1:
            what = "names several labels, give its id" if here else "is no class"
            raise DataError(f"{path}:{number}: {given[:_SHOWN]!r} {what}; correct the line")
        if here[0] in found:
            raise DataError(f"{path}:{number}: {given!r} is in line {found[here[0]]} already")
        found[here[0]] = number
    if not found:
        raise DataError(f"{path} lists no class; fill it, or leave --class-list out")
    return list(found)


def class_names_of(labels: Sequence[str], names: dict[str, str]) -> tuple[str, ...]:
    """Name label ids: where two have one name, or one has none, with the id."""
    given = [names.get(label, label) for label in labels]
    times: dict[str, int] = {}
    for name in given:
        times[name] = times.get(name, 0) + 1
    return tuple(
        name if times[name] == 1 else f"{name} ({label})"
        for label, name in zip(labels, given, strict=True)
    )


def _rows(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield (image id, label id, whether it is shown) of the rows of a table."""
    lines = read_cells(path, ",")
    header = [cell.strip() for cell in next(lines, (0, [""]))[1]]
    missing = [name for name in _COLUMNS if header.count(name) != 1]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r}; its first line should be "
            "ImageID,Source,LabelName,Confidence"
        )
    image, label, confidence = map(header.index, _COLUMNS)
    for number, cells in lines:
        if len(cells) != len(header):
            raise DataError(
                f"{path}:{number}: {count_of(len(cells), 'value')} for "
                f"{count_of(len(header), 'column')}"
            )
        if not cells[image] or not cells[label]:
            raise DataError(f"{path}:{number}: no image or no label; correct the line")
        yield cells[image], cells[label], _is_shown(cells[confidence].strip(), path, number)


def _is_shown(text: str, path: Path, number: int) -> bool:
    if text in ("1", "0"):
        return text == "1"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value in (0.0, 1.0):
        return value == 1.0
    fraction = 0 < value < 1
    hint = "a machine's guess; take the table of human-imagelabels" if fraction else "use 1 or 0"
    raise DataError(f"{path}:{number}: Confidence is {text[:_SHOWN]!r}, {hint}")
