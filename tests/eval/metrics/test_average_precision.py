"""Average precision against scikit-learn, tail accuracy against loops written from its formula."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import eval.metrics.blocks
import eval.metrics.curve
from eval.metrics import (
    average_precision,
    macro_mean,
    micro_average_precision,
    tail_accuracy,
    tail_thresholds,
    weighted_class_mean,
)
from tests.eval.problems import dense, problems

TOLERANCE = 1e-9


def reference_ap(scores, labels, known):
    """scikit-learn's AP per class over the known entries; NaN without a known positive."""
    values = []
    for c in range(scores.shape[1]):
        keep = known[:, c]
        if not labels[keep, c].any():
            values.append(math.nan)
            continue
        values.append(average_precision_score(labels[keep, c], dense(scores[keep, c])))
    return np.array(values)


def reference_tail(scores, labels, known, t, c):
    """The share of truly positive samples among the known ones above t, counted one by one."""
    above = [i for i in range(len(scores)) if known[i, c] and float(scores[i, c]) > t]
    return sum(bool(labels[i, c]) for i in above) / len(above) if above else math.nan


def check_ap(scores, labels, known=None):
    given_known = np.ones(labels.shape, bool) if known is None else known
    got = average_precision(
        torch.as_tensor(scores),
        torch.as_tensor(labels),
        None if known is None else torch.as_tensor(known),
    )
    assert got.dtype == torch.float64
    expected = reference_ap(np.asarray(scores), labels, given_known)
    np.testing.assert_allclose(got, expected, atol=TOLERANCE, rtol=0)


@settings(max_examples=300, deadline=None)
@given(problems())
def test_ap_equals_scikit_learn(problem):
    scores, labels, known = problem
    check_ap(scores, labels)
    check_ap(scores, labels, known)


@settings(max_examples=100, deadline=None)
@given(problems(), st.lists(st.floats(-2, 2), min_size=1, max_size=6))
def test_tail_accuracy_equals_the_formula(problem, thresholds):
    scores, labels, known = problem
    got = tail_accuracy(
        torch.as_tensor(scores),
        torch.as_tensor(labels),
        torch.tensor(thresholds, dtype=torch.float64),
        torch.as_tensor(known),
    )
    expected = [
        [reference_tail(scores, labels, known, t, c) for c in range(scores.shape[1])]
        for t in thresholds
    ]
    np.testing.assert_allclose(got, np.array(expected), atol=1e-15, rtol=0)


LABELS = np.array([[0, 1, 1, 0, 1, 0, 0, 1]], bool).T


@pytest.mark.parametrize(
    "scores",
    [
        [0.5] * 8,  # constant
        [0.9, 0.9, 0.9, 0.5, 0.5, 0.1, 0.1, 0.1],  # ties that mix positives and negatives
        [0.0, -0.0, 0.0, -0.0, 1.0, 1.0, -1.0, -1.0],  # two zeros are one score
        [math.inf, math.inf, 3, 2, 1, 0, -math.inf, -math.inf],
        [1e-45, 0.0, 2e-45, 1e-45, -1e-45, 0.0, 1e-38, -1e-38],  # subnormals are distinct scores
        [-7.25, 12.5, 3, 3, -7.25, 88, -100, 0],  # logits
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ap_of_ties_in_every_dtype(scores, dtype):
    tensor = torch.tensor(scores, dtype=torch.float64)[:, None].to(dtype)
    expected = reference_ap(tensor.double().numpy(), LABELS, np.ones_like(LABELS))
    got = average_precision(tensor, torch.as_tensor(LABELS))
    np.testing.assert_allclose(got, expected, atol=TOLERANCE, rtol=0)


def test_ap_of_one_two_and_three_positives_worked_by_hand():
    scores = torch.tensor([[4.0, 4.0], [3.0, 4.0], [2.0, 1.0]])
    labels = torch.tensor([[1, 0], [0, 1], [1, 1]])
    expected = torch.tensor([(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2], dtype=torch.float64)
    torch.testing.assert_close(average_precision(scores, labels), expected, rtol=0, atol=1e-15)


def test_ap_at_the_edges():
    scores = np.random.default_rng(0).random((6, 3), dtype=np.float32)
    check_ap(scores, np.ones((6, 3), bool))
    check_ap(scores, np.zeros((6, 3), bool))
    check_ap(scores, np.ones((6, 3), bool), np.zeros((6, 3), bool))
    check_ap(scores[:1], np.array([[True, False, True]]))
    check_ap(scores[:, :1], np.eye(6, 1, dtype=bool))
    nothing = torch.empty((0, 3))
    assert average_precision(nothing, nothing).isnan().tolist() == [True] * 3
    assert average_precision(torch.empty((4, 0)), torch.empty((4, 0))).shape == (0,)


def test_nan_spoils_its_class_only_where_known():
    scores = torch.tensor([[0.9, 0.9], [math.nan, math.nan], [0.1, 0.1]])
    labels, known = torch.tensor([[1, 1]] * 3), torch.tensor([[1, 1], [1, 0], [1, 1]]).bool()
    assert average_precision(scores, labels, known).isnan().tolist() == [True, False]
    thresholds = torch.tensor([0.5])
    assert tail_accuracy(scores, labels, thresholds, known).isnan().tolist() == [[True, False]]


def test_strides_label_dtypes_and_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(1)
    scores = torch.as_tensor(rng.integers(0, 30, (200, 24)).astype(np.float32))
    labels = torch.as_tensor(rng.random((200, 24)) < 0.2)
    known = torch.as_tensor(rng.random((200, 24)) < 0.9)
    thresholds = tail_thresholds(scores, known, num=5, start=10)
    ap, tail = (
        average_precision(scores, labels, known),
        tail_accuracy(scores, labels, thresholds, known),
    )
    flipped = scores.T.contiguous().T
    assert torch.equal(average_precision(flipped, labels.float(), known), ap)
    assert torch.equal(average_precision(scores.long(), labels, known), ap)
    wide = torch.zeros(400, 48)
    wide[::2, ::2] = scores
    assert torch.equal(average_precision(wide[::2, ::2], labels.int(), known), ap)
    monkeypatch.setattr(eval.metrics.blocks, "BLOCK_SCORES", 300)
    assert torch.equal(average_precision(scores, labels, known), ap)
    assert torch.equal(tail_accuracy(scores, labels, thresholds, known), tail)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_threads_and_blocks_do_not_change_a_bit(dtype, monkeypatch):
    """Classes alone in a block, or with others, on one thread or three: the same sums."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(70_000, 9, generator=generator).to(dtype)
    labels = torch.rand(scores.shape, generator=generator) < 0.3
    expected = torch.cat(
        [average_precision(scores[:, c : c + 1], labels[:, c : c + 1]) for c in range(9)]
    )
    num_threads = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for share, size in ((4, 1 << 21), (1, 1 << 21), (2, 140_000)):
                monkeypatch.setattr(eval.metrics.blocks, "SHARE_AT_ONCE", share)
                monkeypatch.setattr(eval.metrics.blocks, "BLOCK_SCORES", size)
                assert torch.equal(average_precision(scores, labels), expected)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(num_threads)
    order = torch.randperm(len(scores), generator=generator)
    assert torch.equal(average_precision(scores[order], labels[order]), expected)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_means_equal_scikit_learn(problem):
    """scikit-learn counts a class without positives as 0 in the macro mean; here it is left out."""
    scores, labels, known = problem
    labels[0] = True  # a positive in every class
    given = torch.as_tensor(scores), torch.as_tensor(labels)
    ap = average_precision(*given)
    ranks = dense(scores)
    expected = {
        a: average_precision_score(labels, ranks, average=a) for a in ("macro", "micro", "weighted")
    }
    assert macro_mean(ap) == pytest.approx(expected["macro"], abs=TOLERANCE)
    assert micro_average_precision(*given) == pytest.approx(expected["micro"], abs=TOLERANCE)
    assert weighted_class_mean(ap, given[1]) == pytest.approx(expected["weighted"], abs=TOLERANCE)
    if (labels & known).any():
        masked = torch.as_tensor(known)
        micro = average_precision_score(labels[known], ranks[known])
        assert micro_average_precision(*given, masked) == pytest.approx(micro, abs=TOLERANCE)
        ap, positives = reference_ap(scores, labels, known), (labels & known).sum(0)
        expected = np.nansum(ap * positives) / positives.sum()
        got = weighted_class_mean(average_precision(*given, masked), given[1], masked)
        assert got == pytest.approx(expected, abs=TOLERANCE)


def test_means_leave_out_classes_without_a_value():
    values = torch.tensor([0.5, math.nan, 1.0], dtype=torch.float64)
    labels = torch.tensor([[1, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert macro_mean(values) == 0.75
    assert weighted_class_mean(values, labels) == (3 * 0.5 + 1) / 4
    assert weighted_class_mean(values, labels * 0).isnan()
    assert macro_mean(values[1:2]).isnan()


def test_inputs_are_left_as_they_were():
    scores, labels = torch.rand(30, 4), torch.rand(30, 4) < 0.5
    before = scores.clone(), labels.clone()
    average_precision(scores, labels)
    tail_accuracy(scores, labels, tail_thresholds(scores))
    assert torch.equal(scores, before[0])
    assert torch.equal(labels, before[1])


def test_nothing_waits_for_the_device():
    """A meta tensor has no values: whatever read one back or let a shape depend on one would raise
    here.
    """
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        scores = torch.empty((50, 7), dtype=dtype, device="meta")
        known = torch.empty((50, 7), dtype=torch.bool, device="meta")
        assert average_precision(scores, known, known).shape == (7,)
        assert micro_average_precision(scores, known, known).shape == ()
        thresholds = tail_thresholds(scores, known)
        assert tail_accuracy(scores, known, thresholds, known).shape == (20, 7)


def test_tail_accuracy_compares_thresholds_exactly():
    """0.7 as float32 is above 0.7 - 1e-9 and below 0.7 as float64: comparing in float32 would lose
    both.
    """
    scores = torch.tensor([[0.7]])
    thresholds = torch.tensor([0.7, 0.7 - 1e-9, 0.7 - 3e-8, math.nan], dtype=torch.float64)
    value = float(scores.double())
    expected = [1.0 if value > t else math.nan for t in thresholds.tolist()]
    np.testing.assert_array_equal(
        tail_accuracy(scores, torch.ones(1, 1), thresholds)[:, 0], expected
    )


def test_tail_thresholds_reach_from_start_to_just_below_the_highest_known_score():
    rows = [[0.9, 0.4, 0.5, 0.9], [0.7, 0.2, 0.1, 0.6], [0.1, 0.3, 0.2, 0.2]]
    scores = torch.tensor(rows, dtype=torch.float64)
    known = torch.ones(3, 4, dtype=torch.bool)
    known[0, 3] = False
    got = tail_thresholds(scores, known, num=4)
    np.testing.assert_allclose(got[:, 0], [0.5, 0.6, 0.7, 0.8], atol=1e-15)
    assert got[:, 1:3].isnan().all()
    np.testing.assert_allclose(got[:, 3], [0.5, 0.525, 0.55, 0.575], atol=1e-15)
    above = (scores[None] > got[:, None]) & known
    assert above[:, :, [0, 3]].any(1).all()


def test_tail_thresholds_stay_below_a_highest_score_one_ulp_above_start():
    highest = np.nextafter(0.5, 1)
    got = tail_thresholds(torch.tensor([[highest]], dtype=torch.float64), num=20)
    assert (got < highest).all()
    assert (got >= 0.5).all()
    assert tail_thresholds(torch.empty(0, 2), num=3).isnan().all()
    assert tail_thresholds(torch.tensor([[math.inf]]), num=3).isnan().all()


def test_no_class_with_a_value_gives_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = torch.rand(5, 3) * 0.4
        assert tail_accuracy(scores, scores > 1, torch.tensor([0.5])).isnan().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average_precision(torch.rand(5), torch.rand(5)), r"scores must be \[N, K\]"),
        (
            lambda: average_precision(torch.rand(5, 2), torch.rand(5, 3)),
            r"labels must have the shape",
        ),
        (
            lambda: average_precision(torch.rand(5, 2), torch.rand(5, 2), torch.ones(5)),
            r"known must have",
        ),
        (
            lambda: tail_accuracy(torch.rand(5, 2), torch.rand(5, 2), torch.rand(4, 3)),
            r"thresholds must be",
        ),
        (lambda: tail_thresholds(torch.rand(5, 2), num=0), r"num must be at least 1"),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
