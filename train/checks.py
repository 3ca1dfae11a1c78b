"""What a run that is yet to be trained is refused for, besides what its configuration refuses
itself.

Earlier releases trained runs with such options; these are still read and evaluated.
"""

import dataclasses
import math

from shards.errors import DataError
from shards.options import check_idle, spelled
from shards.pages.spelling import is_text, plain
from train.config import TrainConfig


def check_new(config: TrainConfig) -> None:
    """Raise DataError for the first option that no run can follow, or that would do nothing in this
    one.
    """
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        for number in given if isinstance(given, tuple) else (given,):
            if isinstance(number, float) and not math.isfinite(number):
                raise DataError(f"{field.name} is {spelled(given)}: give a finite number")
    check_idle(config)
    if config.tensorboard and not is_text(config.out):
        raise DataError(
            f"out is {plain(config.out)}: TensorBoard writes into no folder whose name is no "
            "UTF-8; rename it, or give --no-tensorboard"
        )
    if isinstance(config.size, str) and len(config.sizes.all_of(config.epochs)) == 1:
        raise DataError(
            f"size is {config.size}, but epochs is {config.epochs}: no epoch is left for smaller "
            f"images; give more epochs, or --size {config.last_size}"
        )
    if config.warmup_epochs > config.epochs:
        raise DataError(
            f"warmup_epochs is {config.warmup_epochs:g}, but epochs is {config.epochs}: lr would "
            f"never be reached; give at most {config.epochs}"
        )
