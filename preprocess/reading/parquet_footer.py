"""What the footer of a Parquet file says of the columns in each row group.

pyarrow ends the process where some of these numbers are damaged, so they are read here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocess.reading.thrift import read_struct
from shards.errors import DataError, one_line

_MAX_BYTES = 256 << 20
_CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")


@dataclass(frozen=True)
class FooterColumn:
    """A column in a row group; `name` has the names of what it is in before it, with dots."""

    name: str
    codec: str
    num_values: int
    num_nulls: int | None
    start: int  # of its pages, in the file
    length: int
    size: int  # unpacked


@dataclass(frozen=True)
class FooterGroup:
    """A row group."""

    num_rows: int
    columns: tuple[FooterColumn, ...]


def read_footer(path: Path) -> tuple[FooterGroup, ...]:
    """Read the row groups of a file. Raises DataError where it is none, or damaged."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8))
            end = file.read(8)
            length = int.from_bytes(end[:4], "little")
            if end[4:] != b"PAR1" or not 0 < length <= min(size - 8, _MAX_BYTES):
                raise ValueError("no footer of Parquet at its end")
            file.seek(size - 8 - length)
            fields, _ = read_struct(file.read(length))
        return tuple(_group(group) for group in fields[4])
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); get the file again") from None


def _group(fields: dict[int, Any]) -> FooterGroup:
    return FooterGroup(_number(fields, 3), tuple(_column(column[3]) for column in fields[1]))


def _column(fields: dict[int, Any]) -> FooterColumn:
    start = _number(fields, 9)
    dictionary = fields.get(11)
    if isinstance(dictionary, int) and 0 < dictionary < start:
        start = dictionary
    nulls = fields.get(12, {}).get(3)
    codec = _number(fields, 4)
    return FooterColumn(
        ".".join(part.decode() for part in fields[3]),
        _CODECS[codec] if codec < len(_CODECS) else str(codec),
        _number(fields, 5),
        nulls if isinstance(nulls, int) else None,
        start,
        _number(fields, 7),
        _number(fields, 6),
    )


def _number(fields: dict[int, Any], key: int) -> int:
    value = fields[key]
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"field {key} of its footer is {value!r:.40}")
    return value
