"""Read the columns of Parquet and Arrow files in batches, and say where in them each image is.

An image stays where it is until it is packed: in an Arrow file it is a span of bytes, in a Parquet
file a row of a row group.
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from preprocess.reading.parquet_footer import FooterGroup, read_footer
from preprocess.reading.parquet_pages import ColumnChunk, UnknownPages, read_value
from preprocess.reading.paths import inside
from preprocess.record import MAX_BYTES, MAX_CLASSES, Record
from shards.errors import DataError, count_of, one_line

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

_BATCH = 1024  # rows whose labels are in memory at once
_MAX_LABELS = 1 << 27  # in a row group
_MAX_LABEL_BYTES = 1 << 30


class HfRow(NamedTuple):
    """A row: its number in the file, the values of the label columns, and its image.

    `image` is a record without labels, or the path that a column of paths gives.
    """

    number: int
    values: tuple[Any, ...]
    image: Record | str | None


@dataclass(frozen=True)
class ParquetImage(Record):
    """A photograph in a row of a Parquet file; `aside` is the file that holds it where the row does
    not.
    """

    group: int = 0
    row: int = 0
    leaf: int = 0  # which of the file's columns, counted as its footer does
    aside: str = ""

    def read(self) -> bytes:
        """Read the encoded image. Raises OSError where that is not possible."""
        try:
            value = self._value()
        except MemoryError:
            raise
        except Exception as error:  # on damaged pages pyarrow raises several kinds
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk; pyarrow's have no number
            reason = f"damaged page: {one_line(error)}"
            raise OSError(errno.EINVAL, reason, str(self.path)) from None
        if value is not None:
            return value
        if not self.aside:
            raise OSError(errno.EINVAL, "the row holds no image", str(self.path))
        try:
            path = inside(self.path.parent, self.aside, str(self.path))
        except DataError as error:
            raise OSError(errno.EINVAL, one_line(error), str(self.path)) from None
        return Record(self.name, path, self.source, (), ()).read()

    def num_bytes(self) -> int:
        """Return the size of the file: that of an image is known only when it is read."""
        try:
            return self.path.stat().st_size
        except OSError:
            return -1

    def _value(self) -> bytes | None:
        try:
            chunk = _chunk(self.path, self.path.stat().st_mtime_ns, self.leaf, self.group)
            return read_value(self.path, chunk, self.row)
        except UnknownPages:
            found = _row_group(self.path, self.leaf, self.group)[self.row].as_py()
            return found if found is None else bytes(found)


def open_table(path: Path) -> "ParquetTable | ArrowTable":
    """Open a file by its suffix. Raises DataError where it is damaged."""
    return ParquetTable(path) if path.suffix.lower() == ".parquet" else ArrowTable(path)


class ParquetTable:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)
        self.schema: pyarrow.Schema = self._file.schema_arrow
        self._groups = read_footer(path)

    def rows(self, labels: Sequence[str], image: str) -> Iterator[HfRow]:
        """Yield the rows: values of the columns `labels`, and the image in column `image`."""
        kind = image_kind(self.schema, image)
        if kind is None:
            raise DataError(f"{self.path} has no images in column {image!r}")
        leaf = self._leaf(f"{image}.bytes" if kind == "struct" else image)
        labels = [self._readable(name) for name in labels]
        more = {"struct": [f"{image}.path"], "path": [image], "bytes": []}[kind]
        if kind == "struct" and "path" not in {
            field.name for field in self.schema.field(image).type
        }:
            more = []
        first = 0
        for group, described in enumerate(self._groups):
            self._check(described, labels)
            nulls = kind != "path" and described.columns[leaf].num_nulls != 0
            for at, values in enumerate(self._batches(group, [*labels, *more])):
                *found, given = values if more else (*values, None)
                path = given.get("path") if isinstance(given, dict) else given
                if kind == "path":
                    yield HfRow(first + at, tuple(found), path)
                else:
                    aside = path if nulls and isinstance(path, str) else ""
                    record = ParquetImage(
                        "", self.path, "", (), (), None, None, group, at, leaf, aside
                    )
                    yield HfRow(first + at, tuple(found), record)
            first += described.num_rows

    def _batches(self, group: int, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of each row; of a column inside another all that holds it."""
        if not columns:
            yield from (() for _ in range(self._groups[group].num_rows))
            return
        top = [
            column.partition(".")[0] if not self._is_top(column) else column for column in columns
        ]
        try:
            read = self._file.iter_batches(_BATCH, row_groups=[group], columns=list(columns))
            for batch in read:
                yield from zip(*(batch.column(name).to_pylist() for name in top), strict=True)
        except (DataError, MemoryError):
            raise
        except Exception as error:
            raise _damaged(self.path, error) from None

    def _readable(self, column: str) -> str:
        """Return what pyarrow reads for a column inside another: that, or of a list all of it."""
        kind = None
        for part in column.split("."):
            fields = self.schema if kind is None else kind
            at = fields.get_field_index(part) if kind is None or _is_struct(kind) else -1
            if at < 0:
                return column if self._is_top(column) else column.partition(".")[0]
            kind = fields.field(at).type
        return column

    def _is_top(self, column: str) -> bool:
        return column in self.schema.names

    def _leaf(self, name: str) -> int:
        schema = self._file.schema
        return next((n for n in range(len(schema)) if schema.column(n).path == name), 0)

    def _check(self, group: FooterGroup, labels: Sequence[str]) -> None:
        """Refuse a row group with more labels than there can be: a few bytes may say 10^9 of them."""
        for column in group.columns:
            if not any(f"{column.name}.".startswith(f"{name}.") for name in labels):
                continue
            most = min(_MAX_LABELS, MAX_CLASSES * max(1, group.num_rows))
            if column.num_values > most or column.size > _MAX_LABEL_BYTES:
                raise DataError(
                    f"{self.path}: column {column.name!r} has "
                    f"{count_of(column.num_values, 'value')} in "
                    f"{count_of(group.num_rows, 'row')}; are these labels? Give --label-column"
                )


class ArrowTable:
    """An Arrow file, as `save_to_disk` writes it: mapped into memory, its images are spans of it."""

    def __init__(self, path: Path) -> None:
        import pyarrow

        self.path = path
        try:
            with pyarrow.memory_map(str(path)) as mapped:
                self._buffer = mapped.read_buffer(mapped.size())
            whole = self._buffer.size >= 6 and self._buffer[:6].to_pybytes() == b"ARROW1"
            opened = pyarrow.ipc.open_file if whole else pyarrow.ipc.open_stream
            reader = opened(self._buffer)
            self._batches = (
                [reader.get_batch(n) for n in range(reader.num_record_batches)]
                if whole
                else list(reader)
            )
            self.schema: pyarrow.Schema = reader.schema
            _check_names(self.schema)
        except (OSError, pyarrow.ArrowException, ValueError) as error:
            raise _damaged(path, error) from None

    def rows(self, labels: Sequence[str], image: str) -> Iterator[HfRow]:
        """Yield the rows: values of the columns `labels`, and the image in column `image`."""
        import pyarrow

        kind = image_kind(self.schema, image)
        if kind is None:
            raise DataError(f"{self.path} has no images in column {image!r}")
        number = 0
        tops = [name if name in self.schema.names else name.partition(".")[0] for name in labels]
        for batch in self._batches:
            try:  # offsets of a stranger may lead out of the file
                for name in {*tops, image}:
                    batch.column(name).validate(full=True)
                images = self._images(batch.column(image), kind)
            except DataError:
                raise
            except (pyarrow.ArrowException, ValueError) as error:
                raise _damaged(self.path, error) from None
            columns = [batch.column(name) for name in tops]
            for start in range(0, batch.num_rows, _BATCH):
                parts = [column.slice(start, _BATCH).to_pylist() for column in columns]
                for row in range(start, min(batch.num_rows, start + _BATCH)):
                    values = tuple(part[row - start] for part in parts)
                    yield HfRow(number, values, images[row])
                    number += 1

    def _images(self, column: "pyarrow.Array", kind: str) -> list[Record | str | None]:
        if kind == "path":
            return list(column.to_pylist())
        data = column.field("bytes") if kind == "struct" else column
        names = {field.name for field in column.type} if kind == "struct" else set()
        paths = column.field("path").to_pylist() if "path" in names else [None] * len(column)
        there = data.is_valid().to_pylist()
        spans = self._spans(data)
        return [
            Record("", self.path, "", (), (), span) if is_there else path
            for span, is_there, path in zip(spans, there, paths, strict=True)
        ]

    def _spans(self, data: "pyarrow.Array") -> list[tuple[int, int]]:
        """Return (offset in the file, length) of the values of a binary column."""
        import numpy as np
        import pyarrow

        wide = pyarrow.types.is_large_binary(data.type)
        _, offsets, values = data.buffers()
        ends = (
            np.frombuffer(offsets, np.int64 if wide else np.int32) if offsets else np.zeros(1, int)
        )
        ends = ends[data.offset : data.offset + len(data) + 1].astype(np.int64)
        start = values.address - self._buffer.address if values is not None else 0
        if not 0 <= start <= self._buffer.size:
            raise DataError(
                f"{self.path}: its columns are compressed; save the dataset as Parquet, or again "
                "with save_to_disk"
            )
        return [
            (start + a, b - a) for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        ]


def image_kind(schema: "pyarrow.Schema", column: str) -> str | None:
    """Tell how a column may hold images: struct (bytes and path), bytes, path; None where it cannot."""
    import pyarrow.types as types

    if column not in schema.names:
        return None
    kind = schema.field(column).type
    if _is_struct(kind):
        inner = {field.name: field.type for field in kind}
        is_bytes = "bytes" in inner and _is_binary(inner["bytes"])
        return "struct" if is_bytes else None
    if _is_binary(kind):
        return "bytes"
    return "path" if types.is_string(kind) or types.is_large_string(kind) else None


def _check_names(fields: Iterable["pyarrow.Field"]) -> None:
    """Raise UnicodeDecodeError for a name that is no UTF-8: pyarrow does so when first asked."""
    for field in fields:
        _ = field.name
        _check_names(field.type.field(number) for number in range(field.type.num_fields))


def _is_struct(kind: "pyarrow.DataType") -> bool:
    import pyarrow.types as types

    return bool(types.is_struct(kind))


def _is_binary(kind: "pyarrow.DataType") -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _opened(path: Path) -> "pyarrow.parquet.ParquetFile":
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        _check_names(file.schema_arrow)
        return file
    except (OSError, pyarrow.ArrowException, ValueError) as error:
        raise _damaged(path, error) from None


@lru_cache(512)
def _footer(
    path: Path, changed_ns: int
) -> tuple["pyarrow.parquet.ParquetSchema", tuple[FooterGroup, ...]]:
    return _opened(path).schema, read_footer(path)


@lru_cache(4096)
def _chunk(path: Path, changed_ns: int, leaf: int, group: int) -> ColumnChunk:
    schema, groups = _footer(path, changed_ns)
    described = schema.column(leaf)
    if described.max_repetition_level:
        raise UnknownPages("a list of images")
    if described.physical_type != "BYTE_ARRAY":
        raise UnknownPages(described.physical_type)
    column = groups[group].columns[leaf]
    return ColumnChunk(
        column.start,
        column.length,
        column.codec,
        groups[group].num_rows,
        described.max_definition_level,
    )


@lru_cache(1)
def _row_group(path: Path, leaf: int, group: int) -> Any:
    """Read a column of a whole row group, which may be large."""
    import pyarrow.compute as compute

    file = _opened(path)
    described = read_footer(path)[group].columns[leaf]
    if described.size > MAX_BYTES:
        reason = f"a row group of {count_of(described.size, 'byte')}; write smaller ones"
        raise OSError(errno.EFBIG, reason, str(path))
    name = described.name
    column = file.read_row_group(group, columns=[name])
    if name in column.schema.names:
        return column.column(name)
    top, _, inner = name.partition(".")
    return compute.struct_field(column.column(top), inner)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read ({one_line(error)}); get the file again")
