"""The pictures of a report: each fetched from the shards once, and shrunk at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from tqdm import tqdm

T = TypeVar("T")
Thumbnail = Callable[[int], np.ndarray]  # sample number -> uint8 [H, W, 3] RGB; called from several threads
NUM_THREADS = 2


def fetch(
    thumbnail: Thumbnail, samples: Iterable[int], shrink: Callable[[np.ndarray], T], what: str = "thumbnails"
) -> dict[int, T]:
    """Return what `shrink` makes of each sample's picture; the shards are read in rising order.

    A progress bar on a terminal calls it `what`.
    """
    numbers = sorted(set(samples))
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        pictures = pool.map(lambda number: shrink(thumbnail(number)), numbers)
        shown = tqdm(pictures, what, total=len(numbers), unit="image", disable=None, leave=False)
        return dict(zip(numbers, shown, strict=True))
