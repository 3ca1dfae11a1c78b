"""The batches of one pass over a split, as the loop meets them: on the device, timed, agreed on,
counted on a bar.
"""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import torch
from tqdm import tqdm

from shards.loader import Loader
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice
from train.run.folder import RunFolder
from train.run.meter import peak_memory_mb
from train.run.ranks import Ranks
from train.run.skip_agreement import SkipAgreement

BAR_STEPS = 10  # between two looks at the loss


class Feed(Iterator[Batch]):
    """Owns a batch from the loader to the loop: `with Feed(...) as batches: for batch in batches:
    ...`.

    A batch is copied to the device while the one before it is used, its skipped samples are agreed
    on by all ranks, and the time until it is there is measured. Nothing here keeps a batch that was
    handed out, so its buffer is free for the loader as soon as the loop takes the next one. Leaving
    the context ends the loader's threads.
    """

    def __init__(
        self,
        loader: Loader,
        ranks: Ranks,
        folder: RunFolder,
        title: str,
        first_step: int = 0,
        loss: Callable[[], float | None] | None = None,
    ) -> None:
        """`title` is the bar's; `loss` is asked every BAR_STEPS steps, and shown there unless it is
        None. It must not wait for the device.
        """
        self._batches: Iterator[Batch] = OnDevice(loader, ranks.device)
        self._skips = SkipAgreement(loader, ranks, folder)
        self._loss = loss
        self._device = ranks.device
        quiet = None if ranks.is_first else True  # None: quiet where there is no terminal
        self._bar = tqdm(
            total=len(loader),
            initial=first_step,
            desc=title,
            unit="step",
            leave=False,
            disable=quiet,
        )
        self._started = time.perf_counter()
        self._waited = 0.0
        self.num_steps = 0

    def __next__(self) -> Batch:
        if self.num_steps:
            self._advance_bar()
        asked = time.perf_counter()
        batch = self._skips.agreed(next(self._batches))
        self._waited += time.perf_counter() - asked
        self.num_steps += 1
        return batch

    def cost(self, num_images: int) -> dict[str, float]:
        """Tell images/s over all ranks, ms per step, the share of waiting and peak memory in MB of
        this rank.
        """
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds = time.perf_counter() - self._started
        return {
            "images_per_second": round(num_images / seconds, 2),
            "step_ms": round(1000 * seconds / max(1, self.num_steps), 2),
            "data_wait": round(self._waited / seconds, 5),
            "peak_memory_mb": round(peak_memory_mb(self._device), 1),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._batches = iter(())
        self._bar.close()

    def _advance_bar(self) -> None:
        self._bar.update()
        if self._loss is None or self._bar.disable or self._bar.n % BAR_STEPS:
            return
        if (loss := self._loss()) is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
