"""report.html: one file, nothing fetched, that shows how good a model is."""

import base64
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import torch
from markupsafe import Markup

from eval.metrics.threshold_counts import count_above
from eval.prediction.predictions import Predictions
from eval.prediction.unread import unshown
from eval.report.examples import example_table
from eval.report.gallery import Gallery, Mistake, Shown, surest_mistakes, true_labels
from eval.report.report_images import Thumbnails
from eval.results.summary import best_first
from eval.results.tail_grid import CLASSIFICATION_THRESHOLD
from shards.pages.html import content_policy, environment, stylesheet
from shards.pages.spelling import number

FINE_STEPS = 1000  # of the threshold slider, up to MANY_CLASSES
COARSE_STEPS = 200  # and above
MANY_CLASSES = 100
NUM_PRINTED = 40  # classes of the table on paper: the best and the worst
NUM_PAIRS = 8
HISTORY_FIGURES = ("loss", "accuracy", "map", "lr")

Pair = tuple[str, str, int, int]  # class, other class, images of both, of how many


@dataclass(frozen=True)
class RunRecord:
    """The facts needed to repeat the run."""

    title: str  # the run's name
    # pack, train, evaluate; the root of the source is its last folder alone
    commands: Sequence[str]
    config_yaml: str  # the resolved configuration
    checkpoint: str
    epoch: int | None = None  # of the checkpoint
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version
    # further lines of the table, e.g. data, precision
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GalleryImage:
    """One picture of a gallery."""

    sample: int
    key: str
    score: float
    labels: Sequence[str]  # all that it shows
    is_wrong: bool  # not positive where positive is expected, or the reverse
    uri: str


def render_report(
    metrics: Mapping[str, Any],
    predictions: Predictions,
    run: RunRecord,
    plots: Mapping[str, Markup],
    class_ids: Sequence[int],
    galleries: Sequence[Gallery],
    thumbnails: Thumbnails,
) -> str:
    """Return the report as one HTML page.

    Args:
        metrics: what `eval.results.measure.measure_predictions` returned for `predictions`; with
            `baseline` from `eval.results.baseline.compare_metrics`.
        predictions: the scores that the galleries rank.
        run: the settings to print.
        plots: the figures of the page, from `eval.report.figures.draw_figures`.
        class_ids: classes whose galleries are on the page, from `choose_classes`; the others open
            on demand.
        galleries: of every class, from `build_galleries`; empty for a page without images.
        thumbnails: takes the pictures of the samples shown; that one cannot be decoded is said on
            stderr and in the record.
    """
    examples = metrics.get("examples", ())
    thumbnails.fetch(pictured_samples(predictions, galleries, examples))
    grey = unshown([str(predictions.keys[sample]) for sample in sorted(thumbnails.damaged)])
    if grey:
        print(f"grey in the report: {grey}", file=sys.stderr)
    tiles = _Tiles(predictions, thumbnails.uris)
    heads, rows = example_table(examples, list(predictions.class_names))
    return (
        environment("eval.report")
        .get_template("report.html")
        .render(
            run=run,
            grey=grey,
            plots=plots,
            training=[plots[name] for name in HISTORY_FIGURES if name in plots],
            example_heads=heads,
            examples=rows,
            picture=thumbnails.uris,
            **_measured(metrics, predictions),
            **_pairs(metrics),
            **_galleries(predictions, galleries, class_ids, tiles),
            **_page(),
        )
    )


class _Tiles:
    """The pictures on the page, with what is said of each."""

    def __init__(self, predictions: Predictions, pictures: Mapping[int, str]) -> None:
        self.pictures = pictures
        self.labels = true_labels(predictions, list(pictures))
        self._keys = predictions.keys
        self._names = list(predictions.class_names)

    def of_gallery(
        self, class_id: int, shown: Sequence[Shown], expected: bool
    ) -> list[GalleryImage]:
        """List pictures of a class of which all, or none, should show it."""
        return [
            GalleryImage(
                sample,
                str(self._keys[sample]),
                score,
                [self._names[label] for label in self.labels[sample]],
                (class_id in self.labels[sample]) != expected,
                self.pictures[sample],
            )
            for sample, score in shown
        ]

    def of_mistakes(self, mistakes: Sequence[Mistake]) -> list[GalleryImage]:
        """List pictures that were taken for another class."""
        return [
            GalleryImage(
                sample,
                str(self._keys[sample]),
                score,
                [f"{self._names[true]}, taken for {self._names[guess]}"],
                True,
                self.pictures[sample],
            )
            for sample, score, true, guess in mistakes
        ]


def _measured(metrics: Mapping[str, Any], predictions: Predictions) -> dict[str, Any]:
    """The figures of the page: the answer, and a row for each class."""
    is_single = predictions.task == "multiclass"  # one label a sample
    rows = best_first(metrics)
    by = "accuracy" if is_single else "ap"
    answer = "accuracy" if is_single else "mAP"
    return {
        "metrics": metrics,
        "answer": metrics[answer],
        "answer_interval": metrics[f"{answer}_interval"],
        "baseline": metrics.get("baseline"),
        "names": list(predictions.class_names),
        "rows": rows,
        "middle": range(NUM_PRINTED // 2, max(0, len(rows) - NUM_PRINTED // 2)),
        "measured": [row for row in rows if row[1][by] is not None],
        "by": by,
        "is_single": is_single,
        "threshold": CLASSIFICATION_THRESHOLD,
        "counts": _data(_counts(metrics, predictions)),
    }


def _galleries(
    predictions: Predictions,
    galleries: Sequence[Gallery],
    class_ids: Sequence[int],
    tiles: _Tiles,
) -> dict[str, Any]:
    """The galleries of the page, and those that open on demand."""
    return {
        "mistakes": tiles.of_mistakes(_mistakes(predictions, galleries)),
        "class_ids": class_ids,
        "galleries": galleries,
        "shortened": sorted(
            {len(gallery.highest) for gallery in galleries if gallery.is_shortened}
        ),
        "tiles": tiles.of_gallery,
        "pictures": _data(
            _on_demand(predictions, galleries, class_ids, tiles.pictures, tiles.labels)
        ),
    }


def _page() -> dict[str, Any]:
    """What the page is written with: style, script, and how numbers are spelled."""
    script = files("eval.report").joinpath("report.js").read_text(encoding="utf-8")
    return {
        "styles": Markup(stylesheet()),
        "script": Markup(script),
        "policy": content_policy([_hash(script)]),
        "number": number,
        "class_note": class_note,
    }


def pictured_samples(
    predictions: Predictions, galleries: Sequence[Gallery], examples: Sequence[Mapping[str, Any]]
) -> set[int]:
    """Number the samples whose pictures are on the page; `examples` are of `draw_examples`."""
    of_galleries = set().union(*(gallery.samples() for gallery in galleries))
    mistaken = {mistake[0] for mistake in _mistakes(predictions, galleries)}
    return of_galleries | mistaken | {example["sample"] for example in examples}


def _mistakes(predictions: Predictions, galleries: Sequence[Gallery]) -> list[Mistake]:
    num_images = max((len(gallery.highest) for gallery in galleries), default=0)
    return surest_mistakes(predictions, num_images) if predictions.task == "multiclass" else []


def _counts(metrics: Mapping[str, Any], predictions: Predictions) -> dict[str, Any]:
    """What the slider needs: per class how many known entries, and positives, score from one
    threshold to the next.
    """
    steps = FINE_STEPS if len(predictions.class_names) <= MANY_CLASSES else COARSE_STEPS
    counts = count_above(predictions.scores, predictions.labels, predictions.known, steps)
    bins = [
        torch.diff(-values, dim=0, append=torch.zeros_like(values[:1])).T.tolist()
        for values in counts
    ]
    columns = zip(metrics["per_class"].items(), *bins, strict=True)
    classes = [
        {
            "name": name,
            "note": class_note(entry),
            "best": entry["best_f1_threshold"],
            "predicted": predicted,
            "positive": positive,
        }
        for (name, entry), predicted, positive in columns
    ]
    tail = metrics["tail_accuracy"]
    return {"steps": steps, "tail": [tail["t_min"], tail["t_max"] or 1], "classes": classes}


def class_note(entry: Mapping[str, Any]) -> str:
    """Say of a class how good it is and how many images show it."""
    accuracy = f"accuracy {number(entry['accuracy'])}, " if "accuracy" in entry else ""
    return f"{accuracy}AP {number(entry['ap'])}, {entry['positives']:,} positive"


def _on_demand(
    predictions: Predictions,
    galleries: Sequence[Gallery],
    class_ids: Sequence[int],
    pictures: Mapping[int, str],
    labels: Mapping[int, Sequence[int]],
) -> dict[str, Any]:
    """The galleries that are not on the page, and what their pictures need that is not on it
    already.
    """
    others = {
        number: gallery for number, gallery in enumerate(galleries) if number not in class_ids
    }
    on_page = (
        set().union(*(galleries[number].samples() for number in class_ids)) if galleries else set()
    )
    needed = sorted(set().union(*(gallery.samples() for gallery in others.values())))
    return {
        "galleries": {
            number: [
                gallery.highest,
                gallery.lowest,
                gallery.false_positives,
                gallery.false_negatives,
            ]
            for number, gallery in others.items()
        },
        "samples": {sample: [str(predictions.keys[sample]), labels[sample]] for sample in needed},
        "pictures": {sample: pictures[sample] for sample in needed if sample not in on_page},
    }


def _top_pairs(
    names: Sequence[str], counts: Sequence[Sequence[int]], of: Sequence[Sequence[int]]
) -> list[Pair]:
    """The most frequent pairs of different classes."""
    pairs = [
        (label, other, count, of[row][column])
        for row, label in enumerate(names)
        for column, other in enumerate(names)
        if row != column and (count := counts[row][column])
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[3], pair[:2]))[:NUM_PAIRS]


def _pairs(metrics: Mapping[str, Any]) -> dict[str, list[Pair]]:
    """Label co-occurrence, each pair once from its rarer class, and label confusion."""
    if "confusion" not in metrics:
        return {"together": [], "confusions": []}
    names = list(metrics["per_class"])
    counts = metrics["co_occurrence"]
    wrong = metrics["confusion"]
    shown = [row[number] for number, row in enumerate(counts)]
    from_rarer = [
        [n * ((shown[row], row) < (shown[column], column)) for column, n in enumerate(line)]
        for row, line in enumerate(counts)
    ]
    of = [[number] * len(names) for number in shown]
    return {
        "together": _top_pairs(names, from_rarer, of),
        "confusions": _top_pairs(names, wrong["predicted"], wrong["of"]),
    }


def _data(values: Mapping[str, Any]) -> Markup:
    """JSON for a <script> element: without the character that could end it."""
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(
        hashlib.sha256(script.encode(errors="backslashreplace")).digest()
    ).decode("ascii")
