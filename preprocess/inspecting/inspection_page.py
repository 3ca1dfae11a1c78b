"""inspect.html: one file, without scripts or network, that shows the content of a dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from preprocess.inspecting.inspection import Inspection
from preprocess.inspecting.statistics import histogram
from preprocess.inspecting.thumbnails import Sample, thumbnails
from shards.index import DatasetIndex
from shards.pages.html import content_policy, environment, stylesheet

# of classes on the page, about 2 MB; every class gets fewer where there are many
MAX_PICTURES = 480
MAX_PAIRS = 60  # shown, the most alike
MATRIX_CLASSES = 40  # rows of the co-occurrence table, the commonest
NUMBERED_CLASSES = 24  # up to here a cell has room for its number
BINS = 24
COLOURS = ("var(--first)", "var(--second)", "var(--good)", "var(--muted)")  # of the splits, in turn


@dataclass(frozen=True)
class Picture:
    """One picture with its caption."""

    sample: Sample
    key: str
    split: str
    labels: str


@dataclass(frozen=True)
class PictureRow:
    """Some pictures of `num_images`."""

    name: str
    num_images: int
    tiles: list[Picture]


@dataclass(frozen=True)
class Bars:
    """A histogram of one quantity, a row of bars per split: (split, colour, [(height in %, what it
    says)]).
    """

    title: str
    low: str
    high: str
    rows: list[tuple[str, str, list[tuple[float, str]]]]


def render_inspection(inspection: Inspection, num_images: int, seed: int, num_threads: int) -> str:
    """Return the page, with at most `num_images` pictures of each class, drawn by `seed`."""
    indexes = inspection.indexes
    likeness = inspection.likeness
    galleries = class_galleries(indexes, num_images, seed)
    unlabelled = [split.unlabelled for split in inspection.splits]
    odd = [odd_gallery("None of the classes", indexes, unlabelled, num_images, seed)]
    pairs = []
    if likeness:
        odd.append(odd_gallery("Almost one colour", indexes, likeness.flat, num_images, seed))
        pairs = [
            (pair, _tile(indexes, pair.first), _tile(indexes, pair.second))
            for pair in likeness.pairs[:MAX_PAIRS]
        ]
    odd = [gallery for gallery in odd if gallery.tiles]
    shown = [tile.sample for gallery in (*galleries, *odd) for tile in gallery.tiles]
    shown += [tile.sample for _, *tiles in pairs for tile in tiles]
    return (
        environment("preprocess.inspecting")
        .get_template("inspect.html")
        .render(
            styles=stylesheet(),
            policy=content_policy(),
            inspection=inspection,
            splits=list(zip(inspection.splits, _colours(indexes), indexes, strict=True)),
            classes=_class_rows(inspection),
            labels=_labels_rows(inspection),
            matrix=_matrix(inspection),
            measures=_measures(inspection),
            bars=_size_bars(inspection),
            galleries=galleries,
            odd=odd,
            has_samples=any(gallery.tiles for gallery in (*galleries, *odd)),
            pairs=pairs,
            uris=thumbnails(indexes, shown, num_threads),
        )
    )


def class_galleries(
    indexes: Sequence[DatasetIndex], num_images: int, seed: int
) -> list[PictureRow]:
    """Draw pictures of each class from all splits together, as few as possible twice."""
    names = indexes[0].class_names
    most = min(num_images, max(1, MAX_PICTURES // len(names)))
    galleries = []
    seen = set[Sample]()
    for number, name in enumerate(names[:MAX_PICTURES]):
        byte, bit = divmod(number, 8)
        positives = [
            np.flatnonzero(index.samples["labels"][:, byte] & (128 >> bit)) for index in indexes
        ]
        drawn = _draw(positives, most, [seed, number], seen)
        seen.update(drawn)
        tiles = [_tile(indexes, sample, without=name) for sample in drawn]
        galleries.append(PictureRow(name, sum(map(len, positives)), tiles))
    return galleries


def odd_gallery(
    name: str,
    indexes: Sequence[DatasetIndex],
    samples: Sequence[Sequence[int]],
    num_images: int,
    seed: int,
) -> PictureRow:
    """Draw pictures of those samples, given per split."""
    drawn = _draw([np.array(numbers, np.int64) for numbers in samples], num_images, [seed], set())
    return PictureRow(name, sum(map(len, samples)), [_tile(indexes, sample) for sample in drawn])


def _draw(samples: list[np.ndarray], most: int, seed: list[int], seen: set[Sample]) -> list[Sample]:
    """Draw `most` of the samples given per split, those not seen yet where there are enough, in
    order.
    """
    splits = np.repeat(np.arange(len(samples)), [len(numbers) for numbers in samples])
    numbers = np.concatenate(samples)
    drawn = np.random.default_rng(seed).choice(
        len(numbers), min(4 * most, len(numbers)), replace=False
    )
    candidates = [(int(splits[i]), int(numbers[i])) for i in drawn]
    return sorted(sorted(candidates, key=lambda sample: sample in seen)[:most])


def _tile(indexes: Sequence[DatasetIndex], sample: Sample, without: str = "") -> Picture:
    index = indexes[sample[0]]
    number = sample[1]
    shows = np.flatnonzero(index.labels(slice(number, number + 1))[0])
    names = [index.class_names[c] for c in shows if index.class_names[c] != without]
    return Picture(sample, index.key(number), index.split, ", ".join(names))


def _colours(indexes: Sequence[DatasetIndex]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(indexes))]


def _class_rows(inspection: Inspection) -> list[tuple[str, list[tuple[int, float, int, float]]]]:
    """Per class, per split: (positives, share of the images, ignored, length of the bar in %)."""
    splits = inspection.splits
    widest = max(max(max(split.positives) / split.num_samples for split in splits), 1e-12)
    return [
        (
            name,
            [
                (
                    split.positives[number],
                    split.positives[number] / split.num_samples,
                    split.ignored[number],
                    100 * split.positives[number] / split.num_samples / widest,
                )
                for split in splits
            ],
        )
        for number, name in enumerate(inspection.class_names)
    ]


def _labels_rows(inspection: Inspection) -> list[tuple[int, list[tuple[int, float]]]]:
    """Per number of labels, per split: (images, share of the split)."""
    most = max(len(split.labels_per_image) for split in inspection.splits)
    return [
        (
            number,
            [
                (images, images / split.num_samples)
                for split in inspection.splits
                for images in [dict(enumerate(split.labels_per_image)).get(number, 0)]
            ],
        )
        for number in range(most)
    ]


def _matrix(inspection: Inspection) -> dict[str, Any] | None:
    """Of the images with the class of the row, the share that shows the class of the column too;
    None if none can.
    """
    if all(len(split.labels_per_image) <= 2 for split in inspection.splits):
        return None
    classes, counts = inspection.together(MATRIX_CLASSES)
    totals = np.diag(counts)
    names = [inspection.class_names[number] for number in classes]
    rows = [
        (name, [None if i == j else (int(counts[i, j]), int(totals[i])) for j in range(len(names))])
        for i, name in enumerate(names)
    ]
    return {"names": names, "rows": rows, "numbered": len(names) <= NUMBERED_CLASSES}


def _measures(inspection: Inspection) -> list[tuple[str, list[dict[str, float]], str]]:
    """What is measured of images: (name, quantiles per split, format)."""
    sizes = [split.sizes for split in inspection.splits]
    return [
        ("Short side", [size.short_side for size in sizes], "%d"),
        ("Long side", [size.long_side for size in sizes], "%d"),
        ("Megapixels", [size.megapixels for size in sizes], "%.3g"),
        ("Width / height", [size.aspect for size in sizes], "%.2f"),
    ]


def _size_bars(inspection: Inspection) -> list[Bars]:
    """Histograms over all images of megapixels, width / height and bytes, where they differ at all."""
    samples = [index.samples for index in inspection.indexes]
    width, height = ([rows[side].astype(float) for rows in samples] for side in ("width", "height"))
    made: list[tuple[str, list[np.ndarray], Callable[[float], str]]] = [
        (
            "Megapixels",
            [w * h / 1e6 for w, h in zip(width, height, strict=True)],
            lambda value: f"{value:.3g}",
        ),
        (
            "Width / height",
            [w / h for w, h in zip(width, height, strict=True)],
            lambda value: f"{value:.2f}",
        ),
        (
            "Kilobytes",
            [rows["length"].sum(1, dtype=np.int64) / 1e3 for rows in samples],
            lambda value: f"{value:,.0f}" if value >= 10 else f"{value:.1f}",
        ),
    ]
    bars = []
    for title, values, spell in made:
        edges, counts = histogram(values, BINS)
        if len(edges) == 2:
            continue
        spans = [f"{spell(low)} to {spell(high)}" for low, high in pairwise(edges)]
        rows = []
        for split, colour, count in zip(
            inspection.splits, _colours(inspection.indexes), counts, strict=True
        ):
            heights = 100 * count / max(1, count.max())
            words = [
                f"{span}: {number:,} of {split.split}"
                for span, number in zip(spans, count, strict=True)
            ]
            rows.append((split.split, colour, list(zip(heights.tolist(), words, strict=True))))
        bars.append(Bars(title, spell(edges[0]), spell(edges[-1]), rows))
    return bars
