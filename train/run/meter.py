"""What an epoch comes to and what it costs: sums of losses, peak memory, and its line on the
terminal.
"""

import math
import sys
from typing import Any

import psutil
import torch


class RunningSums:
    """Sum up losses and right answers on the device, where adding waits for nothing.

    `sums` float64 [2] are this rank's; `count`, what they are divided by, is of all ranks.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.count = 0.0

    def add(self, sums: torch.Tensor, count: float) -> None:
        self.sums[: len(sums)] += sums
        self.count += count


class Glance:
    """The mean loss so far, for the bar: copied aside when asked for, read when asked again.

    Reading it at once would wait for every step that the device has yet to do. Estimated over all
    ranks from this one's share. On a CPU it is the present one.
    """

    def __init__(self, sums: RunningSums, num_ranks: int) -> None:
        self._sums = sums
        self._num_ranks = num_ranks
        on_cuda = sums.sums.is_cuda
        self._aside = torch.zeros(2, dtype=torch.float64, pin_memory=on_cuda)
        self._arrived = torch.cuda.Event() if on_cuda else None
        self._count = 0.0

    def __call__(self) -> float | None:
        """Return the loss that was copied last, None where none has arrived yet; copy the next."""
        if self._arrived is None:
            self._copy()
            return self._mean()
        if not self._arrived.query():
            return None
        mean = self._mean() if self._count else None
        self._copy()
        self._arrived.record(torch.cuda.current_stream(self._sums.sums.device))
        return mean

    def _copy(self) -> None:
        self._aside.copy_(self._sums.sums, non_blocking=self._arrived is not None)
        self._count = self._sums.count

    def _mean(self) -> float:
        return float(self._aside[0]) * self._num_ranks / max(1, self._count)


def peak_memory_mb(device: torch.device) -> float:
    """Tell the peak memory: of the device's allocator on CUDA, resident memory of the process
    otherwise.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e6
    import resource  # not on Windows

    # ru_maxrss is in bytes on macOS, in KiB on Linux
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def forget_peak_memory(device: torch.device) -> None:
    """Measure the peak again from here; that of a process, where there is no CUDA, is of its whole
    life.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def epoch_line(
    metrics: dict[str, Any], metric: str, epochs: int, is_best: bool, size_shown: str = ""
) -> str:
    """Say on one line what an epoch brought and cost; a star marks the best value so far of what is
    judged by. `size_shown` is that of an epoch, where they differ.
    """
    return (
        f"epoch {metrics['epoch']:>{len(str(epochs))}}/{epochs}{size_shown}  "
        f"loss {metrics['train_loss']:.4f}  {_validated_shown(metrics, metric, is_best)}"
        f"lr {metrics['lr']:.2g}  {metrics['images_per_second']:.0f} images/s  step "
        f"{metrics['step_ms']:.0f} ms  "
        f"data wait {metrics['data_wait']:.1%}  memory {metrics['peak_memory_mb']:.0f} MB"
    )


def _validated_shown(metrics: dict[str, Any], metric: str, is_best: bool) -> str:
    """Say what validation found; nothing of an epoch that was not validated."""
    if metric not in metrics:
        return ""
    value = math.nan if metrics[metric] is None else metrics[metric]
    by_loss = metrics["best_by"] != metric
    star = "*" if is_best else " "
    loss_star, star = (star, "") if by_loss else ("", star)
    return (
        f"val loss {metrics['val_loss']:.4f}{loss_star}  {metric.removeprefix('val_')} "
        f"{value:.4f}{star}  "
    )
