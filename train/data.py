"""The loaders of a run: training in the order of its seed, validation in the order of the index."""

from dataclasses import replace

import torch

from shards.errors import DataError, count_of
from shards.index import DatasetIndex, open_split
from shards.loader import Cache, Loader, Order, View
from shards.sampler import World
from train.config import TrainConfig


def open_loaders(config: TrainConfig, world: World, device: torch.device) -> tuple[Loader, Loader]:
    """Open the splits train and val of the run's dataset, for a model on `device`.

    Raises DataError where they do not belong together.
    """
    train_index, val_index = (
        open_split(config.data, split, config.cache_dir, config.cache_gb)
        for split in ("train", "val")
    )
    if train_index.class_names != val_index.class_names:
        raise DataError(
            f"{val_index.root}: its classes differ from those of {train_index.root}; pack both "
            f"alike"
        )
    if train_index.task != val_index.task:
        raise DataError(
            f"{val_index.root}: its task is {val_index.task}, that of {train_index.root} "
            f"{train_index.task}; pack both alike"
        )
    for index in (train_index, val_index):
        _check_labels(index)
    view = View(
        config.last_size,
        scale=config.crop_scale,
        bands=config.bands,
        augment=config.augment,
        pad=config.pad,
        cutout=config.cutout,
        flip=config.flip,
    )
    train_loader = Loader(
        train_index,
        config.global_batch_size,
        seed=config.seed,
        world=world,
        num_threads=config.num_threads,
        view=view,
        size_at=config.size_at if isinstance(config.size, str) else None,
        order=Order(config.order, config.shuffle_groups, config.shuffle_window),
        cache=Cache(config.cache, config.cache_short_side),
        device=device,
        on_bad_sample=config.on_bad_sample,
    )
    val_loader = Loader(
        val_index,
        config.eval_batch_size * world.num_ranks,
        world=world,
        num_threads=config.num_threads,
        view=replace(view, train=False),
        order="near",  # each rank a part in one piece: a machine reads its own shards
        cache=config.cache,
        device=device,
        on_bad_sample=config.on_bad_sample,
    )
    return train_loader, val_loader


def _check_labels(index: DatasetIndex) -> None:
    """Refuse multiclass data whose samples do not have one known label each, as far as the counts
    of labels tell.
    """
    num_labels = sum(index.statistics["positives"])
    num_ignored = sum(index.statistics["ignored"])
    if index.task == "multiclass" and (num_labels != index.num_samples or num_ignored):
        raise DataError(
            f"{index.root}: its task is multiclass, but it has "
            f"{count_of(index.num_samples, 'sample')} with {count_of(num_labels, 'label')} and "
            f"{num_ignored} ignored ones; pack it as multi-label data, or with one label a sample"
        )
