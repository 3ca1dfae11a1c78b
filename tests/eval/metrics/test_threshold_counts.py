"""Counts at thresholds and precision at recalls, against NumPy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_curve

from eval.metrics.threshold_counts import count_above, precision_at_recall


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    # ties, many of them at a threshold
    scores = np.round(rng.random((200, 4)), 2).astype(np.float32)
    labels, known = rng.random((200, 4)) < 0.2, rng.random((200, 4)) < 0.9
    labels[:, 3] = False
    return scores, labels, known


@pytest.mark.parametrize("steps", [1, 50, 1000])
def test_counts_are_numpys_at_every_threshold(problem, steps):
    scores, labels, known = problem
    counts = count_above(*map(torch.from_numpy, problem), steps=steps)
    assert counts.predicted.shape == (steps + 1, 4)
    for step in range(steps + 1):
        above = (scores.astype(np.float64) >= step / steps) & known
        np.testing.assert_array_equal(counts.predicted[step], above.sum(0))
        np.testing.assert_array_equal(counts.true_positives[step], (above & labels).sum(0))


def test_precision_at_recall_lies_on_scikit_learns_curve(problem):
    scores, labels, known = problem
    values = precision_at_recall(*map(torch.from_numpy, problem), num=21)
    assert values.shape == (21, 4)
    assert values[:, 3].isnan().all()
    for c in range(3):
        keep = known[:, c]
        precision, recall, _ = precision_recall_curve(labels[keep, c], scores[keep, c])
        for step in range(21):
            # recall falls along the curve
            reached = np.nonzero((recall >= step / 20 - 1e-12) & (recall > 0))[0][-1]
            assert values[step, c].item() == pytest.approx(precision[reached], abs=1e-12)
