"""The position of a run, its results so far, and when to stop early."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shards.errors import DataError
from shards.index import Task


class Diverged(DataError):
    """A loss is no longer a number: what comes after is worth nothing."""

    def __init__(self, epoch: int, name: str, value: float) -> None:
        super().__init__(f"epoch {epoch}: the {name} is {value}; try a lower --lr or --clip-norm 1")


LOSS = "val_loss"  # what judges an epoch whose validation has no value of the task's metric


@dataclass(frozen=True)
class Best:
    """The best epoch so far, counted from 1 like the lines of metrics.jsonl, and its value of the
    metric that chose it.

    `value` is None in checkpoints of earlier releases, where no epoch had one.
    """

    metric: str
    value: float | None
    epoch: int

    def __str__(self) -> str:
        value = "nan" if self.value is None else f"{self.value:.4f}"
        return f"epoch {self.epoch}, {metric_name(self.metric)} {value}"

    @property
    def rank(self) -> tuple[int, float]:
        """Sort the best first. Values of two metrics never meet: any of the task's metric is before
        any loss.
        """
        if self.value is None:
            return 2, 0.0
        return (1, self.value) if self.metric == LOSS else (0, -self.value)


def judged(metrics: Mapping[str, Any], metric: str) -> Best:
    """Judge an epoch by the task's metric; by its loss where that is not defined, as without a
    positive in val.
    """
    by = metric if metrics[metric] is not None else LOSS
    return Best(by, metrics[by], metrics["epoch"])


def better(best: Best | None, new: Best) -> Best:
    """Choose the better of two epochs; of equal ones the first."""
    return new if best is None or new.rank < best.rank else best


def metric_name(metric: str) -> str:
    """Spell a key of metrics.jsonl as the terminal does."""
    return "val loss" if metric == LOSS else metric.removeprefix("val_")


@dataclass(frozen=True)
class Progress:
    """The position of a run: `epoch` epochs and `step` batches of the next one are done.

    The sums belong to the unfinished epoch: of losses, of what they are divided by, of right
    answers.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: float = 0.0
    num_right: float = 0.0
    best: Best | None = None

    def advanced(self, step: int, sums: tuple[float, float], count: float) -> "Progress":
        """Advance the position by one `step`: add sums of losses and right answers, and what they
        are divided by.
        """
        return dataclasses.replace(
            self,
            step=step,
            loss_sum=self.loss_sum + sums[0],
            loss_count=self.loss_count + count,
            num_right=self.num_right + sums[1],
        )

    def means(self, task: Task) -> dict[str, float]:
        """Return the epoch's `train_loss` and, with one label a sample, `train_accuracy`. Raises
        Diverged.
        """
        count = max(1, self.loss_count)
        check_finite(self.epoch + 1, "loss", self.loss_sum / count)
        accuracy = {"train_accuracy": self.num_right / count} if task == "multiclass" else {}
        return {"train_loss": self.loss_sum / count, **accuracy}


def check_weights(epoch: int, weights: Mapping[str, Tensor]) -> None:
    """Raise Diverged for a weight that is no number: the loss of a step is from before the step.

    A device is waited for once, not for each weight.
    """
    verdicts = torch.stack([value.isfinite().all() for value in weights.values()]).tolist()
    for name, is_finite in zip(weights, verdicts, strict=True):
        if not is_finite:
            raise Diverged(epoch, f"weight {name}", math.nan)


def check_finite(epoch: int, name: str, value: float) -> None:
    """Raise Diverged for a loss that is no number."""
    if not math.isfinite(value):
        raise Diverged(epoch, name, value)
