"""A run's way into its folder and back: begin or resume it, write `last`, keep the best epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from shards.errors import DataError, count_of, one_line
from shards.identity import identity
from shards.index import DatasetIndex
from shards.loader import Loader
from train.config import TrainConfig
from train.optimise.optim import load_optimizer
from train.run import checkpoint
from train.run.checkpoint import (
    ANOTHER,
    Checkpoint,
    Meta,
    check_continues,
    check_fits,
    check_same_data,
)
from train.run.checkpoint_writer import CheckpointWriter, Job, copied_aside
from train.run.folder import RunFolder
from train.run.progress import Progress, check_finite, check_weights
from train.run.ranks import Ranks
from train.run.state import generator_states, joining_seed, restore_generators, seed_generators


@dataclass(frozen=True)
class Parts:
    """What a checkpoint holds of a run, beside its progress. `mean` and `std` are in units of
    1/255.
    """

    network: nn.Module
    averaged: nn.Module | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    optimizer: torch.optim.Optimizer
    loader: Loader
    val_index: DatasetIndex


class Saving:
    """The checkpoints of one run. Every rank calls each method; the first one writes, on a thread:
    `finish` waits for it, and raises its errors, as the next `save` does.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, ranks: Ranks, parts: Parts) -> None:
        self._config = config
        self._folder = folder
        self._ranks = ranks
        self._parts = parts
        self._index = parts.loader.index
        self._writer = CheckpointWriter()
        self._data = {index.split: identity(index) for index in (self._index, parts.val_index)}

    def begin(self, resuming: bool) -> Progress:
        """Start a new run folder, or go on from its last checkpoint."""
        self._ranks.wait()  # all have looked before the first rank changes anything
        if resuming:
            return self._restore()
        if self._ranks.is_first:
            if self._config.resume:
                self._ranks.say(f"nothing to resume in {self._folder.path}: starting")
            aside = self._folder.begin(self._config.to_yaml(), self._config.resume)
            if aside is not None:
                self._ranks.say(f"{self._folder.path} held another run: moved to {aside}")
        self._ranks.wait()
        return Progress()

    def save(self, progress: Progress, metrics: dict[str, Any]) -> None:
        """Let `last` be written. Raises Diverged for a run whose numbers are none: the checkpoint
        before it stays.
        """
        parts = self._parts
        check_finite(progress.epoch + 1, "loss", progress.loss_sum)
        # each rank's own until here: the first one's are saved
        self._ranks.copy_first(list(parts.network.buffers()))
        check_weights(progress.epoch + 1, parts.network.state_dict())
        generators = self._ranks.gather_list([generator_states(self._ranks.device)])
        if self._ranks.is_first:
            self._writer.wait()
            self._writer.start(self._job(self._meta(progress, metrics), generators))

    def keep_best(self) -> None:
        """Make `best` the checkpoint that was just saved."""
        if self._ranks.is_first:
            self._writer.start(partial(checkpoint.copy, self._folder.last, self._folder.best))

    def finish(self) -> None:
        """Wait, on all ranks, until all is on the disk."""
        self._writer.wait()
        self._ranks.wait()

    def close(self) -> None:
        """Wait as `finish` does, but for this rank, and raise nothing: another error may be on its
        way.
        """
        self._writer.close()

    def _job(self, meta: Meta, generators: Sequence[dict[str, Any]]) -> Job:
        """Copy the run's state aside, and return what writes it."""
        parts = self._parts
        averaged = None if parts.averaged is None else parts.averaged.state_dict()
        state = (parts.network.state_dict(), averaged, parts.optimizer.state_dict())
        (weights, averaged, optimizer), until_copied = copied_aside(state, self._ranks.device)
        trainer = {
            "optimizer": optimizer,
            "scaler": self._ranks.scaler_state(),
            "generators": list(generators),
        }

        def write() -> None:
            until_copied()
            checkpoint.save(self._folder.last, self._config, meta, weights, averaged, trainer)

        return write

    def _meta(self, progress: Progress, metrics: dict[str, Any]) -> Meta:
        return Meta(
            class_names=self._index.class_names,
            task=self._index.task,
            mean=self._parts.mean,
            std=self._parts.std,
            progress=progress,
            loader=self._parts.loader.state_dict()
            | {"epoch": progress.epoch, "step": progress.step},
            metrics=metrics,
            bands=tuple(self._index.settings.get("bands", ())),
            data=self._data,
        )

    def _restore(self) -> Progress:
        if self._ranks.is_first:
            self._folder.lock()
        parts = self._parts
        last = checkpoint.read(self._folder.last)
        check_continues(last.path, last.config, self._config)
        check_fits(last, self._index, len(parts.mean))
        for line in check_same_data(last, self._data, self._config.data):
            self._ranks.say(line)
        last.load_into(parts.network)
        if parts.averaged is not None:
            last.load_into(parts.averaged, averaged=True)
        progress = last.meta.progress
        self._restore_trainer(last, progress)
        parts.loader.load_state_dict(last.meta.loader)
        if self._ranks.is_first:
            self._folder.forget_metrics_after(progress.epoch)
            if (
                progress.step == 0
                and progress.best is not None
                and progress.best.epoch == progress.epoch
            ):
                # the run may have ended between the two
                checkpoint.copy(last.path, self._folder.best)
        if progress.epoch < self._config.epochs:
            at = f"resuming {self._folder.path} at epoch {progress.epoch + 1}, step {progress.step}"
        else:
            done = count_of(progress.epoch, "epoch is", "epochs are")
            at = f"resuming {self._folder.path}: all of its {done} done"
        self._ranks.say(at)
        return progress

    def _restore_trainer(self, last: Checkpoint, progress: Progress) -> None:
        state = last.trainer()
        try:
            load_optimizer(self._parts.optimizer, state["optimizer"])
            self._ranks.load_scaler_state(state["scaler"])
            self._restore_generators(state["generators"], progress)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{last.path}/trainer.pt: is not the state of this run ({one_line(error)[:200]}); "
                f"put back the file that training wrote, or {ANOTHER}"
            ) from error

    def _restore_generators(self, states: list[dict[str, Any]], progress: Progress) -> None:
        rank = self._ranks.world.rank
        if rank < len(states):
            restore_generators(states[rank], self._ranks.device)
        else:
            seed_generators(joining_seed(self._config.seed, rank, progress.epoch, progress.step))
