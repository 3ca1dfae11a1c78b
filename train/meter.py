"""What an epoch cost: time per step, time spent waiting for data, memory."""

import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Meter:
    """Time one epoch. The share of time spent waiting for data says who the bottleneck is."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._num_steps = 0

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Pass batches through, counting steps and the time until each arrives."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - asked
            self._num_steps += 1
            yield batch
            del batch

    def summary(self, num_images: int, device: torch.device) -> dict[str, float]:
        """Tell images/s over all ranks, ms per step, the share of waiting and peak memory in MB of this rank."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - self._started
        return {
            "images_per_second": round(num_images / seconds, 2),
            "step_ms": round(1000 * seconds / max(1, self._num_steps), 2),
            "data_wait": round(self._waited / seconds, 5),
            "peak_memory_mb": round(peak_memory_mb(device), 1),
        }


def peak_memory_mb(device: torch.device) -> float:
    """Tell the peak memory: of the device's allocator on CUDA, resident memory of the process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def epoch_line(metrics: dict[str, Any], epochs: int, is_best: bool) -> str:
    """Say on one line what an epoch brought and cost; a star marks the best mAP so far."""
    mAP = math.nan if metrics["val_mAP"] is None else metrics["val_mAP"]
    return (
        f"epoch {metrics['epoch']:>{len(str(epochs))}}/{epochs}  loss {metrics['train_loss']:.4f}  "
        f"val loss {metrics['val_loss']:.4f}  mAP {mAP:.4f}{'*' if is_best else ' '}  lr {metrics['lr']:.2g}  "
        f"{metrics['images_per_second']:.0f} images/s  step {metrics['step_ms']:.0f} ms  "
        f"data wait {metrics['data_wait']:.1%}  memory {metrics['peak_memory_mb']:.0f} MB"
    )
