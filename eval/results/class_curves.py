"""Every measure that needs a class's scores in order, from one sort of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eval.metrics.average_precision import average_precision_of
from eval.metrics.blocks import checked, over_classes
from eval.metrics.bootstrap import NUM_RESAMPLES, draw_samples, resampled_average_precision_of
from eval.metrics.curve import sorted_block
from eval.metrics.devkit import average_precision_11_points_of, interpolated_average_precision_of
from eval.metrics.f1 import best_f1_of
from eval.metrics.roc import roc_auc_of
from eval.metrics.threshold_counts import precision_at_recall_of
from eval.prediction.predictions import Predictions, check_scores

NUM_RECALLS = 101  # 0, 0.01, ..., 1


@dataclass(frozen=True, eq=False)
class ClassCurves:
    """Of each of K classes, float64: NaN where there is no value. Definitions are those of the
    functions named.
    """

    average_precision: Tensor  # [K]
    ap_11_points: Tensor  # [K]
    ap_interpolated: Tensor  # [K]
    roc_auc: Tensor  # [K]
    best_f1_threshold: Tensor  # [K]
    best_f1: Tensor  # [K]
    # [NUM_RECALLS, K]: where recall first reaches each value (`precision_at_recall`)
    precision: Tensor
    resampled: Tensor  # [resamples, K]: `eval.metrics.bootstrap.resampled_average_precision`


def class_curves(
    predictions: Predictions, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> ClassCurves:
    """Sort the scores of each class once, a block of classes at a time, and take every measure from
    that.

    Raises DataError for scores that are no probabilities.
    """
    check_scores(predictions)
    matrices = checked(predictions.scores, predictions.labels, predictions.known)
    drawn = draw_samples(len(predictions.keys), num_resamples, seed, predictions.scores.device)

    def block(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        found = sorted_block(scores, labels, known)
        numbers = (
            average_precision_of(found),
            average_precision_11_points_of(found),
            interpolated_average_precision_of(found),
            roc_auc_of(found),
            *best_f1_of(found),
        )
        precision = precision_at_recall_of(found, NUM_RECALLS)
        return torch.cat(
            [torch.stack(numbers, 1), precision, resampled_average_precision_of(found, drawn)], 1
        )

    rows = over_classes(block, *matrices, bar="measure classes")
    num_numbers = rows.shape[1] - NUM_RECALLS - num_resamples
    numbers, precision, resampled = rows.split([num_numbers, NUM_RECALLS, num_resamples], dim=1)
    of_class = numbers.T.contiguous().unbind()
    return ClassCurves(*(*of_class, precision.contiguous().T, resampled.T.contiguous()))
