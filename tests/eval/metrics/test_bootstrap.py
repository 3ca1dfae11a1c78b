"""Resampled average precisions are those of samples drawn again, and their interval covers the
truth.
"""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from eval.metrics import average_precision
from eval.metrics.bootstrap import interval, mean_interval, resampled_average_precision


def drawn_ids(num_samples, num, seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(num_samples, (num_samples,), generator=generator).numpy() for _ in range(num)
    ]


@pytest.mark.parametrize("levels", [5, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_resample_is_average_precision_of_the_samples_drawn(levels, dtype):
    generator = torch.Generator().manual_seed(1)
    shape = (70, 4)
    scores = ((torch.rand(shape, generator=generator) * levels).round() / levels).to(dtype)
    labels = torch.rand(shape, generator=generator) < 0.3
    known = torch.rand(shape, generator=generator) < 0.8
    labels[:, 3] = False
    values = resampled_average_precision(scores, labels, known, num=6, seed=5)
    assert values.shape == (6, 4)
    assert values[:, 3].isnan().all()
    for row, ids in zip(values, drawn_ids(70, 6, 5), strict=True):
        for c in range(3):
            keep = ids[known[ids, c].numpy()]
            expected = average_precision_score(
                labels[keep, c].numpy(), scores[keep, c].double().numpy()
            )
            assert row[c].item() == pytest.approx(expected, abs=1e-12)


def test_the_same_seed_draws_the_same_samples_however_many_at_once(monkeypatch):
    scores, labels = torch.rand(50, 3), torch.rand(50, 3) < 0.3
    together = resampled_average_precision(scores, labels, num=7, seed=2)
    monkeypatch.setattr("eval.metrics.bootstrap.CELLS_AT_ONCE", 100)
    torch.testing.assert_close(
        resampled_average_precision(scores, labels, num=7, seed=2),
        together,
        rtol=0,
        atol=0,
        equal_nan=True,
    )
    assert not torch.equal(resampled_average_precision(scores, labels, num=7, seed=3), together)


def test_without_samples_positives_or_resamples():
    nothing = torch.zeros(0, 2)
    assert resampled_average_precision(nothing, nothing, num=3).isnan().all()
    assert resampled_average_precision(torch.rand(5, 2), torch.zeros(5, 2), num=3).isnan().all()
    assert resampled_average_precision(torch.rand(5, 2), torch.ones(5, 2), num=0).shape == (0, 2)


def test_the_interval_of_a_symmetric_spread_is_its_percentiles():
    values = torch.arange(-100, 101, dtype=torch.float64)[torch.randperm(201)] / 100
    edges = interval(values, torch.tensor(0.0))
    np.testing.assert_allclose(edges, np.quantile(values, [0.025, 0.975]), atol=1e-9)
    # resamples lie above the estimate: shifted down
    assert interval(values, torch.tensor(-0.3))[1] < edges[1]


def test_the_interval_leaves_out_nan_and_takes_each_column_by_itself():
    values = torch.rand((100, 3), dtype=torch.float64)
    values[50:, 1] = torch.nan
    values[:, 2] = torch.nan
    estimate = torch.full((3,), 0.5, dtype=torch.float64)
    edges = interval(values, estimate)
    torch.testing.assert_close(
        edges[:, 1], interval(values[:50, 1], estimate[1]), rtol=0, atol=1e-2
    )
    assert edges[:, 2].isnan().all()
    assert interval(torch.ones(10), torch.tensor(1.0)).tolist() == [1, 1]


def test_about_95_in_100_intervals_hold_the_truth():
    def draw(num, generator):
        labels = torch.rand((num, 3), generator=generator) < torch.tensor([0.1, 0.2, 0.4])
        return torch.randn(labels.shape, generator=generator) + 1.5 * labels, labels

    generator = torch.Generator().manual_seed(0)
    scores, labels = draw(400_000, generator)
    truth = resampled_average_precision(scores, labels, num=1).mean()
    held = 0
    for seed in range(100):
        scores, labels = draw(300, generator)
        values = resampled_average_precision(scores, labels, num=60, seed=seed)
        ap = [average_precision_score(labels[:, c], scores[:, c]) for c in range(3)]
        low, high = interval(values.mean(1), torch.tensor(np.mean(ap)))
        held += bool(low <= truth <= high)
    assert 86 <= held <= 99


@pytest.mark.parametrize(("num_classes", "share", "least"), [(20, 0.15, 0.8), (60, 0.05, 0.6)])
def test_the_interval_of_the_mean_holds_the_truth_about_as_often_as_it_says(
    num_classes, share, least
):
    """Drawn from a population of known mean AP. Over many rare classes the bias of AP is more than
    its spread.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(num: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.rand((num, num_classes), generator=generator) < share
        return torch.randn((num, num_classes), generator=generator) + 1.2 * labels, labels

    truth = float(average_precision(*draw(100_000)).mean())
    trials = 30
    held = 0
    for trial in range(trials):
        scores, labels = draw(600)
        values = resampled_average_precision(scores, labels, num=100, seed=trial).nanmean(1)
        low, high = mean_interval(values, average_precision(scores, labels).nanmean()).tolist()
        held += low <= truth <= high
    assert least * trials <= held


def test_the_order_of_additions_changes_no_bit(monkeypatch):
    """A GPU adds by atomics, in any order: here another for every call."""
    generator = torch.Generator().manual_seed(4)
    scores, labels = (
        torch.rand((2000, 3), generator=generator),
        torch.rand((2000, 3), generator=generator) < 0.4,
    )
    expected = resampled_average_precision(scores, labels, num=5)
    add = torch.Tensor.index_add_

    def in_any_order(values, dim, ids, source):
        order = torch.randperm(len(ids))
        return add(values, dim, ids[order], source[order])

    monkeypatch.setattr(torch.Tensor, "index_add_", in_any_order)
    for _ in range(3):
        assert torch.equal(resampled_average_precision(scores, labels, num=5), expected)
