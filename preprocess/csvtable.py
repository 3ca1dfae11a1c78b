"""Read photographs and labels from a table: a CSV or TSV file of paths and labels, perhaps also splits."""

import csv
import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath

from preprocess.paths import in_split_order, inside, short_names, split_named, split_of
from preprocess.record import Record, Source
from shards.commandline import option
from shards.errors import DataError
from shards.index import Task
from shards.picture_files import is_image, is_junk

_TABLES = (".csv", ".tsv", ".txt")
_SEPARATORS = (",", ";", "\t", "|", " ")  # what may have been meant
_SPELLED = {"tab": "\t", "\\t": "\t", "space": " "}


@dataclass(frozen=True)
class _Row:
    where: str  # file:line
    path: str
    labels: tuple[str, ...]  # as they stand there, perhaps one twice
    split: str


@dataclass
class CSV(Source):
    """A source over tables of paths, relative to the folder of the photographs, and labels by name.

    Classes are the labels that occur, sorted (as numbers where all are). One table without a column of splits gives
    split `all`; several give a split each, named by the file. Raises DataError with the line for what does not fit.
    """

    root_holds = "the folder that holds the table and the photographs"
    example = "--root photos --table labels.csv --out data/photos --val-fraction 0.2"

    root: Path
    table: str = option(
        "", "file of paths and labels below root; train.csv,val.csv makes each a split; default: the only table there"
    )
    images: str = option("", "folder below root that paths in the table count from; root itself where not given")
    columns: str = option("", "names of the columns of a table without header line, such as path,labels")
    path_column: str = option("path", "column of the images' paths")
    label_column: str = option("labels", "column of the labels' names; an empty cell is an image without any")
    split_column: str = option("", "column of the split's names; default: split, if there is one")
    separator: str = option("", "between columns: a character or tab; default: a comma, in .tsv files a tab")
    label_separator: str = option("", "between labels in a cell: a character, space or tab; default: a space")
    suffix: str = option("", "put behind every path, such as .jpg where the table has bare names")
    task: Task = option("multilabel", "multiclass: the whole cell is the one label of its image")

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder; give {self.root_holds}, and the table's name with --table")
        if self.task == "multiclass" and self.label_separator:
            raise DataError("--label-separator parts several labels, --task multiclass has one a cell; leave it out")
        self._folder = inside(self.root, self.images, "--images") if self.images else self.root
        self._between = _character(self.label_separator or " ", "--label-separator")
        self._rows: dict[str, list[_Row]] = {}
        for path, split in self._tables():
            for row in self._read(path, split):
                self._rows.setdefault(row.split, []).append(row)
        rows = [row for split in self._rows.values() for row in split]
        _refuse_repeated(rows)
        self._check_first(rows[0])
        names = {label for row in rows for label in row.labels}
        if not names:
            raise DataError(
                f"{rows[0].where.rpartition(':')[0]}: column {self.label_column!r} is empty in every row; "
                "name the one that holds the labels with --label-column"
            )
        self._check_separator(rows, names)
        _refuse_vectors(rows, names)
        numbers = all(re.fullmatch(r"-?\d{1,9}", name) for name in names)
        self.class_names = tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the tables name, or ("all",)."""
        return in_split_order(list(self._rows))

    def records(self, split: str) -> list[Record]:
        """List the photographs of a split in the order of the table. Raises DataError for an unknown one."""
        if split not in self._rows:
            raise DataError(f"split {split!r} is in no table of {self.root}; there are: {', '.join(self.splits())}")
        rows = self._rows[split]
        index = {name: number for number, name in enumerate(self.class_names)}
        records = []
        for name, row in zip(short_names([row.path for row in rows]), rows, strict=True):
            path = inside(self._folder, row.path, row.where)
            labels = tuple(sorted({index[label] for label in row.labels}))
            records.append(Record(name, path, path.relative_to(self.root).as_posix(), labels, ()))
        return records

    # tables

    def _tables(self) -> list[tuple[Path, str]]:
        """List (table, its split): `all` where it is the only one."""
        names = [name.strip() for name in self.table.split(",") if name.strip()]
        if not names:
            there = (path.name for path in self.root.iterdir() if path.suffix.lower() in _TABLES[:2])
            names = sorted(name for name in there if not is_junk(name))
            if len(names) != 1:
                found = f"holds {', '.join(names)}" if names else "holds no .csv or .tsv file"
                voc = "; a VOC folder is read by --source voc" if (self.root / "ImageSets").is_dir() else ""
                raise DataError(f"{self.root} {found}; name the table with --table{voc}")
        paths = [inside(self.root, name, "--table") for name in names]
        if len(paths) == 1:
            return [(paths[0], "all")]
        tables = {split_of(path.stem) or path.stem: path for path in paths}
        if len(tables) < len(paths):
            raise DataError(f"--table {self.table}: two of these tables are of one split; give one table per split")
        return [(path, split) for split, path in tables.items()]

    def _read(self, path: Path, split: str) -> Iterator[_Row]:
        lines = read_cells(path, self._column_separator(path))
        number, header = next(lines, (0, []))
        if not header:
            raise DataError(f"{path} is empty; it should hold a header line and a line per image")
        _refuse_voc_list(path, number, header)
        if self.columns:
            first, header = header, [name.strip() for name in self.columns.split(",")]
            if first == header:
                raise DataError(f"{path} has a header line of its own; leave --columns out")
            lines = _again((number, first), lines)
        else:
            header = [name.strip() for name in header]
        at = self._find_columns(path, header)
        num_rows = 0
        for number, cells in lines:
            where = f"{path}:{number}"
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: {len(cells)} values where there are {len(header)} columns ({', '.join(header)}); quote "
                    "a value that holds the separator, or give another one with --separator"
                )
            num_rows += 1
            named = split if at[2] is None else _split(cells[at[2]], where)
            yield _Row(where, cells[at[0]].strip() + self.suffix, self._labels(cells[at[1]], where), named)
        if not num_rows:
            raise DataError(f"{path} has a header line and nothing else; add a line per image")

    def _column_separator(self, path: Path) -> str:
        return _character(self.separator or ("tab" if path.suffix.lower() == ".tsv" else ","), "--separator")

    def _find_columns(self, path: Path, header: Sequence[str]) -> tuple[int, int, int | None]:
        """Return the positions of path, labels and split. Raises DataError that tells what the header is instead."""
        if self.path_column not in header:
            self._explain(path, header)
        for flag, name in (("path", self.path_column), ("label", self.label_column), ("split", self.split_column)):
            if name and header.count(name) != 1:
                found = "has no" if name not in header else "has more than one"
                raise DataError(
                    f"{path} {found} column {name!r}; it has {', '.join(map(repr, header))}: "
                    f"give one with --{flag}-column"
                )
        split = self.split_column or ("split" if "split" in header else "")
        return header.index(self.path_column), header.index(self.label_column), header.index(split) if split else None

    def _explain(self, path: Path, header: Sequence[str]) -> None:
        """Raise DataError for the usual mistakes: no header line, another separator."""
        line = self._column_separator(path).join(header)
        for char in _SEPARATORS if len(header) == 1 else ():
            parts = line.split(char)
            if len(parts) > 1 and (self.path_column in parts or any(map(is_image, parts))):
                raise DataError(f"{path} has one column, {line!r}; give --separator {_spell(char)}")
        if any(is_image(cell) or (cell and (self._folder / cell).is_file()) for cell in header if "\0" not in cell):
            raise DataError(
                f"{path} has no header line, its first line is {line!r}; name its columns, such as "
                f"--columns {','.join(_guess(header))}"
            )

    def _labels(self, cell: str, where: str) -> tuple[str, ...]:
        if self.task == "multiclass":
            if not cell.strip():
                raise DataError(f"{where}: no label in column {self.label_column!r}; with --task multiclass give one")
            return (cell.strip(),)
        return tuple(label.strip() for label in cell.split(self._between) if label.strip())

    def _check_separator(self, rows: Sequence[_Row], names: set[str]) -> None:
        """Raise DataError where labels are made of others, parted by another character than the one given."""
        if any(len(row.labels) > 1 for row in rows):
            return  # so the separator is right
        multiclass = self.task == "multiclass"
        for row in rows:
            for char in _SEPARATORS[: 4 if multiclass else 5]:
                parts = [part.strip() for part in "".join(row.labels).split(char)]
                if len(parts) > 1 and names.issuperset(parts):
                    flag = "--task multilabel and " if multiclass else ""
                    raise DataError(
                        f"{row.where}: label {row.labels[0]!r} is made of {' and '.join(map(repr, parts))}, labels of "
                        f"their own; give {flag}--label-separator {_spell(char)}, or rename it if it is one label"
                    )

    def _check_first(self, row: _Row) -> None:
        """Raise DataError where the first photograph is not there: then a folder or suffix is missing for all."""
        path = inside(self._folder, row.path, row.where)
        if path.is_file():
            return
        near = sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
        there = sorted(child for child in self._folder.glob("*/") if (child / row.path).is_file())
        hint = "give the folder of the photographs with --root or --images"
        if near:
            hint = f"there is {near[0].name}: give --suffix {near[0].name.removeprefix(path.name)}"
        elif there:
            hint = f"it is in {there[0]}: give --images {there[0].relative_to(self.root).as_posix()}"
        raise DataError(f"{row.where}: {path} is missing; {hint}")


def read_cells(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the rows that are not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give the table's name with --table") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text; save it as such") from None
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; correct the line, or the separator") from None


def _refuse_voc_list(path: Path, number: int, cells: Sequence[str]) -> None:
    line = " ".join(cells)
    if re.fullmatch(r"\S+\s+(-1|0|1)", line.strip()) and not is_image(line.split()[0]):
        raise DataError(
            f"{path}:{number}: {line!r} is of a list of PASCAL VOC; use --source voc and give as --root the folder "
            "that holds JPEGImages and ImageSets"
        )


def _again(first: tuple[int, list[str]], rest: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


def _character(given: str, flag: str) -> str:
    character = _SPELLED.get(given, given)
    if len(character) != 1 or character in '"\r\n\0':
        raise DataError(f"{flag} is {given!r}; give one character, or tab or space")
    return character


def _spell(character: str) -> str:
    return {"\t": "tab", " ": "space"}.get(character, f"'{character}'")


def _split(cell: str, where: str) -> str:
    name = cell.strip()
    if not name:
        raise DataError(f"{where}: no split; give one for every image, or leave the column out")
    numbered = re.search(r"\d", name)  # test1 and test2 stay two splits
    return name if numbered else split_named(name) or name


def _guess(header: Sequence[str]) -> list[str]:
    """Name the columns of a table whose first line is data: the image's path, and labels next to it."""
    at = next((number for number, cell in enumerate(header) if is_image(cell)), 0)
    names = [f"column{number}" for number in range(1, len(header) + 1)]
    names[at] = "path"
    if len(header) > 1:
        names[at + 1 if at + 1 < len(header) else at - 1] = "labels"
    return names


def _refuse_vectors(rows: Sequence[_Row], names: set[str]) -> None:
    """Raise DataError where each cell is a vector of 0 and 1, a place per class: every image would show both."""
    width = len(rows[0].labels)
    if names <= {"0", "1"} and width > 1 and all(len(row.labels) == width for row in rows):
        raise DataError(
            f"{rows[0].where}: {' '.join(rows[0].labels)[:60]!r} is a vector of 0 and 1, as every cell is; a cell "
            "holds the labels that are shown: write their names"
        )


def _refuse_repeated(rows: Sequence[_Row]) -> None:
    seen: dict[str, str] = {}  # so that a.jpg and ./a.jpg are one image
    for row in rows:
        path = normpath(row.path)
        if path in seen:
            raise DataError(
                f"{row.where}: {row.path!r} stands at {seen[path]} already; put all its labels into one row"
            )
        seen[path] = row.where
