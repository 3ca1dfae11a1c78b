"""The pictures of a report: each fetched from the shards once, shrunk, as a data URI."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from shards.page import data_uri

Thumbnail = Callable[[int], np.ndarray]  # sample number -> uint8 [H, W, 3] RGB; called from several threads
NUM_THREADS = 2


def fetch(thumbnail: Thumbnail, samples: Iterable[int]) -> dict[int, str]:
    """Return the picture of each sample; the shards are read in rising order, with a progress bar on a terminal."""
    numbers = sorted(set(samples))
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        pictures = pool.map(lambda number: data_uri(thumbnail(number)), numbers)
        shown = tqdm(pictures, "thumbnails", total=len(numbers), unit="image", disable=None, leave=False)
        return dict(zip(numbers, shown, strict=True))
