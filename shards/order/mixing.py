"""How well the near order mixes the labels of a split: by how much shards differ in them."""

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from shards.index import DatasetIndex

if TYPE_CHECKING:
    from shards.order.near_order import NearOrder

SHARDS_SEEN = 64  # of a set, spread evenly
ROWS_SEEN = 4096  # of a shard, spread evenly
BATCHES = 10
LEAST = 2.0  # times the variance of a global shuffle, over so many batches, that is worth a line


def shard_correlation(shares: np.ndarray, sizes: np.ndarray) -> float:
    """Tell how alike the labels of one shard are: 0 as drawn at random, 1 where each shard has
    samples of the same labels alone.

    `shares` float [S, C] are those of each class in each shard, `sizes` [S] the samples that they
    were counted in. It is the intraclass correlation of Fisher (1925), over all classes.
    """
    counted = sizes > 1
    num = sizes[counted, None]
    shares = shares[counted]
    if len(shares) < 2:
        return 0.0
    within = (num / (num - 1) * shares * (1 - shares)).mean(0)
    between = shares.var(0, ddof=1) - (shares * (1 - shares) / (num - 1)).mean(0)
    total = float((within + between).sum())
    return min(1.0, max(0.0, float(between.sum()) / total)) if total > 0 else 0.0


def sampled_correlation(sizes: np.ndarray, labels_of: Callable[[slice], np.ndarray]) -> float:
    """Tell how alike the labels of a shard are, from some rows of some shards.

    `sizes` int64 [S] are the samples of each shard, `labels_of` returns bool [N, C] of some rows.
    """
    first = np.cumsum(sizes) - sizes
    some = np.flatnonzero(sizes > 1)
    if not len(some):
        return 0.0
    some = np.unique(some[np.linspace(0, len(some) - 1, SHARDS_SEEN).astype(int)])
    shares = []
    counted = []
    for number in some.tolist():
        start = int(first[number])
        apart = math.ceil(int(sizes[number]) / ROWS_SEEN)
        labels = labels_of(slice(start, start + int(sizes[number]), apart))
        shares.append(labels.mean(0))
        counted.append(len(labels))
    return shard_correlation(np.array(shares), np.array(counted))


def variance_ratio(order: "NearOrder", correlation: float, num_batches: int) -> float:
    """Estimate the variance of the class counts of so many batches in a row, over that of a global
    shuffle.

    Of each group come `num` samples of the shards that are open, a cluster sample: its variance is
    1 + (num - 1) correlation times that of a simple one (Kish 1965). Windows of several shards are
    less alike, and shards are drawn without repeating them.
    """
    num_open = order.groups * order.window
    in_window = max(1.0, float(order.sizes.sum()) / max(1, len(order.sizes)) * order.window)
    num = min(num_batches * order.global_batch_size / order.groups, in_window)
    left = max(0.0, 1 - num_open / max(1, len(order.sizes)))
    return max(0.0, 1 + (num * left - 1) * correlation / order.window)


def mixing_of(index: DatasetIndex, order: "NearOrder") -> tuple[float, float]:
    """Estimate the variance of the class counts of one batch, and of BATCHES in a row, over that of
    a global shuffle.
    """
    correlation = index.statistics.get("shard_correlation")
    if correlation is None:
        correlation = sampled_correlation(index.shard_sizes, index.labels)
    return variance_ratio(order, correlation, 1), variance_ratio(order, correlation, BATCHES)


def mixing_line(index: DatasetIndex, order: "NearOrder") -> str:
    """Say by how much batches vary more than those of a global shuffle; empty where they hardly do."""
    of_one, of_more = mixing_of(index, order)
    if of_more < LEAST:
        return ""
    remedy = "pack it without --in-place" if index.in_place else "pack it again"
    return (
        f"{index.root}: its labels are sorted by shard: with the order near the class counts of a "
        f"batch vary {of_one:.1f} times as much as in a global shuffle, those of {BATCHES} batches "
        f"{of_more:.1f} times; {remedy} in shuffled order, or give a greater --shuffle-window or "
        "--order global"
    )


def say_mixing(index: DatasetIndex, order: "NearOrder") -> None:
    """Print that line, where there is one, beside what the process prints."""
    if line := mixing_line(index, order):
        print(line, file=sys.stderr)
