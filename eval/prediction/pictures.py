"""Batches of pictures outside any shard, prepared as evaluation prepares those in shards."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eval.prediction.remote_pictures import FetchedPictures, picture_address
from eval.prediction.tta import Look
from shards.augment.crops import centre_crops
from shards.choices import CROP_SHARE
from shards.decode.decoder import Decoder, channels_of, resize_box_into
from shards.decode.five_crop import NUM_CROPS, five_crops_into
from shards.errors import DamagedError, DataError, SampleError, one_line
from shards.host.picture_files import IMAGE_SUFFIXES, is_image, is_junk
from shards.index import list_splits
from shards.pages.spelling import plain
from shards.pipeline.batch import Batch
from shards.pipeline.block import num_room_bytes
from shards.pipeline.buffers import PinnedRing, Ring
from shards.remote.address import Address, is_url

MAX_FILE_BYTES = 1 << 30  # 100 million pixels of 16 bits and four channels are 0.8 GB

_NAMED = 3  # in a line about many

# Encoded bytes, and whether a JPEG may have lost pixels -> uint8 [height, width, C], RGB first.
# Raises SampleError, of pixels that are lost DamagedError.
Decode = Callable[[bytes, bool], np.ndarray]


@dataclass(frozen=True)
class Found:
    """The pictures that were found, and what was left out of the folders: other files, links to
    folders.
    """

    pictures: list[Path | Address]
    others: list[Path]
    links: list[Path]

    def left_out(self) -> list[str]:
        """Name what is left out, a line for files and one for links."""
        lines = []
        if self.others:
            are = (
                "file is no picture by its name"
                if len(self.others) == 1
                else "files are no pictures by their names"
            )
            lines.append(f"left out: {len(self.others):,} {are}: {_listed(self.others)}")
        if self.links:
            are = "link to a folder" if len(self.links) == 1 else "links to folders"
            lines.append(
                f"left out: {len(self.links):,} {are}, not followed: {_listed(self.links)}"
            )
        return lines


def find_pictures(given: Sequence[str]) -> Found:
    """List the files named, and those of the folders named, at any depth, whose suffix is a
    picture's.

    An address is one picture's. Those of a folder are in the order of their paths; nothing is listed
    twice, links to folders are not followed. Hidden files and folders, and what systems leave
    behind, are nobody's and not counted. Raises DataError for what is not there.
    """
    found: list[Path | Address] = []
    others: list[Path] = []
    links: list[Path] = []
    for text in given:
        path = Path(text)
        if is_url(text):
            found.append(picture_address(text))
        elif path.is_dir():
            files = sorted(_inside(path, links))
            inside = [file for file in files if is_image(file.name)]
            if not inside:
                _refuse_packed(path)
                held = f"; it holds {_listed(files)}" if files else ""
                raise DataError(
                    f"{path}: holds no picture with one of the suffixes "
                    f"{' '.join(IMAGE_SUFFIXES)}{held}"
                )
            found += inside
            others += [file for file in files if not is_image(file.name)]
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    if not found:
        raise DataError("no picture named: give files or folders")
    named = set(found)
    return Found(
        list(dict.fromkeys(found)),
        [path for path in dict.fromkeys(others) if path not in named],
        sorted(set(links)),
    )


def _inside(folder: Path, links: list[Path]) -> Iterator[Path]:
    """Yield the files in a folder and below it, and add the links to folders to `links`."""
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_junk(name)]
        links += [path for name in folders if (path := Path(parent, name)).is_symlink()]
        yield from (Path(parent, name) for name in files if not is_junk(name))


def _refuse_packed(path: Path) -> None:
    """Raise DataError where a folder without pictures is a packed dataset."""
    if list_splits(path):
        raise DataError(
            f"{path}: is a packed dataset, not a folder of pictures; evaluate it with: "
            f"python -m eval --ckpt RUN/best --data {path}"
        )


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(plain(str(path)) for path in paths[:_NAMED]) + more


def _refuse(error: OSError) -> None:
    raise error  # os.walk would leave out what it cannot read, and not say so


class PictureBatches:
    """Batches of pictures of C channels, made by threads, at most one batch ahead of their reader.

    `unreadable` maps the number of a picture that could not be decoded to the reason, once its
    batch was made; its place in the batch is padding. So it is with JPEGs that have lost pixels,
    unless `accept_damaged`: then `damaged` maps their numbers to what is lost.
    """

    def __init__(
        self,
        paths: Sequence[Path | Address],
        num_classes: int,
        local_batch_size: int,
        num_threads: int,
        decode: Decode,
        num_channels: int = 3,
        accept_damaged: bool = False,
    ) -> None:
        self.paths = paths
        self.num_classes = num_classes
        self.local_batch_size = local_batch_size
        self.num_threads = num_threads
        self.unreadable: dict[int, str] = {}
        self.damaged: dict[int, str] = {}
        self._accept_damaged = accept_damaged
        self._decode = decode
        self._num_channels = num_channels
        self._fetched: FetchedPictures | None = None
        if any(isinstance(path, Address) for path in paths):
            self._fetched = FetchedPictures(MAX_FILE_BYTES)

    def __len__(self) -> int:
        return -(-len(self.paths) // self.local_batch_size)

    def batches(self, look: Look, pinned: bool = False) -> Iterator[Batch]:
        """Yield the batches as `shards.loader.Loader` does of a split, without labels; `pinned` is
        for a GPU.
        """
        with ThreadPoolExecutor(self.num_threads) as pool:
            try:
                yield from self._made_by(pool, look, pinned)
            except BaseException:  # a server that is away: the others are not tried, too
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _made_by(self, pool: ThreadPoolExecutor, look: Look, pinned: bool) -> Iterator[Batch]:
        waiting: list[Future[np.ndarray | None]] = []
        for first in range(0, len(self.paths), self.local_batch_size):
            numbers = range(first, min(first + self.local_batch_size, len(self.paths)))
            futures = [pool.submit(self._view, number, look) for number in numbers]
            if waiting:
                yield self._batch(first - self.local_batch_size, waiting, look, pinned)
            waiting = futures
        yield self._batch(len(self.paths) - len(waiting), waiting, look, pinned)

    def _view(self, number: int, look: Look) -> np.ndarray | None:
        """See one picture: uint8 [1 or 5, size, size, C], or None where it cannot be read."""
        views = np.empty(
            (NUM_CROPS if look.five_crops else 1, look.size, look.size, self._num_channels),
            np.uint8,
        )
        try:
            view_into(views, self._pixels(number), look.five_crops, look.crop_share)
            return views
        except SampleError as error:
            self.unreadable[number] = one_line(error)
        except OSError as error:
            self.unreadable[number] = error.strerror or one_line(error)
        except MemoryError:
            self.unreadable[number] = "not enough memory to decode it"
        return None

    def _pixels(self, number: int) -> np.ndarray:
        path = self.paths[number]
        if isinstance(path, Address):
            assert self._fetched is not None
            data = self._fetched.read(number, path)
        else:
            data = read_picture(path)
        try:
            return self._decode(data, False)
        except DamagedError as error:
            if not self._accept_damaged:
                raise
            pixels = self._decode(data, True)
            self.damaged[number] = one_line(error)
            return pixels

    def _batch(
        self, first: int, made: Iterable["Future[np.ndarray | None]"], look: Look, pinned: bool
    ) -> Batch:
        views = [future.result() for future in made]
        num_crops = NUM_CROPS if look.five_crops else 1
        shape = (num_crops * len(views), look.size, look.size, self._num_channels)
        beside = num_room_bytes(len(views), self.num_classes)
        ring = PinnedRing(shape, beside) if pinned else Ring(shape)
        slot = ring.take()
        images = slot.numpy().reshape(num_crops, len(views), *shape[1:])
        for place, view in enumerate(views):
            images[:, place] = 0 if view is None else view
        valid = torch.tensor([view is not None for view in views])
        nothing = torch.zeros((len(views), self.num_classes))
        return Batch(
            images=ring.lend(slot, slot),
            labels=nothing,
            known=nothing.bool(),
            valid=valid,
            ids=torch.where(valid, torch.arange(first, first + len(views)), -1),
            num_known=0,
            block=ring.block(slot),
        )


def view_into(
    views: np.ndarray, pixels: np.ndarray, five_crops: bool, crop_share: float = CROP_SHARE
) -> None:
    """Write what evaluation sees of an image, uint8 [height, width, C], into `views` [1 or 5, size,
    size, C].
    """
    height, width = pixels.shape[:2]
    decoded = _Decoded()
    num_members = views.shape[3] - 2
    (box,) = centre_crops(np.array([width]), np.array([height]), views.shape[1], crop_share)
    for part, source in zip(
        channels_of(views, num_members), channels_of(pixels, num_members), strict=True
    ):
        if five_crops:
            five_crops_into(part, decoded, source, width, height, crop_share)
        else:
            resize_box_into(part[0], decoded, source, width, height, box.tolist())


class _Decoded(Decoder):
    """A decoder for pixels that are decoded already, so that pictures and shards go through the
    same code.
    """

    def __init__(self) -> None:
        pass

    def box(
        self, data: np.ndarray, width: int, height: int, box: Sequence[int], channels: int = 3
    ) -> np.ndarray:
        x, y, w, h = box
        return np.ascontiguousarray(data[y : y + h, x : x + w])


def read_picture(path: Path) -> bytes:
    """Read a file of a bounded size. Raises SampleError for a pipe, a device or a file that is too
    large.
    """
    if not path.is_file():
        raise SampleError("is not a file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise SampleError(f"has more than {MAX_FILE_BYTES:,} bytes")
    return data
