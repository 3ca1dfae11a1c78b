"""Top-k accuracy and the confusion matrix against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as reference_confusion
from sklearn.metrics import top_k_accuracy_score

from eval.metrics.multiclass import confusion_matrix, top_k_accuracy
from tests.eval.problems import dense, problems


@settings(max_examples=200, deadline=None)
@given(problems(max_classes=8), st.integers(0, 2**32 - 1))
def test_equals_scikit_learn_ties_and_all(problem, seed):
    first = problem[0][:, :1]
    scores = np.concatenate([problem[0], first, np.zeros_like(first)], 1)  # ties in every row
    num_samples, num_classes = scores.shape
    targets = np.random.default_rng(seed).integers(0, num_classes, num_samples)
    given_tensors = torch.as_tensor(scores), torch.as_tensor(targets)
    every = np.arange(num_classes)
    for k in (1, 2, 5):
        if k < num_classes:
            expected = top_k_accuracy_score(targets, dense(scores), k=k, labels=every)
            assert top_k_accuracy(*given_tensors, k) == pytest.approx(expected, abs=1e-12)
    assert top_k_accuracy(*given_tensors, num_classes) == 1
    predicted = num_classes - 1 - np.argmax(dense(scores)[:, ::-1], 1)
    matrix = confusion_matrix(*given_tensors)
    assert matrix.tolist() == reference_confusion(targets, predicted, labels=every).tolist()
    assert matrix.trace() / num_samples == pytest.approx(
        float(top_k_accuracy(*given_tensors)), abs=1e-6
    )


def test_negative_targets_are_left_out_and_nan_is_seen():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [math.nan, 0.5]])
    assert top_k_accuracy(scores, torch.tensor([1, 1, -1])) == 0.5
    assert confusion_matrix(scores, torch.tensor([1, 1, -1])).tolist() == [[0, 0], [1, 1]]
    assert top_k_accuracy(scores, torch.tensor([1, 1, 0])).isnan()
    assert top_k_accuracy(scores, torch.tensor([-1, -1, -1])).isnan()
    assert top_k_accuracy(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)).isnan()


def test_nothing_waits_for_the_device():
    scores, targets = (
        torch.empty((9, 3), device="meta"),
        torch.empty(9, dtype=torch.int64, device="meta"),
    )
    assert top_k_accuracy(scores, targets).shape == ()
    assert confusion_matrix(scores, targets).shape == (3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_k_accuracy(torch.rand(3), torch.zeros(3).long()), r"scores must be \[N, K\]"),
        (lambda: confusion_matrix(torch.rand(3, 0), torch.zeros(3).long()), "K >= 1"),
        (
            lambda: confusion_matrix(torch.rand(3, 2), torch.zeros(3, 2).long()),
            r"targets must be \[N=3\]",
        ),
        (
            lambda: top_k_accuracy(torch.rand(3, 2), torch.zeros(3).long(), 0),
            "k must be at least 1, got 0",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
