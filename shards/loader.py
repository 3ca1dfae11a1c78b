"""The loader: whole batches made by threads of this process, straight into a ring of slots.

Why threads: what costs time (cutting tiles, decoding, resizing) runs outside the GIL, and a batch
then never crosses a process boundary. Each thread makes a whole batch, so nothing is handed over
per image.
"""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch.utils.data import DataLoader, IterableDataset

from shards.choices import CacheName, OnBadSample, OrderName
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.order.mixing import say_mixing
from shards.pipeline.bad_samples import Watch, check_skipped
from shards.pipeline.batch import Batch
from shards.pipeline.batch_maker import BatchMaker, make_resident
from shards.pipeline.device_maker import DeviceMaker, device_of
from shards.pipeline.view import Cache, View
from shards.sampler import NearPlan, Order, Plan, World

__all__ = ["Cache", "Loader", "Order", "View"]

READ_TIMEOUT_S = 300.0  # so long may reading one sample take
# so long the end of an iteration waits for batches that nobody wants any more
JOIN_TIMEOUT_S = 10.0
BATCHES_AHEAD = 2  # beyond those being made: one to hand out at once, one as slack for a slow one


class _Making:
    """The threads of one epoch.

    Invariant: handed out <= made <= claimed <= handed out + num_threads + BATCHES_AHEAD.
    """

    def __init__(
        self,
        maker: BatchMaker,
        epoch: int,
        first_step: int,
        num_threads: int,
        read_timeout_s: float,
    ) -> None:
        self._maker = maker
        self._epoch = epoch
        self._last_step = maker.plan.num_steps
        self._read_timeout_s = read_timeout_s
        self._watches: dict[int, Watch] = {}  # of the threads, by the step that they are making
        self._claimed = self._handed_out = first_step
        self._limit = num_threads + BATCHES_AHEAD
        self._made: dict[int, Batch | BaseException] = {}
        self._stopped = False
        self._num_skipped = 0
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name=f"tarmac-loader-{i}", daemon=True)
            for i in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def next(self) -> Batch:
        """Wait for the next batch in order; what a thread raised while making it is raised here.

        Raises DataError where reading one sample does not end, SampleError where one rank skips too
        many.
        """
        with self._changed:
            num_seen = -1
            remote = self._maker.index.remote
            received = -1
            while not self._changed.wait_for(
                lambda: self._handed_out in self._made, self._read_timeout_s
            ):
                watch = self._watches.get(self._handed_out)
                if remote is not None and remote.num_received != received:
                    received = remote.num_received  # a slow link is no hanging one
                    continue
                # still at the same sample as a timeout ago
                if watch is not None and watch.num_seen == num_seen:
                    raise DataError(
                        f"{watch.where()}: reading it has not ended for {self._read_timeout_s:g} "
                        "s: does its file system hang?"
                    )
                num_seen = -1 if watch is None else watch.num_seen
            made = self._made.pop(self._handed_out)
            self._handed_out += 1
            self._changed.notify_all()
        if isinstance(made, BaseException):
            raise made
        self._num_skipped += len(made.skipped)
        if self._maker.plan.world.num_ranks == 1:
            check_skipped(self._num_skipped, self._maker.index, made.skipped)
        return made

    def stop(self) -> None:
        """Let the threads finish their batch and end; one whose read hangs is left behind, it ends
        with the process.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        # The garbage collector may end an abandoned iteration inside one of its own threads: no
        # waiting there.
        if threading.current_thread() not in self._threads:
            ends_at = time.monotonic() + JOIN_TIMEOUT_S
            for thread in self._threads:
                thread.join(max(0.0, ends_at - time.monotonic()))
        self._made.clear()

    def _claim(self) -> int | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or self._claimed < self._handed_out + self._limit
            )
            if self._stopped or self._claimed >= self._last_step:
                return None
            self._claimed += 1
            return self._claimed - 1

    def _run(self) -> None:
        while (step := self._claim()) is not None:
            made: Batch | BaseException
            self._maker.watch().begin()
            self._watches[step] = self._maker.watch()
            try:
                made = self._maker.make(self._epoch, step)
            except BaseException as error:
                made = error
            with self._changed:
                self._made[step] = made
                del self._watches[step]
                self._changed.notify_all()
            del made  # a thread must not keep a batch that its consumer has let go


def _num_ranks() -> int:
    """Count the ranks that this process is one of, as torch or its launcher says."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def _alone() -> World:
    """Return the world of a loader that was given none. Raises DataError on one of several ranks.

    Each of them would read all samples, which no loss and no metric shows.
    """
    num_ranks = _num_ranks()
    if num_ranks > 1:
        raise DataError(
            f"this process is one of {num_ranks} ranks, but the loader was given no world: give "
            f"world=World(rank, {num_ranks}) to read this rank's part, or world=World() to read "
            f"all samples"
        )
    return World()


class _Steps(IterableDataset[Batch]):
    """The dataset that DataLoader iterates over: the rest of an epoch (the whole of it, unless a
    state was loaded).

    It knows nothing of its Loader: in a cycle the two, and a cache with them, would outlive their
    last user until the garbage collector comes.
    """

    def __init__(self, maker: BatchMaker, num_threads: int, read_timeout_s: float) -> None:
        self._maker = maker
        self._num_threads = num_threads
        self._read_timeout_s = read_timeout_s
        self.epoch = 0
        self.step = 0
        self.resume_step = 0

    def __iter__(self) -> Iterator[Batch]:
        """Iterate for another DataLoader than ours. Raises DataError on one of several ranks."""
        num_ranks = _num_ranks()
        if num_ranks > 1:
            raise DataError(
                f"this loader gives each of {num_ranks} ranks its part already: another DataLoader "
                "over it, as accelerator.prepare makes one, would divide it again; do not prepare "
                "it, iterate over it itself"
            )
        return self.batches()

    def batches(self) -> Iterator[Batch]:
        """Iterate over the rest of the epoch."""
        plan = self._maker.plan
        epoch = self.epoch
        step = self.resume_step
        self.resume_step = 0
        self.step = step
        self._maker.prepare(epoch, step)
        making = _Making(self._maker, epoch, step, self._num_threads, self._read_timeout_s)
        try:
            for number in range(step, plan.num_steps):
                yield self._handed_out(making, number)
            self.epoch = epoch + 1
            self.step = 0
        finally:
            making.stop()

    def _handed_out(self, making: _Making, number: int) -> Batch:
        # Yielded from here, the batch is no local of the generator: its buffer is free when the
        # consumer drops it.
        batch = making.next()
        self.step = number + 1
        return batch

    def __len__(self) -> int:
        return self._maker.plan.num_steps


class Loader(DataLoader[Batch]):
    """Deliver every sample of a split exactly once per epoch, as whole batches
    (shards.pipeline.batch.Batch).

    `train=True` shuffles all samples again each epoch and draws random-resized crops and flips;
    `train=False` keeps the index's order and takes the centre. Every rank makes `len(self)` steps.
    Both order and crops are pure functions of (seed, epoch, sample); neither `world` nor
    `num_threads` changes them, nor the batch size, but for the order near. `world` says which
    rank's part to read: on one of several ranks it has to be given. An epoch that was read to its
    end moves the loader on to the next one; one that was left starts again, unless
    `load_state_dict` says where.

    `view` takes the place of `size`, `train` and `scale` where more is to be chosen of what is seen
    of an image; `images` of five crops are [5 B, C, size, size], first the centres of all samples.
    `order="near"`, short for `order=Order("near")`, trains on few shards at a time.
    `cache` keeps decoded images; `cache="ram"` is short for `cache=Cache("ram")`. `device` is where
    a cache of the device is; otherwise it only says where batches go: for a GPU, or any where it is
    not given, they are in pinned memory.

    `on_bad_sample="skip"` leaves out samples that cannot be read, as `Batch.skipped` says, up to
    one in a hundred an epoch; otherwise the first one raises SampleError. Of several ranks each
    knows only its own: there the bound is for the consumer to hold, on all at once
    (`bad_samples.check_skipped`), as one that stopped by itself would leave the others waiting.
    Where reading one does not end within `read_timeout_s`, DataError names it.
    """

    def __init__(
        self,
        index: DatasetIndex,
        global_batch_size: int = 64,
        size: int = 224,
        train: bool = True,
        seed: int = 0,
        world: World | None = None,
        num_threads: int = 2,
        scale: tuple[float, float] = (0.08, 1.0),
        *,
        view: View | None = None,
        order: Order | OrderName = "auto",
        cache: Cache | CacheName = "none",
        device: torch.device | str | None = None,
        on_bad_sample: OnBadSample = "stop",
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        for name, value in (("global_batch_size", global_batch_size), ("num_threads", num_threads)):
            if value < 1:
                raise DataError(f"{name} is {value}: give at least 1")
        if on_bad_sample not in get_args(OnBadSample):
            raise DataError(f"on_bad_sample is {on_bad_sample!r}: give stop or skip")
        if index.num_samples == 0:
            raise DataError(f"{index.root}: holds no samples; pack the split again")
        if not 0 <= seed < 2**63:
            raise DataError(f"seed is {seed}: give a number from 0 to 2**63 - 1")
        world = _alone() if world is None else world
        beside = View(size, train, scale)
        if view is not None and beside != View():
            raise DataError(
                "size, train and scale are the view's: with view=View(...) give them only there"
            )
        view = view or beside
        cache = cache if isinstance(cache, Cache) else Cache(cache)
        order = order if isinstance(order, Order) else Order(order)
        plan = order.plan(index, global_batch_size, view.train, seed, world)
        if isinstance(plan, NearPlan) and world.rank == 0:
            say_mixing(index, plan.order)
        self.index = index
        self.plan = plan
        self.num_threads = num_threads
        self.maker = _maker(index, plan, view, cache, device, num_threads, on_bad_sample)
        self._steps = _Steps(self.maker, num_threads, read_timeout_s)
        # batch_size=None: what the dataset yields is a batch already. The parent's workers would
        # copy it.
        super().__init__(self._steps, batch_size=None, num_workers=0)

    def __len__(self) -> int:
        return self.plan.num_steps

    def __iter__(self) -> Any:
        """Iterate over the rest of the epoch (the whole of it, unless a state was loaded)."""
        return self._steps.batches()

    def warm_up(self) -> None:
        """Compile, or load, what the first batch would wait for; with cache device also decode all."""
        self.maker.warm_up()

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self._steps.epoch = epoch
        self._steps.step = 0
        self._steps.resume_step = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the latest iteration: `step` batches of `epoch` have been handed
        out.
        """
        return {"epoch": self._steps.epoch, "step": self._steps.step, **self.plan.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: the next iteration hands out batch `step` of `epoch` first, on any
        number of ranks.
        """
        saved = {"order": "global", **state}  # the only one of earlier releases
        for name, value in self.plan.identity().items():
            if saved.get(name) != value:
                raise DataError(
                    f"the saved order has {name} {saved.get(name)}, this loader {value}: "
                    "going on exactly needs the same; start a new run to change it"
                )
        epoch = state["epoch"]
        step = state["step"]
        if step >= self.plan.num_steps:
            epoch = epoch + 1
            step = 0
        self._steps.epoch = epoch
        self._steps.step = step
        self._steps.resume_step = step


def _maker(
    index: DatasetIndex,
    plan: Plan,
    view: View,
    cache: Cache,
    device: torch.device | str | None,
    num_threads: int,
    on_bad_sample: OnBadSample,
) -> BatchMaker:
    short_side = cache.side_for(view)
    if cache.kind == "device":
        return DeviceMaker(
            index, plan, view, device_of(device), short_side, num_threads, on_bad_sample
        )
    resident = (
        make_resident(index, view, short_side, plan.world.num_local)
        if cache.kind == "ram"
        else None
    )
    pinned = torch.cuda.is_available() and (device is None or device_of(device).type == "cuda")
    return BatchMaker(index, plan, view, resident, on_bad_sample, pinned)
