"""What a configuration is refused for, before any data is opened."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from shards.choices import check_augmentation, check_scale
from shards.errors import DataError
from shards.pages.spelling import is_text, plain

if TYPE_CHECKING:
    from train.config import TrainConfig

AT_LEAST_1 = (
    "size",
    "epochs",
    "global_batch_size",
    "accumulate",
    "eval_batch_size",
    "num_threads",
    "step_epochs",
)
ABOVE_0 = ("lr", "head_lr_factor", "step_factor")
NOT_BELOW_0 = (
    "momentum",
    "weight_decay",
    "warmup_epochs",
    "clip_norm",
    "save_every_steps",
    "seed",
    "cache_short_side",
    "mixup",
    "cutmix",
    "focal_gamma",
    "asl_gamma_neg",
    "asl_gamma_pos",
)
BELOW_1 = ("ema_decay", "drop_rate", "momentum", "label_smoothing", "asl_clip")
# Options that mean something only where another has a certain value: prefix or name -> (that other, its value).
ONLY_WITH = {
    "focal_": ("loss", "focal"),
    "asl_": ("loss", "asl"),
    "pad": ("augment", "pad"),
    "crop_scale": ("augment", "crop"),
    "momentum": ("optimizer", "sgd"),
    "step_": ("schedule", "step"),
}


def check(config: "TrainConfig") -> None:
    """Raise DataError for the first value that is out of bounds or contradicts another.

    What a run's own config.yaml is refused for, too: `check_new` is for a run that is yet to be trained.
    """
    for name in AT_LEAST_1:
        if getattr(config, name) < 1:
            raise DataError(f"{name} is {getattr(config, name)}: give at least 1")
    for name in ABOVE_0:
        if not getattr(config, name) > 0:
            raise DataError(f"{name} is {getattr(config, name)}: give a number above 0")
    for name in NOT_BELOW_0:
        if not getattr(config, name) >= 0:
            raise DataError(f"{name} is {getattr(config, name)}: give 0 or more")
    for name in BELOW_1:
        if not 0 <= getattr(config, name) < 1:
            raise DataError(f"{name} is {getattr(config, name)}: give a number from 0 to below 1")
    if config.new_channels != "kaiming" and not (config.pretrained or config.weights):
        raise DataError(
            f"new_channels is {config.new_channels}, but nothing is loaded: leave it out, or start from --pretrained "
            "or --weights"
        )
    if config.bands == "rgb" and config.fusion == "late":
        raise DataError("fusion is late, but bands is rgb: there is nothing to join RGB with; choose one of the two")
    _check_normalisation(config)
    if not 0 <= config.focal_alpha <= 1:
        raise DataError(f"focal_alpha is {config.focal_alpha}: give a number from 0 to 1")
    if config.pos_weight != 0 and not config.pos_weight >= 1:
        raise DataError(f"pos_weight is {config.pos_weight}: give the highest weight, at least 1, or 0 for none")
    if config.seed >= 2**31:
        raise DataError(f"seed is {config.seed}: give a number below 2**31")
    if config.pretrained and config.weights:
        raise DataError(f"weights is {config.weights} and pretrained is set: choose one of the two")
    check_scale(config.crop_scale)
    check_augmentation(config.augment, config.size, config.pad, config.cutout)
    if config.cache_short_side and (config.cache == "none" or config.augment == "pad"):
        what = f"augment is {config.augment}" if config.cache != "none" else "cache is none"
        raise DataError(f"cache_short_side is {config.cache_short_side}, but {what}: leave it out")


def check_new(config: "TrainConfig") -> None:
    """Raise DataError for the first option that no run can follow, or that would do nothing in this one.

    At the door alone: earlier releases trained runs with such options, and these are still read and evaluated.
    """
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        for number in given if isinstance(given, tuple) else (given,):
            if isinstance(number, float) and not math.isfinite(number):
                raise DataError(f"{field.name} is {_spelled(given)}: give a finite number")
    for name, (other, value) in idle(config).items():
        given, default = getattr(config, name), getattr(type(config), name)
        if given != default:
            raise DataError(
                f"{name} is {_spelled(given)}, but {other} is {getattr(config, other)}: leave it out "
                f"(--{name.replace('_', '-')} {_spelled(default)}), or give --{other} {value}"
            )
    if config.tensorboard and not is_text(config.out):
        raise DataError(
            f"out is {plain(config.out)}: TensorBoard writes into no folder whose name is no UTF-8; "
            "rename it, or give --no-tensorboard"
        )
    if config.warmup_epochs > config.epochs:
        raise DataError(
            f"warmup_epochs is {config.warmup_epochs:g}, but epochs is {config.epochs}: lr would never be reached; "
            f"give at most {config.epochs}"
        )


def idle(config: "TrainConfig") -> dict[str, tuple[str, str]]:
    """Name the options that mean nothing in this run, each with the other option and the value that it needs."""
    return {
        field.name: (other, value)
        for prefix, (other, value) in ONLY_WITH.items()
        for field in dataclasses.fields(config)
        if field.name.startswith(prefix) and getattr(config, other) != value
    }


def _spelled(value: Any) -> str:
    """Spell a value as its flag takes it."""
    return str(list(value)).replace(" ", "") if isinstance(value, tuple) else f"{value:g}"


def _check_normalisation(config: "TrainConfig") -> None:
    if config.normalize != "own":
        if config.mean or config.std:
            raise DataError(f"mean and std are given, but normalize is {config.normalize}: give --normalize own")
        return
    if not config.mean or len(config.mean) != len(config.std):
        raise DataError(
            f"normalize is own, with {len(config.mean)} numbers for mean and {len(config.std)} for std: "
            "give as many of each as images have channels, such as --mean [0.46,0.44,0.40]"
        )
    if not all(0 <= value <= 1 for value in config.mean) or not all(0 < value <= 1 for value in config.std):
        raise DataError(
            f"mean is {list(config.mean)}, std is {list(config.std)}: give shares of 255, mean from 0 to 1, std above 0"
        )
