"""Read photographs and labels from a Hugging Face dataset folder: Parquet files, or `save_to_disk`."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from preprocess.reading.class_names import tidy
from preprocess.reading.labelcolumns import LabelColumns, chosen
from preprocess.reading.memberlabels import refuse_vectors
from preprocess.reading.paths import inside
from preprocess.reading.split_names import in_split_order
from preprocess.reading.unicode_files import FilesByForm
from preprocess.record import MAX_CLASSES, Record, Source
from preprocess.sources.hf_features import feature_at, find_features, is_image_feature, label_names
from preprocess.sources.hf_files import SUFFIXES, find_files
from preprocess.sources.hf_labels import Label, NoLabelError, inner_value, read_value_of
from preprocess.sources.hf_tables import ArrowTable, HfRow, ParquetTable, image_kind, open_table
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.index import Task

if TYPE_CHECKING:
    import pyarrow

_IMAGES = ("image", "img", "jpg", "png", "picture", "photo")
_LABELS = ("label", "labels")
_NAMED = 3  # in a line about many

MissingFiles = Literal["refuse", "skip"]
Row = tuple[HfRow, tuple[Label, ...], tuple[Label, ...], Path]


@dataclass
class HF(Source):
    """A source over the files of a Hugging Face dataset, as a download leaves them; no network is used.

    Parquet files hold the images, as bytes or as paths; folders of `save_to_disk` are read too. A
    column of single labels makes the task multiclass, a column of lists, or of 0 and 1 per class,
    multilabel. Names of classes come from the file's own description (ClassLabel), or from
    dataset_infos.json or README.md. Raises DataError for what does not fit.
    """

    root_holds = "the folder of the downloaded dataset, with README.md and the .parquet files"
    example = "--root beans --out data/beans"

    root: Path
    config_name: str = option("", "configuration (subset) of the dataset, where there are several")
    image_column: str = option("", "column of the images; default: the only one of type Image")
    label_column: str = option(
        "",
        "column of the labels, also one inside another: objects.category; default: label, labels",
    )
    label_columns: str = option("", "columns of 0 and 1, one per class: cat,dog or first..last")
    unknown: str = option("", "values in columns of 0 and 1 that become ignored: -1 or -1,blank")
    negative: str = option("", "values in columns of 0 and 1 that mean not shown, besides 0")
    images: str = option("", "folder below root that paths in a column of paths count from")
    missing_files: MissingFiles = option(
        "refuse", "what becomes of a series of files of which some are not there: refuse, or skip"
    )

    def __post_init__(self) -> None:
        if self.missing_files not in get_args(MissingFiles):
            raise DataError(f"--missing-files is {self.missing_files!r}: give refuse or skip")
        if importlib.util.find_spec("pyarrow") is None:
            raise DataError(
                "--source hf needs the package pyarrow: pip install 'tarmac-vision[hf]'"
            )
        if self.root.suffix.lower() in SUFFIXES and self.root.is_file():
            raise DataError(f"{self.root} is one file; give its folder, --root {self.root.parent}")
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give {self.root_holds}")
        self._files = find_files(self.root, self.config_name)
        self._refuse_missing()
        first = open_table(self._files.splits[self.splits()[0]][0])
        self._first = first.path
        self._has_splits = "split" in first.schema.names
        self._features = find_features(first.schema.metadata, self.root, self._files.config)
        self._image = self._find_image(first)
        self._columns = self._find_labels(first)
        self._names = self._find_names(first)
        self.task: Task = "multilabel" if self._is_list(first) else "multiclass"
        self._on_disk = FilesByForm()
        self._below: dict[Path, str] = {}
        self._rows: dict[str, list[Row]] = {}  # of splits read for the names of classes
        self.class_names = self._names or self._occurring()

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the files are of."""
        return in_split_order(list(self._files.splits))

    def records(self, split: str) -> list[Record]:
        """List the images of a split, file by file. Raises DataError for an unknown one."""
        if split not in self._files.splits:
            raise DataError(
                f"split {split!r} is not in {self.root}; there are: {', '.join(self.splits())}"
            )
        index: dict[Label, int] = {name: number for number, name in enumerate(self.class_names)}
        records = []
        for row, labels, ignored, path in self._rows.pop(split, None) or self._read(split):
            numbers, unsure = (
                tuple(sorted({index[str(label)] for label in part})) for part in (labels, ignored)
            )
            records.append(self._record(row, numbers, unsure, path))
        return records

    def describe(self) -> list[str]:
        """Say which columns of which files were read."""
        column = f"column {self._columns[0]!r}"
        if self.label_columns:
            column = f"columns of 0 and 1, {self._columns[0]!r} to {self._columns[-1]!r}"
        named = ", its classes have names" if self._names and not self.label_columns else ""
        lines = [f"labels: {column}{named}; images: column {self._image!r}"]
        if self._files.config:
            lines.append(f"configuration {self._files.config}")
        for split, files in self._files.splits.items():
            some = ", ".join(path.relative_to(self.root).as_posix() for path in files[:_NAMED])
            more = f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else ""
            lines.append(f"split {split}: {some}{more}")
        if self._has_splits:
            lines.append("left aside: column 'split', since files and folders name the splits")
        if self._files.missing:
            lines.append(f"left out: {count_of(len(self._files.missing), 'file')} not there")
        return lines

    def _record(
        self, row: HfRow, labels: tuple[int, ...], ignored: tuple[int, ...], file: Path
    ) -> Record:
        """Name the image after its file and row."""
        if file not in self._below:  # once a file: it takes a third of the time
            self._below[file] = file.relative_to(self.root).as_posix()
        below = self._below[file]
        name = f"{below.rpartition('.')[0]}/{row.number:06d}"
        where = f"{below}:{row.number}"
        if isinstance(row.image, Record):
            return replace(row.image, name=name, source=where, labels=labels, ignored=ignored)
        if not row.image:
            return Record(name, file, where, labels, ignored, data=b"")
        folder = inside(self.root, self.images, "--images") if self.images else file.parent
        image = row.image.replace("\\", "/")
        at = f"{file}: row {row.number}"
        path = self._on_disk.find(folder, image, at)
        if not self.images and not path.is_file():
            above = self._on_disk.find(self.root, image, at)
            path = above if above.is_file() else path
        return Record(name, path, where, labels, ignored)

    # labels

    def _read(self, split: str) -> list[Row]:
        """Read the labels of a split."""
        rows = [row for path in self._files.splits[split] for row in self._of_file(path)]
        inner = "." in self._columns[0]  # of objects: [1, 0] are the classes of two
        if self.task == "multilabel" and not self.label_columns and not inner:
            number: dict[Label, Label] = {name: at for at, name in enumerate(self._names or ())}
            samples = (
                (f"{path}: row {row.number}", tuple(number.get(label, label) for label in labels))
                for row, labels, _, path in rows
            )
            if len(number) != 2:  # of two named classes [1, 0] is both
                more = "or give columns of 0 and 1 with --label-columns"
                refuse_vectors(samples, len(number), more)
        return rows

    def _of_file(self, path: Path) -> Iterator[Row]:
        table = open_table(path)
        self._check_columns(table)
        meaning = (
            LabelColumns(self._columns, self.unknown, self.negative) if self.label_columns else None
        )
        for row in table.rows(self._columns, self._image):
            where = f"{path}: row {row.number}"
            if meaning is not None:
                labels, ignored = meaning.read([_cell(value) for value in row.values], where)
                yield row, labels, ignored, path
                continue
            (value,) = row.values
            if self._columns[0] not in table.schema.names:
                value = inner_value(value, self._columns[0].split(".")[1:])
            if value is None and self.task == "multilabel":
                raise NoLabelError(
                    f"{where} has null for its list of labels; write an empty list, or leave the "
                    "split out with --splits if it has no labels"
                )
            if not isinstance(value, list) and self.task == "multilabel":
                value = [value]
            yield row, read_value_of(value, self._names, f"{where}, {self._columns[0]}"), (), path

    def _occurring(self) -> tuple[str, ...]:
        """Name the classes that occur, in all splits; one without labels is refused by `records`."""
        unlabelled: list[NoLabelError] = []
        for split in self.splits():
            try:
                self._rows[split] = self._read(split)
            except NoLabelError as error:
                unlabelled.append(error)
        found = {
            label for rows in self._rows.values() for _, labels, _, _ in rows for label in labels
        }
        if not found and unlabelled:
            raise unlabelled[0]
        if not found:
            raise DataError(
                f"{self.root}: column {self._columns[0]!r} holds no label; give --label-column"
            )
        if len(found) > MAX_CLASSES:
            raise DataError(
                f"{self.root}: column {self._columns[0]!r} holds {count_of(len(found), 'label')}; "
                f"{MAX_CLASSES:,} "
                "are the most: give --label-column"
            )
        numbers = sorted(label for label in found if isinstance(label, int))
        return (*map(str, numbers), *sorted(label for label in found if isinstance(label, str)))

    def _find_names(self, table: ParquetTable | ArrowTable) -> tuple[str, ...] | None:
        if self.label_columns:
            return tuple(tidy(column) for column in self._columns)
        where = f"{table.path}: column {self._columns[0]!r}"
        return label_names(feature_at(self._features, self._columns[0]), where)

    def _is_list(self, table: ParquetTable | ArrowTable) -> bool:
        if self.label_columns:
            return True
        import pyarrow.types as types

        top, *parts = self._columns
        if top in table.schema.names:
            return _is_list_type(table.schema.field(top).type)
        kind = table.schema.field(top.partition(".")[0]).type
        for part in [*top.split(".")[1:], *parts]:
            if _is_list_type(kind):
                return True
            at = kind.get_field_index(part) if types.is_struct(kind) else -1
            if at < 0:
                self._refuse_column("label", top, table)
            kind = kind.field(at).type
        return _is_list_type(kind)

    # columns

    def _find_image(self, table: ParquetTable | ArrowTable) -> str:
        names = table.schema.names
        if self.image_column:
            if image_kind(table.schema, self.image_column) is None:
                self._refuse_column("image", self.image_column, table)
            return self.image_column
        found = [name for name in names if is_image_feature(self._features.get(name))]
        found = found or [name for name in names if image_kind(table.schema, name) == "struct"]
        found = found or [name for name in _IMAGES if image_kind(table.schema, name)]
        usual = [name for name in found if name in _IMAGES[:1]]
        if len(found) == 1 or usual:
            return (usual or found)[0]
        self._refuse_column("image", "", table, found)
        raise AssertionError

    def _find_labels(self, table: ParquetTable | ArrowTable) -> tuple[str, ...]:
        names = table.schema.names
        if self.label_columns:
            if self.label_column:
                raise DataError(
                    "--label-column names one column, --label-columns one per class; give one"
                )
            return tuple(chosen(self.label_columns, names, table.path))
        if self.unknown or self.negative:
            raise DataError(
                "--unknown and --negative say what columns of 0 and 1 mean; give --label-columns"
            )
        if self.label_column:
            if self.label_column.partition(".")[0] not in names and self.label_column not in names:
                self._refuse_column("label", self.label_column, table)
            return (self.label_column,)
        found = [name for name in _LABELS if name in names]
        found = found or [name for name in names if label_names(self._features.get(name), name)]
        if len(found) != 1:
            self._refuse_column("label", "", table, found)
        return (found[0],)

    def _refuse_column(
        self, kind: str, name: str, table: ParquetTable | ArrowTable, found: list[str] | None = None
    ) -> None:
        """Raise DataError that shows which columns there are."""
        what = (
            f"no column {name!r}"
            if name and name not in table.schema.names
            else f"no {kind} column"
        )
        if name in table.schema.names:
            what = (
                f"no {kind}s in column {name!r}, of type {str(table.schema.field(name).type)[:60]}"
            )
        elif found:
            what = f"several {kind} columns, {', '.join(found[:20])}"
        there = ", ".join(map(repr, table.schema.names))[:1000]
        more = ", or columns of 0 and 1 with --label-columns" if kind == "label" else ""
        raise DataError(
            f"{table.path} has {what}; it has {there}: give one with --{kind}-column{more}"
        )

    def _check_columns(self, table: ParquetTable | ArrowTable) -> None:
        """Raise DataError where a later file lacks a column, or describes other classes."""
        names = table.schema.names
        if self._image not in names:
            self._refuse_column("image", self._image, table)
        for column in self._columns:
            if column not in names and column.partition(".")[0] not in names:
                raise NoLabelError(
                    f"{table.path} has no column {column!r}, {self._first.name} has; leave its "
                    "split out with --splits if it has no labels"
                )
        features = find_features(table.schema.metadata, self.root, self._files.config)
        classes = label_names(feature_at(features, self._columns[0]), str(table.path))
        if not self.label_columns and classes != self._names:
            raise DataError(
                f"{table.path} names other classes than {self._first}; take files of one dataset"
            )

    def _refuse_missing(self) -> None:
        missing = self._files.missing
        if missing and self.missing_files == "refuse":
            raise DataError(
                f"{self.root}: {missing[0]} is not there, and {len(missing) - 1:,} more of its kind; get "
                "them, or pack what is there with --missing-files skip"
            )


def _is_list_type(kind: "pyarrow.DataType") -> bool:
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _cell(value: Any) -> str:
    """Write a value of a column of 0 and 1 as a table of text has it."""
    return "" if value is None else str(value)
