"""LRAP, coverage and ranking loss against scikit-learn, as a whole and sample by sample."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.metrics import (
    coverage_error,
    label_ranking_average_precision_score,
    label_ranking_loss,
)

from eval.metrics.multilabel import label_ranking
from tests.eval.problems import dense, problems

REFERENCES = (label_ranking_average_precision_score, coverage_error, label_ranking_loss)


def reference(scores, labels, known):
    """scikit-learn on the known labels of each sample [N, 3]; NaN for a sample without any."""
    rows = []
    for s, y, keep in zip(dense(scores), labels, known, strict=True):
        s, y = s[keep][None], y[keep][None].astype(int)
        # scikit-learn takes one column for a binary problem: a label below all others is no change
        if y.shape[1] == 1:
            s, y = np.append(s, s - 1, 1), np.append(y, [[0]], 1)
            rows.append([measure(y, s) for measure in REFERENCES])
            rows[-1][2] = 0.0
        else:
            rows.append([measure(y, s) for measure in REFERENCES] if keep.any() else [math.nan] * 3)
    return np.array(rows)


@settings(max_examples=150, deadline=None)
@given(problems(max_samples=8, max_classes=8))
def test_every_sample_equals_scikit_learn(problem):
    scores, labels, known = problem
    got = label_ranking(*(torch.as_tensor(array) for array in problem))
    assert got.counted.tolist() == known.any(1).tolist()
    expected = reference(scores, labels, known)
    counted = known.any(1)
    for column, values in enumerate(got[:3]):
        np.testing.assert_allclose(values[counted], expected[counted, column], atol=1e-9, rtol=0)
    if counted.any():
        np.testing.assert_allclose(got.means(), expected[counted].mean(0), atol=1e-9, rtol=0)
    else:
        assert got.means().isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_means_equal_scikit_learn_on_many_samples(dtype):
    rng = np.random.default_rng(4)
    scores = torch.as_tensor(rng.normal(size=(3000, 20))).to(dtype)
    labels = rng.random((3000, 20)) < 0.1
    expected = [measure(labels, scores.double().numpy()) for measure in REFERENCES]
    got = label_ranking(scores, torch.as_tensor(labels))
    np.testing.assert_allclose(got.means(), expected, atol=1e-9, rtol=0)


def test_worked_by_hand():
    """Positives score 3 and 1 of 4, 3, 2, 1: precision 1/2 and 2/4; all four are needed; 3 of 4
    pairs are wrong.
    """
    got = label_ranking(torch.tensor([[4.0, 3, 2, 1]]), torch.tensor([[0, 1, 0, 1]]))
    assert [float(values) for values in got[:3]] == [0.5, 4, 0.75]


def test_nan_spoils_its_sample_and_the_mean_only_where_known():
    scores, labels = torch.tensor([[math.nan, 1.0], [2.0, 1.0]]), torch.tensor([[0, 1], [1, 0]])
    assert label_ranking(scores, labels).loss.isnan().tolist() == [True, False]
    assert label_ranking(scores, labels).means().isnan().all()
    known = torch.tensor([[False, True], [True, True]])
    assert label_ranking(scores, labels, known).means().tolist() == [1, 1, 0]


def test_empty_sets_and_no_waiting():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert label_ranking(torch.empty(0, 3), torch.empty(0, 3)).means().isnan().all()
        assert label_ranking(torch.empty(2, 0), torch.empty(2, 0)).counted.tolist() == [
            False,
            False,
        ]
    meta = torch.empty((9, 3), device="meta")
    assert label_ranking(meta, meta > 0, meta > 0).means().shape == (3,)
