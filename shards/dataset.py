"""The map-style drop-in: whole images for anybody's own DataLoader, workers and transforms."""

import operator
from pathlib import Path
from typing import Literal

import numpy as np

from shards.decode.decoder import Decoder
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.pipeline.bad_samples import Watch
from shards.pipeline.reader import ShardReader

__all__ = ["ShardDataset"]


class ShardDataset:
    """`ds[i]` is (image uint8 HWC, labels float32 [K], known bool [K], key) of sample `i`, in the
    index's order.

    Channels are red, green and blue, then the further bands of a multispectral set, unless `bands`
    is rgb.
    """

    def __init__(
        self, index: DatasetIndex | str | Path, bands: Literal["all", "rgb"] = "all"
    ) -> None:
        self.index = index if isinstance(index, DatasetIndex) else DatasetIndex.open(index)
        self._num_members = self.index.num_members(bands)
        self._reader = ShardReader(self.index)

    def __len__(self) -> int:
        return self.index.num_samples

    def __getitem__(self, sample: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        try:
            sample = operator.index(sample)
        except TypeError:
            raise DataError(
                f"sample {sample!r:.100}: give its number in the index; a key's is "
                "numpy.flatnonzero(index.keys() == key)"
            ) from None
        if not -len(self) <= sample < len(self):
            raise IndexError(f"sample {sample} of {len(self)}")
        sample %= len(self)
        labels = self.index.labels(slice(sample, sample + 1))[0].astype(np.float32)
        known = self.index.known(slice(sample, sample + 1))[0]
        return self.image(sample), labels, known, self.index.key(sample)

    def image(self, sample: int) -> np.ndarray:
        """Decode the image of one sample: uint8 [height, width, C], the caller's own."""
        row = self.index.samples[sample]
        width = int(row["width"])
        height = int(row["height"])
        with Watch(self.index, skip=False).over(sample, row):
            members = [self._reader.member(row, member) for member in range(self._num_members)]
            return Decoder().bands(members, width, height, (0, 0, width, height))
        raise AssertionError("a watch that does not skip lets errors pass")
