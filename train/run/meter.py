"""What an epoch cost: time per step, time spent waiting for data, memory."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import psutil
import torch
from tqdm import tqdm

T = TypeVar("T")
BAR_STEPS = 10


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


class RunningSums:
    """Sum up losses and right answers on the device, where adding waits for nothing.

    `sums` float64 [2] are this rank's; `count`, what they are divided by, is of all ranks.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.count = 0.0

    def add(self, sums: torch.Tensor, count: float) -> None:
        self.sums += sums
        self.count += count

    def mean_loss(self, num_ranks: int) -> float:
        """Estimate the mean over all ranks from this one's share; waits for the device."""
        return float(self.sums[0]) * num_ranks / max(1, self.count)


def with_bar(batches: Iterable[T], bar: tqdm, loss: Callable[[], float] | None = None) -> Iterator[T]:
    """Advance a bar by one with each batch; `loss`, which waits for the device, is asked every BAR_STEPS steps."""
    with bar:
        for batch in batches:
            yield batch
            del batch
            bar.update()
            if loss is not None and not bar.disable and bar.n % BAR_STEPS == 0:
                bar.set_postfix(loss=f"{loss():.4f}", refresh=False)


def peak_memory_mb(device: torch.device) -> float:
    """Tell the peak memory: of the device's allocator on CUDA, resident memory of the process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e6
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def forget_peak_memory(device: torch.device) -> None:
    """Measure the peak anew from here; that of a process, where there is no CUDA, is of its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def epoch_line(metrics: dict[str, Any], metric: str, epochs: int, is_best: bool) -> str:
    """Say on one line what an epoch brought and cost; a star marks the best value so far of what is judged by."""
    value = math.nan if metrics[metric] is None else metrics[metric]
    by_loss = metrics["best_by"] != metric
    star = "*" if is_best else " "
    loss_star, star = (star, "") if by_loss else ("", star)
    return (
        f"epoch {metrics['epoch']:>{len(str(epochs))}}/{epochs}  loss {metrics['train_loss']:.4f}  "
        f"val loss {metrics['val_loss']:.4f}{loss_star}  {metric.removeprefix('val_')} {value:.4f}{star}  "
        f"lr {metrics['lr']:.2g}  {metrics['images_per_second']:.0f} images/s  step {metrics['step_ms']:.0f} ms  "
        f"data wait {metrics['data_wait']:.1%}  memory {metrics['peak_memory_mb']:.0f} MB"
    )
