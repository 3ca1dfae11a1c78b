"""The numbers of one evaluation as a plain dict, which becomes metrics.json."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eval.metrics import average_precision, tail_accuracy, tail_thresholds
from shards.errors import DataError

CLASSIFICATION_THRESHOLD = 0.5  # of a probability: f(x) is positive from here
NUM_TAIL_THRESHOLDS = 20
NUM_KEYS_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about a split, a row per sample. N = samples, K = classes; tensors on one device."""

    scores: Tensor  # [N, K] probabilities, any float dtype
    labels: Tensor  # [N, K], positive where > 0
    known: Tensor  # [N, K] bool; False where the label is ignored
    keys: Sequence[str]  # N sample keys
    class_names: Sequence[str]  # K
    split: str

    def __post_init__(self) -> None:
        shape = (len(self.keys), len(self.class_names))
        for name in ("scores", "labels", "known"):
            if tuple(getattr(self, name).shape) != shape:
                got = tuple(getattr(self, name).shape)
                raise ValueError(f"{name} must be [samples, classes] = {shape}, got {got}")


def measure(predictions: Predictions, num_thresholds: int = NUM_TAIL_THRESHOLDS) -> dict[str, Any]:
    """Return AP and tail accuracy per class and their means as strict JSON values: None where there is none.

    The means are over the classes that have a value. Raises DataError for scores that are no probabilities.
    """
    check_scores(predictions)
    known = predictions.known.bool()
    positives = ((predictions.labels > 0) & known).sum(0).tolist()
    ignored = (~known).sum(0).tolist()
    ap = average_precision(predictions.scores, predictions.labels, known)
    per_class = {
        name: {"ap": finite(value), "positives": p, "ignored": i}
        for name, value, p, i in zip(predictions.class_names, ap.tolist(), positives, ignored, strict=True)
    }
    return {
        "split": predictions.split,
        "num_samples": len(predictions.keys),
        "num_classes": len(predictions.class_names),
        "mAP": finite(ap.nanmean().item()),
        "classes_without_positives": [name for name, entry in per_class.items() if entry["positives"] == 0],
        "per_class": per_class,
        "tail_accuracy": measure_tail(predictions, num_thresholds),
    }


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
