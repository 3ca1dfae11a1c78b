"""Calibration bins and their error agree with a plain loop."""

import numpy as np
import pytest
import torch

from eval.calibration import reliability


def test_expected_error_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    scores, labels, known = rng.random((500, 3)), rng.random((500, 3)) < 0.3, rng.random((500, 3)) < 0.9
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
