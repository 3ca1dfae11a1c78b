"""One optimiser step: from a batch to new weights."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from shards.batch import Batch
from train.config import TrainConfig
from train.loss import masked_bce_sum


@dataclass(frozen=True)
class Hands:
    """What a step has done by whoever distributes the run: gradients of a loss, without their exchange, clipped."""

    backward: Callable[[torch.Tensor], None]
    no_sync: Callable[[], AbstractContextManager[None]]
    clip: Callable[[float], None]


class Step:
    """Take optimiser steps. A batch's loss is the same on any number of ranks and with any `accumulate`."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig, num_ranks: int, hands: Hands
    ) -> None:
        self._model, self._optimizer, self._config, self._hands = model, optimizer, config, hands
        self._num_ranks = num_ranks

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Take one step; return this rank's sum of losses, float64 [] on the device."""
        self._optimizer.zero_grad()
        # DDP averages gradients over ranks; the loss is a sum over ranks divided by the global count.
        scale = self._num_ranks / max(1, batch.num_known)
        chunks = (batch[name].chunk(self._config.accumulate) for name in ("images", "labels", "known"))
        parts = list(zip(*chunks, strict=True))
        total = torch.zeros((), dtype=torch.float64, device=batch.images.device)
        for number, (images, labels, known) in enumerate(parts, start=1):
            with self._hands.no_sync() if number < len(parts) else nullcontext():
                loss = masked_bce_sum(self._model(images).float(), labels, known)
                self._hands.backward(loss * scale)
            total += loss.detach()
        if self._config.clip_norm:
            self._hands.clip(self._config.clip_norm)
        self._optimizer.step()
        return total
