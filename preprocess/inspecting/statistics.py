"""Count a split's labels, co-occurrence, sizes and bytes, from its index only: no image is read."""

from dataclasses import dataclass

import numpy as np

from shards.disk.format import BLOCK_BITS
from shards.errors import DataError
from shards.index import DatasetIndex

QUANTILES = {"smallest": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "largest": 1.0}
COMMON_SIZES = 6


@dataclass(frozen=True)
class Sizes:
    """How large the images of a split are. Each of the first four maps the names of QUANTILES to a
    value.
    """

    megapixels: dict[str, float]
    aspect: dict[str, float]  # width / height
    short_side: dict[str, float]  # pixels
    long_side: dict[str, float]
    common: list[tuple[int, int, int]]  # (width, height, images), the commonest first
    num_different: int


@dataclass(frozen=True)
class SplitStatistics:
    """What one split holds; K classes in the order of the index."""

    split: str
    num_samples: int
    num_shards: int
    image_bytes: int
    positives: list[int]  # [K] images
    ignored: list[int]  # [K] images
    labels_per_image: list[int]  # images with 0, 1, 2, ... labels
    unlabelled: list[int]  # samples without a positive label
    together: np.ndarray  # int64 [K, K] images that show both classes; on the diagonal, the class
    mean: list[float]  # per channel, 0 to 1
    std: list[float]
    sizes: Sizes

    @property
    def labels_mean(self) -> float:
        """Labels of an average image."""
        return sum(self.positives) / self.num_samples

    @property
    def mean_bytes(self) -> float:
        return self.image_bytes / self.num_samples


def count(index: DatasetIndex) -> SplitStatistics:
    """Count one split. Raises DataError where it has no samples."""
    if not index.num_samples:
        raise DataError(f"{index.root}: no sample to look at; pack this split again")
    num_classes = index.num_classes
    positives = np.zeros(num_classes, np.int64)
    ignored = np.zeros(num_classes, np.int64)
    together = np.zeros((num_classes, num_classes), np.int64)
    per_image = np.zeros(num_classes + 1, np.int64)
    unlabelled = []
    rows = max(1, BLOCK_BITS // num_classes)
    for start in range(0, index.num_samples, rows):
        block = slice(start, start + rows)
        labels = index.labels(block)
        positives += labels.sum(0)
        ignored += (~index.known(block)).sum(0)
        num_labels = labels.sum(1)
        per_image += np.bincount(num_labels, minlength=num_classes + 1)
        unlabelled += (start + np.flatnonzero(num_labels == 0)).tolist()
        numbers = labels.astype(np.float32)
        together += (numbers.T @ numbers).astype(np.int64)
    most = int(np.flatnonzero(per_image).max())
    return SplitStatistics(
        split=index.split,
        num_samples=index.num_samples,
        num_shards=len(index.shards),
        image_bytes=int(index.samples["length"].sum(dtype=np.int64)),
        positives=positives.tolist(),
        ignored=ignored.tolist(),
        labels_per_image=per_image[: most + 1].tolist(),
        unlabelled=unlabelled,
        together=together,
        mean=list(index.statistics["mean"]),
        std=list(index.statistics["std"]),
        sizes=_sizes(
            index.samples["width"].astype(np.int64), index.samples["height"].astype(np.int64)
        ),
    )


def histogram(values: list[np.ndarray], num_bins: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Count several sets of positive values in the same bins: (edges [num_bins + 1], counts
    [num_bins] each).

    Bins grow by the same factor each, since sizes differ by factors. All values equal give one bin.
    """
    low = min(float(v.min()) for v in values)
    high = max(float(v.max()) for v in values)
    if low == high:
        return np.array([low, high]), [np.array([len(v)]) for v in values]
    edges = np.geomspace(low, high, num_bins + 1)
    edges[0] = low
    edges[-1] = high
    return edges, [np.histogram(v, edges)[0] for v in values]


def _sizes(width: np.ndarray, height: np.ndarray) -> Sizes:
    pairs, counts = np.unique(width << 32 | height, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:COMMON_SIZES]
    return Sizes(
        megapixels=_quantiles(width * height / 1e6),
        aspect=_quantiles(width / height),
        short_side=_quantiles(np.minimum(width, height)),
        long_side=_quantiles(np.maximum(width, height)),
        common=[(int(pairs[i] >> 32), int(pairs[i] & 0xFFFFFFFF), int(counts[i])) for i in order],
        num_different=len(pairs),
    )


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """Take quantiles that are values of the data, not between two."""
    found = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
    return dict(zip(QUANTILES, found.tolist(), strict=True))
