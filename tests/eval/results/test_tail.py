"""Tail accuracy over thresholds of one's own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.config import EvalConfig
from eval.prediction.predictions import Predictions
from eval.results.tail import measure_tail
from eval.results.tail_grid import TailGrid
from shards.errors import DataError

NAMES = ["a", "b", "c"]


def make(seed=0, highest=1.0, num_samples=50):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand((num_samples, 3), generator=generator, dtype=torch.float64) * highest
    labels = torch.rand(scores.shape, generator=generator) < scores
    known = torch.rand(scores.shape, generator=generator) < 0.9
    return Predictions(scores, labels, known, [f"k{i}" for i in range(num_samples)], NAMES, "val")


def by_hand(predictions, c, t):
    """Tailacc(t) of the course brief, by a loop over the samples."""
    right = above = 0
    for score, label, known in zip(
        predictions.scores[:, c].tolist(),
        predictions.labels[:, c].tolist(),
        predictions.known[:, c].tolist(),
        strict=True,
    ):
        if known and score > t:
            above += 1
            right += bool(label)
    return right / above if above else math.nan


@given(
    seed=st.integers(0, 99),
    highest=st.floats(0.05, 1),
    t_min=st.floats(0, 0.9),
    reach=st.none() | st.floats(0.01, 1),
    num_steps=st.integers(2, 25),
)
def test_any_grid_is_the_definition_at_each_of_its_thresholds(
    seed, highest, t_min, reach, num_steps
):
    t_max = 0 if reach is None else t_min + reach * (0.999 - t_min)
    predictions = make(seed, highest)
    tail = measure_tail(predictions, TailGrid(t_min, t_max, num_steps))
    assert len(tail["thresholds"]) == len(tail["mean"]) == len(tail["mean_by_step"]) == num_steps
    for c, name in enumerate(NAMES):
        own = tail["per_class"][name]
        if t_max:
            assert own["thresholds"] == tail["thresholds"]
        for t, value in zip(own["thresholds"], own["values"], strict=True):
            expected = math.nan if t is None else by_hand(predictions, c, t)
            assert value == pytest.approx(expected) if value is not None else math.isnan(expected)
            assert t is None or (value is not None) == (
                t < predictions.scores[predictions.known[:, c], c].max()
            )
    for t, mean, num in zip(tail["thresholds"], tail["mean"], tail["num_classes"], strict=True):
        values = [math.nan if t is None else by_hand(predictions, c, t) for c in range(3)]
        counted = [value for value in values if not math.isnan(value)]
        assert num == len(counted)
        assert mean == (pytest.approx(np.mean(counted)) if counted else None)


def test_a_given_highest_threshold_is_the_last_one():
    tail = measure_tail(make(), EvalConfig(tail_min=0.5, tail_max=0.95, tail_steps=10).tail_grid())
    assert tail["thresholds"] == pytest.approx([0.5 + 0.05 * step for step in range(10)], abs=1e-15)
    assert (tail["t_min"], tail["t_max"], tail["num_steps"]) == (0.5, 0.95, 10)


def test_without_options_it_goes_from_one_half_to_below_the_highest_score_in_20_steps():
    predictions = make()
    tail = measure_tail(predictions, EvalConfig().tail_grid())
    highest = predictions.scores[predictions.known].max().item()
    assert tail["thresholds"] == pytest.approx(
        [0.5 + step * (highest - 0.5) / 20 for step in range(20)], abs=1e-12
    )
    assert None not in tail["mean"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tail_min": 1.0}, "tail_min is 1.0: give a probability from 0 to below 1"),
        ({"tail_min": -0.1}, "tail_min is -0.1"),
        ({"tail_min": math.nan}, "tail_min is nan"),
        (
            {"tail_max": 0.5},
            r"tail_max is 0.5: give a probability above tail_min \(0.5\) and below 1, or 0 for the high",
        ),
        ({"tail_min": 0.7, "tail_max": 0.6}, "tail_max is 0.6"),
        ({"tail_max": 1.5}, "tail_max is 1.5"),
        ({"tail_max": math.nan}, "tail_max is nan"),
        ({"tail_steps": 1}, "tail_steps is 1: give from 2 to 1000"),
        ({"tail_steps": 100_000}, "tail_steps is 100000"),
        ({"num_images": 0}, "num_images is 0: give from 1 to 500"),
        ({"num_images": 501}, "num_images is 501"),
    ],
)
def test_nonsense_is_refused_in_one_line(options, says):
    with pytest.raises(DataError, match=says) as error:
        EvalConfig(**options)
    assert "\n" not in str(error.value)
