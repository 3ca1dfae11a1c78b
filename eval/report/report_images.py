"""The pictures of a report: each fetched from the shards once, and shrunk at once."""

from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from shards.errors import SampleError
from shards.pages.html import data_uri, shrunk

# sample number -> uint8 [H, W, 3] RGB; called from several threads
Thumbnail = Callable[[int], np.ndarray]
Made = tuple[dict[int, str], dict[int, np.ndarray], set[int]]
NUM_THREADS = 2
GREY = np.full((96, 96, 3), 128, np.uint8)  # in the place of an image that cannot be decoded


class Thumbnails:
    """Shrunken pictures by sample number: as data URIs for the page, and as pixels of those
    `on_paper`.

    Scores need the centre crop alone, a picture the whole image: damage outside the crop is met
    here first. Such a picture is grey and its sample in `damaged`.
    """

    def __init__(
        self, thumbnail: Thumbnail, on_paper: Container[int] = (), quiet: bool = False
    ) -> None:
        self.uris: dict[int, str] = {}
        self.pixels: dict[int, np.ndarray] = {}  # uint8 [H, W, 3]
        self.damaged: set[int] = set()
        self._thumbnail = thumbnail
        self._on_paper = on_paper
        self._quiet = True if quiet else None  # None: quiet where there is no terminal

    def fetch(self, samples: Iterable[int]) -> None:
        """Add what is not there yet, in rising order of the shards; a progress bar shows on a
        terminal.
        """
        numbers = sorted(set(samples) - self.uris.keys())
        if not numbers:
            return  # tqdm would draw a bar without an end
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            made = pool.map(self._add, numbers)
            for _ in tqdm(
                made, "thumbnails", len(numbers), unit="image", disable=self._quiet, leave=False
            ):
                pass

    def made(self) -> Made:
        """Return all that is there, for another rank."""
        return self.uris, self.pixels, self.damaged

    def take(self, made: Made) -> None:
        """Add what another rank has made."""
        uris, pixels, damaged = made
        self.uris.update(uris)
        self.pixels.update(pixels)
        self.damaged.update(damaged)

    def _add(self, number: int) -> None:
        try:
            image = self._thumbnail(number)
        except SampleError:
            self.damaged.add(number)
            image = GREY
        small = shrunk(image)
        self.uris[number] = data_uri(small)
        if number in self._on_paper:
            self.pixels[number] = small
