"""The pictures of a report: each fetched from the shards once, and shrunk at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from shards.errors import SampleError

T = TypeVar("T")
Thumbnail = Callable[[int], np.ndarray]  # sample number -> uint8 [H, W, 3] RGB; called from several threads
NUM_THREADS = 2
GREY = np.full((96, 96, 3), 128, np.uint8)  # in the place of an image that cannot be decoded


def fetch(
    thumbnail: Thumbnail, samples: Iterable[int], shrink: Callable[[np.ndarray], T], what: str = "thumbnails"
) -> tuple[dict[int, T], list[int]]:
    """Return what `shrink` makes of each sample's picture, and which samples are grey as theirs cannot be decoded.

    Scores need the centre crop alone, a picture the whole image: damage outside the crop is met here first.
    The shards are read in rising order. A progress bar on a terminal calls it `what`.
    """
    numbers = sorted(set(samples))
    damaged: list[int] = []

    def picture(number: int) -> T:
        try:
            return shrink(thumbnail(number))
        except SampleError:
            damaged.append(number)
            return shrink(GREY)

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        pictures = pool.map(picture, numbers)
        shown = tqdm(pictures, what, total=len(numbers), unit="image", disable=None, leave=False)
        return dict(zip(numbers, shown, strict=True)), sorted(damaged)
