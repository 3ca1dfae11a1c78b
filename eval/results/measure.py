"""The numbers of one evaluation as a plain dict, which becomes metrics.json."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from eval.metrics.average_precision import macro_mean, micro_average_precision, weighted_class_mean
from eval.metrics.bootstrap import LEVEL, NUM_RESAMPLES, interval, mean_interval
from eval.metrics.calibration import reliability
from eval.metrics.f1 import f1
from eval.metrics.label_pairs import co_occurrence, label_confusion
from eval.metrics.multiclass import confusion_matrix, predicted_classes, target_classes
from eval.metrics.multilabel import label_ranking
from eval.metrics.threshold_counts import count_above
from eval.prediction.predictions import Predictions, finite, finite_list
from eval.results.accuracy import class_accuracy, measure_accuracy
from eval.results.class_curves import ClassCurves, class_curves
from eval.results.tail import measure_tail
from eval.results.tail_grid import CLASSIFICATION_THRESHOLD, TailGrid

NUM_HISTOGRAM_BINS = 50
MEAN_OF = ("ap_11_points", "ap_interpolated", "roc_auc", "f1", "best_f1", "f1_at_given", "ece")
MAX_MATRIX_CLASSES = 200  # of more, K x K numbers are left out of metrics.json


def measure_predictions(
    predictions: Predictions,
    tail: TailGrid = TailGrid(),  # noqa: B008 (frozen)
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    thresholds: Mapping[str, float | None] | None = None,
    curves: ClassCurves | None = None,
) -> dict[str, Any]:
    """Return every number of the evaluation as strict JSON values: None where there is none.

    The means are over the classes that have a value. `mAP_interval` and each class's `ap_interval`
    are bootstrap intervals from `num_resamples` resamples of the samples. `thresholds`, by class
    name, were chosen on other data, as `best_f1_threshold` of that evaluation; each class's F1
    there becomes `f1_at_given`. `curves` are those of `class_curves`, with as many resamples, of
    the same seed, where the caller needs them too. Raises DataError for scores that are no
    probabilities.
    """
    curves = curves or class_curves(predictions, num_resamples, seed)
    scores = predictions.scores
    labels = predictions.labels
    known = predictions.known.bool()
    ap = curves.average_precision
    per_class = measure_classes(predictions, curves, thresholds)
    for entry, edges in zip(per_class.values(), interval(curves.resampled, ap).T, strict=True):
        entry["ap_interval"] = finite_list(edges)
    return {
        "split": predictions.split,
        "task": predictions.task,
        "num_samples": len(predictions.keys),
        "num_classes": len(predictions.class_names),
        **(
            measure_accuracy(predictions, num_resamples, seed)
            if predictions.task == "multiclass"
            else {}
        ),
        "mAP": finite(ap.nanmean().item()),
        "mAP_interval": finite_list(
            mean_interval(curves.resampled.nanmean(1), ap.nanmean()).clamp(0, 1)
        ),
        "bootstrap": {"resamples": num_resamples, "seed": seed, "level": LEVEL, "unit": "sample"},
        "mAP_micro": finite(micro_average_precision(scores, labels, known).item()),
        "mAP_weighted": finite(weighted_class_mean(ap, labels, known).item()),
        **_means(per_class),
        "label_ranking": measure_ranking(predictions),
        "calibration": measure_calibration(predictions),
        "classes_without_positives": [
            name for name, entry in per_class.items() if entry["positives"] == 0
        ],
        "per_class": per_class,
        "tail_accuracy": measure_tail(predictions, tail),
        "precision_recall": measure_precision_recall(curves),
        "score_histogram": measure_histogram(predictions),
        **measure_labels(predictions),
    }


def measure_classes(
    predictions: Predictions,
    curves: ClassCurves,
    thresholds: Mapping[str, float | None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the numbers of each class. `best_f1` is at the threshold that is best on these very
    samples.
    """
    scores = predictions.scores
    labels = predictions.labels
    known = predictions.known.bool()
    columns = {}
    if predictions.task == "multiclass":
        targets = target_classes(labels, known)
        columns["accuracy"], columns["precision"] = class_accuracy(scores, targets)
    columns |= {
        "ap": curves.average_precision,
        "ap_11_points": curves.ap_11_points,
        "ap_interpolated": curves.ap_interpolated,
        "roc_auc": curves.roc_auc,
        "f1": f1(scores, labels, CLASSIFICATION_THRESHOLD, known),
        "best_f1": curves.best_f1,
        "best_f1_threshold": curves.best_f1_threshold,
        "ece": reliability(scores, labels, known).expected_error(),
    }
    if thresholds:
        given = [thresholds.get(name) for name in predictions.class_names]
        limits = torch.tensor(
            [math.nan if limit is None else limit for limit in given], dtype=torch.float64
        )
        columns["given_threshold"] = limits
        values = f1(scores, labels, limits.to(scores.device), known)
        columns["f1_at_given"] = values.masked_fill(limits.isnan().to(scores.device), math.nan)
    counts = {
        "positives": ((labels > 0) & known).sum(0).tolist(),
        "ignored": (~known).sum(0).tolist(),
    }
    lists: dict[str, list[Any]] = {
        **{name: finite_list(column) for name, column in columns.items()},
        **counts,
    }
    rows = zip(*lists.values(), strict=True)
    return {
        name: dict(zip(lists, row, strict=True))
        for name, row in zip(predictions.class_names, rows, strict=True)
    }


def _means(per_class: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the classes that have a value, of what the classes have."""
    measured = set().union(*per_class.values())
    columns = {
        name: [entry[name] for entry in per_class.values()] for name in MEAN_OF if name in measured
    }
    return {
        f"mean_{name}": finite(
            macro_mean(
                torch.tensor([v for v in column if v is not None], dtype=torch.float64)
            ).item()
        )
        for name, column in columns.items()
    }


def measure_ranking(predictions: Predictions) -> dict[str, float | None]:
    """How well each sample ranks its own labels, as scikit-learn defines the three."""
    names = ("average_precision", "coverage_error", "loss")
    means = label_ranking(predictions.scores, predictions.labels, predictions.known).means()
    return dict(zip(names, finite_list(means), strict=True))


def measure_calibration(predictions: Predictions) -> dict[str, Any]:
    """Expected calibration error of all entries together, and the bins of score that it comes from.

    With one label a sample, of the likeliest class of each: whether it is right as often as its
    probability says.
    """
    scores = predictions.scores
    labels = predictions.labels
    known = predictions.known.bool()
    if predictions.task == "multiclass":
        targets = target_classes(labels, known)
        guesses = predicted_classes(scores)
        scores = scores.gather(1, guesses[:, None])
        labels = (guesses == targets)[:, None]
        known = (targets >= 0)[:, None]
    pooled = reliability(scores, labels, known).pooled()
    return {
        "ece": finite(pooled.expected_error().item()),
        "entries": pooled.entries[:, 0].long().tolist(),
        "mean_score": finite_list((pooled.score / pooled.entries)[:, 0]),
        "positive_share": finite_list((pooled.positive / pooled.entries)[:, 0]),
    }


def measure_precision_recall(curves: ClassCurves) -> dict[str, list[float | None]]:
    """Precision where recall first reaches 0, 0.01, ..., 1: the mean over the classes that have a
    positive.
    """
    values = curves.precision
    recall: list[float | None] = [step / (len(values) - 1) for step in range(len(values))]
    return {"recall": recall, "mean_precision": finite_list(values.nanmean(1))}


def measure_histogram(predictions: Predictions) -> dict[str, list[int]]:
    """How many known positives and negatives score in each of equal bins from 0 to 1; 1 is in the
    last.
    """
    counts = count_above(
        predictions.scores, predictions.labels, predictions.known, NUM_HISTOGRAM_BINS
    )
    predicted, positive = (values.sum(1)[:-1] for values in counts)
    bins = [
        torch.diff(-values, append=values.new_zeros(1))
        for values in (predicted - positive, positive)
    ]
    return {"negatives": bins[0].tolist(), "positives": bins[1].tolist()}


def measure_labels(predictions: Predictions) -> dict[str, Any]:
    """Label co-occurrence and label confusion, where the classes are few enough to list."""
    if len(predictions.class_names) > MAX_MATRIX_CLASSES:
        return {}
    scores = predictions.scores
    labels = predictions.labels
    known = predictions.known.bool()
    if predictions.task == "multiclass":
        matrix = confusion_matrix(scores, target_classes(labels, known))
        shown = matrix.sum(1, keepdim=True).expand_as(matrix)
    else:
        matrix, shown = label_confusion(scores, labels, known, CLASSIFICATION_THRESHOLD)
    confusion = {"predicted": matrix.tolist(), "of": shown.tolist()}
    return {"co_occurrence": co_occurrence(labels, known).tolist(), "confusion": confusion}
