"""Inspect a packed dataset: everything on the page and in the JSON file of `preprocess.inspect`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.inspecting.duplicates import (
    Duplicates,
    Fingerprints,
    find_duplicates,
    take_fingerprints,
)
from preprocess.inspecting.findings import Facts, Finding, findings
from preprocess.inspecting.normalised import Normalised, normalise
from preprocess.inspecting.statistics import SplitStatistics, count
from preprocess.inspecting.thumbnails import Sample
from shards.disk.format import INDEX_NAME
from shards.errors import DataError
from shards.index import DatasetIndex, list_splits, open_split

USUAL_ORDER = ("train", "trainval", "val", "test")
LISTED_KEYS = 1_000  # of one kind in the JSON file; all are counted
LISTED_CLASSES = 200  # of the co-occurrences in the JSON file, the commonest


@dataclass(frozen=True)
class SamplePair:
    """Two samples that look alike."""

    first: Sample
    second: Sample
    bits: int  # of 64, in which their hashes differ
    difference: float  # of their pixels, in standard deviations
    mirrored: bool
    same_labels: bool


@dataclass(frozen=True)
class Likeness:
    """What the search for near-duplicates found, by sample."""

    pairs: list[SamplePair]  # the most alike
    num_between: int  # pairs in all
    num_within: int
    alike: np.ndarray  # int64 [S, S] images of split row that look like images of split column
    flat: list[list[int]]  # samples of each split that are of almost one colour


@dataclass(frozen=True)
class Inspection:
    """All results of an inspection."""

    name: str
    indexes: list[DatasetIndex]
    splits: list[SplitStatistics]
    same_keys: dict[tuple[str, str], list[str]]
    likeness: Likeness | None  # None where nobody looked
    findings: list[Finding]
    normalised: list[Normalised]  # of each split

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.indexes[0].class_names

    @property
    def num_samples(self) -> int:
        return sum(split.num_samples for split in self.splits)

    def together(self, most: int) -> tuple[list[int], np.ndarray]:
        """Count images that show two classes, over all splits: (the `most` commonest classes, int64
        [C, C]).
        """
        counts = sum(split.together for split in self.splits)
        classes = np.sort(np.argsort(-np.diag(counts), kind="stable")[:most])
        return classes.tolist(), np.asarray(counts)[np.ix_(classes, classes)]


def open_dataset(data: Path) -> list[DatasetIndex]:
    """Open all splits of a dataset folder, train first. Raises DataError where they are not of one
    dataset.
    """
    names = list_splits(data)
    if not names and (data / INDEX_NAME).is_file():
        raise DataError(
            f"{data}: this is one split; give the folder of the whole dataset, "
            f"{data.absolute().parent}"
        )
    if not names:
        raise DataError(
            f"{data}: no packed dataset here; pack it first: python -m preprocess.shard"
        )
    order = {name: number for number, name in enumerate(USUAL_ORDER)}
    indexes = [
        open_split(data, name)
        for name in sorted(names, key=lambda name: (order.get(name, len(order)), name))
    ]
    for index in indexes[1:]:
        if index.class_names != indexes[0].class_names:
            raise DataError(
                f"{data}: {indexes[0].split} and {index.split} have different class names; pack "
                f"them with the same ones"
            )
    return indexes


def inspect(data: Path, duplicates: bool, num_threads: int) -> Inspection:
    """Count, and where asked for look at every image."""
    indexes = open_dataset(data)
    splits = [count(index) for index in indexes]
    same_keys = _same_keys(indexes)
    likeness = None
    if duplicates:
        pictures = take_fingerprints(indexes, num_threads)
        likeness = _likeness(indexes, pictures, find_duplicates(pictures, num_threads))
    normalised = normalise(indexes, num_threads)
    facts = Facts(
        indexes[0].class_names,
        splits,
        [index.settings for index in indexes],
        same_keys,
        None if likeness is None else likeness.alike,
        0 if likeness is None else sum(not pair.same_labels for pair in likeness.pairs),
        None if likeness is None else [len(samples) for samples in likeness.flat],
        [one.worst for one in normalised],
    )
    return Inspection(data.name, indexes, splits, same_keys, likeness, findings(facts), normalised)


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Spell all numbers as what `json` writes."""
    names = inspection.class_names
    indexes = inspection.indexes
    classes, together = inspection.together(LISTED_CLASSES)
    return {
        "data": inspection.name,
        "class_names": list(names),
        "findings": [
            {"text": finding.text, "serious": finding.serious} for finding in inspection.findings
        ],
        "splits": {
            split.split: {**_split_json(split, index), "normalised": asdict(normalised)}
            for split, index, normalised in zip(
                inspection.splits, indexes, inspection.normalised, strict=True
            )
        },
        "together": {
            "class_names": [names[number] for number in classes],
            "images": together.tolist(),
        },
        "same_keys": [
            {"splits": list(pair), "num_keys": len(keys), "keys": keys[:LISTED_KEYS]}
            for pair, keys in inspection.same_keys.items()
        ],
        "near_duplicates": None
        if inspection.likeness is None
        else _likeness_json(inspection.likeness, indexes),
    }


def _split_json(split: SplitStatistics, index: DatasetIndex) -> dict[str, Any]:
    sizes = split.sizes
    return {
        "num_samples": split.num_samples,
        "num_shards": split.num_shards,
        "image_bytes": split.image_bytes,
        "positives": dict(zip(index.class_names, split.positives, strict=True)),
        "ignored": dict(zip(index.class_names, split.ignored, strict=True)),
        "labels_per_image": split.labels_per_image,
        "num_unlabelled": len(split.unlabelled),
        "unlabelled": [index.key(sample) for sample in split.unlabelled[:LISTED_KEYS]],
        "mean": split.mean,
        "std": split.std,
        "megapixels": sizes.megapixels,
        "aspect": sizes.aspect,
        "short_side": sizes.short_side,
        "long_side": sizes.long_side,
        "num_sizes": sizes.num_different,
        "common_sizes": [{"width": w, "height": h, "images": num} for w, h, num in sizes.common],
        "packed_by": index.command,
        "settings": index.settings,
    }


def _likeness_json(likeness: Likeness, indexes: Sequence[DatasetIndex]) -> dict[str, Any]:
    def named(sample: Sample) -> dict[str, str]:
        return {"split": indexes[sample[0]].split, "key": indexes[sample[0]].key(sample[1])}

    splits = [index.split for index in indexes]
    return {
        "num_pairs_between_splits": likeness.num_between,
        "num_pairs_within_splits": likeness.num_within,
        "images_that_look_like_images_of": {
            split: dict(zip(splits, row.tolist(), strict=True))
            for split, row in zip(splits, likeness.alike, strict=True)
        },
        "pairs": [
            {**asdict(pair), "first": named(pair.first), "second": named(pair.second)}
            for pair in likeness.pairs
        ],
        "one_colour": [
            named((split, s))
            for split, samples in enumerate(likeness.flat)
            for s in samples[:LISTED_KEYS]
        ],
    }


def _same_keys(indexes: Sequence[DatasetIndex]) -> dict[tuple[str, str], list[str]]:
    """Name the keys that two splits share, for the pairs of splits that share any."""
    shared = {}
    for first, second in combinations(indexes, 2):
        both = np.intersect1d(first.key_bytes, second.key_bytes)
        if len(both):
            shared[first.split, second.split] = [
                key.decode("ascii", "backslashreplace") for key in both.tolist()
            ]
    return shared


def _likeness(
    indexes: Sequence[DatasetIndex], pictures: Fingerprints, found: Duplicates
) -> Likeness:
    """Turn rows of `pictures` into samples of splits."""
    starts = np.cumsum([0, *(index.num_samples for index in indexes)])

    labels = np.concatenate([index.samples["labels"] for index in indexes])
    sides = np.array([(pair.first, pair.second) for pair in found.pairs], np.int64).reshape(-1, 2).T
    same_labels = (labels[sides[0]] == labels[sides[1]]).all(1)

    def sample(row: int) -> Sample:
        split = int(pictures.splits[row])
        return split, row - int(starts[split])

    return Likeness(
        pairs=[
            SamplePair(
                sample(pair.first),
                sample(pair.second),
                pair.bits,
                pair.difference,
                pair.mirrored,
                same,
            )
            for pair, same in zip(found.pairs, same_labels.tolist(), strict=True)
        ],
        num_between=found.num_between,
        num_within=found.num_within,
        alike=np.add.reduceat(found.alike.astype(np.int64), starts[:-1]),
        flat=[
            np.flatnonzero(pictures.flat[start:end]).tolist()
            for start, end in pairwise(starts.tolist())
        ],
    )
