"""Draw every figure of an evaluation, for the page and for paper."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from eval.metrics.tail_accuracy import tail_accuracy
from eval.prediction.predictions import Predictions
from eval.report.plots import (
    Draw,
    History,
    draw_histogram,
    draw_matrix,
    draw_precision_recall,
    draw_reliability,
    draw_tail,
    history_figures,
    matrix_classes,
)
from eval.results.class_curves import ClassCurves
from shards.pages.palette import PAPER, fix_layout, png, svg

TAIL_STEPS = 200
TITLES = {
    "loss": "Loss per epoch",
    "accuracy": "Accuracy per epoch, the best validation marked",
    "map": "Validation mAP per epoch, the best one marked",
    "lr": "Learning rate per epoch",
    "precision_recall": "Precision against recall of each class, and their mean",
    "tail_accuracy": "Tail accuracy of each class against the threshold, and the mean",
    "co_occurrence": "Share of the images of one class that also show another",
    "confusion": "Share of the images of one class for which another is wrongly predicted",
    "histogram": "Scores of positives and negatives",
    "calibration": "Share of positives against the mean score",
}


def figures(
    metrics: Mapping[str, Any], predictions: Predictions, curves: ClassCurves, history: History
) -> dict[str, Draw]:
    """Return the figures that there are data for, by name in the order of `TITLES`."""
    right = "right ones" if predictions.task == "multiclass" else "positives"
    found: dict[str, Draw] = {
        **history_figures(history),
        **_curves(metrics, predictions, curves),
        **_matrices(metrics),
        "histogram": partial(draw_histogram, metrics["score_histogram"]),
        "calibration": partial(draw_reliability, metrics["calibration"], right),
    }
    return {name: found[name] for name in TITLES if name in found}


def draw_figures(drawn: Mapping[str, Draw]) -> tuple[dict[str, Markup], dict[str, bytes]]:
    """Draw each figure once: as inline SVG in the colours of the page, and as PNG on white for
    paper.
    """
    page: dict[str, Markup] = {}
    paper: dict[str, bytes] = {}
    for name, draw in drawn.items():
        figure = draw(PAPER)
        fix_layout(figure)
        page[name] = svg(figure, name, TITLES[name])
        paper[name] = png(figure)
    return page, paper


def _curves(
    metrics: Mapping[str, Any], predictions: Predictions, curves: ClassCurves
) -> dict[str, Draw]:
    found: dict[str, Draw] = {}
    mean = metrics["precision_recall"]
    if metrics["mAP"] is not None:
        recall, mean_precision = (np.array(mean[name]) for name in ("recall", "mean_precision"))
        precision = curves.precision.cpu().numpy()
        found["precision_recall"] = partial(
            draw_precision_recall, recall, precision, mean_precision
        )
    tail = metrics["tail_accuracy"]
    points = [
        (t, v) for t, v in zip(tail["thresholds"], tail["mean"], strict=True) if v is not None
    ]
    if points:
        limits = (tail["t_min"], tail["t_max"] or 1.0)
        drawn = np.arange(
            math.ceil(round(limits[0] * TAIL_STEPS, 6)),
            min(math.floor(round(limits[1] * TAIL_STEPS, 6)) + 1, TAIL_STEPS),
        )
        scores = predictions.scores
        labels = predictions.labels
        known = predictions.known.bool()
        thresholds = torch.from_numpy(drawn / TAIL_STEPS).to(scores.device)
        shares = tail_accuracy(scores, labels, thresholds, known).cpu().numpy()
        found["tail_accuracy"] = partial(draw_tail, drawn / TAIL_STEPS, shares, points, limits)
    return found


def _matrices(metrics: Mapping[str, Any]) -> dict[str, Draw]:
    """The diagonal of the first says nothing; of the second it is the share that was found."""
    if "confusion" not in metrics:
        return {}
    names = np.array(list(metrics["per_class"]), dtype=object)
    together = np.array(metrics["co_occurrence"], dtype=float)
    wrong, of = (np.array(metrics["confusion"][name], dtype=float) for name in ("predicted", "of"))
    shown = matrix_classes(together + wrong)
    cells = np.ix_(shown, shown)
    shares = {
        "co_occurrence": _shares(together, np.diag(together)[:, None]),
        "confusion": _shares(wrong, of),
    }
    words = {
        "co_occurrence": ("images of", "% also show"),
        "confusion": ("images of", "% predicted"),
    }
    if not np.triu(together, 1).any():  # one label a sample
        del shares["co_occurrence"]
    return {
        name: partial(
            draw_matrix, share[cells], names[shown].tolist(), words[name], name == "confusion"
        )
        for name, share in shares.items()
    }


def _shares(counts: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.divide(counts, of, out=np.zeros_like(counts), where=of > 0)
