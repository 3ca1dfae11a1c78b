"""Check the normalisation: with the mean and std of its index a split's pixels have mean 0 and std
1.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from shards.dataset import ShardDataset
from shards.index import DatasetIndex

# Looked at: at least so many images, and others up to so many pixels. A set of small images is
# looked at whole.
MOST_PIXELS = 50_000_000
LEAST_IMAGES = 200
CHUNK = 16  # images decoded per task


@dataclass(frozen=True)
class Normalised:
    """Mean and std per channel of the decoded, normalised pixels of `num_images` images, evenly
    spread.
    """

    num_images: int
    mean: list[float]
    std: list[float]

    @property
    def worst(self) -> float:
        """By how much a mean is not 0, or a std not 1, at most."""
        return max(*(abs(mean) for mean in self.mean), *(abs(std - 1) for std in self.std))


def normalise(indexes: Sequence[DatasetIndex], num_threads: int) -> list[Normalised]:
    """Decode images of each split and measure. Raises SampleError for one that cannot be decoded."""
    chosen = [_choose(index) for index in indexes]
    total = sum(len(numbers) for numbers in chosen)
    bar = tqdm(total=total, desc="measuring the pixels", unit="image", leave=False, disable=None)
    with bar, ThreadPoolExecutor(num_threads) as threads:
        return [
            _measure(index, numbers, threads, bar)
            for index, numbers in zip(indexes, chosen, strict=True)
        ]


def _choose(index: DatasetIndex) -> np.ndarray:
    pixels = index.samples["width"].astype(np.int64) * index.samples["height"]
    num = max(LEAST_IMAGES, int(MOST_PIXELS / pixels.mean()))
    return np.unique(
        np.linspace(0, index.num_samples - 1, min(num, index.num_samples)).astype(np.int64)
    )


def _measure(
    index: DatasetIndex, numbers: np.ndarray, threads: ThreadPoolExecutor, bar: tqdm
) -> Normalised:
    dataset = ShardDataset(index)
    sums = np.zeros((3, index.num_channels), np.int64)
    for part in threads.map(partial(_sums, dataset, numbers), range(0, len(numbers), CHUNK)):
        sums += part
        bar.update(CHUNK)
    count, total, squares = sums.astype(float)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    told_mean, told_std = (255 * np.array(index.statistics[name]) for name in ("mean", "std"))
    told_std = np.maximum(told_std, 1e-6)  # of a set of one colour it is 0
    moments = ((mean - told_mean) / told_std, std / told_std)
    # 0, never -0
    return Normalised(len(numbers), *((values.round(5) + 0.0).tolist() for values in moments))


def _sums(dataset: ShardDataset, numbers: np.ndarray, start: int) -> np.ndarray:
    """Add up pixels: int64 [3, C], their number, values and squares, exact."""
    sums = np.zeros((3, dataset.index.num_channels), np.int64)
    for number in numbers[start : start + CHUNK].tolist():
        pixels = dataset.image(number).reshape(-1, sums.shape[1])
        counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
        values = np.arange(256)
        sums += np.stack([counts.sum(1), counts @ values, counts @ values**2])
    return sums
