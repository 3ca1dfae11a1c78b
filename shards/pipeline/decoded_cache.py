"""Decoded images that stay in memory: each is decoded when it is first asked for, by whichever
process that is.
"""

import math
from collections.abc import Iterator

import numpy as np

from shards.errors import DataError, count_of
from shards.index import DatasetIndex
from shards.pipeline.shared_memory import shared_memory
from shards.pipeline.view import View


class Resident:
    """Pixels uint8 [h, w, C] of N images of known sizes, one copy for all processes of a job on a
    machine.

    Invariant: an image whose flag is set is whole. Two processes may decode the same one at the
    same time: both write the same bytes.
    """

    def __init__(
        self, widths: np.ndarray, heights: np.ndarray, channels: int, name: str, num_sharers: int
    ) -> None:
        self.widths = widths.astype(np.int64)
        self.heights = heights.astype(np.int64)
        self.channels = channels
        ends = np.cumsum(channels * self.widths * self.heights) + len(widths)
        try:
            memory = shared_memory(int(ends[-1]), name, num_sharers)
        except DataError as error:
            raise DataError(
                f"cache ram cannot hold {count_of(len(widths), 'image')}: {error}; give a smaller "
                f"cache_short_side, or cache none"
            ) from error
        self._is_there = memory[: len(widths)]
        self._pixels = memory
        self._ends = ends

    def missing(self, numbers: np.ndarray) -> np.ndarray:
        """Name those of some images whose pixels are not there yet: int64 [B] -> int64 [<= B]."""
        return np.unique(numbers[self._is_there[numbers] == 0])

    def image(self, number: int) -> np.ndarray:
        """Give the pixels of an image, uint8 [h, w, C]; where they are not there yet, write them,
        then `keep`.
        """
        height = int(self.heights[number])
        width = int(self.widths[number])
        end = int(self._ends[number])
        shape = (height, width, self.channels)
        return self._pixels[end - math.prod(shape) : end].reshape(shape)

    def keep(self, number: int) -> None:
        """Tell everybody that the pixels of an image are whole."""
        self._is_there[number] = 1

    def stack(self) -> np.ndarray:
        """View all images, which must be of one size: uint8 [N, h, w, C]."""
        shape = (len(self.widths), int(self.heights[0]), int(self.widths[0]), self.channels)
        return self._pixels[len(self.widths) :].reshape(shape)

    def crops(self, numbers: np.ndarray, boxes: np.ndarray) -> Iterator[np.ndarray]:
        """Give crops uint8 [h, w, C] of images that are there: numbers int64 [B], boxes (x, y, w,
        h) int64 [B, 4].

        Boxes must be inside their images.
        """
        widths = self.widths[numbers]
        (x, y, w, h) = boxes.T
        channels = self.channels
        starts = self._ends[numbers] - channels * (
            self.heights[numbers] * widths - (y * widths + x)
        )
        for start, width, across, down in zip(
            starts.tolist(), widths.tolist(), w.tolist(), h.tolist(), strict=True
        ):
            yield np.ndarray(
                (down, across, channels),
                np.uint8,
                self._pixels,
                start,
                (channels * width, channels, 1),
            )


def bounded(widths: np.ndarray, heights: np.ndarray, short_side: int) -> tuple[np.ndarray, ...]:
    """Find the sizes of images shrunk to a short side of at most `short_side` pixels: int64 [N]
    each.
    """
    widths = widths.astype(np.int64)
    heights = heights.astype(np.int64)
    factor = np.minimum(1.0, short_side / np.minimum(widths, heights))
    return tuple(
        np.maximum(1, np.rint(side * factor).astype(np.int64)) for side in (widths, heights)
    )


def make_resident(index: DatasetIndex, view: View, short_side: int, num_sharers: int) -> Resident:
    """Make room for decoded images: finished views, or to crop from, of a short side of at most
    `short_side`.
    """
    if view.is_fixed:
        widths = np.full(index.num_samples, view.size)
        heights = view.num_crops * widths
    else:
        rows = index.samples
        widths, heights = bounded(rows["width"], rows["height"], short_side)
    checksums = "".join(shard.sha256 for shard in index.shards)
    try:
        channels = 2 + index.num_members(view.bands)
        return Resident(widths, heights, channels, f"{index.root} {view} {checksums}", num_sharers)
    except DataError as error:
        raise DataError(f"{index.root}: {error}") from error
