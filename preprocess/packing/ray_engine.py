"""Pack shards on a Ray cluster that shares a file system: one task a shard, or a piece of few shards.

Ray is imported here alone, and this module only where `--engine ray` asks for it.
"""

import importlib
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any, TypeVar

from preprocess.packing.folder_state import FinishedShard
from preprocess.packing.local_engine import LocalEngine
from preprocess.packing.packing_plan import PackTask
from preprocess.packing.shard_file import PackSettings, pack_shard_once
from shards.errors import DataError, one_line

RETRIES = 5  # of a task whose process or node has died: it makes the same bytes again
TASKS_PER_CPU = 2
STORE_BYTES = 256 << 20  # of a local cluster's object store: results are rows, not images
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

T = TypeVar("T")
R = TypeVar("R")


class RayEngine:
    """Shards by the tasks of a Ray cluster, which this process drives."""

    def __init__(self, address: str, workers: int) -> None:
        """Connect to the cluster at `address`; "": start one of `workers` processes here."""
        self._ray = _import_ray()
        here = {"num_cpus": workers, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        try:
            self._ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": {"PYTHONPATH": path}},
                **({} if address else here),
            )
        except Exception as error:  # its own, of gRPC, of the system
            where = f"--address {address}" if address else "a cluster on this machine"
            raise DataError(
                f"--engine ray: {where} cannot be used ({one_line(error):.300}); start one with "
                "`ray start --head` and give its --address, or use --engine local; where it said "
                "that token authentication is enabled, set RAY_AUTH_MODE=token"
            ) from error

    def pack(
        self, settings: PackSettings, tasks: Iterable[PackTask], advance: Callable[[int], None]
    ) -> Iterator[FinishedShard]:
        """Yield shards as they are finished. `advance` is called with numbers of images done.

        Fewer shards than CPUs: pieces go to the cluster, and this process concatenates them.
        """
        settings = replace(settings, root=settings.root.absolute())
        tasks = iter(tasks)
        first = list(islice(tasks, self._num_cpus()))
        if len(first) < self._num_cpus():
            yield from LocalEngine(self).pack(settings, first, advance)
            return
        remote = self._remote(pack_shard_once)
        shared = self._ray.put(settings)
        pending: dict[Any, int] = {}
        for task in chain(first, tasks):
            pending[remote.remote(shared, task)] = len(task.records)
            while len(pending) >= TASKS_PER_CPU * self._num_cpus():
                yield self._next(pending, advance)
        while pending:
            yield self._next(pending, advance)

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Generator[R, None, None]:
        """Call a function of a module with each task; results in order, as a `Pool` does."""
        remote = self._remote(function)
        waiting: deque[Any] = deque()
        for task in tasks:
            waiting.append(remote.remote(task))
            if len(waiting) >= TASKS_PER_CPU * self._num_cpus():
                yield self._get(waiting.popleft())
        while waiting:
            yield self._get(waiting.popleft())

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()

    def _next(self, pending: dict[Any, int], advance: Callable[[int], None]) -> FinishedShard:
        (done,), _ = self._ray.wait(list(pending), num_returns=1)
        shard = self._get(done)
        advance(pending.pop(done))
        return shard

    def _get(self, reference: Any) -> Any:
        """Return a task's result, or raise what it raised. Raises DataError where it was killed."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            raise DataError(
                f"a packing task was lost {RETRIES + 1} times, perhaps for lack of memory "
                f"({type(error).__name__}); what is finished is kept: run the same command again, "
                "with fewer CPUs a node if memory is short"
            ) from error

    def _remote(self, function: Callable[..., Any]) -> Any:
        return self._ray.remote(num_cpus=1, max_retries=RETRIES)(function)

    def _num_cpus(self) -> int:
        """Count the CPUs of the nodes that are there now."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))


def _import_ray() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise DataError(
            f"--engine ray needs Ray ({one_line(error)}): pip install 'tarmac-vision[ray]'"
        ) from None
