"""What predictions of the validation split are worth, measured by all ranks together."""

from collections.abc import Callable

import torch

from eval.distributed import sharded_average_precision
from eval.evaluate import Outputs
from train.loss import masked_bce_sum

METRIC = "val_mAP"  # picks the best epoch


def measure_validation(
    own: Outputs, num_samples: int, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, float]:
    """Return `val_loss` and the metric, NaN where there is nothing to measure.

    `own` is what this rank predicted; each rank measures some classes on all samples. `reduce` sums over ranks.
    """
    total = masked_bce_sum(own.logits, own.labels.float(), own.known).double()
    loss, num_known = reduce(torch.stack([total, own.known.sum()])).tolist()
    precisions = sharded_average_precision(own.scores, own.labels, own.known, own.ids, num_samples)
    return {"val_loss": loss / max(1.0, num_known), METRIC: float(precisions.nanmean())}
