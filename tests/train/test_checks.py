"""What a run that is yet to be trained is refused for, and one of an earlier release is not."""

import math
import re

import pytest

from shards.errors import DataError
from train.checks import check_new
from train.config import TrainConfig


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimizer": "adamw", "momentum": 0.9}, r"(--momentum 0), or give --optimizer sgd"),
        ({"schedule": "cosine", "step_epochs": 5}, r"step_epochs is 5, but schedule is cosine"),
        ({"step_factor": 0.5}, r"leave it out (--step-factor 0.1), or give --schedule step"),
        (
            {"augment": "pad", "crop_scale": (0.7, 1.0)},
            r"crop_scale is [0.7,1.0], but augment is pad",
        ),
        (
            {"augment": "pad", "crop_scale": (0.7, 1.0)},
            r"(--crop-scale [0.08,1.0]), or give --augment crop",
        ),
        ({"epochs": 2, "warmup_epochs": 2.5}, "warmup_epochs is 2.5, but epochs is 2"),
        ({"warmup_epochs": math.inf}, "warmup_epochs is inf: give a finite number"),
        ({"pos_weight": math.inf}, "pos_weight is inf"),
    ],
)
def test_what_would_do_nothing_is_refused_of_a_new_run_alone(options, says, tmp_path):
    config = TrainConfig(**options)
    with pytest.raises(DataError, match=re.escape(says)):
        check_new(config)
    # as an earlier release may have trained it
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == config


def test_an_option_that_means_nothing_makes_no_other_run():
    before = TrainConfig(optimizer="adamw", momentum=0.9)
    assert before.differences(TrainConfig(optimizer="adamw")) == {}
    assert before.differences(TrainConfig()).keys() == {"optimizer", "momentum"}
