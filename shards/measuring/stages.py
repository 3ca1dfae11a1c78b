"""Where the time of a batch goes: the loader's own code with a clock between its stages."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from shards.decode.decoder import Decoder
from shards.loader import Loader
from shards.pipeline.batch_maker import BatchMaker

STAGES = {
    "read": "find the bytes and bring them in from page cache or disk",
    "tiles": "training: JPEG to resized crop in one, by the tile decoder",
    "splice": "evaluation: cut the tiles of the crop out of the JPEG",
    "decode": "evaluation, or PNG: file to pixels",
    "resize": "evaluation, cache ram or augment pad: crop and resize",
    "collate": "order, crop boxes, labels, slots, tensors",
}
PAGE = 4096


class _Clock:
    """CPU seconds of this thread per name; what is inside another name is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.thread_time()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent = time.thread_time() - start
            self.seconds[name] += spent - self._inside.pop()
            self._inside[-1] += spent


def stage_times(loader: Loader, num_steps: int) -> dict[str, float]:
    """Make the first batches of epoch 0 in this thread: CPU us an image for each of STAGES."""
    clock = _Clock()

    class TimedDecoder(Decoder):
        def crop_tiles_into(self, *what: Any) -> bool:
            with clock("tiles"):
                return super().crop_tiles_into(*what)

        def cut(self, *where: Any) -> tuple[np.ndarray, int, int, int, int]:
            with clock("splice"):
                return super().cut(*where)

        def decode(self, *what: Any) -> np.ndarray:
            with clock("decode"):
                return super().decode(*what)

    class TimedMaker(BatchMaker):
        decoder_class = TimedDecoder

        def read(self, row: np.void) -> list[np.ndarray]:
            with clock("read"):
                members = super().read(row)
                for data in members:
                    data[::PAGE].max()
                return members

        def _fill_random(self, *what: Any) -> None:
            # without it the tile decoder resizes
            with clock("collate" if self.resident is None else "resize"):
                super()._fill_random(*what)

        def _fill_windows(self, *what: Any) -> None:
            with clock("resize"):
                super()._fill_windows(*what)

        def _fill_views(self, *what: Any) -> None:
            with clock("resize"):
                super()._fill_views(*what)

    maker = TimedMaker(
        loader.maker.index, loader.maker.plan, loader.maker.view, loader.maker.resident
    )
    maker.make(0, 0)
    clock.seconds.clear()
    for step in range(num_steps):
        with clock("collate"):
            maker.make(0, step)
    num_images = num_steps * maker.plan.local_batch_size
    return {name: 1e6 * clock.seconds[name] / num_images for name in STAGES}
