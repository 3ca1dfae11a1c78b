"""Tail accuracy over a grid of thresholds, as one curve of the mean and as one of each class."""

from typing import Any

import torch
from torch import Tensor

from eval.metrics.tail_accuracy import tail_accuracy, tail_thresholds
from eval.prediction.predictions import Predictions, finite, finite_list
from eval.results.tail_grid import TailGrid


def measure_tail(predictions: Predictions, grid: TailGrid) -> dict[str, Any]:
    """Return the tail accuracy from `t_min` to `t_max`, or to just below the highest score, in two
    ways.

    `thresholds`, `mean`, `num_classes`: one grid of T thresholds for all classes, up to the highest
    score of any; at each the mean over the classes, `num_classes` of them, that still score above
    it. High on the grid few classes are left. `mean_over_all` is the mean of that curve.
    `per_class` gives every class its own grid, up to its own highest score unless `t_max` is given,
    and `mean_by_step` averages those step by step: every class that scores above `t_min` at all
    counts in every step.
    """
    scores = predictions.scores
    labels = predictions.labels
    known = predictions.known.bool()
    common = _thresholds(grid, scores.reshape(-1, 1), known.reshape(-1, 1))[:, 0]
    values = tail_accuracy(scores, labels, common, known)
    mean = values.nanmean(1)
    own = _thresholds(grid, scores, known)
    own_values = tail_accuracy(scores, labels, own, known)
    columns = zip(predictions.class_names, own.T.tolist(), own_values.T.tolist(), strict=True)
    return {
        "t_min": grid.t_min,
        "t_max": grid.t_max or None,
        "num_steps": grid.num_steps,
        "thresholds": finite_list(common),
        "mean": finite_list(mean),
        "num_classes": (~values.isnan()).sum(1).tolist(),
        "mean_over_all": finite(mean.nanmean().item()),
        "mean_by_step": finite_list(own_values.nanmean(1)),
        "per_class": {
            name: {"thresholds": [finite(t) for t in ts], "values": [finite(v) for v in curve]}
            for name, ts, curve in columns
        },
    }


def _thresholds(grid: TailGrid, scores: Tensor, known: Tensor) -> Tensor:
    """Return the thresholds for each class of scores [N, K], float64 [num_steps, K]; NaN as
    `tail_thresholds`.
    """
    if grid.t_max == 0:
        return tail_thresholds(scores, known, grid.num_steps, grid.t_min)
    steps = torch.linspace(
        grid.t_min, grid.t_max, grid.num_steps, dtype=torch.float64, device=scores.device
    )
    return steps[:, None].expand(-1, scores.shape[1])
