"""Calibration bins and their error agree with a plain loop."""

import numpy as np
import pytest
import torch

from eval.metrics.calibration import reliability


def test_expected_error_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    scores, labels, known = (
        rng.random((500, 3)),
        rng.random((500, 3)) < 0.3,
        rng.random((500, 3)) < 0.9,
    )
    scores[:4, 0] = [0, 1, 0.5, 1 / 15]
    found = reliability(*map(torch.from_numpy, (scores, labels, known)))
    errors = found.expected_error()
    pooled = []
    for c in range(3):
        keep = known[:, c]
        bins = np.minimum((scores[keep, c] * 15).astype(int), 14)
        total = 0.0
        for b in range(15):
            inside = bins == b
            assert found.entries[b, c] == inside.sum()
            if inside.any():
                gap = labels[keep, c][inside].mean() - scores[keep, c][inside].mean()
                total += inside.sum() / keep.sum() * abs(gap)
        assert errors[c].item() == pytest.approx(total, abs=1e-12)
        pooled.append(scores[keep, c])
    assert found.pooled().entries.sum() == len(np.concatenate(pooled))
    flat = (torch.from_numpy(matrix).reshape(-1, 1) for matrix in (scores, labels, known))
    assert found.pooled().expected_error().item() == pytest.approx(
        reliability(*flat).expected_error().item(), abs=1e-12
    )


def test_a_calibrated_model_has_no_error_and_an_unknown_class_none_at_all():
    scores = torch.full((10, 2), 0.3)
    labels = torch.arange(10)[:, None].expand(10, 2) < 3
    known = torch.tensor([True, False]).expand(10, 2)
    errors = reliability(scores, labels, known).expected_error()
    assert errors[0].item() == pytest.approx(0, abs=1e-6)
    assert errors[1].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_order_of_samples_changes_no_bit(dtype):
    """A GPU adds in any order."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.rand((3000, 4), generator=generator, dtype=torch.float64).to(dtype)
    labels, known = (
        torch.rand(scores.shape, generator=generator) < 0.3,
        torch.rand(scores.shape) < 0.9,
    )
    order = torch.randperm(len(scores), generator=generator)
    one, other = (
        reliability(scores, labels, known),
        reliability(scores[order], labels[order], known[order]),
    )
    assert all(map(torch.equal, one, other))
    sums = torch.stack(
        [torch.where(known, scores.double(), 0).sum(0), (labels & known).sum(0), known.sum(0)]
    )
    torch.testing.assert_close(
        torch.stack([one.score, one.positive, one.entries]).sum(1), sums, rtol=1e-12, atol=0
    )


def test_a_score_that_is_no_probability():
    scores = torch.tensor([[1.5, 0.2], [-3, float("nan")], [float("inf"), 0.7]])
    found = reliability(scores, torch.tensor([[1, 0], [0, 1], [1, 1]]))
    assert found.score[:, 0].sum() == 2
    assert found.expected_error()[0] == 0
    assert found.expected_error()[1].isnan()
    assert found.entries.sum(0).tolist() == [3, 3]
    unknown = torch.tensor([[True, True], [True, False], [True, True]])
    assert not reliability(scores, scores > 0, unknown).expected_error().isnan().any()
