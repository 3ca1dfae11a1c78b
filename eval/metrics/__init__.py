"""Exact metrics over tensors of any device: average precision, tail accuracy and their means."""

from eval.metrics.average_precision import (
    average_precision,
    macro_mean,
    micro_average_precision,
    weighted_class_mean,
)
from eval.metrics.tail_accuracy import tail_accuracy, tail_thresholds

__all__ = [
    "average_precision",
    "macro_mean",
    "micro_average_precision",
    "tail_accuracy",
    "tail_thresholds",
    "weighted_class_mean",
]
