"""report.html: one file without scripts or network that says how good a model is and shows what it does."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jinja2

from eval.plots import History, loss_plot, map_plot, tail_plot
from eval.ranking import rank
from eval.results import CLASSIFICATION_THRESHOLD, Predictions
from eval.summary import by_ap, number
from eval.thumbnails import Thumbnail, ThumbnailCache
from shards.errors import DataError

NUM_IMAGES = 50  # highest, and lowest, per class
NUM_CLASSES = 5  # chosen at random where none is named


@dataclass(frozen=True)
class RunRecord:
    """What somebody needs to repeat the run."""

    title: str  # the run's name
    commands: Sequence[str]  # pack, train, evaluate; the root of the source is its last folder alone
    config_yaml: str  # the resolved configuration
    checkpoint: str
    epoch: int | None = None  # of the checkpoint
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version
    facts: Mapping[str, str] = field(default_factory=dict)  # further lines of the table, e.g. data, precision


@dataclass(frozen=True)
class Tile:
    """One picture of a gallery."""

    key: str
    score: float
    is_positive: bool
    is_wrong: bool  # among the highest but not positive, or among the lowest but positive
    uri: str


@dataclass(frozen=True)
class ClassGallery:
    """The pictures of one class: highest scores first, and lowest first."""

    name: str
    entry: Mapping[str, Any]  # the class's numbers as in metrics["per_class"]
    highest: Sequence[Tile]
    lowest: Sequence[Tile]


def choose_classes(
    class_names: Sequence[str], names: Sequence[str] | None, seed: int, num: int = NUM_CLASSES
) -> list[int]:
    """Return the classes to show: those named, in that order, each once; else `num` drawn by `seed`."""
    if names is None:
        return sorted(random.Random(seed).sample(range(len(class_names)), min(num, len(class_names))))
    numbers = {name: index for index, name in enumerate(class_names)}
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise DataError(f"no class named {', '.join(map(repr, unknown))}; the classes are: {', '.join(class_names)}")
    return [numbers[name] for name in dict.fromkeys(names)]


def build_galleries(
    predictions: Predictions,
    metrics: Mapping[str, Any],
    class_ids: Sequence[int],
    thumbnail: Thumbnail,
    k: int,
) -> list[ClassGallery]:
    """Rank the chosen classes and fetch their pictures, each sample's once, in rising order."""
    columns = list(class_ids)
    scores, labels = predictions.scores[:, columns], predictions.labels[:, columns] > 0
    top, bottom = (ids.tolist() for ids in rank(scores, k, predictions.known[:, columns]))
    pictures = ThumbnailCache(thumbnail)
    for index in sorted({i for row in (*top, *bottom) for i in row if i >= 0}):
        pictures.data_uri(index)  # ascending: the reader walks through the shards once
    score_rows, label_rows = scores.T.double().tolist(), labels.T.tolist()

    def tiles(column: int, ids: Sequence[int], expected: bool) -> list[Tile]:
        return [
            Tile(
                key=str(predictions.keys[i]),
                score=score_rows[column][i],
                is_positive=label_rows[column][i],
                is_wrong=label_rows[column][i] != expected,
                uri=pictures.data_uri(i),
            )
            for i in ids
            if i >= 0
        ]

    names = [predictions.class_names[c] for c in columns]
    return [
        ClassGallery(name, metrics["per_class"][name], tiles(n, top[n], True), tiles(n, bottom[n], False))
        for n, name in enumerate(names)
    ]


def render(
    metrics: Mapping[str, Any],
    predictions: Predictions,
    run: RunRecord,
    history: History,
    class_ids: Sequence[int],
    thumbnail: Thumbnail,
    num_images: int = NUM_IMAGES,
) -> str:
    """Return the report as one HTML page.

    Args:
        metrics: what `eval.results.measure` returned for `predictions`.
        predictions: the scores that the galleries rank.
        run: the settings to print.
        history: one mapping per epoch: `epoch` and any of `train_loss`, `val_loss`, `val_mAP`; may be empty.
        class_ids: classes to show galleries of, from `choose_classes`.
        thumbnail: sample number -> uint8 [H, W, 3] RGB; asked once for each sample shown, in rising order.
        num_images: pictures per gallery.
    """
    rows, tail = by_ap(metrics), metrics["tail_accuracy"]
    tail_rows = list(zip(tail["thresholds"], tail["mean"], tail["num_classes"], strict=True))
    return (
        _environment()
        .get_template("report.html")
        .render(
            metrics=metrics,
            run=run,
            rows=rows,
            measured=[row for row in rows if row[1]["ap"] is not None],
            curves=[plot for plot in (loss_plot(history), map_plot(history)) if plot],
            tail=tail,
            tail_plot=tail_plot(tail),
            tail_rows=tail_rows[:: max(1, len(tail_rows) // 10)],
            galleries=build_galleries(predictions, metrics, class_ids, thumbnail, num_images),
            threshold=CLASSIFICATION_THRESHOLD,
        )
    )


@cache
def _environment() -> jinja2.Environment:
    """Templates lie in this package. Autoescape is on: class names, keys and configs come from strangers."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("eval", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment
