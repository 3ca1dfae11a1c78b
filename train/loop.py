"""The training run: setup in order, then one loop over epochs. With ranks.py the only room that knows accelerate."""

import math
import os
from functools import partial
from typing import Any

import torch
from accelerate.utils import broadcast, gather_object, set_seed
from timm.utils import ModelEmaV3
from tqdm import tqdm

from eval.prediction.evaluate import predict_own
from shards.commandline import folder
from shards.identity import identity
from shards.sampler import World
from train.config import TrainConfig
from train.data import open_loaders
from train.network.memory_format import choose_format
from train.network.model import build_classifier, head_parameters
from train.optimise.loss import build_loss
from train.optimise.mix import Mix
from train.optimise.optim import build_optimizer, lr_factor, set_lr
from train.optimise.step import Hands, Step
from train.run import checkpoint
from train.run.checkpoint import Meta, check_continues, check_fits, check_same_data
from train.run.folder import RunFolder
from train.run.launch import check_world, one_line_where_memory_ends
from train.run.meter import Meter, RunningSums, epoch_line, forget_peak_memory, with_bar
from train.run.precision import slow_line
from train.run.progress import LOSS, Progress, better, check_finite, check_weights, judged, metric_name
from train.run.ranks import leave_ranks, open_accelerator, settle_precision
from train.run.skip_agreement import Skips
from train.run.state import generator_states, joining_seed, restore_generators
from train.run.stop import Stop, stop_on_signals
from train.run.validation import METRICS, has_metric, measure_validation
from train.run.variables import numeric_variables, shown

STOP_CHECK_STEPS_ON_CUDA = 10  # ranks agree on stopping by a reduction, which costs a synchronisation there


class Session:
    """A run's pieces, made once: data, model, optimiser, folder. `train` drives it."""

    def __init__(self, config: TrainConfig) -> None:
        self.folder = RunFolder(folder(config.out))
        self.resuming = config.resume and checkpoint.exists(self.folder.last)
        kept = checkpoint.read(self.folder.last).config if self.resuming else None
        config, self.why_precision = settle_precision(config, kept)
        self.config = config
        self.accelerator = open_accelerator(config)
        check_world(self.accelerator.num_processes)
        self.device = self.accelerator.device
        forget_peak_memory(self.device)
        num_local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as torchrun and accelerate tell
        self.world = World(self.accelerator.process_index, self.accelerator.num_processes, num_local)
        self.train_loader, self.val_loader = open_loaders(config, self.world, self.device)
        self.train_index, self.val_index = self.train_loader.index, self.val_loader.index
        self.data = {index.split: identity(index) for index in (self.train_index, self.val_index)}
        self.metric = METRICS[self.train_index.task]
        self.loss = build_loss(config, self.train_index, self.device)
        self.train_loader.warm_up()
        set_seed(config.seed)  # the same initial weights on every rank
        # What is resumed brings its weights: those it once started from may be gone.
        self.classifier, report = build_classifier(config, self.train_index, empty=self.resuming)
        if report is not None:
            self.say(f"{config.weights}: {report}")
        order = choose_format(config.memory_format, self.device, config.precision)
        self.classifier.place(self.device, order)  # before it is copied: timm averages at once on one device alone
        self.ema = ModelEmaV3(self.classifier, config.ema_decay, use_warmup=True) if config.ema_decay else None
        optimizer = build_optimizer(self.classifier, head_parameters(self.classifier.network), config)
        set_lr(optimizer, 1.0)
        self.model, self.optimizer = self.accelerator.prepare(self.classifier, optimizer)
        hands = Hands(
            backward=self.accelerator.backward,
            no_sync=partial(self.accelerator.no_sync, self.model),
            clip=lambda norm: self.accelerator.clip_grad_norm_(self.model.parameters(), norm),
        )
        mix = Mix(config, self.train_loader.plan) if config.mixup or config.cutmix else None
        self.step = Step(self.model, self.optimizer, self.loss, mix, config, self.world.num_ranks, hands)
        self.skips = Skips(config, self.folder, self.device, self.accelerator.reduce, gather_object, self.say)
        set_seed(config.seed + self.world.rank)  # different dropout on every rank

    def say(self, line: str) -> None:
        """Print one line, from the first rank alone, above a progress bar if there is one."""
        if self.accelerator.is_main_process:
            tqdm.write(line)

    def first_line(self) -> str:
        """Say what is trained, on what, and how its numbers are computed."""
        ranks, why = self.world.num_ranks, self.why_precision
        where = f"{ranks} process{'es' if ranks > 1 else ''}, {self.device.type}"
        precision = f"precision {self.config.precision}{f' ({why})' if why else ''}"
        without = (
            "" if has_metric(self.val_index) else f", best by val loss (no {metric_name(self.metric)}: no positives)"
        )
        facts = [where, precision, *shown(numeric_variables())]
        return f"{self.config.model} on {', '.join(facts)}{without}"

    # -- where the run starts ------------------------------------------------------------------------------------

    def begin(self) -> Progress:
        """Start a new run folder, or go on from its last checkpoint."""
        self.accelerator.wait_for_everyone()  # all have looked before the first rank changes anything
        if self.resuming:
            return self._restore()
        if self.accelerator.is_main_process:
            if self.config.resume:
                self.say(f"nothing to resume in {self.folder.path}: starting")
            aside = self.folder.begin(self.config.to_yaml(), self.config.resume)
            if aside is not None:
                self.say(f"{self.folder.path} held another run: moved to {aside}")
        self.accelerator.wait_for_everyone()
        return Progress()

    def _restore(self) -> Progress:
        if self.accelerator.is_main_process:
            self.folder.lock()
        last = checkpoint.read(self.folder.last)
        check_continues(last.path, last.config, self.config)
        check_fits(last, self.train_index, self.classifier.num_channels)
        for line in check_same_data(last, self.data, self.config.data):
            self.say(line)
        self.classifier.network.load_state_dict(last.weights())
        if self.ema is not None:
            self.ema.module.network.load_state_dict(last.weights(averaged=True))
        state = last.trainer()
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        progress = last.meta.progress
        if self.world.rank < len(state["generators"]):
            restore_generators(state["generators"][self.world.rank], self.device)
        else:
            set_seed(joining_seed(self.config.seed, self.world.rank, progress.epoch, progress.step))
        self.train_loader.load_state_dict(last.meta.loader)
        if self.accelerator.is_main_process:
            self.folder.forget_metrics_after(progress.epoch)
            if progress.step == 0 and progress.best is not None and progress.best.epoch == progress.epoch:
                checkpoint.copy(last.path, self.folder.best)  # the run may have ended between the two
        self.say(f"resuming {self.folder.path} at epoch {progress.epoch + 1}, step {progress.step}")
        return progress

    # -- one epoch -----------------------------------------------------------------------------------------------

    def train_epoch(self, progress: Progress, stop: Stop) -> tuple[Progress, dict[str, float]]:
        """Train to the end of the epoch, or until asked to stop: the loader and `progress` tell how far it came."""
        epoch, steps = progress.epoch, len(self.train_loader)
        self.model.train()
        sums, meter, first_step, step = RunningSums(self.device), Meter(), progress.step, progress.step
        batches = meter.watch(self.skips.agreed(self.train_loader))
        bar = self._bar(f"epoch {epoch + 1}/{self.config.epochs}", steps, first_step)
        for batch in with_bar(batches, bar, lambda: sums.mean_loss(self.world.num_ranks)):
            set_lr(self.optimizer, lr_factor(self.config, epoch * steps + step, steps))
            sums.add(self.step(batch, epoch, step), self.loss.count(batch.num_known, self.train_index.num_classes))
            if self.ema is not None:
                self.ema.update(self.classifier, step=epoch * steps + step)
            step += 1
            if self._stop_agreed(stop, step):
                break
            if self.config.save_every_steps and step % self.config.save_every_steps == 0 and step < steps:
                self.save(self._advanced(progress, step, sums), {})
        num_images = min(step * self.config.global_batch_size, self.train_index.num_samples)
        num_images -= first_step * self.config.global_batch_size
        return self._advanced(progress, step, sums), meter.summary(num_images, self.device)

    def _bar(self, description: str, total: int, initial: int = 0) -> tqdm:
        disable = None if self.accelerator.is_main_process else True  # None: quiet where there is no terminal
        return tqdm(total=total, initial=initial, desc=description, unit="step", leave=False, disable=disable)

    def _advanced(self, progress: Progress, step: int, sums: RunningSums) -> Progress:
        loss_sum, num_right = self.accelerator.reduce(sums.sums.clone()).tolist()
        return progress.advanced(step, (loss_sum, num_right), sums.count)

    def _stop_agreed(self, stop: Stop, step: int) -> bool:
        if self.world.num_ranks == 1:
            return stop.asked
        if self.device.type == "cuda" and step % STOP_CHECK_STEPS_ON_CUDA and step < len(self.train_loader):
            return False
        return bool(self.accelerator.reduce(torch.tensor(float(stop.asked), device=self.device)))

    def validate(self) -> dict[str, float]:
        """Validate with the averaged weights, where there are any."""
        model = self.classifier if self.ema is None else self.ema.module
        model.eval()
        broadcast(list(model.buffers()))  # running statistics of batch norms are each rank's own: take the first's
        batches = with_bar(self.skips.agreed(self.val_loader), self._bar("validate", len(self.val_loader)))
        with self.accelerator.autocast():
            own = predict_own(model, batches, self.val_index.task)
        return measure_validation(own, self.loss, self.val_index.num_samples, self.accelerator.reduce)

    def run(self, progress: Progress) -> Progress:
        """Train to the last epoch, or until asked to stop; return how far it came."""
        with stop_on_signals() as stop:
            while progress.epoch < self.config.epochs:
                progress, cost = self.train_epoch(progress, stop)
                if progress.step < len(self.train_loader):
                    self.save(progress, {})
                    where = f"epoch {progress.epoch + 1} after step {progress.step} of {len(self.train_loader)}"
                    self.say(f"stopped in {where}; go on with the same command and --resume")
                    break
                progress = self.finish_epoch(progress, cost)
                self.train_loader.set_epoch(progress.epoch)
                if progress.epoch < self.config.epochs and self._stop_agreed(stop, len(self.train_loader)):
                    self.say(f"stopped after epoch {progress.epoch}; go on with the same command and --resume")
                    break
        return progress

    # -- records -------------------------------------------------------------------------------------------------

    def save(self, progress: Progress, metrics: dict[str, Any]) -> None:
        """Write `last`; every rank takes part. A diverged run leaves the one before it."""
        check_finite(progress.epoch + 1, "loss", progress.loss_sum)
        check_weights(progress.epoch + 1, self.classifier.network.state_dict())
        generators = gather_object([generator_states(self.device)])
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            checkpoint.save(
                self.folder.last,
                self.config,
                Meta(
                    class_names=self.train_index.class_names,
                    task=self.train_index.task,
                    mean=tuple((self.classifier.mean / 255).flatten().tolist()),
                    std=tuple((self.classifier.std / 255).flatten().tolist()),
                    progress=progress,
                    loader=self.train_loader.state_dict() | {"epoch": progress.epoch, "step": progress.step},
                    metrics=metrics,
                    bands=tuple(self.train_index.settings.get("bands", ())),
                    data=self.data,
                ),
                self.classifier.network.state_dict(),
                None if self.ema is None else self.ema.module.network.state_dict(),
                {
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": None if scaler is None else scaler.state_dict(),
                    "generators": generators,
                },
            )
        self.accelerator.wait_for_everyone()

    def finish_epoch(self, progress: Progress, cost: dict[str, float]) -> Progress:
        """Validate, record and save; return where the next epoch starts."""
        trained = progress.means(self.train_index.task)
        validated = self.validate()
        # Where the last steps diverged, `last` stays as it was before.
        check_finite(progress.epoch + 1, "validation loss", validated["val_loss"])
        metrics = {
            "epoch": progress.epoch + 1,
            **trained,
            **{name: value if math.isfinite(value) else None for name, value in validated.items()},
            "best_by": self.metric if math.isfinite(validated[self.metric]) else LOSS,
            "lr": max(group["lr"] for group in self.optimizer.param_groups),
            **cost,
        }
        best = better(progress.best, judged(metrics, self.metric))
        is_best = best != progress.best
        done = Progress(epoch=progress.epoch + 1, best=best)
        if self.accelerator.is_main_process:
            self.folder.append_metrics(metrics)
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        self.accelerator.log(numbers, step=progress.epoch + 1)
        self.save(done, metrics)
        if is_best and self.accelerator.is_main_process:
            checkpoint.copy(self.folder.last, self.folder.best)
        self.say(epoch_line(metrics, self.metric, self.config.epochs, is_best))
        return done


def train(config: TrainConfig) -> bool:
    """Train a model; return False if it was asked to stop before the end."""
    finished = train_one(config)
    leave_ranks()
    return finished


def train_one(config: TrainConfig) -> bool:
    """Train as `train` does, and leave the ranks together: another run can follow."""
    smaller = "give a smaller --global-batch-size or --size, a greater --accumulate or --precision bf16"
    with one_line_where_memory_ends(smaller):
        return _train(Session(config))


def _train(session: Session) -> bool:
    config = session.config
    progress = session.begin()
    session.say(session.first_line())
    if session.accelerator.is_main_process and (warning := slow_line(config.precision, session.device)):
        session.say(warning)
    if config.tensorboard:
        session.accelerator.init_trackers("tensorboard")
    try:
        progress = session.run(progress)
    finally:
        for tracker in session.accelerator.trackers:
            tracker.finish()
        session.folder.unlock()
    finished = progress.epoch >= config.epochs
    if finished and progress.best is not None:
        session.say(f"best: {progress.best}, {config.out}/best")
    return finished
