"""The embedded default: real handwriting on crops of two photographs, written as an ordinary VOC
folder.

Everything comes from scikit-learn, so that all commands run on a machine without data or network.
10 digits in dark or light ink make 20 classes. Train and val share neither handwriting nor parts of
the photographs.
"""

import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from preprocess.sources.voc import VOC
from shards.errors import DataError

INKS = ("dark", "light")
CLASS_NAMES = tuple(f"{ink}-{digit}" for ink in INKS for digit in range(10))
SETTINGS_FILE = "digits.json"
VERSION = 1

_TRAIN_SHARE = 0.8  # of the handwriting and of the width of the photographs
_HEIGHTS = (0.27, 0.44)  # of a digit, as shares of the image's side
_TINY_HEIGHTS = (0.10, 0.14)
_DIFFICULT_RATE = 0.2  # of images that get one difficult digit more
_TRIES = 25

Pixels = NDArray[np.uint8]
Mask = NDArray[np.float32]


@dataclass(frozen=True)
class DigitsSettings:
    """What fixes every byte of the folder: images per split, side in pixels, seed."""

    num_train: int = 4000
    num_val: int = 1000
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise DataError for a value out of range."""
        for name, low, high in (
            ("num_train", 1, 10**6),
            ("num_val", 1, 10**6),
            ("size", 32, 256),
            ("seed", 0, 2**63),
        ):
            if not low <= getattr(self, name) <= high:
                raise DataError(
                    f"digits: {name}={getattr(self, name)} is out of range; use {low} to {high}"
                )


@dataclass(frozen=True)
class _Object:
    """A digit in an image: its class, whether it is difficult, and its box (x0, y0, x1, y1) in
    pixels, x1 excluded.
    """

    name: str
    difficult: bool
    box: tuple[int, int, int, int]


class Digits(VOC):
    """The embedded default: real handwriting on crops of two photographs, 10 digits in 2 inks,
    several an image.

    Writes the folder at `root` if it is not there, then reads it as VOC.
    """

    example = "--out data/digits"

    @classmethod
    def default_root(cls, out: Path) -> Path:
        """Give the folder beside the dataset."""
        return out.with_name(out.name + "-source")

    def __post_init__(self) -> None:
        write_digits(self.root)
        super().__post_init__()

    def describe(self) -> list[str]:
        """Say what the classes are, then what holds for the folder as any of VOC's."""
        return ["labels: the digits drawn on each image and their ink", *super().describe()]


def write_digits(
    root: Path, num_train: int = 4000, num_val: int = 1000, size: int = 64, seed: int = 0
) -> None:
    """Write the folder, or keep a finished one of the same settings.

    The same settings give the same bytes (with the same versions of Pillow and OpenCV). The folder
    appears under its name only when it is complete. Raises DataError where `root` holds anything
    else.
    """
    root = Path(root)
    settings = DigitsSettings(num_train, num_val, size, seed)
    if _is_finished(root, settings):
        return
    if root.resolve() == Path.cwd():  # which is replaced as a whole
        raise DataError(f"{root} is the folder you are in; choose one inside it for the digits")
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        _write_folder(partial, settings)
        if root.exists():
            root.rmdir()  # _is_finished found it empty; Windows renames onto no folder
        partial.rename(root)
    except OSError as error:
        if not _is_finished(root, settings):  # unless another process was faster
            raise DataError(
                f"{root} cannot be written ({error.strerror}); free space or choose another folder"
            ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_finished(root: Path, settings: DigitsSettings) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise DataError(
            f"{root} exists and is no digits folder; remove it or choose another one"
        ) from None
    if found != _description(settings):
        raise DataError(
            f"{root} holds digits of other settings, {found}; remove it or choose another folder"
        )
    return True


def _description(settings: DigitsSettings) -> dict[str, int | str]:
    return {"format": "tarmac-digits", "version": VERSION, **asdict(settings)}


def _write_folder(root: Path, settings: DigitsSettings) -> None:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    counts = {"train": settings.num_train, "val": settings.num_val}
    with tqdm(total=sum(counts.values()), desc="digits", unit="images", disable=None) as bar:
        for split, painter in _painters(settings).items():
            contents: dict[str, list[_Object]] = {}
            for number in range(counts[split]):
                image_id = f"{split}_{number:06d}"
                image, contents[image_id] = painter.paint()
                (root / "JPEGImages" / f"{image_id}.jpg").write_bytes(_jpeg(image))
                annotation = _annotation(image_id, settings.size, contents[image_id])
                (root / "Annotations" / f"{image_id}.xml").write_text(annotation, encoding="utf-8")
                bar.update()
            _write_lists(root / "ImageSets" / "Main", split, contents)
    (root / SETTINGS_FILE).write_text(json.dumps(_description(settings)) + "\n", encoding="utf-8")


def _write_lists(folder: Path, split: str, contents: dict[str, list[_Object]]) -> None:
    (folder / f"{split}.txt").write_text(
        "".join(f"{image_id}\n" for image_id in contents), encoding="utf-8"
    )
    for name in CLASS_NAMES:
        lines = []
        for image_id, objects in contents.items():
            difficult = [item.difficult for item in objects if item.name == name]
            presence = -1 if not difficult else 0 if all(difficult) else 1
            lines.append(f"{image_id} {presence:2d}\n")
        (folder / f"{name}_{split}.txt").write_text("".join(lines), encoding="utf-8")


def _annotation(image_id: str, size: int, objects: list[_Object]) -> str:
    """Return VOC's XML, whose boxes count from 1 and include their last pixel."""
    lines = [
        f"<annotation>\n\t<folder>digits</folder>\n\t<filename>{image_id}.jpg</filename>",
        f"\t<size><width>{size}</width><height>{size}</height><depth>3</depth></size>",
    ]
    for item in objects:
        x0, y0, x1, y1 = item.box
        box = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        lines.append(
            f"\t<object>\n\t\t<name>{item.name}</name>\n\t\t<difficult>{int(item.difficult)}</difficult>\n"
            f"\t\t<bndbox>{box}</bndbox>\n\t</object>"
        )
    return "\n".join([*lines, "</annotation>\n"])


def _jpeg(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92, subsampling="4:2:0")
    return buffer.getvalue()


def _painters(settings: DigitsSettings) -> dict[str, "_Painter"]:
    """Return a painter per split, each with its own handwriting, photograph regions and random
    numbers.
    """
    from sklearn.datasets import load_digits, load_sample_images  # takes a second to import

    digits = load_digits()
    strokes = (digits.images / 16).astype(np.float32)  # [N, 8, 8] in 0..1
    # [427, 640, 3] uint8
    photographs = [np.asarray(image) for image in load_sample_images().images]
    order = np.random.default_rng(settings.seed).permutation(len(strokes))
    cut = round(len(order) * _TRAIN_SHARE)
    painters = {}
    for stream, (split, part) in enumerate((("train", order[:cut]), ("val", order[cut:])), start=1):
        by_digit = [strokes[part[digits.target[part] == digit]] for digit in range(10)]
        columns = [round(image.shape[1] * _TRAIN_SHARE) for image in photographs]
        regions = [
            image[:, :column] if split == "train" else image[:, column:]
            for image, column in zip(photographs, columns, strict=True)
        ]
        painters[split] = _Painter(
            by_digit, regions, settings.size, np.random.default_rng([settings.seed, stream])
        )
    return painters


class _Painter:
    """Paints one image after the other; the sequence depends on its random generator alone."""

    def __init__(
        self, strokes: list[Mask], photographs: list[Pixels], size: int, rng: np.random.Generator
    ) -> None:
        self.strokes = strokes  # per digit [N, 8, 8] in 0..1
        self.photographs = photographs
        self.size = size
        self.rng = rng

    def paint(self) -> tuple[Pixels, list[_Object]]:
        """Return an image, uint8 [size, size, 3], and what it shows."""
        canvas = self._background()
        readable = list(self._readable_digits(int(self.rng.integers(2, 5))))
        objects: list[_Object] = []
        if self.rng.random() < _DIFFICULT_RATE:
            drawn = self._difficult_digit([mask for _, mask in readable])
            if drawn is not None:
                objects.append(self._draw(canvas, *drawn, difficult=True))
        objects += [self._draw(canvas, name, mask, difficult=False) for name, mask in readable]
        return np.clip(canvas + 0.5, 0, 255).astype(np.uint8), objects

    def _background(self) -> Mask:
        """Return a crop of a photograph in middle tones, so that both inks stand out, float32
        [size, size, 3].
        """
        photograph = self.photographs[self.rng.integers(len(self.photographs))]
        height, width = photograph.shape[:2]
        side = int(self.rng.integers(min(self.size, width), min(2 * self.size, height, width) + 1))
        y = self.rng.integers(height - side + 1)
        x = self.rng.integers(width - side + 1)
        crop = np.ascontiguousarray(photograph[y : y + side, x : x + side])
        crop = cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_AREA).astype(
            np.float32
        )
        return np.clip(128 + 0.5 * (crop - crop.mean()), 75, 180).astype(np.float32)

    def _readable_digits(self, num_digits: int) -> Iterator[tuple[str, Mask]]:
        """Yield digits with a box that hardly touches that of an earlier one; a digit without room
        is left out.
        """
        taken = np.zeros((self.size, self.size), bool)
        for _ in range(num_digits):
            for _ in range(_TRIES):
                name, mask = self._digit(_HEIGHTS)
                x0, y0, x1, y1 = _box(mask)
                if taken[y0:y1, x0:x1].mean() < 0.05:
                    taken[y0:y1, x0:x1] = True
                    yield name, mask
                    break

    def _difficult_digit(self, above: list[Mask]) -> tuple[str, Mask] | None:
        """Return a digit that is tiny, or that those above will hide for the most part; None if
        neither was found.
        """
        covered = np.max(above, axis=0) > 0.3
        tiny = self.rng.random() < 0.5
        for _ in range(_TRIES):
            name, mask = self._digit(_TINY_HEIGHTS if tiny else _HEIGHTS)
            strokes = mask > 0.3
            if not strokes.any():  # a thin line lost in scaling down
                continue
            hidden = covered[strokes].mean()
            if hidden == 0 if tiny else hidden > 0.4:
                return name, mask
        return None

    def _digit(self, heights: tuple[float, float]) -> tuple[str, Mask]:
        """Choose a digit and a place wholly inside: return its class and opacity, float32 [size,
        size].
        """
        digit = int(self.rng.integers(10))
        ink = INKS[self.rng.integers(2)]
        stroke = self.strokes[digit][self.rng.integers(len(self.strokes[digit]))]
        height = self.rng.uniform(*heights) * self.size
        scale = height / 8
        angle = self.rng.uniform(-10, 10)
        x, y = self.rng.uniform(height / 2, self.size - height / 2, 2)
        matrix = cv2.getRotationMatrix2D((3.5, 3.5), angle, scale)
        matrix[:, 2] += (x - 4, y - 4)
        mask = cv2.warpAffine(stroke, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
        return f"{ink}-{digit}", np.clip(mask * 1.15, 0, 1).astype(np.float32)

    def _draw(self, canvas: Mask, name: str, mask: Mask, difficult: bool) -> _Object:
        low, high = (5, 40) if name.startswith("dark") else (220, 250)
        color = self.rng.uniform(low, high, 3).astype(np.float32)
        canvas += mask[:, :, None] * (color - canvas)
        return _Object(name, difficult, _box(mask))


def _box(mask: Mask) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1), x1 and y1 excluded, around what can be seen of a digit."""
    seen = mask > 0.25
    rows = np.flatnonzero(seen.any(axis=1))
    columns = np.flatnonzero(seen.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
