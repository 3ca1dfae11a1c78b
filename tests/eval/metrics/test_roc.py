"""ROC AUC and F1 against scikit-learn; the best threshold against trying every one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.metrics import f1_score, roc_auc_score

from eval.metrics.f1 import best_f1_thresholds, f1
from eval.metrics.roc import roc_auc
from tests.eval.problems import columns, dense, problems

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def reference_auc(scores, labels, known):
    values = []
    for s, y, keep in columns(scores, labels, known):
        both = len(set(y[keep])) == 2
        values.append(roc_auc_score(y[keep], dense(s[keep])) if both else math.nan)
    return values


def reference_f1(scores, labels, known, thresholds):
    values = []
    for (s, y, keep), t in zip(columns(scores, labels, known), thresholds, strict=True):
        predicted = s[keep].astype(float) >= t
        values.append(
            f1_score(y[keep], predicted, zero_division=math.nan) if keep.any() else math.nan
        )
    return values


def tensors(*arrays):
    return [torch.as_tensor(array) for array in arrays]


@settings(max_examples=200, deadline=None)
@given(problems())
def test_auc_equals_scikit_learn(problem):
    scores, labels, known = problem
    everything = np.ones_like(known)
    got = roc_auc(*tensors(scores, labels, known))
    np.testing.assert_allclose(got, reference_auc(scores, labels, known), atol=1e-9, rtol=0)
    got = roc_auc(*tensors(scores, labels))
    np.testing.assert_allclose(got, reference_auc(scores, labels, everything), atol=1e-9, rtol=0)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_f1_equals_scikit_learn_at_one_and_at_the_best_threshold(problem):
    scores, labels, known = problem
    num_classes = scores.shape[1]
    s, y, k = tensors(scores, labels, known)
    np.testing.assert_allclose(
        f1(s, y, 0.5, k), reference_f1(scores, labels, known, [0.5] * num_classes), atol=1e-12
    )
    best = best_f1_thresholds(s, y, k)
    got = f1(s, y, best, k)
    for c in range(num_classes):
        keep = known[:, c]
        if not (labels[:, c] & keep).any():
            assert best[c].isnan()
            continue
        alone = scores[:, [c]], labels[:, [c]], known[:, [c]]
        tried = {t: reference_f1(*alone, [t])[0] for t in set(scores[keep, c].tolist())}
        highest = max(tried.values())
        assert got[c] == pytest.approx(highest, abs=1e-12)
        assert best[c] == max(t for t, value in tried.items() if value == highest)


def test_thresholds_of_one_split_apply_to_another():
    train = (
        torch.tensor([[0.9, 2.0], [0.6, 1.0], [0.4, -1.0], [0.2, -2.0]]),
        torch.tensor([[1, 1], [1, 0], [0, 0], [0, 0]]),
    )
    thresholds = best_f1_thresholds(*train)
    assert thresholds.tolist() == [float(np.float32(0.6)), 2.0]
    val = torch.tensor([[0.7, 2.5], [0.5, 1.5], [0.1, 3.0]]), torch.tensor([[1, 1], [1, 0], [0, 0]])
    np.testing.assert_allclose(f1(*val, thresholds), [2 / 3, 2 / 3], atol=1e-15)
    np.testing.assert_allclose(f1(*val), [1, 1 / 2], atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_gives_its_own_scores_as_thresholds(dtype):
    rng = np.random.default_rng(3)
    scores = torch.as_tensor(rng.normal(size=(300, 4)) * 8).to(dtype)
    labels = torch.as_tensor(rng.random((300, 4)) < 0.3)
    best = best_f1_thresholds(scores, labels)
    assert ((scores.double() == best).any(0)).all()
    everything = np.ones(labels.shape, bool)
    expected = reference_auc(scores.double().numpy(), labels.numpy(), everything)
    np.testing.assert_allclose(roc_auc(scores, labels), expected, atol=1e-9, rtol=0)
    assert best_f1_thresholds((scores * 4).long(), labels).equal(
        best_f1_thresholds((scores * 4).long().double(), labels)
    )


def test_nan_one_class_and_nothing_have_no_value():
    scores = torch.tensor([[math.nan, 0.5], [0.2, 0.1]])
    labels = torch.tensor([[1, 1], [0, 0]])
    assert roc_auc(scores, labels).isnan().tolist() == [True, False]
    assert best_f1_thresholds(scores, labels).isnan().tolist() == [True, False]
    assert f1(scores, labels).isnan().tolist() == [True, False]
    assert roc_auc(scores, torch.ones(2, 2)).isnan().all()
    assert roc_auc(torch.empty(0, 2), torch.empty(0, 2)).isnan().all()
    assert f1(torch.empty(0, 2), torch.empty(0, 2)).isnan().all()
    assert best_f1_thresholds(torch.empty(2, 0), torch.empty(2, 0)).shape == (0,)


def test_large_counts_do_not_overflow():
    num = 100_000
    scores = torch.arange(2 * num, dtype=torch.float32)[:, None]
    assert roc_auc(scores, scores >= num) == 1
    assert roc_auc(scores, scores < num) == 0


def test_nothing_waits_for_the_device():
    scores = torch.empty((50, 7), device="meta")
    known = torch.empty((50, 7), dtype=torch.bool, device="meta")
    assert roc_auc(scores, known, known).shape == (7,)
    assert best_f1_thresholds(scores, known, known).shape == (7,)
    assert f1(scores, known, torch.empty(7, device="meta"), known).shape == (7,)


def test_wrong_thresholds_are_named():
    with pytest.raises(
        ValueError, match=r"thresholds must be one number or \[K=2\], got shape \(3,\)"
    ):
        f1(torch.rand(4, 2), torch.rand(4, 2), torch.rand(3))
