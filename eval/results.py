"""The numbers of one evaluation as a plain dict, which becomes metrics.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eval.bootstrap import LEVEL, NUM_RESAMPLES, interval, mean_interval, resampled_average_precision
from eval.calibration import reliability
from eval.devkit import average_precision_11_points, interpolated_average_precision
from eval.labels import co_occurrence, label_confusion
from eval.metrics import (
    average_precision,
    macro_mean,
    micro_average_precision,
    tail_accuracy,
    tail_thresholds,
    weighted_class_mean,
)
from eval.multiclass import confusion_matrix, top_k_accuracy
from eval.multilabel import label_ranking
from eval.roc import best_f1_thresholds, f1, roc_auc
from eval.thresholds import count_above, precision_at_recall
from shards.errors import DataError

CLASSIFICATION_THRESHOLD = 0.5  # of a probability: f(x) is positive from here
NUM_TAIL_THRESHOLDS = 20
NUM_KEYS_SHOWN = 5
NUM_HISTOGRAM_BINS = 50
MEAN_OF = ("ap_11_points", "ap_interpolated", "roc_auc", "f1", "best_f1", "f1_at_given", "ece")
MAX_MATRIX_CLASSES = 200  # of more, K x K numbers are left out of metrics.json


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about a split, a row per sample. N = samples, K = classes; tensors on one device."""

    scores: Tensor  # [N, K] probabilities, any float dtype
    labels: Tensor  # [N, K], positive where > 0
    known: Tensor  # [N, K] bool; False where the label is ignored
    keys: Sequence[str]  # N sample keys
    class_names: Sequence[str]  # K
    split: str
    task: str = "multilabel"  # or multiclass: one positive label a sample

    def __post_init__(self) -> None:
        shape = (len(self.keys), len(self.class_names))
        for name in ("scores", "labels", "known"):
            if tuple(getattr(self, name).shape) != shape:
                got = tuple(getattr(self, name).shape)
                raise ValueError(f"{name} must be [samples, classes] = {shape}, got {got}")


def measure(
    predictions: Predictions,
    num_thresholds: int = NUM_TAIL_THRESHOLDS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    thresholds: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """Return every number of the evaluation as strict JSON values: None where there is none.

    The means are over the classes that have a value. `mAP_interval` and each class's `ap_interval` are bootstrap
    intervals from `num_resamples` resamples of the samples. `thresholds`, by class name, were chosen on other data,
    as `best_f1_threshold` of that evaluation; each class's F1 there becomes `f1_at_given`. Raises DataError for
    scores that are no probabilities.
    """
    check_scores(predictions)
    scores, labels, known = predictions.scores, predictions.labels, predictions.known.bool()
    ap = average_precision(scores, labels, known)
    resampled = resampled_average_precision(scores, labels, known, num_resamples, seed)
    per_class = measure_classes(predictions, thresholds)
    for entry, edges in zip(per_class.values(), interval(resampled, ap).T, strict=True):
        entry["ap_interval"] = finite_list(edges)
    return {
        "split": predictions.split,
        "task": predictions.task,
        "num_samples": len(predictions.keys),
        "num_classes": len(predictions.class_names),
        "mAP": finite(ap.nanmean().item()),
        "mAP_interval": finite_list(mean_interval(resampled.nanmean(1), ap.nanmean())),
        "bootstrap": {"resamples": num_resamples, "seed": seed, "level": LEVEL, "unit": "sample"},
        "mAP_micro": finite(micro_average_precision(scores, labels, known).item()),
        "mAP_weighted": finite(weighted_class_mean(ap, labels, known).item()),
        **_means(per_class),
        "label_ranking": measure_ranking(predictions),
        "calibration": measure_calibration(predictions),
        "classes_without_positives": [name for name, entry in per_class.items() if entry["positives"] == 0],
        "per_class": per_class,
        "tail_accuracy": measure_tail(predictions, num_thresholds),
        "precision_recall": measure_precision_recall(predictions),
        "score_histogram": measure_histogram(predictions),
        **measure_labels(predictions),
    }


def measure_classes(
    predictions: Predictions, thresholds: Mapping[str, float | None] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the numbers of each class. `best_f1` is at the threshold that is best on these very samples."""
    scores, labels, known = predictions.scores, predictions.labels, predictions.known.bool()
    best = best_f1_thresholds(scores, labels, known)
    columns = {
        "ap": average_precision(scores, labels, known),
        "ap_11_points": average_precision_11_points(scores, labels, known),
        "ap_interpolated": interpolated_average_precision(scores, labels, known),
        "roc_auc": roc_auc(scores, labels, known),
        "f1": f1(scores, labels, CLASSIFICATION_THRESHOLD, known),
        "best_f1": f1(scores, labels, best, known),
        "best_f1_threshold": best,
        "ece": reliability(scores, labels, known).expected_error(),
    }
    if thresholds:
        given = [thresholds.get(name) for name in predictions.class_names]
        limits = torch.tensor([math.nan if limit is None else limit for limit in given], dtype=torch.float64)
        columns["given_threshold"] = limits
        values = f1(scores, labels, limits.to(scores.device), known)
        columns["f1_at_given"] = values.masked_fill(limits.isnan().to(scores.device), math.nan)
    counts = {"positives": ((labels > 0) & known).sum(0).tolist(), "ignored": (~known).sum(0).tolist()}
    lists: dict[str, list[Any]] = {**{name: finite_list(column) for name, column in columns.items()}, **counts}
    rows = zip(*lists.values(), strict=True)
    return {name: dict(zip(lists, row, strict=True)) for name, row in zip(predictions.class_names, rows, strict=True)}


def _means(per_class: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the classes that have a value, of what the classes have."""
    measured = set().union(*per_class.values())
    columns = {name: [entry[name] for entry in per_class.values()] for name in MEAN_OF if name in measured}
    return {
        f"mean_{name}": finite(
            macro_mean(torch.tensor([v for v in column if v is not None], dtype=torch.float64)).item()
        )
        for name, column in columns.items()
    }


def measure_ranking(predictions: Predictions) -> dict[str, float | None]:
    """How well each sample ranks its own labels, as scikit-learn defines the three."""
    names = ("average_precision", "coverage_error", "loss")
    means = label_ranking(predictions.scores, predictions.labels, predictions.known).means()
    return dict(zip(names, finite_list(means), strict=True))


def measure_calibration(predictions: Predictions) -> dict[str, Any]:
    """Expected calibration error of all entries together, and the bins of score that it comes from."""
    pooled = reliability(predictions.scores, predictions.labels, predictions.known).pooled()
    return {
        "ece": finite(pooled.expected_error().item()),
        "entries": pooled.entries[:, 0].long().tolist(),
        "mean_score": finite_list((pooled.score / pooled.entries)[:, 0]),
        "positive_share": finite_list((pooled.positive / pooled.entries)[:, 0]),
    }


def measure_precision_recall(predictions: Predictions) -> dict[str, list[float | None]]:
    """Precision where recall first reaches 0, 0.01, ..., 1: the mean over the classes that have a positive."""
    values = precision_at_recall(predictions.scores, predictions.labels, predictions.known)
    recall: list[float | None] = [step / (len(values) - 1) for step in range(len(values))]
    return {"recall": recall, "mean_precision": finite_list(values.nanmean(1))}


def measure_histogram(predictions: Predictions) -> dict[str, list[int]]:
    """How many known positives and negatives score in each of equal bins from 0 to 1; 1 is in the last."""
    counts = count_above(predictions.scores, predictions.labels, predictions.known, NUM_HISTOGRAM_BINS)
    predicted, positive = (values.sum(1)[:-1] for values in counts)
    bins = [torch.diff(-values, append=values.new_zeros(1)) for values in (predicted - positive, positive)]
    return {"negatives": bins[0].tolist(), "positives": bins[1].tolist()}


def measure_labels(predictions: Predictions) -> dict[str, Any]:
    """Which labels come together and which are taken for each other, where the classes are few enough to list."""
    scores, labels, known = predictions.scores, predictions.labels, predictions.known.bool()
    measured: dict[str, Any] = {}
    if predictions.task == "multiclass":
        positive = (labels > 0) & known
        targets = torch.where(positive.any(1), positive.int().argmax(1), -1)
        measured["top1"] = finite(top_k_accuracy(scores, targets, 1).item())
        measured["top5"] = finite(top_k_accuracy(scores, targets, 5).item())
    if len(predictions.class_names) > MAX_MATRIX_CLASSES:
        return measured
    measured["co_occurrence"] = co_occurrence(labels, known).tolist()
    if predictions.task == "multiclass":
        matrix = confusion_matrix(scores, targets)
        shown = matrix.sum(1, keepdim=True).expand_as(matrix)
    else:
        matrix, shown = label_confusion(scores, labels, known, CLASSIFICATION_THRESHOLD)
    return measured | {"confusion": {"predicted": matrix.tolist(), "of": shown.tolist()}}


def measure_tail(predictions: Predictions, num_thresholds: int) -> dict[str, Any]:
    """Tail accuracy from the classification threshold to just below the highest score, in two ways.

    `thresholds`, `mean`, `num_classes`: one grid of T thresholds for all classes, up to the highest score of
    any; at each the mean over the classes, `num_classes` of them, that still score above it. High on the grid
    few classes are left. `mean_over_all` is the mean of that curve.
    `per_class` gives every class its own grid, up to its own highest score, and `mean_by_step` averages those
    step by step: every class that scores above the classification threshold at all counts in every step.
    """
    scores, labels, known = predictions.scores, predictions.labels, predictions.known.bool()
    start = CLASSIFICATION_THRESHOLD
    common = tail_thresholds(scores.reshape(-1, 1), known.reshape(-1, 1), num_thresholds, start)[:, 0]
    values = tail_accuracy(scores, labels, common, known)
    mean = values.nanmean(1)
    own = tail_thresholds(scores, known, num_thresholds, start)
    own_values = tail_accuracy(scores, labels, own, known)
    columns = zip(predictions.class_names, own.T.tolist(), own_values.T.tolist(), strict=True)
    return {
        "classification_threshold": start,
        "thresholds": finite_list(common),
        "mean": finite_list(mean),
        "num_classes": (~values.isnan()).sum(1).tolist(),
        "mean_over_all": finite(mean.nanmean().item()),
        "mean_by_step": finite_list(own_values.nanmean(1)),
        "per_class": {
            name: {"thresholds": [finite(t) for t in grid], "values": [finite(v) for v in curve]}
            for name, grid, curve in columns
        },
    }


def check_scores(predictions: Predictions) -> None:
    """Refuse what cannot be evaluated: no samples, a class name twice, scores outside [0, 1] or NaN."""
    if not len(predictions.keys):
        raise DataError(f"split {predictions.split!r} holds no samples: there is nothing to evaluate")
    names = list(predictions.class_names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"class names must differ, repeated: {', '.join(map(repr, repeated))}")
    scores, known = predictions.scores, predictions.known.bool()
    nan = scores.isnan() & known
    if nan.any():
        rows = nan.any(1).nonzero()[:, 0].tolist()
        shown = ", ".join(repr(str(predictions.keys[row])) for row in rows[:NUM_KEYS_SHOWN])
        raise DataError(
            f"{int(nan.sum())} scores are NaN, in {len(rows)} of {len(predictions.keys)} samples "
            f"(first keys: {shown}): the model diverged or its weights are damaged"
        )
    outside = ((scores < 0) | (scores > 1)) & known
    if outside.any():
        low, high = scores[outside].aminmax()
        raise DataError(
            f"scores must be probabilities in [0, 1], got values from {float(low):g} to {float(high):g}: "
            "apply a sigmoid to logits first"
        )


def finite(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def finite_list(values: Tensor) -> list[float | None]:
    """Return a tensor [T] as a list of finite floats or None."""
    return [finite(value) for value in values.to(torch.float64).tolist()]
