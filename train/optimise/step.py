"""One optimiser step: from a batch to new weights."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from shards.errors import DataError
from shards.pipeline.batch import Batch
from train.config import TrainConfig
from train.optimise.batch_changes import BatchChange
from train.optimise.loss import Loss
from train.optimise.recompute import statistics_kept


class Exchange(Protocol):
    """What a step needs of the ranks (train.run.ranks.Ranks)."""

    @property
    def num_ranks(self) -> int: ...

    def backward(self, loss: Tensor, factor: float) -> None: ...

    def no_sync(self) -> AbstractContextManager[None]: ...

    def clip(self, norm: float) -> None: ...


class Step:
    """Take optimiser steps. A batch's loss is the same on any number of ranks and with any
    `accumulate`.

    Batch norm is the exception: it normalises what passes through the network at once.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        changes: Sequence[BatchChange],
        config: TrainConfig,
        ranks: Exchange,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._loss = loss
        self._changes = changes
        self._config = config
        self._ranks = ranks

    def __call__(self, batch: Batch, epoch: int, step: int) -> Tensor:
        """Take step `step` of an epoch; return this rank's sums, float64: of losses, and of right
        answers where the loss has them.
        """
        self._optimizer.zero_grad()
        # DDP averages gradients over ranks; the loss is a sum over ranks divided by the global
        # count.
        scale = self._ranks.num_ranks / max(
            1, self._loss.count(batch.num_known, batch.labels.shape[1])
        )
        for change in self._changes:
            batch = change(batch, epoch, step)
        chunks = (
            values.chunk(self._config.accumulate)
            for values in (batch.images, batch.labels, batch.known)
        )
        parts = list(zip(*chunks, strict=True))
        totals: list[Tensor] = []
        for number, (images, labels, known) in enumerate(parts, start=1):
            with self._ranks.no_sync() if number < len(parts) else nullcontext():
                with _one_line_where_batch_norm_fails(len(images)):
                    logits = self._model(images).float()
                loss = self._loss(logits, labels, known)
                with self._backward_once():
                    self._ranks.backward(loss, scale)
            totals.append(self._sums(loss.detach(), logits.detach(), labels, known))
        if self._config.clip_norm:
            self._ranks.clip(self._config.clip_norm)
        self._optimizer.step()
        return totals[0] if len(totals) == 1 else torch.stack(totals).sum(0)

    def _sums(self, loss: Tensor, logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        if not self._loss.has_answers:
            return loss.double()[None]
        return torch.stack([loss, right_answers(logits, labels, known)]).double()

    def _backward_once(self) -> AbstractContextManager[None]:
        return statistics_kept(self._model) if self._config.grad_checkpointing else nullcontext()


@contextmanager
def _one_line_where_batch_norm_fails(num_images: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise DataError(
            f"batch norm cannot normalise {num_images} image by itself: give a greater "
            "--global-batch-size or --size, a smaller --accumulate, or a model without batch norm"
        ) from error


def right_answers(logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Count the samples, known in all classes, whose highest logit is at their label; [B, K] each
    -> float32 [].

    Of a mixed image the label of the greater share counts. Means something where a sample has one
    label.
    """
    right = logits.argmax(1) == labels.argmax(1)
    return (right & (known > 0).all(1)).sum().float()
