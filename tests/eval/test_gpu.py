"""On a GPU: the bits of the CPU, without a wait. `pytest -m gpu` on a machine that has one."""

import pytest
import torch

from eval.metrics import (
    average_precision,
    macro_mean,
    micro_average_precision,
    tail_accuracy,
    tail_thresholds,
    weighted_class_mean,
)
from eval.metrics.devkit import average_precision_11_points, interpolated_average_precision
from eval.metrics.f1 import best_f1_thresholds, f1
from eval.metrics.multiclass import confusion_matrix, top_k_accuracy
from eval.metrics.multilabel import label_ranking
from eval.metrics.roc import roc_auc
from eval.ranking import rank

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def tail(scores, labels, known):
    return tail_accuracy(scores, labels, tail_thresholds(scores, known), known)


def f1_at_best(scores, labels, known):
    return f1(scores, labels, best_f1_thresholds(scores, labels, known), known)


def f1_at_half(scores, labels, known):
    return f1(scores, labels, 0.5, known)


def top_three(scores, labels, known):
    targets = torch.where(known[:, 0], labels.int().argmax(1), -1)
    return torch.stack(
        [top_k_accuracy(scores, targets, 3), confusion_matrix(scores, targets).trace()]
    )


def rankings(scores, labels, known):
    return torch.stack(rank(scores, 9, known))


def label_rankings(scores, labels, known):
    return label_ranking(scores, labels, known).means()


def means(scores, labels, known):
    ap = average_precision(scores, labels, known)
    return torch.stack([macro_mean(ap), weighted_class_mean(ap, labels, known)])


SAME_BITS = [
    average_precision,
    micro_average_precision,
    interpolated_average_precision,
    average_precision_11_points,
    roc_auc,
    best_f1_thresholds,
    f1_at_best,
    f1_at_half,
    rankings,
    label_rankings,
    tail,
    top_three,
    means,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", SAME_BITS)
def test_same_as_on_the_cpu_without_a_wait(function, dtype):
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randint(0, 3000, (5000, 20), generator=generator) / 3000).to(dtype)
    labels = torch.rand(scores.shape, generator=generator) < 0.1
    known = torch.rand(scores.shape, generator=generator) < 0.9
    on_gpu = scores.cuda(), labels.cuda(), known.cuda()
    function(*on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = function(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # their means are float sums
    tolerance = 1e-14 if function in (means, tail, average_precision_11_points) else 0
    torch.testing.assert_close(
        got.cpu(), function(scores, labels, known), rtol=0, atol=tolerance, equal_nan=True
    )
