"""Training on small images that are seen whole: the same run from any cache, evaluated as it was
validated.
"""

import numpy as np
import pytest

from shards.errors import DataError
from tests.train.here import evaluate_here, train_here
from train.checks import check_new
from train.config import TrainConfig
from train.run import checkpoint
from train.run.folder import read_metrics

SMALL = {
    "augment": "pad",
    "size": 40,
    "cutout": 8,
    "optimizer": "adamw",
    "lr": 0.002,
    "normalize": "dataset",
}


@pytest.fixture(scope="module")
def runs(shades, tmp_path_factory):
    """The same run with every cache."""
    root = tmp_path_factory.mktemp("runs")
    for cache in ("none", "ram", "device"):
        train_here(shades, root / cache, **SMALL, epochs=2, cache=cache)
    return root


def test_a_cache_changes_no_figure(runs):
    plain, *cached = (read_metrics(runs / cache) for cache in ("none", "ram", "device"))
    assert plain[1]["train_loss"] < plain[0]["train_loss"]
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        for lines in cached:
            assert [line[name] for line in lines] == [line[name] for line in plain]


def test_evaluation_sees_images_whole_as_validation_does(runs, tmp_path):
    metrics, _ = evaluate_here(runs / "ram", tmp_path)
    assert metrics["accuracy"] == checkpoint.read(runs / "ram" / "best").meta.progress.best.value


def test_crops_are_made_on_the_device_too(shades, tmp_path):
    train_here(
        shades, tmp_path / "run", cache="device", epochs=2, cutout=4, optimizer="adamw", lr=0.002
    )
    losses = [line["train_loss"] for line in read_metrics(tmp_path / "run")]
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"pad": 3},
            "pad is 3, but augment is crop: leave it out \\(--pad 4\\), or give --augment pad",
        ),
        ({"augment": "pad", "size": 4}, "pad is 4: an image of 4 pixels"),
        ({"cutout": 500}, "cutout is 500"),
        ({"cache_short_side": 40}, "cache_short_side is 40, but cache is none"),
        (
            {"cache_short_side": 40, "cache": "ram", "augment": "pad"},
            "cache_short_side is 40, but augment is pad",
        ),
    ],
)
def test_options_that_contradict(options, says):
    with pytest.raises(DataError, match=says):
        check_new(TrainConfig(**options))
