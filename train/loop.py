"""The training run: setup in order, then one loop over epochs, and in `train_epoch` one over
batches.
"""

import dataclasses
import math
from typing import Any

from eval.prediction.evaluate import Forward, predict_own
from shards.commandline import folder
from shards.errors import count_of
from train.config import TrainConfig
from train.data import open_loaders
from train.network.compiling import (
    compile_for_training,
    compiled_for_validation,
    one_line_where_compiling_fails,
)
from train.network.freezing import check_frozen, freeze_layers
from train.network.memory_format import choose_format
from train.network.model import build_classifier, head_parameters
from train.network.recomputing import recompute_activations
from train.network.sync_batch_norm import sync_batch_norms
from train.optimise.batch_changes import batch_changes
from train.optimise.ema import Average
from train.optimise.loss import build_loss
from train.optimise.optim import build_optimizer
from train.optimise.schedule import lr_factor, set_lr
from train.optimise.step import Step
from train.run import checkpoint
from train.run.device_settings import set_up_device
from train.run.feed import Feed
from train.run.folder import RunFolder
from train.run.launch import one_line_where_memory_ends
from train.run.meter import Glance, RunningSums, epoch_line, forget_peak_memory
from train.run.precision import slow_line
from train.run.progress import LOSS, Progress, better, check_finite, judged, metric_name
from train.run.ranks import join_for_training, settle_precision
from train.run.saving import Parts, Saving
from train.run.shared_folder import check_shared
from train.run.state import seed_generators
from train.run.stop import Ending, Stop, ending_agreed, stop_agreed, stop_on_signals
from train.run.validation import METRICS, has_metric, measure_validation
from train.run.variables import numeric_variables, shown

SMALLER = "give a smaller --global-batch-size or --size, a greater --accumulate or --precision bf16"


def train(config: TrainConfig) -> Ending:
    """Train a model; return how it ended, false if it was asked to stop before the end. The ranks
    stay joined.
    """
    with one_line_where_memory_ends(SMALLER), one_line_where_compiling_fails(config.compile):
        session = Session(config)
        config = session.config
        ranks = session.ranks
        num_steps = len(session.train_loader)
        progress = session.begin()
        stopped = ""
        ending = Ending.FINISHED
        try:
            ranks.start_logs()
            with stop_on_signals() as stop:
                for epoch in range(progress.epoch, config.epochs):
                    progress, cost = session.train_epoch(progress, stop)
                    if progress.step < num_steps:
                        session.saving.save(progress, {})
                        stopped = f"in epoch {epoch + 1} after step {progress.step} of {num_steps}"
                        break
                    progress = session.finish_epoch(progress, cost)
                    if progress.epoch < config.epochs and stop_agreed(
                        ranks, stop.asked, num_steps, num_steps
                    ):
                        stopped = f"after epoch {epoch + 1}"
                        break
                session.saving.finish()
                if stopped:
                    ending = ending_agreed(ranks, stop)
                    ranks.say(f"stopped {stopped}; go on with the same command and --resume")
        finally:
            ranks.finish_logs()
            session.saving.close()
            session.folder.unlock()
        if ending and progress.best is not None:
            ranks.say(f"best: {progress.best}, {config.out}/best")
        return ending


class Session:
    """A run's pieces, made once: ranks, data, model, optimiser, folder. `train` drives it."""

    def __init__(self, config: TrainConfig) -> None:
        self.folder = RunFolder(folder(config.out))
        check_shared(self.folder.path)  # ranks that see different folders would wait for each other
        self.resuming = config.resume and checkpoint.exists(self.folder.last)
        kept = checkpoint.read(self.folder.last).config if self.resuming else None
        config = config.with_order_of(kept and kept.with_known_order())
        config, self.why_precision = settle_precision(config, kept)
        self.ranks = join_for_training(config)
        self.device = self.ranks.device
        set_up_device(self.device, config.tf32)
        forget_peak_memory(self.device)
        self.train_loader, self.val_loader = open_loaders(config, self.ranks.world, self.device)
        config = dataclasses.replace(config, order=self.train_loader.plan.name)
        self.config = config
        self.train_index = self.train_loader.index
        self.val_index = self.val_loader.index
        self.metric = METRICS[self.train_index.task]
        self.loss = build_loss(config, self.train_index, self.device)
        self.train_loader.warm_up()
        seed_generators(config.seed)  # the same initial weights on every rank
        # What is resumed brings its weights: those it once started from may be gone.
        self.classifier, report = build_classifier(config, self.train_index, empty=self.resuming)
        if report is not None:
            self.ranks.say(f"{config.weights}: {report}")
        network = self.classifier.network
        if config.freeze_layers:
            freeze_layers(network, config.model, config.freeze_layers)
            if not self.resuming:
                check_frozen(network, config, report, self.classifier.num_channels)
        if config.grad_checkpointing:
            recompute_activations(network, config.model)
        if config.sync_bn:
            self.classifier.network = sync_batch_norms(network, config.model, self.device)
        order = choose_format(config.memory_format, self.device, config.precision)
        self.classifier.place(self.device, order)
        self.ema = Average(self.classifier, config.ema_decay) if config.ema_decay else None
        averaged = self.classifier if self.ema is None else self.ema.module
        self.forward: Forward = averaged
        if config.compile:
            compile_for_training(self.classifier, self.device)
            self.forward = compiled_for_validation(averaged)
        optimizer = build_optimizer(
            self.classifier, head_parameters(self.classifier.network), config
        )
        set_lr(optimizer, 1.0)
        self.model, self.optimizer = self.ranks.prepare(self.classifier, optimizer)
        changes = batch_changes(config, self.train_loader)
        self.step = Step(self.model, self.optimizer, self.loss, changes, config, self.ranks)
        self.saving = Saving(config, self.folder, self.ranks, self._parts())
        seed_generators(config.seed + self.ranks.world.rank)  # different dropout on every rank

    def begin(self) -> Progress:
        """Start a new run folder, or go on from its last checkpoint; say what is trained."""
        progress = self.saving.begin(self.resuming)
        self.ranks.say(self._first_line())
        if self.ranks.is_first and (warning := slow_line(self.config.precision, self.device)):
            self.ranks.say(warning)
        return progress

    def train_epoch(self, progress: Progress, stop: Stop) -> tuple[Progress, dict[str, float]]:
        """Train to the end of the epoch, or until asked to stop; return how far it came and what it
        cost.
        """
        config = self.config
        num_steps = len(self.train_loader)
        validates = config.validates_after(progress.epoch)
        self.train_loader.then(self.val_loader if validates else self.train_loader)
        step = progress.step
        first_of_epoch = progress.epoch * num_steps
        self.model.train()
        sums = RunningSums(self.device)
        with Feed(
            self.train_loader,
            self.ranks,
            self.folder,
            f"epoch {progress.epoch + 1}/{config.epochs}{self._size_shown(progress.epoch)}",
            first_step=step,
            loss=Glance(sums, self.ranks.num_ranks),
        ) as batches:
            for batch in batches:
                set_lr(self.optimizer, lr_factor(config, first_of_epoch + step, num_steps))
                count = self.loss.count(batch.num_known, self.train_index.num_classes)
                sums.add(self.step(batch, progress.epoch, step), count)
                if self.ema is not None:
                    self.ema.update(first_of_epoch + step)
                step += 1
                if stop_agreed(self.ranks, stop.asked, step, num_steps):
                    break
                if (
                    config.save_every_steps
                    and step % config.save_every_steps == 0
                    and step < num_steps
                ):
                    self.saving.save(self._advanced(progress, step, sums), {})
            num_images = min(step * config.global_batch_size, self.train_index.num_samples)
            cost = batches.cost(num_images - progress.step * config.global_batch_size)
        return self._advanced(progress, step, sums), cost

    def validate(self) -> dict[str, float]:
        """Validate with the averaged weights, where there are any."""
        model = self.classifier if self.ema is None else self.ema.module
        model.eval()
        # running statistics of batch norms are each rank's own
        self.ranks.copy_first(list(model.buffers()))
        with (
            Feed(self.val_loader, self.ranks, self.folder, "validate") as batches,
            self.ranks.autocast(),
        ):
            own = predict_own(self.forward, batches, self.val_index.task)
        return measure_validation(own, self.loss, self.val_index.num_samples, self.ranks.sum)

    def finish_epoch(self, progress: Progress, cost: dict[str, float]) -> Progress:
        """Validate if it is this epoch's turn, record and save; return where the next one starts."""
        validates = self.config.validates_after(progress.epoch)
        metrics = {
            "epoch": progress.epoch + 1,
            "size": self.config.size_at(progress.epoch),
            **progress.means(self.train_index.task),
            **(self._validated(progress.epoch) if validates else {}),
            "lr": max(group["lr"] for group in self.optimizer.param_groups),
            **cost,
        }
        best = better(progress.best, judged(metrics, self.metric)) if validates else progress.best
        is_best = best != progress.best
        done = Progress(epoch=progress.epoch + 1, best=best)
        if self.ranks.is_first:
            self.folder.append_metrics(metrics)
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        self.ranks.log(numbers, epoch=progress.epoch + 1)
        self.saving.save(done, metrics)
        if is_best:
            self.saving.keep_best()
        shown = self._size_shown(progress.epoch)
        self.ranks.say(epoch_line(metrics, self.metric, self.config.epochs, is_best, shown))
        self.train_loader.set_epoch(done.epoch)
        return done

    def _validated(self, epoch: int) -> dict[str, Any]:
        """Validate after an epoch: its numbers as metrics.jsonl has them, and what judges it."""
        is_last = epoch + 1 >= self.config.epochs
        self.val_loader.then(None if is_last else self.train_loader)
        validated = self.validate()
        # Where the last steps diverged, `last` stays as it was before.
        check_finite(epoch + 1, "validation loss", validated["val_loss"])
        return {
            **{name: value if math.isfinite(value) else None for name, value in validated.items()},
            "best_by": self.metric if math.isfinite(validated[self.metric]) else LOSS,
        }

    def _parts(self) -> Parts:
        return Parts(
            network=self.classifier.network,
            averaged=None if self.ema is None else self.ema.module.network,
            mean=tuple((self.classifier.mean / 255).flatten().tolist()),
            std=tuple((self.classifier.std / 255).flatten().tolist()),
            optimizer=self.optimizer,
            loader=self.train_loader,
            val_index=self.val_index,
        )

    def _size_shown(self, epoch: int) -> str:
        """Say the size of an epoch where it is not that of all."""
        return f", {self.config.size_at(epoch)} px" if isinstance(self.config.size, str) else ""

    def _first_line(self) -> str:
        """Say what is trained, on what, and how its numbers are computed."""
        num_ranks = self.ranks.num_ranks
        why = self.why_precision
        where = f"{count_of(num_ranks, 'process')}, {self.device.type}"
        precision = f"precision {self.config.precision}{f' ({why})' if why else ''}"
        without = (
            ""
            if has_metric(self.val_index)
            else f", best by val loss (no {metric_name(self.metric)}: no positives)"
        )
        facts = [where, precision, self._threads(), *shown(numeric_variables())]
        return f"{self.config.model} on {', '.join(facts)}{without}"

    def _threads(self) -> str:
        num = self.train_loader.num_threads
        each = " per process" if self.ranks.num_ranks > 1 else ""
        return f"{count_of(num, 'loader thread')}{each}"

    def _advanced(self, progress: Progress, step: int, sums: RunningSums) -> Progress:
        loss_sum, num_right = self.ranks.sum(sums.sums.clone()).tolist()
        return progress.advanced(step, (loss_sum, num_right), sums.count)
