"""The cells of a CSV file, row by row, and what goes wrong where a quote or the encoding is."""

import codecs
import csv
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from shards.errors import DataError
from shards.host.picture_files import is_image


def read_cells(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the rows that are not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); give the table's name with --table"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text; {_encoding(path)}") from None
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: {error}; correct the line, or the separator"
        ) from None


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
        return "it is UTF-16: save it as UTF-8, or convert it with iconv -f UTF-16 -t UTF-8"
    return "save it as such, or convert it with iconv, such as iconv -f WINDOWS-1252 -t UTF-8"


def refuse_swallowed(
    cells: Sequence[str], separator: str, where: str, never: Collection[int | None]
) -> None:
    """Raise DataError for a cell with a line break that is a row, swallowed by a quote that nobody
    closed.

    `never` are the positions of columns in which no cell has a line break.
    """
    for at, cell in enumerate(cells):
        if "\n" not in cell and "\r" not in cell:
            continue
        below = [
            part.strip(' "')
            for line in cell.strip().splitlines()[1:]
            for part in line.split(separator)
        ]
        if any(map(is_image, below)) or (at in never and cell.strip().splitlines()[1:]):
            raise DataError(
                f"{where}: the cell {cell.strip()[:60]!r} goes on over several lines; close its "
                "quote, or remove the line break"
            )
