"""From a predict function and the batches of a split to the scores of every sample, once, in the
index's order.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from shards.index import Task
from shards.pipeline.batch import Batch

Forward = Callable[[torch.Tensor], torch.Tensor]
Gather = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Outputs:
    """Logits and truth of samples, on the device: n samples of one rank, or all N in the index's
    order. K classes.

    `logits` float32 [N, K], or [N, V, K] of a `forward` that gives V views of each image; `labels`
    and `known` bool [N, K]; `ids` int64 [N], -1 on padding, which is not known. `scores` are
    probabilities: the sigmoid of the logits, their softmax over the classes where the task is
    multiclass.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor
    ids: torch.Tensor
    task: Task = "multilabel"

    @property
    def scores(self) -> torch.Tensor:
        return self.logits.softmax(-1) if self.task == "multiclass" else self.logits.sigmoid()


@torch.inference_mode()
def predict_own(forward: Forward, batches: Iterable[Batch], task: Task = "multilabel") -> Outputs:
    """Run `forward` (images uint8 [B, C, H, W] -> logits [B, K] or [B, V, K]) over all batches of
    this rank.
    """
    # Kept: only what is not the images, whose slot the loader wants back.
    parts = [
        (forward(batch.images).float(), batch.labels > 0, batch.known, batch.ids)
        for batch in batches
    ]
    logits, labels, known, ids = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Outputs(logits, labels, known, ids, task)


@torch.inference_mode()
def predict(
    forward: Forward,
    batches: Iterable[Batch],
    num_samples: int,
    gather: Gather,
    task: Task = "multilabel",
) -> Outputs:
    """Predict as `predict_own` does, then bring the samples of all ranks together, each exactly
    once, in order.

    `gather` concatenates tensors of equal shape from all ranks along dimension 0; on one rank it is
    the identity.
    """
    own = predict_own(forward, batches, task)
    logits, labels, known, ids = (
        gather(values) for values in (own.logits, own.labels, own.known, own.ids)
    )
    # Padding has id -1: it goes to one row past the end, which is cut off. No boolean index, so no
    # synchronisation.
    rows = torch.where(ids < 0, num_samples, ids)

    def ordered(values: torch.Tensor) -> torch.Tensor:
        out = values.new_zeros((num_samples + 1, *values.shape[1:]))
        return out.index_copy_(0, rows, values)[:num_samples]

    everything = torch.arange(num_samples, device=ids.device)
    return Outputs(ordered(logits), ordered(labels), ordered(known), everything, task)
