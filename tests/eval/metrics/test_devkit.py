"""The devkit's two AP against a plain reading of its VOCevalcls.m (2007) and VOCap.m (2010 on)."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from eval.metrics.devkit import average_precision_11_points, interpolated_average_precision
from tests.eval.problems import columns, problems


def recall_precision(scores, gt):
    """`[so,si]=sort(-out); tp=cumsum(gt(si)>0); fp=cumsum(gt(si)<0); rec=tp/sum(gt>0);
    prec=tp./(fp+tp);`
    """
    tp = fp = 0
    rec, prec = [], []
    for i in sorted(range(len(gt)), key=lambda i: -scores[i]):  # stable, as MATLAB's sort
        tp += gt[i] > 0
        fp += gt[i] < 0
        rec.append(Fraction(tp, sum(g > 0 for g in gt)))
        # MATLAB's NaN, which its max passes over
        prec.append(Fraction(tp, tp + fp) if tp + fp else Fraction(0))
    return rec, prec


def ap_2007(scores, gt):
    """`for t=0:0.1:1, p=max(prec(rec>=t)); if isempty(p), p=0; end; ap=ap+p/11; end`, t in exact
    tenths.
    """
    rec, prec = recall_precision(scores, gt)
    points = [
        max((p for r, p in zip(rec, prec, strict=True) if r >= Fraction(t, 10)), default=0)
        for t in range(11)
    ]
    return float(sum(points) / 11)


def ap_2010(scores, gt):
    """`mrec=[0;rec;1]; mpre=[0;prec;0]; mpre(i)=max(mpre(i),mpre(i+1));
    sum((mrec(i)-mrec(i-1)).*mpre(i))`.
    """
    rec, prec = recall_precision(scores, gt)
    mrec, mpre = [Fraction(0), *rec, Fraction(1)], [Fraction(0), *prec, Fraction(0)]
    for i in reversed(range(len(mpre) - 1)):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return float(sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec))))


def expected(reference, scores, labels, known):
    values = []
    for s, y, k in columns(scores, labels, known):
        gt = np.where(k, np.where(y, 1, -1), 0).tolist()  # the devkit's 0: difficult, neither
        values.append(reference(s.astype(float).tolist(), gt) if 1 in gt else math.nan)
    return values


BOTH = [(average_precision_11_points, ap_2007), (interpolated_average_precision, ap_2010)]


@pytest.mark.parametrize(("metric", "reference"), BOTH)
@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_equals_the_devkit(metric, reference, problem):
    scores, labels, known = problem
    got = metric(*(torch.as_tensor(array) for array in problem))
    np.testing.assert_allclose(got, expected(reference, scores, labels, known), atol=1e-12, rtol=0)
    got = metric(torch.as_tensor(scores), torch.as_tensor(labels))
    np.testing.assert_allclose(
        got, expected(reference, scores, labels, np.ones_like(known)), atol=1e-12, rtol=0
    )


def test_worked_by_hand():
    """Positives at places 1, 3 and 6: precision 1, 2/3, 1/2; recall reaches 0.3 with the first, 0.6
    with the second.
    """
    scores = torch.arange(6, 0, -1.0)[:, None]
    labels = torch.tensor([1, 0, 1, 0, 0, 1])[:, None]
    assert interpolated_average_precision(scores, labels) == pytest.approx(
        (1 + 2 / 3 + 1 / 2) / 3, abs=1e-15
    )
    assert average_precision_11_points(scores, labels) == pytest.approx(
        (4 * 1 + 3 * 2 / 3 + 4 / 2) / 11, abs=1e-15
    )


@pytest.mark.parametrize("num_positives", [10, 20, 30, 70])
def test_a_recall_of_exactly_three_tenths_is_reached(num_positives):
    """In floating point 3 / 10 >= 0.1 * 3 is False, which would take the precision of the next
    positive.
    """
    gt = np.tile([1, -1, -1], num_positives)
    scores = -np.arange(len(gt), dtype=np.float32)
    got = average_precision_11_points(
        torch.as_tensor(scores)[:, None], torch.as_tensor(gt)[:, None]
    )
    assert got == pytest.approx(ap_2007(scores.tolist(), gt.tolist()), abs=1e-15)


@pytest.mark.parametrize("metric", [average_precision_11_points, interpolated_average_precision])
def test_nan_and_nothing(metric):
    scores = torch.tensor([[0.9, math.nan, math.nan], [0.1, 0.2, 0.3]])
    known = torch.tensor([[True, True, False], [True, True, True]])
    assert metric(scores, torch.ones(2, 3), known).isnan().tolist() == [False, True, False]
    assert metric(torch.empty(0, 3), torch.empty(0, 3)).isnan().tolist() == [True] * 3
    meta = torch.empty((9, 3), device="meta")
    assert metric(meta, meta, meta > 0).shape == (3,)
