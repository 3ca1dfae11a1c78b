"""What one of several gloo processes does in test_distributed: a module of its own, so that a
process can import it.
"""

from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from eval.distributed import class_sharded, gather_classes, gather_samples
from eval.metrics import average_precision, tail_accuracy, tail_thresholds
from eval.metrics.devkit import interpolated_average_precision
from eval.metrics.f1 import best_f1_thresholds
from eval.metrics.multilabel import LabelRanking, label_ranking
from eval.metrics.roc import roc_auc
from eval.ranking import rank

NUM_RANKS = (1, 2, 4)
CASES = [
    (60, 11, torch.float32),
    (60, 3, torch.bfloat16),
    (40, 5, torch.float64),
    (3, 1, torch.float16),
]


def sample_set(num_samples, num_classes, dtype):
    """Make scores with many ties, labels and known, all [N, K]: the same in every process."""
    generator = torch.Generator().manual_seed(num_samples + num_classes)
    shape = (num_samples, num_classes)
    scores = torch.randint(-20, 20, shape, generator=generator).to(dtype) / 8
    labels = torch.rand(shape, generator=generator) < 0.3
    known = torch.rand(shape, generator=generator) < 0.9
    return scores, labels, known


def share(num_samples, rank_, num_ranks):
    """The ids of a rank: shuffled, unequal, none at all on rank 2, with padding in between."""
    ids = torch.randperm(num_samples, generator=torch.Generator().manual_seed(num_ranks))
    bounds = {1: [0, 1], 2: [0, 0.9, 1], 4: [0, 0.1, 0.7, 0.7, 1]}[num_ranks]
    first, last = (round(num_samples * bounds[r]) for r in (rank_, rank_ + 1))
    padding = torch.full((rank_ % 3,), -1)
    return (
        torch.cat([ids[first:last], padding])
        if rank_ != 1
        else torch.cat([padding, ids[first:last]])
    )


def measure(scores, labels, known):
    """Every measure of a class, [k, ...] each."""
    tail = tail_accuracy(scores, labels, tail_thresholds(scores, known, num=4, start=0.0), known)
    return [
        average_precision(scores, labels, known),
        roc_auc(scores, labels, known),
        interpolated_average_precision(scores, labels, known),
        best_f1_thresholds(scores, labels, known),
        tail.T.contiguous(),
        *rank(scores, 7, known),
    ]


def sharded(matrices, num_samples, place, num_ranks, group):
    """Measure on several ranks what `measure_predictions` measures on one, and the label ranking of
    every sample.
    """
    ids = share(num_samples, place, num_ranks)
    scores, labels, known = (matrix[ids.clamp(min=0)] for matrix in matrices)
    scores[ids < 0] = float("nan")  # padding must not count
    shard = class_sharded(scores, labels, known, ids, num_samples, group)
    values = [
        gather_classes(part, shard, group)
        for part in measure(shard.scores, shard.labels, shard.known)
    ]
    gather = partial(gather_samples, ids=ids, num_samples=num_samples, group=group)
    ranking = LabelRanking(*map(gather, label_ranking(scores, labels, known)))
    return [*values, *ranking[:3], ranking.means()], list(shard.scores.shape)


def run(place, folder, world=4):
    """Be rank `place` of 4, and of the first 1 and 2; leave what was measured in a file each."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group(
        "gloo", init_method=store, rank=place, world_size=world, timeout=timedelta(minutes=9)
    )
    for num_ranks in NUM_RANKS:
        group = dist.new_group(list(range(num_ranks)))
        if place < num_ranks:
            results = [
                sharded(sample_set(*case), case[0], place, num_ranks, group) for case in CASES
            ]
            torch.save(results, Path(folder) / f"{num_ranks}-{place}.pt")
    dist.barrier()
    dist.destroy_process_group()
