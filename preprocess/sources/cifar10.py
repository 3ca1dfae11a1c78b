"""Read CIFAR-10 as its authors distribute it: the pickled batches of the Python version, or the
binary version.

https://www.cs.toronto.edu/~kriz/cifar.html describes both. Every image is 32 x 32, three planes of
bytes: red, green, blue. Both versions give the same records, so the same shards.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from preprocess.images.geometry import ImageOptions
from preprocess.record import Record, Source
from preprocess.sources.unpickle import UnpickleError, unpickle
from shards.errors import DataError, count_of
from shards.index import Task

# fmt: off
OFFICIAL_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
# fmt: on
BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
SIDE = 32
_IMAGE_BYTES = 3 * SIDE * SIDE
_MAX_BATCH_BYTES = 64 << 20  # a batch of 10,000 has 31 MB
_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")


class Cifar10(Source):
    """A source over the folder `cifar-10-batches-py` or `cifar-10-batches-bin`.

    Splits train (the five training batches, in their order) and test. Images become lossless PNGs.
    Raises DataError, here or from `records`, for a batch that is missing or not what it should be.
    """

    task: Task = "multiclass"
    root_holds: ClassVar[str] = "the folder cifar-10-batches-py or cifar-10-batches-bin"
    example: ClassVar[str] = "--root cifar-10-batches-py --out data/cifar10 --val-fraction 0.1"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._suffix = _find_suffix(self.root)
        self._version = "binary" if self._suffix else "Python"
        self._names_path: Path | None = None  # where no file names the classes
        for split in BATCHES:
            for batch in BATCHES[split]:
                if not self._path(batch).is_file():
                    raise DataError(
                        f"{self._path(batch)} is missing; unpack the archive of CIFAR-10 again"
                    )
        self.class_names = self._class_names()

    def splits(self) -> tuple[str, ...]:
        """Return ("train", "test"): the official ones."""
        return tuple(BATCHES)

    def records(self, split: str) -> list[Record]:
        """List the images of a split in the order of its batches, named `<batch>-<number>`. Raises
        DataError.
        """
        if split not in BATCHES:
            raise DataError(
                f"split {split!r} is none of CIFAR-10's; there are: {', '.join(BATCHES)}"
            )
        return [record for batch in BATCHES[split] for record in self._records(batch)]

    def describe(self) -> list[str]:
        """Say where labels and the names of the classes were read from."""
        names = (
            "the official ones" if self._names_path is None else f"those of {self._names_path.name}"
        )
        return [f"labels: numbers in the batches of the {self._version} version; names: {names}"]

    def image_options(self, options: ImageOptions, train: Sequence[Record]) -> ImageOptions:
        """Keep the pixels as they are: at this size JPEG would cost more than it saves."""
        return dataclasses.replace(options, encoding="png")

    def _path(self, batch: str) -> Path:
        return self.root / f"{batch}{self._suffix}"

    def _records(self, batch: str) -> Iterator[Record]:
        path = self._path(batch)
        images, labels = _read_binary(path) if self._suffix else _read_pickled(path)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            if not 0 <= label < len(self.class_names):
                raise DataError(
                    f"{path}: image {number} has label {label}, CIFAR-10's are 0 to "
                    f"{len(self.class_names) - 1}; unpack the archive again"
                )
            name = f"{batch}-{number:05d}"
            yield Record(name, path, f"{batch}/{number:05d}", (label,), (), data=_bmp(image))

    def _class_names(self) -> tuple[str, ...]:
        """Read the names beside the batches; where there are none, they are the official ones."""
        path = self.root / ("batches.meta.txt" if self._suffix else "batches.meta")
        if not path.is_file():
            return OFFICIAL_CLASSES
        self._names_path = path
        if self._suffix:
            names: list[Any] = _read(path).split()
        else:
            names = _entry(_read_pickle(path), path, "label_names", list)
        if len(names) != len(OFFICIAL_CLASSES) or not all(
            name and isinstance(name, str | bytes) for name in names
        ):
            raise DataError(
                f"{path}: does not list {len(OFFICIAL_CLASSES)} class names; unpack the archive "
                f"again"
            )
        decoded = [
            name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names
        ]
        if len(set(decoded)) < len(decoded):
            raise DataError(f"{path}: lists a class twice; unpack the archive again")
        return tuple(decoded)


def _find_suffix(root: Path) -> str:
    """Tell the suffix of the batches' names, which tells the version. Raises DataError where there
    are no batches.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder {' or '.join(_FOLDERS)}")
    for suffix in ("", ".bin"):
        if any(
            (root / f"{batch}{suffix}").is_file()
            for batches in BATCHES.values()
            for batch in batches
        ):
            return suffix
    for name in _FOLDERS:
        if (root / name).is_dir():
            raise DataError(f"{root} holds no batches but {name}; use {root / name} as the root")
    raise DataError(
        f"{root} holds neither data_batch_1 nor data_batch_1.bin; give the folder "
        f"{' or '.join(_FOLDERS)}"
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MAX_BATCH_BYTES + 1)
    if len(content) > _MAX_BATCH_BYTES:
        raise DataError(
            f"{path} has more than {_MAX_BATCH_BYTES:,} bytes; it is no batch of CIFAR-10, remove "
            f"it"
        )
    return content


def _read_binary(path: Path) -> tuple[np.ndarray, list[int]]:
    """Read images uint8 [N, 3072] and labels of a binary batch: N times a byte of label, 3,072 of
    image.
    """
    content = np.frombuffer(_read(path), np.uint8)
    if len(content) == 0 or len(content) % (1 + _IMAGE_BYTES):
        raise DataError(
            f"{path}: {count_of(len(content), 'byte is', 'bytes are')} not a multiple of "
            f"{1 + _IMAGE_BYTES:,}, a "
            "label "
            "and an image; unpack the archive again"
        )
    rows = content.reshape(-1, 1 + _IMAGE_BYTES)
    return rows[:, 1:], rows[:, 0].tolist()


def _read_pickled(path: Path) -> tuple[np.ndarray, list[int]]:
    """Read images uint8 [N, 3072] and labels of a pickled batch: a dict with `data` and `labels`."""
    content = _read_pickle(path)
    images = _entry(content, path, "data", np.ndarray)
    labels = _entry(content, path, "labels", list)
    if images.ndim != 2 or images.shape[1] != _IMAGE_BYTES or len(images) == 0:
        shape = " x ".join(map(str, images.shape))
        raise DataError(
            f"{path}: data is {shape}, not N x {_IMAGE_BYTES:,}; unpack the archive again"
        )
    if len(labels) != len(images):
        raise DataError(
            f"{path}: {count_of(len(images), 'image')} but {count_of(len(labels), 'label')}; "
            "unpack the archive again"
        )
    if not all(type(label) is int for label in labels):
        raise DataError(f"{path}: labels are not all whole numbers; unpack the archive again")
    return images, labels


def _read_pickle(path: Path) -> Any:
    try:
        return unpickle(_read(path))
    except UnpickleError as error:
        raise DataError(
            f"{path}: not a pickle as CIFAR-10 has them ({error}); unpack the archive again"
        ) from error


def _entry(content: Any, path: Path, name: str, kind: type) -> Any:
    found = content.get(name.encode(), content.get(name)) if isinstance(content, dict) else None
    if not isinstance(found, kind):
        raise DataError(f"{path}: has no {name}; unpack the archive again")
    return found


def _bmp(planes: np.ndarray) -> bytes:
    """Wrap an image, uint8 [3072] in planes, as BMP: the packer, in its own processes, makes the
    PNG.
    """
    blue_green_red = planes.reshape(3, SIDE, SIDE)[::-1].transpose(1, 2, 0)
    return cv2.imencode(".bmp", blue_green_red)[1].tobytes()
