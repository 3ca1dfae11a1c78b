"""What predictions of the validation split are worth, measured by all ranks together."""

import math
from collections.abc import Callable

import torch

from eval.distributed import sharded_average_precision
from eval.metrics.multiclass import top_k_accuracy
from eval.prediction.evaluate import Outputs
from shards.index import DatasetIndex, Task
from train.optimise.loss import Loss

ROWS_AT_ONCE = 1000
# what picks the best epoch
METRICS: dict[Task, str] = {"multilabel": "val_mAP", "multiclass": "val_accuracy"}


def measure_validation(
    own: Outputs, loss: Loss, num_samples: int, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, float]:
    """Return `val_loss` and the metric of the task, NaN where there is nothing to measure.

    `own` is what this rank predicted of the `num_samples`; each rank measures some classes on all
    of them. `reduce` sums over ranks. The loss is that of the training without smoothing and
    mixing.
    """
    total = loss.plain()(own.logits, own.labels.float(), own.known).double()
    sums = [total, own.known.sum().double()]
    if own.task == "multiclass":
        sums += _accuracy_sums(own)
        loss_sum, num_known, right, num = reduce(torch.stack(sums)).tolist()
        value = right / num if num else math.nan
    else:
        loss_sum, num_known = reduce(torch.stack(sums)).tolist()
        value = float(
            sharded_average_precision(
                own.scores, own.labels, own.known, own.ids, num_samples
            ).nanmean()
        )
    return {
        "val_loss": loss_sum / max(1, loss.count(num_known, own.labels.shape[1])),
        METRICS[own.task]: value,
    }


def has_metric(index: DatasetIndex) -> bool:
    """Tell whether a split can have a value of its task's metric: whether it has a known label."""
    for start in range(0, index.num_samples, ROWS_AT_ONCE):  # by address the first are enough
        rows = index.samples[start : start + ROWS_AT_ONCE]
        is_one = index.task == "multiclass"
        counts = (rows["ignored"] == 0).all(1) if is_one else rows["labels"] & ~rows["ignored"]
        if counts.any():
            return True
    return False


def _accuracy_sums(own: Outputs) -> list[torch.Tensor]:
    """Count right answers, and the samples that are known; ties are decided as the evaluation does."""
    targets = torch.where(own.known.all(1), own.labels.int().argmax(1), -1)
    num = (targets >= 0).sum().double()
    return [(top_k_accuracy(own.scores, targets).nan_to_num(0) * num).round(), num]
