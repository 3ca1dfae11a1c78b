"""Hold out part of a source as validation, where it has no such split: as scikit-learn draws it, or
stratified.
"""

import heapq
import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from preprocess.images.geometry import ImageOptions
from preprocess.record import Record, Source, listed_records
from shards.errors import DataError

Division = Literal["stratified", "random"]
DIVIDED_SPLITS = ("all", "train", "trainval")  # the first that a source has is divided
MAX_SEED = 2**32 - 1  # scikit-learn's


def divided_split(splits: Sequence[str]) -> str:
    """Name the split that a holdout divides, of a source that has no val; empty where there is
    none.
    """
    return next((split for split in DIVIDED_SPLITS if split in splits), "")


class Holdout(Source):
    """The `Source` that has train and val where another one has all (or only train); other splits
    stay.
    """

    def __init__(
        self, source: Source, fraction: float, seed: int = 0, by: Division = "stratified"
    ) -> None:
        if not 0 < fraction < 1:
            raise DataError(
                f"--val-fraction is {fraction}: give a share between 0 and 1, such as 0.2"
            )
        if not 0 <= seed <= MAX_SEED:
            raise DataError(f"--split-seed is {seed}: give 0 to {MAX_SEED}")
        if by not in get_args(Division):
            raise DataError(
                f"--split-by {by} is unknown: choose one of {', '.join(get_args(Division))}"
            )
        splits = source.splits()
        if "val" in splits:
            raise DataError(
                f"--val-fraction: the source has splits of its own, {', '.join(splits)}; leave it "
                f"out"
            )
        self.divided = divided_split(splits)
        if not self.divided:
            raise DataError(
                f"--val-fraction divides a split all or train; the source has {', '.join(splits)}"
            )
        self.class_names = source.class_names
        self.task = source.task
        self.in_place = source.in_place
        self._source = source
        self._fraction = fraction
        self._seed = seed
        self._by = by
        self._parts: dict[str, list[Record]] | None = None

    def splits(self) -> tuple[str, ...]:
        """Return train and val, then what the source has besides the divided split."""
        return (
            "train",
            "val",
            *(split for split in self._source.splits() if split != self.divided),
        )

    def records(self, split: str) -> Sequence[Record]:
        """List train or val in the source's order; any other split as the source has it."""
        if split not in ("train", "val"):
            if split == self.divided:
                raise DataError(
                    f"split {split!r} is divided by --val-fraction; there are: "
                    f"{', '.join(self.splits())}"
                )
            return listed_records(self._source, split)
        if self._parts is None:
            # checked: dividing counts their labels
            self._parts = self._divide(listed_records(self._source, self.divided))
        return self._parts[split]

    def describe(self) -> Sequence[str]:
        """Add how the split was divided."""
        how = f"{self._fraction:g} of split {self.divided}, {self._by}, --split-seed {self._seed}"
        return [*self._source.describe(), f"split val: held out, {how}"]

    def image_options(self, options: ImageOptions, train: Sequence[Record]) -> ImageOptions:
        """Leave it to the source."""
        return self._source.image_options(options, train)

    def _divide(self, records: Sequence[Record]) -> dict[str, list[Record]]:
        if len(records) < 2:
            raise DataError(
                f"--val-fraction: split {self.divided!r} has {len(records)} image, too few to "
                f"divide"
            )
        if self._by == "random":
            held_out = random_holdout(len(records), self._fraction, self._seed)
        else:
            labels = [record.labels for record in records]
            held_out = stratified_holdout(labels, len(self.class_names), self._fraction, self._seed)
        parts: dict[str, list[Record]] = {"train": [], "val": []}
        for record, is_val in zip(records, held_out.tolist(), strict=True):
            parts["val" if is_val else "train"].append(record)
        return parts


def num_held_out(num_samples: int, fraction: float) -> int:
    """Count what is held out: rounded up, as scikit-learn does, but leaving at least one sample to
    train on.
    """
    return min(math.ceil(fraction * num_samples), num_samples - 1)


def random_holdout(num_samples: int, fraction: float, seed: int) -> np.ndarray:
    """Hold out what `train_test_split(..., test_size=fraction, random_state=seed)` puts into test:
    bool [N].
    """
    from sklearn.model_selection import train_test_split  # takes a second to import

    num_val = num_held_out(num_samples, fraction)
    _, val = train_test_split(np.arange(num_samples), test_size=num_val, random_state=seed)
    held_out = np.zeros(num_samples, bool)
    held_out[val] = True
    return held_out


def stratified_holdout(
    labels: Sequence[Sequence[int]], num_classes: int, fraction: float, seed: int
) -> np.ndarray:
    """Hold out samples so that every class keeps its share: bool [N] with exactly `num_held_out`
    True.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label
    Data, ECML PKDD 2011, algorithm 1) for two parts: the class with the fewest samples left is
    dealt out first. The paper asks that class alone where a sample goes. Here all classes of the
    sample are asked, the rarer the more: where images show many classes (120 classes, 9 an image)
    the worst class is then off by at most 1.0 standard deviations of a random draw instead of 3.1.
    `labels` are class indices per sample. 100,000 samples of 80 classes take about a second.
    """
    num_samples = len(labels)
    everything = num_classes
    num_val = num_held_out(num_samples, fraction)
    share = num_val / num_samples
    rng = np.random.default_rng(seed)
    # a class that all samples show: the size of the parts
    shown = [(*sample, everything) for sample in labels]
    holders: list[list[int]] = [[] for _ in range(num_classes + 1)]
    for sample in rng.permutation(num_samples).tolist():
        for label in shown[sample]:
            holders[label].append(sample)
    left = [len(samples) for samples in holders]
    wanted = [num * share for num in left]  # still, by val
    wanted[everything] = num_val
    dealt = np.zeros(num_samples, bool)
    held_out = np.zeros(num_samples, bool)
    waiting = [(num, label) for label, num in enumerate(left) if num]
    heapq.heapify(waiting)
    while waiting:
        num, rarest = heapq.heappop(waiting)
        if num != left[rarest]:
            continue  # it has a later entry
        changed: set[int] = set()
        for sample in holders[rarest]:
            if dealt[sample]:
                continue
            is_val = wanted[everything] > 0
            if is_val and wanted[everything] < left[everything]:  # otherwise train is full
                # Val's lack of a class: what it wants beyond its share of what is left. Taking the
                # sample lowers the lack by 1 - share, leaving it raises it by share; the sum of
                # squares of lacks decides.
                change = sum(
                    (1 - 2 * share - 2 * (wanted[c] - share * left[c])) / left[c]
                    for c in shown[sample]
                )
                is_val = change < 0 or (change == 0 and rng.random() < share)
            dealt[sample] = True
            held_out[sample] = is_val
            for label in shown[sample]:
                left[label] -= 1
                wanted[label] -= is_val
            changed.update(shown[sample])
        for label in changed:
            if left[label]:
                heapq.heappush(waiting, (left[label], label))
    return held_out
