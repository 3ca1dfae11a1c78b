"""The demo: its recipe reaches what README says, on any CPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.conftest import fresh, succeed
from tests.train.here import cpu
from train.config import TrainConfig
from train.loop import train
from train.run.folder import read_metrics

RECIPE = Path(__file__).parents[2] / "recipes/digits.yaml"
NUM_TRAIN = 4000


def test_the_demo_mirrors_no_digit_cuts_none_off_and_stays_small():
    """What made it three times as fast as before; a step of fp32 takes 3 ms of CPU an image."""
    config = TrainConfig.from_yaml(RECIPE)
    assert not config.flip
    assert config.augment == "pad"
    assert config.precision == "auto"
    assert config.epochs * NUM_TRAIN * config.size**2 <= 10 * NUM_TRAIN * 64**2


@pytest.mark.slow
@pytest.mark.timeout(3600)  # two minutes of CPU time
def test_the_demo_reaches_its_map(tmp_path):
    succeed(fresh("preprocess.shard", "--out", str(tmp_path / "digits")))
    data, out = str(tmp_path / "digits"), str(tmp_path / "run")
    config = replace(TrainConfig.from_yaml(RECIPE), data=data, out=out, seed=1, tensorboard=False)
    with cpu():
        assert train(config)
    assert max(line["val_mAP"] for line in read_metrics(tmp_path / "run")) >= 0.95
