"""Evaluation on several ranks: each rank predicts some samples and measures some classes; none
holds the whole matrix.

R ranks, N samples in all, n of them on this rank, K classes, k of them on this rank. An all-to-all
turns rows of samples, [n, K], into columns of classes, [N, k]; after it the metrics of `eval` run
as they do on one rank, with the same results to the last bit, and `gather_classes` puts the few
numbers a class has together. Without an initialised process group the same calls work on one rank.
Works with gloo and NCCL; waits for the device, to learn sizes.

    shard = class_sharded(logits, labels, known, ids, num_samples)
    auc = gather_classes(roc_auc(shard.scores, shard.labels, shard.known), shard)  # [K] on every
    rank
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from eval.metrics.average_precision import average_precision


@dataclass(frozen=True, eq=False)
class ClassShard:
    """All N samples, in the order of their ids, of this rank's classes: a slice of the K of the
    whole.
    """

    scores: Tensor  # [N, k], columns contiguous
    labels: Tensor  # bool [N, k]
    known: Tensor  # bool [N, k]
    classes: slice
    num_classes: int


def class_sharded(
    scores: Tensor,
    labels: Tensor,
    known: Tensor,
    ids: Tensor,
    num_samples: int,
    group: dist.ProcessGroup | None = None,
) -> ClassShard:
    """Exchange rows of samples for columns of classes; every rank of the group calls it.

    Args:
        scores: [n, K]; n may differ from rank to rank and be 0. labels, known: likewise.
        ids: int64 [n], 0 <= id < num_samples, each on one rank only; -1 marks padding, which is
            dropped.
        num_samples: N. A sample that no rank has is not known.
        group: its ranks hold the samples; None is all ranks.
    """
    rank, num_ranks = _place(group)
    num_classes = scores.shape[1]
    bounds = [rank * num_classes // num_ranks for rank in range(num_ranks + 1)]
    counts = _each_rank_gives(len(ids), ids.device, group)
    everybody = [len(ids)] * num_ranks
    all_ids = _all_to_all(ids.repeat(num_ranks), everybody, counts, group)
    # padding goes to one row past the end, which is cut off
    rows = torch.where(all_ids < 0, num_samples, all_ids)
    sizes = [last - first for first, last in pairwise(bounds)]

    def columns(matrix: Tensor) -> Tensor:
        sent = [size * len(ids) for size in sizes]
        received = _all_to_all(
            matrix.T.reshape(-1), sent, [sizes[rank] * count for count in counts], group
        )
        parts = received.split([sizes[rank] * count for count in counts])
        out = matrix.new_zeros((sizes[rank], num_samples + 1))
        for part, places in zip(parts, rows.split(counts), strict=True):
            out.index_copy_(1, places, part.view(sizes[rank], len(places)))
        return out[:, :num_samples].T

    mine = slice(bounds[rank], bounds[rank + 1])
    return ClassShard(
        columns(scores), columns(labels > 0), columns(known.bool()), mine, num_classes
    )


def sharded_average_precision(
    scores: Tensor,
    labels: Tensor,
    known: Tensor,
    ids: Tensor,
    num_samples: int,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Average precision [K] over the samples of all ranks, on every rank; arguments as for
    `class_sharded`.
    """
    shard = class_sharded(scores, labels, known, ids, num_samples, group)
    return gather_classes(average_precision(shard.scores, shard.labels, shard.known), shard, group)


def gather_classes(
    values: Tensor, shard: ClassShard, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Put values [k, ...] of every rank's classes together: [K, ...] on every rank."""
    out = values.new_zeros((shard.num_classes, *values.shape[1:]))
    out[shard.classes] = values
    return _sum(out, group)


def gather_samples(
    values: Tensor, ids: Tensor, num_samples: int, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Put values [n, ...] of every rank's samples together: [N, ...] on every rank, by id; 0 where
    no rank has it.

    For what is one number or a few for a sample, such as `eval.metrics.multilabel.label_ranking`;
    `ids` as above.
    """
    out = values.new_zeros((num_samples + 1, *values.shape[1:]))
    out.index_copy_(0, torch.where(ids < 0, num_samples, ids), values)
    return _sum(out[:num_samples], group)


def _place(group: dist.ProcessGroup | None) -> tuple[int, int]:
    """Return (rank, number of ranks)."""
    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def _sum(values: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Add up over the ranks: exact where all but one have 0."""
    if dist.is_initialized():
        dist.all_reduce(
            values.view(torch.uint8) if values.dtype == torch.bool else values, group=group
        )
    return values


def _each_rank_gives(
    number: int, device: torch.device, group: dist.ProcessGroup | None
) -> list[int]:
    rank, num_ranks = _place(group)
    numbers = torch.zeros(num_ranks, dtype=torch.int64, device=device)
    numbers[rank] = number
    return _sum(numbers, group).tolist()


def _all_to_all(
    values: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup | None
) -> Tensor:
    """Send `sent[r]` consecutive values to rank r, return what came, `received[r]` values from rank
    r.
    """
    if not dist.is_initialized():
        return values
    out = values.new_empty(sum(received))
    dist.all_to_all_single(out, values, received, sent, group=group)
    return out
