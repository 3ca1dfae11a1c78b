"""Every figure of an evaluation by its name, ready to be drawn on the page or on paper."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from eval.plots import (
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
from eval.predictions import Predictions
from eval.thresholds import count_above, precision_at_recall
from shards.figures import PAGE, PAPER, png, svg

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


def figures(metrics: Mapping[str, Any], predictions: Predictions, history: History) -> dict[str, Draw]:
    """Return the figures that there are data for, by name in the order of `TITLES`."""
    right = "right ones" if predictions.task == "multiclass" else "positives"
    found: dict[str, Draw] = {
        **history_figures(history),
        **_curves(metrics, predictions),
        **_matrices(metrics),
        "histogram": partial(draw_histogram, metrics["score_histogram"]),
        "calibration": partial(draw_reliability, metrics["calibration"], right),
    }
    return {name: found[name] for name in TITLES if name in found}


def on_page(drawn: Mapping[str, Draw]) -> dict[str, Markup]:
    """Draw as inline SVG in the colours of the page."""
    return {name: svg(draw(PAGE), name, TITLES[name]) for name, draw in drawn.items()}


def on_paper(drawn: Mapping[str, Draw]) -> dict[str, bytes]:
    """Draw as PNG, black on white."""
    return {name: png(draw(PAPER)) for name, draw in drawn.items()}


def _curves(metrics: Mapping[str, Any], predictions: Predictions) -> dict[str, Draw]:
    scores, labels, known = predictions.scores, predictions.labels, predictions.known.bool()
    found: dict[str, Draw] = {}
    mean = metrics["precision_recall"]
    if metrics["mAP"] is not None:
        precision = precision_at_recall(scores, labels, known, len(mean["recall"])).cpu().numpy()
        recall, mean_precision = (np.array(mean[name]) for name in ("recall", "mean_precision"))
        found["precision_recall"] = partial(draw_precision_recall, recall, precision, mean_precision)
    tail = metrics["tail_accuracy"]
    points = [(t, v) for t, v in zip(tail["thresholds"], tail["mean"], strict=True) if v is not None]
    if points:
        shares = count_above(scores, labels, known, TAIL_STEPS).precision().cpu().numpy()
        limits = (tail["t_min"], tail["t_max"] or 1.0)
        drawn = np.arange(
            math.ceil(round(limits[0] * TAIL_STEPS, 6)),
            min(math.floor(round(limits[1] * TAIL_STEPS, 6)) + 1, TAIL_STEPS),
        )
        found["tail_accuracy"] = partial(draw_tail, drawn / TAIL_STEPS, shares[drawn], points, limits)
    return found


def _matrices(metrics: Mapping[str, Any]) -> dict[str, Draw]:
    """What lies on the diagonal of the first says nothing; of the second it is the share that was found."""
    if "confusion" not in metrics:
        return {}
    names = np.array(list(metrics["per_class"]), dtype=object)
    together = np.array(metrics["co_occurrence"], dtype=float)
    wrong, of = (np.array(metrics["confusion"][name], dtype=float) for name in ("predicted", "of"))
    shown = matrix_classes(together + wrong)
    cells = np.ix_(shown, shown)
    shares = {"co_occurrence": _shares(together, np.diag(together)[:, None]), "confusion": _shares(wrong, of)}
    words = {"co_occurrence": ("images of", "% also show"), "confusion": ("images of", "% predicted")}
    if not np.triu(together, 1).any():  # one label a sample
        del shares["co_occurrence"]
    return {
        name: partial(draw_matrix, share[cells], names[shown].tolist(), words[name], name == "confusion")
        for name, share in shares.items()
    }


def _shares(counts: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.divide(counts, of, out=np.zeros_like(counts), where=of > 0)
