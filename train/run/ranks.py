"""The processes that train or evaluate together: what they do as one, by accelerate. No other
module knows it.
"""

import dataclasses
import gc
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    broadcast,
    broadcast_object_list,
    gather_object,
    parse_flag_from_env,
)
from torch import Tensor, nn
from tqdm import tqdm

from shards.errors import DataError
from shards.host.machine import machine_name
from shards.sampler import World
from train.config import TrainConfig
from train.run.host_memory import keep_freed_memory
from train.run.interfaces import choose_interface
from train.run.launch import check_world
from train.run.precision import check_precision, choose_precision
from train.run.variables import check_variables

T = TypeVar("T")


class Ranks:
    """This process among those of a job, each with its device.

    Methods that exchange something (`sum`, `gather`, `sum_on_host`, `gather_list`, `copy_first`,
    `wait`) must be called by every rank in the same order, or the ranks wait for each other for
    good. On one rank they cost nothing.
    """

    def __init__(
        self, precision: str, remedy: str, accumulate: int | None = None, log_into: str = ""
    ) -> None:
        """Join the other ranks, to compute in `precision`; `log_into` is a folder for TensorBoard.

        `accumulate` is None where nothing is trained. Raises DataError, which ends with `remedy`,
        where the precision does not work here, or one that says what else the launcher asks for.
        """
        check_variables(precision, accumulate)
        choose_interface()
        self._accelerator = _open(precision, remedy, log_into)
        self._model: nn.Module | None = None
        self._logs = bool(log_into)
        self.device: torch.device = self._accelerator.device
        keep_freed_memory(self.device)
        self.is_first: bool = self._accelerator.is_main_process
        check_precision(precision, self.device, remedy)
        check_world(self._accelerator.num_processes)
        rank = self._accelerator.process_index
        self.world = World(rank, self._accelerator.num_processes)
        self._hosts = _group_of_hosts(self.num_ranks)
        self.world = World.on_machines(rank, self.gather_list([machine_name()]))

    @property
    def num_ranks(self) -> int:
        return self.world.num_ranks

    def say(self, line: str) -> None:
        """Print one line, from the first rank only, above a progress bar if there is one."""
        if self.is_first:
            tqdm.write(line)

    # -- training
    # ----------------------------------------------------------------------------------------------

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap a model and its optimiser: gradients are averaged over ranks, in the run's
        precision.
        """
        with warnings.catch_warnings():
            # torch 2.14 names the option otherwise, accelerate 1.15 does not know that name
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
            self._model, optimizer = self._accelerator.prepare(model, optimizer)
        return self._model, optimizer

    def backward(self, loss: Tensor, factor: float = 1.0) -> None:
        """Compute the gradients of `factor` times the loss; they are averaged over ranks, except
        under `no_sync`.

        Not by accelerate, which divides by its number of accumulated batches, here 1; and the
        factor is where the backward pass begins: both would be launches of their own, there and
        back.
        """
        scaler = self._accelerator.scaler
        scaled = loss if scaler is None else scaler.scale(loss)
        scaled.backward(torch.full_like(scaled, factor))

    def no_sync(self) -> AbstractContextManager[None]:
        """Leave out the exchange of gradients: for all but the last part of a batch."""
        return self._accelerator.no_sync(self._model)

    def clip(self, norm: float) -> None:
        """Scale the gradients down to a norm of at most `norm`."""
        assert self._model is not None
        self._accelerator.clip_grad_norm_(self._model.parameters(), norm)

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in the run's precision."""
        return self._accelerator.autocast()

    def scaler_state(self) -> dict[str, Any] | None:
        """Return the state of fp16's loss scaler, None in another precision."""
        scaler = self._accelerator.scaler
        return None if scaler is None else scaler.state_dict()

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Restore what `scaler_state` returned."""
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state)

    # -- exchange
    # ----------------------------------------------------------------------------------------------

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over ranks."""
        return self._accelerator.reduce(values)

    def gather(self, values: Tensor) -> Tensor:
        """Concatenate tensors of equal shape from all ranks, along dimension 0."""
        return self._accelerator.gather(values)

    def sum_on_host(self, values: Sequence[int]) -> list[int]:
        """Sum whole numbers over ranks, from host to host: no device is waited for."""
        total = torch.tensor([int(value) for value in values])
        if self.num_ranks > 1:
            torch.distributed.all_reduce(total, group=self._hosts)
        return total.tolist()

    def gather_list(self, values: list[T]) -> Sequence[T]:
        """Put the lists of all ranks together, from host to host."""
        lists = [values] * self.num_ranks
        if self.num_ranks > 1:
            torch.distributed.all_gather_object(lists, values, group=self._hosts)
        return list(itertools.chain.from_iterable(lists))

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Give the first rank's values to all, in place."""
        broadcast(list(tensors))

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self._accelerator.wait_for_everyone()

    # -- TensorBoard, and the end
    # --------------------------------------------------------------------------------

    def start_logs(self) -> None:
        """Open TensorBoard's files, if they were asked for."""
        if self._logs:
            self._accelerator.init_trackers("tensorboard")

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Record numbers for TensorBoard."""
        self._accelerator.log(dict(values), step=epoch)

    def finish_logs(self) -> None:
        """Close TensorBoard's files; another run of this process may follow."""
        for tracker in self._accelerator.trackers:
            tracker.finish()

    def free_memory(self) -> None:
        """Free what a run that has ended left behind."""
        gc.collect()  # the parts of a run know each other in circles
        self._accelerator.free_memory()


def leave_ranks() -> None:
    """Leave the other ranks; no run can follow in this process. A second call does nothing.

    The parts of a run know each other in circles, and the process group with them: its threads
    would still be there when the interpreter ends, and abort the process where one of them runs
    just then.
    """
    gc.collect()
    PartialState().destroy_process_group()


def join_for_training(config: TrainConfig) -> Ranks:
    """Join the other ranks as a run's configuration says. Raises DataError."""
    resumed = "resume where there is one, or give another --out"
    remedy = resumed if config.resume else "try --precision auto"
    return Ranks(
        config.precision, remedy, config.accumulate, config.out if config.tensorboard else ""
    )


def settle_precision(
    config: TrainConfig, kept: TrainConfig | None = None
) -> tuple[TrainConfig, str]:
    """Replace the precision auto by one, the same on all ranks; return why, empty where it was
    given.

    What is resumed keeps that of its configuration, `kept`. Otherwise the first rank chooses: the
    machines of one job may differ.
    """
    if config.precision != "auto":
        return config, ""
    if kept is not None and kept.precision != "auto":
        return dataclasses.replace(config, precision=kept.precision), "as before"
    first = chosen_by_first(choose_precision)
    return dataclasses.replace(config, precision=first.precision), f"auto: {first.why}"


def chosen_by_first(choose: Callable[[torch.device], T]) -> T:
    """Let the first rank choose for all. Joins the ranks as `Ranks` does, but before its precision
    is known.
    """
    state = _joined()
    (choice,) = broadcast_object_list([choose(state.device) if state.is_main_process else None])
    chosen: T = choice
    return chosen


def join_ranks() -> int:
    """Join the ranks before their precision is known; return how many there are."""
    num_ranks: int = _joined().num_processes
    return num_ranks


def said_by_all(value: T) -> list[T]:
    """Let each rank say something to all; joins the ranks as `join_ranks` does."""
    _joined()
    return list(gather_object([value]))


def _joined() -> PartialState:
    choose_interface()
    return PartialState(cpu=_on_cpu() or parse_flag_from_env("ACCELERATE_USE_CPU"))


def _open(precision: str, remedy: str, log_into: str) -> Accelerator:
    try:
        return Accelerator(
            mixed_precision=precision,
            log_with="tensorboard" if log_into else None,
            project_dir=log_into or None,
            # The step accumulates by itself: with more than 1 here `backward` would divide again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            # Gradients are exchanged where they are, in their buckets, and nothing else is: running
            # statistics of batch norms stay each rank's own until somebody looks (`copy_first`).
            kwargs_handlers=[
                DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
            ],
            cpu=_on_cpu(),
        )
    except ValueError as error:
        raise DataError(
            f"precision {precision!r} does not work here ({error}); {remedy}"
        ) from error


def _group_of_hosts(num_ranks: int) -> torch.distributed.ProcessGroup | None:
    """Join the ranks a second time over gloo where devices speak another language; None is the
    group that is there.
    """
    if num_ranks == 1 or torch.distributed.get_backend() == "gloo":
        return None
    group = torch.distributed.new_group(backend="gloo")
    assert not isinstance(group, int)  # as for a rank that is not in it
    return group


def _on_cpu() -> bool:
    return torch.backends.mps.is_available()  # float64 sums need a device that has float64
