"""The loaders of a run: training in the order of its seed, validation in the order of the index."""

from shards.errors import DataError
from shards.index import open_split
from shards.loader import Loader
from shards.sampler import World
from train.config import TrainConfig


def open_loaders(config: TrainConfig, world: World) -> tuple[Loader, Loader]:
    """Open the splits train and val of the run's dataset. Raises DataError where they do not belong together."""
    train_index, val_index = open_split(config.data, "train"), open_split(config.data, "val")
    if train_index.class_names != val_index.class_names:
        raise DataError(f"{val_index.root}: its classes differ from those of {train_index.root}; pack both alike")
    train_loader = Loader(
        train_index,
        config.global_batch_size,
        config.size,
        seed=config.seed,
        world=world,
        num_threads=config.num_threads,
        scale=config.crop_scale,
        cache=config.cache,
        cache_short_side=config.cache_short_side,
    )
    val_loader = Loader(
        val_index,
        config.eval_batch_size * world.num_ranks,
        config.size,
        train=False,
        world=world,
        num_threads=config.num_threads,
        cache=config.cache,
    )
    return train_loader, val_loader
