"""Read photographs and labels from a table: a CSV or TSV file of paths and labels, perhaps also
splits.
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from preprocess.reading.class_names import normal_form, tidy
from preprocess.reading.labelcells import read_column
from preprocess.reading.labelcolumns import (
    LabelColumns,
    are_certainly_classes,
    chosen,
    find_label_columns,
    suggested,
)
from preprocess.reading.paths import inside, short_names
from preprocess.reading.separators import NO_SEPARATOR
from preprocess.reading.split_names import in_split_order, split_named
from preprocess.reading.tablecells import read_cells, refuse_swallowed
from preprocess.reading.unicode_files import FilesByForm
from preprocess.record import Record, Source
from preprocess.sources.csv_tables import (
    TableRow,
    check_first_image,
    find_tables,
    refuse_header,
    refuse_own_header,
    refuse_repeated_images,
    refuse_voc_list,
)
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.index import Task

_SPELLED = {"tab": "\t", "\\t": "\t", "space": " ", "newline": "\n", NO_SEPARATOR: NO_SEPARATOR}


_MORE = ", or columns of 0 and 1 with --label-columns (--unknown says which values nobody knows)"


@dataclass(frozen=True)
class _Columns:
    """Positions of columns: either `labels`, or `classes` with what their cells mean."""

    path: int
    split: int | None
    labels: int | None
    classes: tuple[int, ...]
    meaning: LabelColumns | None


@dataclass
class CSV(Source):
    """A source over tables of paths, relative to the folder of the photographs, and labels by name.

    Classes are the labels that occur, sorted (as numbers where all are), or the columns of 0 and 1.
    One table without a column of splits gives split `all`; several give a split each, named by the
    file, or by its folder. Raises DataError with the line for what does not fit.
    """

    root_holds = "the folder that holds the table and the photographs"
    example = "--root photos --table labels.csv --out data/photos --val-fraction 0.2"

    root: Path
    table: str = option(
        "",
        "file of paths and labels below root; train.csv,val.csv makes each a split; default: the "
        "only table there",
    )
    images: str = option(
        "", "folder below root that paths in the table count from; root itself where not given"
    )
    columns: str = option(
        "", "names of the columns of a table without header line, such as path,labels"
    )
    path_column: str = option("path", "column of the images' paths")
    label_column: str = option(
        "labels", "column of the labels' names; an empty cell is an image without any"
    )
    label_columns: str = option(
        "",
        "columns of 0 and 1, one per class: cat,dog or first..last; default: all, where nothing "
        "else is there",
    )
    unknown: str = option(
        "", "values in columns of 0 and 1 that nobody knows, which become ignored: -1 or -1,blank"
    )
    negative: str = option(
        "", "values in columns of 0 and 1 that mean not shown, besides 0: -1 or blank"
    )
    split_column: str = option("", "column of the split's names; default: split, if there is one")
    separator: str = option(
        "", "between columns: a character or tab; default: a comma, in .tsv files a tab"
    )
    label_separator: str = option(
        "",
        "between labels in a cell: a character, space, tab, or none; default: the one that the "
        "column shows",
    )
    suffix: str = option("", "put behind every path, such as .jpg where the table has bare names")
    task: Task = option("multilabel", "multiclass: the whole cell is the one label of its image")

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise DataError(
                f"{self.root} is not a folder; give {self.root_holds}, and the table's name with "
                f"--table"
            )
        if self.task == "multiclass" and self.label_separator:
            raise DataError(
                "--label-separator parts several labels, --task multiclass has one a cell; leave "
                "it out"
            )
        self._folder = inside(self.root, self.images, "--images") if self.images else self.root
        self._between = (
            _character(self.label_separator, "--label-separator") if self.label_separator else ""
        )
        self._files = FilesByForm()
        # the first table's columns of 0 and 1; () where it has names
        self._classes: tuple[str, ...] | None = None
        self._split_columns: set[str] = set()
        self._several_forms = False  # of names in the cells
        tables = find_tables(self.root, self.table)
        self._names = [path.relative_to(self.root).as_posix() for path, _ in tables]
        rows = [row for path, split in tables for row in self._read(path, split)]
        self._rows: dict[str, list[TableRow]] = {}
        for row in rows:
            self._rows.setdefault(row.split, []).append(row)
        refuse_repeated_images(rows)
        check_first_image(self.root, self._folder, rows[0], self._files)
        self._labels, self._how = self._of_columns(rows) if self._classes else self._of_cells(rows)
        self.class_names = self._classes or _sorted(
            {name for shown, _ in self._labels.values() for name in shown}
        )
        if not self.class_names:
            raise DataError(
                f"{rows[0].where.rpartition(':')[0]}: column {self.label_column!r} is empty in "
                "every row; name the one that holds the labels with --label-column"
            )

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the tables name, or ("all",)."""
        return in_split_order(list(self._rows))

    def records(self, split: str) -> list[Record]:
        """List the photographs of a split in the order of the table. Raises DataError for an
        unknown one.
        """
        if split not in self._rows:
            raise DataError(
                f"split {split!r} is in no table of {self.root}; there are: "
                f"{', '.join(self.splits())}"
            )
        rows = self._rows[split]
        index = {name: number for number, name in enumerate(self.class_names)}
        records = []
        for name, row in zip(
            short_names([row.folder + row.path for row in rows]), rows, strict=True
        ):
            path = inside(self._folder / row.folder, row.path, row.where)
            stored = self._files.stored(self._folder, path, row.where)
            source = path.relative_to(self.root).as_posix()
            labels, ignored = (
                tuple(sorted({index[one] for one in part})) for part in self._labels[row.cell]
            )
            records.append(Record(name, stored, source, labels, ignored))
        return records

    def describe(self) -> list[str]:
        """Say which columns of which tables were read, what separates labels, and where splits are
        from.
        """
        lines = [f"labels: {self._how} of {' and '.join(self._names)}"]
        if self._split_columns:
            lines.append(f"splits: column {' and '.join(map(repr, sorted(self._split_columns)))}")
        elif len(self._names) > 1:
            lines.append("splits: one a table")
        if self._several_forms:
            lines.append(
                "class names: some are in another Unicode form than NFC; the forms of a name are "
                "one class"
            )
        return lines

    # labels: by cell, the names shown and the names that nobody knows

    def _of_cells(
        self, rows: Sequence[TableRow]
    ) -> tuple[dict[Hashable, tuple[tuple[str, ...], ...]], str]:
        if self.unknown or self.negative:
            raise DataError(
                "--unknown and --negative say what columns of 0 and 1 mean, labels here are names "
                "in one"
            )
        first: dict[str, str] = {}
        for row in rows:
            first.setdefault(str(row.cell), row.where)
        self._several_forms = any(normal_form(cell) != cell for cell in first)
        where = first.pop("", None)
        if where is not None and self.task == "multiclass":
            raise DataError(
                f"{where}: no label in column {self.label_column!r}; with --task multiclass give "
                f"one"
            )
        if not first:
            return {"": ((), ())}, ""
        column = read_column(first, self._between, self.task == "multiclass")
        labels: dict[Hashable, tuple[tuple[str, ...], ...]] = {
            cell: (of, ()) for cell, of in column.labels.items()
        }
        return labels | {"": ((), ())}, f"column {self.label_column!r}, {column.how},"

    def _of_columns(
        self, rows: Sequence[TableRow]
    ) -> tuple[dict[Hashable, tuple[tuple[str, ...], ...]], str]:
        assert self._classes
        if self.label_separator:
            raise DataError(
                "--label-separator is of labels in one cell, here is a column of 0 and 1 per class"
            )
        labels = {row.cell: row.cell for row in rows}
        ends = dict.fromkeys((self._classes[0], self._classes[-1]))
        num = count_of(len(self._classes), "class")
        how = f"columns of 0 and 1, {' to '.join(map(repr, ends))} ({num})"
        if self.unknown:
            how += f", {self.unknown} ignored"
        if self.negative:
            how += f", {self.negative} negative"
        return labels, f"{how},"  # type: ignore[return-value]

    # tables

    def _read(self, path: Path, split: str) -> Iterator[TableRow]:
        separator = self._column_separator(path)
        lines = read_cells(path, separator)
        number, header = next(lines, (0, []))
        if not header:
            raise DataError(f"{path} is empty; it should hold a header line and a line per image")
        refuse_voc_list(path, number, header)
        if self.columns:
            rows = [(number, header), *islice(lines, 1)]
            header = [name.strip() for name in self.columns.split(",")]
            asked = {"--path-column": self.path_column, "--label-column": self.label_column}
            refuse_own_header(path, rows, header, asked, (self._folder, self.suffix))
            lines = chain(rows, lines)
        if tidy(self.path_column) not in map(tidy, header):
            cells = [name.strip() for name in header]
            refuse_header(path, cells, separator, self.path_column, self._folder)
        header = [tidy(name) for name in header]
        columns = self._find_columns(path, header)
        folder: str | None = None
        for number, cells in lines:
            where = f"{path}:{number}"
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: {count_of(len(cells), 'value')} for "
                    f"{count_of(len(header), 'column')} ({', '.join(header)}); quote a value "
                    "that holds the separator, or give another one with --separator"
                )
            refuse_swallowed(cells, separator, where, (columns.path, columns.split))
            name = self._path_of(path, cells[columns.path].strip() + self.suffix)
            folder = self._folder_of(path, name, where) if folder is None else folder
            named = split if columns.split is None else _split(cells[columns.split], where)
            yield TableRow(where, folder, name, self._cell(cells, columns, where), named)
        if folder is None:
            raise DataError(f"{path} has a header line and nothing else; add a line per image")

    def _cell(self, cells: Sequence[str], columns: _Columns, where: str) -> Hashable:
        if columns.labels is not None:
            return cells[columns.labels].strip()
        assert columns.meaning is not None
        labels, ignored = columns.meaning.read([cells[at] for at in columns.classes], where)
        if self.task == "multiclass" and (len(labels) != 1 or ignored):
            raise DataError(
                f"{where}: {count_of(len(labels), 'column is', 'columns are')} 1, {len(ignored)} "
                "unknown; with --task multiclass exactly one is 1"
            )
        return labels, ignored

    def _path_of(self, table: Path, given: str) -> str:
        """Write a path of Windows, train\\1.jpg, with slashes, unless a file has that very name."""
        if "\\" not in given or "\0" in given:
            return given
        there = any((folder / given).is_file() for folder in (self._folder, table.parent))
        return given if there else given.replace("\\", "/")

    def _folder_of(self, table: Path, name: str, where: str) -> str:
        """Return the folder in which a table's paths count: its own, such as train/, if only there
        the first is.
        """
        own = table.parent.relative_to(self.root).as_posix() + "/"
        if (
            self.images
            or table.parent == self.root
            or not name
            or self._files.find(self.root, name, where).is_file()
        ):
            return ""
        return own if self._files.find(table.parent, name, where).is_file() else ""

    def _column_separator(self, path: Path) -> str:
        return _character(
            self.separator or ("tab" if path.suffix.lower() == ".tsv" else ","), "--separator"
        )

    def _find_columns(self, path: Path, header: list[str]) -> _Columns:
        """Return the positions of the columns. Raises DataError that says what the header is
        instead.
        """
        names = {"path": self.path_column, "split": self.split_column, "label": self.label_column}
        classes = self._class_columns(path, header)
        if classes:
            del names["label"]
        missing = [flag for flag, name in names.items() if name and tidy(name) not in header]
        twice = [flag for flag, name in names.items() if name and header.count(tidy(name)) > 1]
        for found, odd in (("has no", missing), ("has more than one", twice)):
            if odd:
                raise DataError(
                    f"{path} {found} column {' or '.join(repr(names[flag]) for flag in odd)}; it "
                    f"has {', '.join(map(repr, header))}: give one with "
                    f"{' and '.join(f'--{flag}-column' for flag in odd)}"
                    f"{_MORE if 'label' in odd else ''}"
                )
        split = tidy(self.split_column) or ("split" if "split" in header else "")
        if split:
            self._split_columns.add(split)
        split_at = header.index(split) if split else None
        path_at = header.index(tidy(self.path_column))
        if not classes:
            return _Columns(path_at, split_at, header.index(tidy(self.label_column)), (), None)
        meaning = LabelColumns(classes, self.unknown, self.negative)
        return _Columns(path_at, split_at, None, tuple(map(header.index, classes)), meaning)

    def _class_columns(self, path: Path, header: list[str]) -> tuple[str, ...]:
        """Name the columns of 0 and 1, one per class; none where a column holds labels by name."""
        # the last: of pandas
        known = [tidy(self.path_column), tidy(self.split_column) or "split", "", "Unnamed: 0"]
        if self.label_columns:
            if self.label_column != CSV.label_column:
                raise DataError(
                    "--label-column names one column, --label-columns one per class; leave one of "
                    "them out"
                )
            classes = tuple(chosen(self.label_columns, header, path))
        elif tidy(self.label_column) in header or known[0] not in header:
            classes = ()
        else:
            rows = read_cells(path, self._column_separator(path))
            if not self.columns:
                next(rows)
            meant = ",".join(filter(None, (self.unknown, self.negative)))
            classes = tuple(find_label_columns(header, rows, known, meant))
            rest = set(header).difference(classes, known)
            if classes and (
                rest or self.label_column != CSV.label_column or not are_certainly_classes(classes)
            ):
                raise DataError(
                    f"{path} has no column {self.label_column!r}; give one with --label-column, or "
                    "if the columns of 0 and 1 are classes: --label-columns "
                    f"{suggested(classes, header)}"
                )
        if self._classes is not None and set(classes) != set(self._classes):
            odd = min(set(classes) ^ set(self._classes))
            raise DataError(
                f"{path}: column {odd!r} is not a class in every table; give all of them the same "
                f"classes"
            )
        if self._classes is None:
            self._classes = classes
        return classes


def _character(given: str, flag: str) -> str:
    character = _SPELLED.get(given, given)
    if flag == "--label-separator" and given in (NO_SEPARATOR, "newline"):
        return character
    if len(character) != 1 or character in '"\r\n\0':
        raise DataError(f"{flag} is {given!r}; give one character, or tab or space")
    return character


def _split(cell: str, where: str) -> str:
    name = cell.strip()
    if not name:
        raise DataError(f"{where}: no split; give one for every image, or leave the column out")
    numbered = re.search(r"\d", name)  # test1 and test2 stay two splits
    return name if numbered else split_named(name) or name


def _sorted(names: set[str]) -> tuple[str, ...]:
    numbers = all(re.fullmatch(r"-?\d{1,9}", name) for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if numbers else None))
