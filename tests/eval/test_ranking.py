"""Rankings against a plain loop over Python's own sort."""

import math

import numpy as np
import pytest
import torch

import eval.metrics.blocks
from eval.ranking import rank


def reference(scores, k, known):
    """Top and bottom ids per class: by score, then by lower id, known entries only, then -1."""
    tops, bottoms = [], []
    for c in range(scores.shape[1]):
        ids = [i for i in range(len(scores)) if known[i, c]]
        top = sorted(ids, key=lambda i: (-scores[i, c], i))[:k]
        bottom = sorted(ids, key=lambda i: (scores[i, c], i))[:k]
        tops.append(top + [-1] * (k - len(top)))
        bottoms.append(bottom + [-1] * (k - len(bottom)))
    return tops, bottoms


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("num_samples", [1, 2, 7, 60])
@pytest.mark.parametrize("k", [0, 1, 5, 100])
def test_rank_equals_a_plain_sort(dtype, num_samples, k, monkeypatch):
    monkeypatch.setattr(eval.metrics.blocks, "BLOCK_SCORES", 100)
    rng = np.random.default_rng(num_samples * 1000 + k)
    values = [-math.inf, -2.0, -0.0, 0.0, 0.5, 0.75, math.inf]
    scores = torch.as_tensor(rng.choice(values, (num_samples, 6))).to(dtype)
    known = rng.random((num_samples, 6)) < 0.7
    known[:, 0], known[:, 1] = True, False
    top, bottom = rank(scores, k, torch.as_tensor(known))
    expected_top, expected_bottom = reference(scores.double().numpy(), k, known)
    assert top.dtype == bottom.dtype == torch.int64
    assert top.tolist() == expected_top
    assert bottom.tolist() == expected_bottom


def test_ignored_extremes_never_appear():
    scores = torch.tensor([[math.inf], [1.0], [-math.inf], [math.nan]])
    known = torch.tensor([[False], [True], [True], [False]])
    top, bottom = rank(scores, 4, known)
    assert top.tolist() == [[1, 2, -1, -1]]
    assert bottom.tolist() == [[2, 1, -1, -1]]


def test_without_known_everything_is_ranked_and_strides_do_not_matter():
    scores = torch.rand(40, 3)
    top, bottom = rank(scores, 40)
    assert torch.equal(top, scores.argsort(dim=0, descending=True, stable=True).T)
    assert torch.equal(bottom, scores.argsort(dim=0, stable=True).T)
    assert torch.equal(rank(scores.T.contiguous().T, 40)[0], top)


def test_empty_sets_and_negative_k():
    assert rank(torch.empty(0, 2), 3)[0].tolist() == [[-1, -1, -1]] * 2
    assert rank(torch.empty(4, 0), 3)[1].shape == (0, 3)
    with pytest.raises(ValueError, match="k must not be negative, got -1"):
        rank(torch.rand(2, 2), -1)


def test_nothing_waits_for_the_device():
    scores = torch.empty((50, 7), device="meta")
    assert rank(scores, 60, scores > 0)[0].shape == (7, 60)
