"""Read a folder of Planet's rainforest competition: train_v2.csv and a folder of .tif (4 bands, 16
bits) or .jpg.
"""

import dataclasses
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from preprocess.images.geometry import Band, ImageOptions
from preprocess.images.outcome import BadImage
from preprocess.images.tiff import read_tiff
from preprocess.reading.paths import inside
from preprocess.reading.tablecells import read_cells
from preprocess.reading.unicode_files import NamesByForm
from preprocess.record import Record, Source
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.host.picture_files import is_junk
from shards.options import check_bounds

# fmt: off
TAGS = (
    "agriculture", "artisinal_mine", "bare_ground", "blooming", "blow_down", "clear", "cloudy", "conventional_mine",
    "cultivation", "habitation", "haze", "partly_cloudy", "primary", "road", "selective_logging", "slash_burn", "water",
)
# fmt: on
BANDS = {"red": 2, "green": 1, "blue": 0, "nir": 3}  # name -> position in the TIFFs
RANGE_IMAGES = 2_000  # of training, drawn by seed 0: a gigabyte to read of the full set's 20
# for the middle half of a band: a third of what a Gaussian has between its 1% and 99%
FEW_LEVELS = 24
_HEADER = ["image_name", "tags"]
_KINDS = {".tif": "tif", ".tiff": "tif", ".jpg": "jpg", ".jpeg": "jpg"}
_NAMED = 3  # in a message about many

MissingImages = Literal["refuse", "skip"]


@dataclass
class Planet(Source):
    """A source over one folder, split `all`: the rows of the list in their order.

    TIFFs become RGB and near infrared of 8 bits. Each band is stretched between two percentiles of
    the training images, not between the extremes: clouds are several times as bright as the forest,
    which would be left with a few grey levels. Raises DataError, with file and line, for a list or
    a folder that does not fit.
    """

    root_holds = "the folder that holds train_v2.csv and the folder of images"
    example = "--root planet --out data/planet --val-fraction 0.2 --split-seed 321"

    root: Path
    table: str = option("train_v2.csv", "file of image_name,tags below root")
    images: str = option("", "folder of the images below root; found where not given")
    missing_images: MissingImages = option(
        "refuse", "what becomes of rows without an image: refuse, or skip them"
    )
    clip_percent: float = option(
        1.0,
        "TIFF: percent of the training pixels that become black, and as many that become white, "
        "in each band",
        ge=0,
        lt=50,
    )

    def __post_init__(self) -> None:
        if self.missing_images not in get_args(MissingImages):
            raise DataError(f"--missing-images is {self.missing_images!r}: give refuse or skip")
        check_bounds(self, as_flags=True)
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give {self.root_holds}")
        self.class_names = TAGS
        path = inside(self.root, self.table, "--table")
        rows = _read_list(path)
        folder, files, self._kind = _find_images(self.root, self.images, rows)
        if self._kind == "jpg" and self.clip_percent != Planet.clip_percent:
            raise DataError("--clip-percent is of TIFFs, and these images are .jpg: leave it out")
        names = NamesByForm(files)
        found = {name: names.find(name, str(path)) for name in rows}
        missing = [name for name in rows if found[name] is None]
        if missing and self.missing_images == "refuse":
            raise DataError(
                f"{path}: {len(missing):,} of {count_of(len(rows), 'image')} are not in {folder}, "
                "such as "
                f"{missing[0]}; get them, or leave these rows out with --missing-images skip"
            )
        unlisted = sorted(files.keys() - found.values())
        self._described = [
            f"labels: tags of {self.table}, separated by spaces; images of "
            f"{folder.relative_to(self.root).as_posix()}",
            *_left_out(
                missing, f"of {count_of(len(rows), 'row')} of {path} have no image in {folder}"
            ),
            *_left_out(
                unlisted, f"of {count_of(len(files), 'image')} in {folder} have no row in {path}"
            ),
        ]
        self._records = [
            self._record(name, folder / files[stem], labels)
            for name, labels in rows.items()
            if (stem := found[name]) is not None
        ]

    def _record(self, name: str, path: Path, labels: tuple[int, ...]) -> Record:
        source = f"{path.parent.relative_to(self.root)}/{name}{path.suffix}"
        return Record(name, path, source, labels, ())

    def splits(self) -> tuple[str, ...]:
        """Return ("all",): the tags of the test images are not public."""
        return ("all",)

    def records(self, split: str) -> Sequence[Record]:
        """List the images in the order of the list."""
        if split != "all":
            raise DataError(
                f"split {split!r} is not in {self.root}; there is all, and --val-fraction divides "
                f"it"
            )
        return self._records

    def describe(self) -> Sequence[str]:
        """Say where the tags were read from, and which rows and images were left out."""
        return self._described

    def image_options(self, options: ImageOptions, train: Sequence[Record]) -> ImageOptions:
        """Find the range of each band of TIFFs: percentiles of the training pixels, of at most
        RANGE_IMAGES images.
        """
        if self._kind == "jpg":
            return options
        chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:RANGE_IMAGES])
        counts = np.zeros((len(BANDS), 1 << 16), np.int64)
        for number in tqdm(
            chosen.tolist(), "find the bands' ranges", unit="img", leave=False, disable=None
        ):
            _count(train[number], counts)
        if not counts.any():
            raise DataError(
                f"{self.root}: none of {count_of(len(chosen), 'training image')} is a TIFF of "
                f"{len(BANDS)} "
                "bands; give the folder of those that are with --images"
            )
        bands = tuple(
            Band(name, position, *_percentiles(counts[position], self.clip_percent))
            for name, position in BANDS.items()
        )
        ranges = ", ".join(f"{band.name} {band.low:.0f} to {band.high:.0f}" for band in bands)
        of = count_of(len(train), "training image")
        of = f"{len(chosen):,} of {of}" if len(chosen) < len(train) else of
        print(f"bands scaled to 8 bits after {of}: {ranges}")
        for band in bands:
            quarter, three_quarters = _percentiles(counts[band.position], 25)
            levels = 255 * (three_quarters - quarter) / (band.high - band.low)
            if levels < FEW_LEVELS:
                print(
                    f"half of the {band.name} pixels share {levels:.0f} of 256 grey levels, since "
                    "some are far brighter or darker, as clouds are: a higher --clip-percent "
                    "spreads them"
                )
        return dataclasses.replace(options, bands=bands)


def _read_list(path: Path) -> dict[str, tuple[int, ...]]:
    """Read image names and the sorted indices of their tags, in the order of the rows."""
    numbers = {tag: number for number, tag in enumerate(TAGS)}
    rows: dict[str, tuple[int, ...]] = {}
    lines: dict[str, int] = {}
    lines_read = read_cells(path, ",")
    _, header = next(lines_read, (1, []))
    if header != _HEADER:
        shown = ",".join(header)[:60]
        raise DataError(
            f"{path}:1: {shown!r} instead of image_name,tags; give the list's name with --table"
        )
    for line, fields in lines_read:
        where = f"{path}:{line}"
        if len(fields) != len(_HEADER):
            raise DataError(
                f"{where}: {count_of(len(fields), 'value')} instead of image_name,tags; correct "
                "this line"
            )
        name = fields[0]
        words = fields[1].split()
        if not name or "/" in name or "\\" in name:
            raise DataError(
                f"{where}: {name!r} is not an image name; write the file's name without .tif or "
                f".jpg"
            )
        if name in rows:
            raise DataError(f"{where}: {name} is in line {lines[name]} already; remove one of them")
        if not words:
            raise DataError(f"{where}: {name} has no tags; add them, or remove this line")
        unknown = next((word for word in words if word not in numbers), None)
        if unknown is not None:
            raise DataError(
                f"{where}: {unknown!r} is none of the {len(TAGS)} tags ({', '.join(TAGS)}); "
                f"correct it"
            )
        # The official list has a tag twice in one line.
        rows[name] = tuple(sorted({numbers[word] for word in words}))
        lines[name] = line
    if not rows:
        raise DataError(
            f"{path}: no image below the header; give the competition's list with --table"
        )
    return rows


def _find_images(
    root: Path, images: str, rows: Collection[str]
) -> tuple[Path, dict[str, str], str]:
    """Return the folder with images of the list, {name: file name} of all its images, and their
    kind, tif or jpg.
    """
    if images:
        folder = inside(root, images, "--images")
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give its path below {root} with --images")
        folders = [folder]
    else:
        folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    listed = NamesByForm(rows)
    holding = [
        folder for folder in folders if any(Path(file).stem in listed for file in _files(folder))
    ]
    if not holding:
        where = f"{folders[0]} holds" if images else f"{root} and the folders in it hold"
        raise DataError(
            f"{where} no .tif or .jpg of the list; give the folder's name with --images"
        )
    if len(holding) > 1:
        names = ", ".join(folder.relative_to(root).as_posix() for folder in holding)
        raise DataError(
            f"{root}: several folders hold images of the list, {names}; choose one with --images"
        )
    folder = holding[0]
    files = _by_name(folder)
    kinds = {_kind(file) for file in files.values()}
    if len(kinds) > 1:
        raise DataError(f"{folder}: holds .tif and .jpg images; move one kind elsewhere")
    return folder, files, kinds.pop()


def _kind(file: str) -> str:
    return _KINDS.get(Path(file).suffix.lower(), "")


def _files(folder: Path) -> list[str]:
    """List a folder's images, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if not is_junk(entry.name) and _kind(entry.name)
        )


def _by_name(folder: Path) -> dict[str, str]:
    """Map the names of a folder's images, without .tif or .jpg, to their files."""
    found: dict[str, str] = {}
    for file in _files(folder):
        name = Path(file).stem
        if name in found:
            raise DataError(
                f"{folder}: {found[name]} and {file} are both called {name}; move one elsewhere"
            )
        found[name] = file
    return found


def _left_out(names: Sequence[str], what: str) -> list[str]:
    """Say how many are left out and name the first; no line where there is none."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return (
        [f"{len(names):,} {what} and are left out: {', '.join(names[:_NAMED])}{more}"]
        if names
        else []
    )


def _count(record: Record, counts: np.ndarray) -> None:
    """Add an image's values to int64 [bands, 65536]; the packer says what is wrong with one that
    cannot be read.
    """
    try:
        pixels = read_tiff(record.read())
    except (BadImage, OSError):
        return
    if pixels.shape[2] == len(counts):
        for band, values in enumerate(np.moveaxis(pixels, 2, 0)):
            counts[band] += np.bincount(values.ravel(), minlength=counts.shape[1])


def _percentiles(counts: np.ndarray, percent: float) -> tuple[float, float]:
    """Find the values below and above which `percent` of those counted are, int64 [65536]; never
    the same value.
    """
    below = np.cumsum(counts)
    shares = np.array([percent, 100 - percent]) / 100
    low, high = np.searchsorted(below, np.maximum(shares * below[-1], 1)).tolist()
    return float(low), float(max(high, low + 1))
