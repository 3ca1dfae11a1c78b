"""Decoded images that stay in memory: each is decoded when it is first asked for, by whichever process that is."""

from collections.abc import Callable

import numpy as np

from shards.errors import DataError
from shards.memory import shared_memory


class Resident:
    """Pixels uint8 [h, w, 3] of N images of known sizes, one copy for all processes of a job on a machine.

    Invariant: an image whose flag is set is whole. Two processes may decode the same one at the same time: both write
    the same bytes.
    """

    def __init__(self, widths: np.ndarray, heights: np.ndarray, name: str, num_sharers: int) -> None:
        self.widths, self.heights = widths.astype(np.int64), heights.astype(np.int64)
        ends = np.cumsum(3 * self.widths * self.heights) + len(widths)
        try:
            memory = shared_memory(int(ends[-1]), name, num_sharers)
        except DataError as error:
            raise DataError(
                f"cache ram cannot hold the {len(widths)} images of {name}: {error}; "
                "give a smaller cache_short_side, or cache none"
            ) from error
        self._is_there = memory[: len(widths)]
        self._pixels = memory
        self._ends = ends

    def image(self, number: int, decode: Callable[[np.ndarray], None]) -> np.ndarray:
        """Give the pixels of an image, uint8 [h, w, 3]; `decode` fills such an array where they are not there yet."""
        shape = (int(self.heights[number]), int(self.widths[number]), 3)
        end = int(self._ends[number])
        pixels = self._pixels[end - shape[0] * shape[1] * 3 : end].reshape(shape)
        if not self._is_there[number]:
            decode(pixels)
            self._is_there[number] = 1
        return pixels


def bounded(widths: np.ndarray, heights: np.ndarray, short_side: int) -> tuple[np.ndarray, ...]:
    """Find the sizes of images shrunk to a short side of at most `short_side` pixels: int64 [N] each."""
    widths, heights = widths.astype(np.int64), heights.astype(np.int64)
    factor = np.minimum(1.0, short_side / np.minimum(widths, heights))
    return tuple(np.maximum(1, np.rint(side * factor).astype(np.int64)) for side in (widths, heights))
