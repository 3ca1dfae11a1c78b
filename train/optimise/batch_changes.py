"""What happens to a training batch on its device before the network sees it."""

from collections.abc import Callable

from shards.augment.sample_changes import BatchAugmentation
from shards.loader import Loader
from shards.pipeline.augmenter import Augmenter
from shards.pipeline.batch import Batch
from train.config import TrainConfig
from train.optimise.mix import Mix

BatchChange = Callable[[Batch, int, int], Batch]  # of a batch, its epoch and step


def batch_changes(config: TrainConfig, loader: Loader) -> list[BatchChange]:
    """List what the options of a run ask for, in its order: augmented images are mixed, not mixed
    ones augmented.
    """
    options = BatchAugmentation(
        config.color_jitter,
        config.hue_jitter,
        config.trivial_augment,
        config.dihedral,
        config.erasing,
    )
    changes: list[BatchChange] = []
    if options.is_on:
        changes.append(Augmenter(options, loader.plan, loader.index))
    if config.mixup or config.cutmix:
        changes.append(Mix(config, loader.plan))
    return changes
