"""One sort of each class's scores gives what the public functions give, to the last bit."""

import pytest
import torch

from eval.metrics import average_precision
from eval.metrics import sort as order
from eval.metrics.bootstrap import resampled_average_precision
from eval.metrics.devkit import average_precision_11_points, interpolated_average_precision
from eval.metrics.f1 import best_f1_thresholds, f1
from eval.metrics.roc import roc_auc
from eval.metrics.threshold_counts import precision_at_recall
from eval.prediction.predictions import Predictions
from eval.results.class_curves import NUM_RECALLS, class_curves
from eval.results.measure import measure_predictions

NUM_SAMPLES, NUM_CLASSES = 700, 9


def make(dtype=torch.float32, num_values=40):
    """Scores with many ties; a class that shows nothing, one that shows all, one of which nothing
    is known.
    """
    generator = torch.Generator().manual_seed(6)
    shape = (NUM_SAMPLES, NUM_CLASSES)
    labels = torch.rand(shape, generator=generator) < 0.2
    labels[:, 0], labels[:, 1] = False, True
    scores = (torch.rand(shape, generator=generator, dtype=torch.float64) + labels) / 2
    scores = ((scores * num_values).round() / num_values).to(dtype)
    known = torch.rand(shape, generator=generator) < 0.9
    known[:, 2] = False
    keys = [f"k{number}" for number in range(NUM_SAMPLES)]
    return Predictions(
        scores, labels, known, keys, [f"c{number}" for number in range(NUM_CLASSES)], "val"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("num_values", [3, 40, 10**9])
def test_every_measure_is_that_of_its_own_function(dtype, num_values, monkeypatch):
    predictions = make(dtype, num_values)
    given = predictions.scores, predictions.labels, predictions.known
    best = best_f1_thresholds(*given)
    expected = {
        "average_precision": average_precision(*given),
        "ap_11_points": average_precision_11_points(*given),
        "ap_interpolated": interpolated_average_precision(*given),
        "roc_auc": roc_auc(*given),
        "best_f1_threshold": best,
        "best_f1": f1(*given[:2], best, given[2]).masked_fill(best.isnan(), float("nan")),
        "precision": precision_at_recall(*given, NUM_RECALLS),
        "resampled": resampled_average_precision(*given, num=5, seed=3),
    }
    monkeypatch.setattr("eval.metrics.blocks.SMALL_SCORES", 2 * NUM_SAMPLES)  # several blocks
    curves = class_curves(predictions, 5, 3)
    for name, values in expected.items():
        torch.testing.assert_close(getattr(curves, name), values, rtol=0, atol=0, equal_nan=True)
        assert not values.isnan().all()


def test_an_evaluation_sorts_the_scores_of_each_class_once(monkeypatch):
    """And all scores together for the micro average, and those of each sample for the label
    ranking.
    """
    num_sorted = []

    def counted(keys, num_bits):
        num_sorted.append(keys.numel())
        return order.sort_rows(keys, num_bits)

    monkeypatch.setattr("eval.metrics.curve.sort_rows", counted)
    monkeypatch.setattr(
        "eval.metrics.curve.argsort_stable",
        lambda keys: (num_sorted.append(keys.numel()), order.argsort_stable(keys))[1],
    )
    measure_predictions(make(), num_resamples=5)
    assert sum(num_sorted) == 3 * NUM_SAMPLES * NUM_CLASSES
