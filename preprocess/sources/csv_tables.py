"""Find the tables of photographs; the usual mistakes with them, each with the remedy."""

import glob
import re
import shlex
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from posixpath import normpath

from preprocess.reading.paths import inside
from preprocess.reading.separators import as_flag
from preprocess.reading.split_names import split_of
from preprocess.reading.unicode_files import FilesByForm
from shards.errors import DataError
from shards.host.picture_files import is_image, is_junk

_TABLES = (".csv", ".tsv")
_SEPARATORS = (",", ";", "\t", "|", " ")  # what may have been meant
_OF_IMAGES = re.compile("path|file|ima?ge?|photo|picture|name|id", re.IGNORECASE)  # header words
_SURELY = (";", "\t", "|")  # in no name of a column


@dataclass(frozen=True)
class TableRow:
    """A row of a table."""

    where: str  # file:line
    folder: str  # in which the path counts: "", or that of its table, such as train/
    path: str
    cell: Hashable  # of labels, as it is there, or what the columns of 0 and 1 say
    split: str


def find_tables(root: Path, given: str) -> list[tuple[Path, str]]:
    """List (table, its split) of those that --table names: `all` where it is the only one."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        there = (path.name for path in root.iterdir() if path.suffix.lower() in _TABLES)
        names = sorted(name for name in there if not is_junk(name))
        if len(names) != 1:
            found = f"holds {', '.join(names)}" if names else "holds no .csv or .tsv file"
            below = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.csv"))
            hint = f", such as {','.join(below[:3])}" if below and not names else ""
            voc = "; a VOC folder is read by --source voc" if (root / "ImageSets").is_dir() else ""
            raise DataError(f"{root} {found}; name the table with --table{hint}{voc}")
    _refuse_from_elsewhere(root, names)
    paths = [inside(root, name, "--table") for name in names]
    if len(paths) == 1:
        return [(paths[0], "all")]
    tables = {_split_of(root, path): path for path in paths}
    if len(tables) < len(paths):
        raise DataError(
            f"--table {given}: two of these tables are of one split; give one table per split"
        )
    return [(path, split) for split, path in tables.items()]


def _refuse_from_elsewhere(root: Path, names: Sequence[str]) -> None:
    """Raise DataError for a table below `root` whose path counts from the working folder."""
    for name in names:
        given = Path(name).absolute()
        below = root.absolute()
        if "\0" in name or not given.is_file() or not given.is_relative_to(below):
            continue
        if Path(name).is_absolute() or not (root / name).is_file():
            raise DataError(
                f"--table {name} counts from the working folder; give it relative to --root: --table "
                f"{given.relative_to(below).as_posix()}"
            )


def _split_of(root: Path, table: Path) -> str:
    """Name the split of one of several tables: train.csv, or train/_classes.csv."""
    folder = split_of(table.parent.name) if table.parent != root else None
    return split_of(table.stem) or folder or table.stem


def refuse_voc_list(path: Path, number: int, cells: Sequence[str]) -> None:
    """Raise DataError where the first line of a table is of a list of PASCAL VOC."""
    line = " ".join(cells)
    if re.fullmatch(r"\S+\s+(-1|0|1)", line.strip()) and not is_image(line.split()[0]):
        raise DataError(
            f"{path}:{number}: {line!r} is of a list of PASCAL VOC; use --source voc and give as "
            "--root the folder that holds JPEGImages and ImageSets"
        )


def refuse_header(
    path: Path, header: Sequence[str], separator: str, path_column: str, folder: Path
) -> None:
    """Raise DataError for the usual mistakes: no header line, another separator."""
    line = separator.join(header)
    for char in _SEPARATORS if len(header) == 1 else ():
        parts = line.split(char)
        sure = char in _SURELY or path_column in parts or any(map(is_image, parts))
        if len(parts) > 1 and sure:
            raise DataError(f"{path} has one column, {line!r}; give --separator {as_flag(char)}")
    if any(
        is_image(cell) or (cell and (folder / cell).is_file())
        for cell in header
        if "\0" not in cell
    ):
        raise DataError(
            f"{path} has no header line, its first line is {line!r}; name its columns, such as "
            f"--columns {','.join(_guess(header))}"
        )


def refuse_own_header(
    path: Path,
    rows: Sequence[tuple[int, list[str]]],
    given: Sequence[str],
    asked: Mapping[str, str],
    place_of_images: tuple[Path, str],
) -> None:
    """Raise DataError where the first of two rows is a header line, though --columns names the
    columns. `asked` are the names of columns by flag, `place_of_images` their folder and suffix.
    """
    folder, suffix = place_of_images
    folders = (folder, path.parent)
    number, header = rows[0]
    places = {flag: given.index(name) for flag, name in asked.items() if name in given}
    places = {flag: place for flag, place in places.items() if place < len(header)}
    place = places.get("--path-column", len(header))
    cells = [row[place].strip() for _, row in rows if place < len(row)]
    if header != given and not (len(cells) > 1 and _is_header(*cells)):
        return
    if header != given and any(isfile(at / f"{cells[0]}{suffix}") for at in folders):
        return
    names = {flag: header[place].strip() for flag, place in places.items()}
    flags = [f"{flag} {shlex.quote(name)}" for flag, name in names.items() if name != asked[flag]]
    shown = ", ".join(repr(cell.strip()) for cell in header)[:200]
    also = f", and give {' '.join(flags)}" if flags else ""
    raise DataError(
        f"{path}:{number}: the table has a header line of its own; leave --columns out{also} "
        f"(the line is {shown})"
    )


def _is_header(cell: str, below: str) -> bool:
    """Say whether the first cell of a column of paths is surely its name."""
    if not cell or is_image(cell) or re.search(r"[\d/\\\0]", cell):
        return False
    # bare names, with --suffix: an image may be called anything
    return is_image(below) or (bool(_OF_IMAGES.search(cell)) and not _OF_IMAGES.search(below))


def _guess(header: Sequence[str]) -> list[str]:
    """Name the columns of a table whose first line is data: the image's path, and labels next to
    it.
    """
    at = next((number for number, cell in enumerate(header) if is_image(cell)), 0)
    names = [f"column{number}" for number in range(1, len(header) + 1)]
    names[at] = "path"
    if len(header) > 1:
        names[at + 1 if at + 1 < len(header) else at - 1] = "labels"
    return names


def check_first_image(root: Path, folder: Path, row: TableRow, files: FilesByForm) -> None:
    """Raise DataError where the first photograph is not there: then a folder or suffix is
    missing for all.
    """
    path = files.find(folder / row.folder, row.path, row.where)
    if path.is_file():
        return
    near = sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))
    there = sorted(child for child in folder.glob("*/") if (child / row.path).is_file())
    hint = "give the folder of the photographs with --root or --images"
    if near:
        hint = f"there is {near[0].name}: give --suffix {near[0].name.removeprefix(path.name)}"
    elif there:
        hint = f"it is in {there[0]}: give --images {there[0].relative_to(root).as_posix()}"
    raise DataError(f"{row.where}: {path} is missing; {hint}")


def refuse_repeated_images(rows: Sequence[TableRow]) -> None:
    """Raise DataError where two rows are of one image."""
    seen: dict[str, str] = {}  # so that a.jpg and ./a.jpg are one image
    for row in rows:
        path = normpath(row.folder + row.path)
        if path in seen:
            raise DataError(
                f"{row.where}: {row.path!r} is at {seen[path]} already; put all its labels into "
                f"one row"
            )
        seen[path] = row.where
