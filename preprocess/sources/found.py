"""Report what a source holds before it is packed: the classes of each split with their counts, and
oddities.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.record import Record, Source
from shards.errors import count_of
from shards.index import DatasetIndex
from shards.pages.spelling import plain

MOST_CLASSES = 25  # shown, of more
_MANY_CLASSES = 20  # of which each is on one image: rather numbers of images
_TOGETHER = 3  # images at least on which two classes occur only together
_NAMED = 3  # in a line about many


@dataclass(frozen=True)
class SplitCounts:
    """What a split holds. `positives` and `ignored` are images per class, `unlabelled` images
    without a positive.
    """

    split: str
    num_samples: int
    positives: Sequence[int]
    ignored: Sequence[int]
    unlabelled: int


def counted(split: str, records: Sequence[Record], num_classes: int) -> SplitCounts:
    """Count the labels of records before they are packed."""
    positives = Counter(label for record in records for label in record.labels)
    ignored = Counter(label for record in records for label in record.ignored)
    return SplitCounts(
        split,
        len(records),
        [positives[label] for label in range(num_classes)],
        [ignored[label] for label in range(num_classes)],
        sum(not record.labels for record in records),
    )


def packed(folder: Path) -> SplitCounts:
    """Count the labels of a packed split, in which no rejected image is."""
    index = DatasetIndex.open(folder)
    unlabelled = index.num_samples - int(np.count_nonzero(index.samples["labels"].any(axis=1)))
    statistics = index.statistics
    return SplitCounts(
        index.split, index.num_samples, statistics["positives"], statistics["ignored"], unlabelled
    )


def listed(
    counts: SplitCounts, class_names: Sequence[str], everything: bool = False
) -> Iterator[str]:
    """Yield the lines about one split: its size, then a class with its counts a line."""
    num = counts.num_samples
    line = f"{counts.split}: {count_of(num, 'image')}, {count_of(len(class_names), 'class')}"
    if counts.unlabelled:
        line += f"; {count_of(counts.unlabelled, 'image')} without any label"
    absent = sum(not positives for positives in counts.positives)
    if absent:
        line += f"; {count_of(absent, 'class')} without a positive"
    yield line
    shown = len(class_names) if everything else MOST_CLASSES
    width = max(len(plain(name)) for name in class_names[:shown])
    rows = list(zip(class_names, counts.positives, counts.ignored, strict=True))
    for name, positives, ignored in rows[:shown]:
        more = f", {ignored:,} ignored" if ignored else ""
        yield f"  {plain(name):{width}}  {count_of(positives, 'positive')}{more}"
    if len(rows) > shown:
        yield f"  and {count_of(len(rows) - shown, 'more class')}; --list shows all"


def odd(records: Sequence[Record], class_names: Sequence[str]) -> Iterator[str]:
    """Yield a warning where labels are unlike classes: each on one image, or two always together."""
    positives = Counter(label for record in records for label in record.labels)
    if (
        len(positives) >= _MANY_CLASSES
        and len(records) >= _MANY_CLASSES
        and max(positives.values()) == 1
    ):
        yield (
            f"please check: each of {count_of(len(positives), 'class')}, such as "
            f"{plain(class_names[min(positives)])}, is on one image only: are these numbers or "
            "names of images?"
        )
        return
    pairs = [group for group in _together(records, positives) if len(group) > 1]
    if pairs:
        spelled = ", ".join(
            " and ".join(plain(class_names[n]) for n in group[:_NAMED]) for group in pairs[:_NAMED]
        )
        more = f", and {len(pairs) - _NAMED:,} more" if len(pairs) > _NAMED else ""
        yield f"please check: {spelled}{more} are always on the same images: one label that was parted at a space?"


def described(source: Source) -> list[str]:
    """Say where labels came from."""
    return [plain(line) for line in source.describe()]


def _together(records: Sequence[Record], positives: Counter[int]) -> list[list[int]]:
    """Group the classes that are on exactly the same images, unless these are few or all."""
    marks = np.random.default_rng(0).integers(1, 1 << 62, len(records)).tolist()
    sums: dict[int, int] = {}
    for mark, record in zip(marks, records, strict=True):
        for label in record.labels:
            # the same sum of random numbers: the same images
            sums[label] = sums.get(label, 0) + mark
    groups: dict[int, list[int]] = {}
    for label in sorted(sums):
        if _TOGETHER <= positives[label] < len(records):
            groups.setdefault(sums[label], []).append(label)
    return list(groups.values())
