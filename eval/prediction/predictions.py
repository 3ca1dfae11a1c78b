"""The scores of a split, and their values for strict JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shards.errors import DataError, count_of

NUM_KEYS_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Predictions:
    """The scores of a split, a row per sample. N = samples, K = classes; tensors on one device."""

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


def check_scores(predictions: Predictions) -> None:
    """Refuse what cannot be evaluated: no samples, a class name twice, scores outside [0, 1] or
    NaN.
    """
    if not len(predictions.keys):
        raise DataError(
            f"split {predictions.split!r} holds no samples: there is nothing to evaluate"
        )
    names = list(predictions.class_names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"class names must differ, repeated: {', '.join(map(repr, repeated))}")
    scores = predictions.scores
    known = predictions.known.bool()
    nan = scores.isnan() & known
    if nan.any():
        rows = nan.any(1).nonzero()[:, 0].tolist()
        shown = ", ".join(repr(str(predictions.keys[row])) for row in rows[:NUM_KEYS_SHOWN])
        raise DataError(
            f"{count_of(int(nan.sum()), 'score is', 'scores are')} NaN, in {len(rows)} of "
            f"{count_of(len(predictions.keys), 'sample')} (first keys: {shown}): the model "
            "diverged or its weights are damaged"
        )
    outside = ((scores < 0) | (scores > 1)) & known
    if outside.any():
        low, high = scores[outside].aminmax()
        raise DataError(
            f"scores must be probabilities in [0, 1], got values from {float(low):g} to "
            f"{float(high):g}: apply a sigmoid or softmax to logits first"
        )


def finite(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def finite_list(values: Tensor) -> list[float | None]:
    """Return a tensor [T] as a list of finite floats or None."""
    return [finite(value) for value in values.to(torch.float64).tolist()]
