"""Checkpoints on their way to the disk, while training goes on: copied aside at once, written by a
thread.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

State = TypeVar("State")
Job = Callable[[], None]


class CheckpointWriter:
    """Does jobs on a thread, one after the other, and none after one that failed.

    An error of the thread is raised by the next `wait`. Who waits before a state is copied aside
    holds one copy of it at a time.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._jobs: list[Future[None]] = []
        self._has_failed = False

    def start(self, job: Job) -> None:
        """Let the thread do `job` when it has done all before."""
        self._jobs.append(self._thread.submit(self._do, job))

    def wait(self) -> None:
        """Wait until all is done. Raises what a job has raised."""
        jobs = self._jobs
        self._jobs = []
        for job in jobs:
            job.result()

    def close(self) -> None:
        """End the thread when it has done all; raises nothing."""
        self._thread.shutdown()

    def _do(self, job: Job) -> None:
        if self._has_failed:  # such as a copy of the checkpoint that could not be written
            return
        try:
            job()
        except BaseException:
            self._has_failed = True
            raise


def copied_aside(state: State, device: torch.device) -> tuple[State, Job]:
    """Copy all tensors of a nested state to the host, and return what waits until they are there.

    From CUDA they go to pinned memory, which torch keeps for the next time: the host waits for
    nothing, and what training writes next comes after them.
    """
    copy: Any = tree_map(_aside, state)
    if device.type != "cuda":
        return copy, lambda: None
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(device))
    return copy, arrived.synchronize


def _aside(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    if value.device.type != "cuda":
        return value.to("cpu", copy=True)
    aside = torch.empty_strided(
        value.size(), value.stride(), dtype=value.dtype, layout=value.layout, pin_memory=True
    )
    return aside.copy_(value, non_blocking=True)
