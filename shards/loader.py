"""The loader: whole batches made by threads of this process, straight into a ring of slots.

Why threads: what costs time (cutting tiles, decoding, resizing) runs outside the GIL, and a batch
then never crosses a process boundary. Each thread makes a whole batch, so nothing is handed over
per image.
"""

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from shards.choices import CacheName, OnBadSample, OrderName, whole_number
from shards.errors import DataError
from shards.host.machine import cores_per_rank
from shards.index import DatasetIndex
from shards.order.mixing import say_mixing
from shards.pipeline.batch import Batch
from shards.pipeline.batch_maker import BatchMaker
from shards.pipeline.decoded_cache import make_resident
from shards.pipeline.device_maker import DeviceMaker, device_of
from shards.pipeline.making import Making
from shards.pipeline.position import Position
from shards.pipeline.view import Cache, View
from shards.sampler import NearPlan, Order, Plan, World

__all__ = ["Cache", "Loader", "Order", "View"]

READ_TIMEOUT_S = 300.0  # so long may reading one sample take


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
        self.position = Position(maker.plan.num_steps)
        self.following: Callable[[], _Steps | None] = _nobody
        self._current: Making | None = None  # of the latest iteration, while it lasts
        self._ahead: list[Making] = []  # of the next one; one at most
        self._iterated: list[Making] = []  # of all iterations that last
        # Also when the process ends: threads that compute would be torn down in the middle, which
        # aborts it, or leaves a lock that ends with nobody.
        weakref.finalize(self, _stop_all, self._ahead, self._iterated)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate for another DataLoader than ours. Raises DataError on one of several ranks, and
        in a worker process: each would give every batch, and of the same epoch every time.
        """
        if get_worker_info() is not None:
            raise DataError(
                "this loader makes its batches in threads: worker processes of another DataLoader "
                "over it would each give all of them; give that one num_workers=0, or iterate over "
                "this one itself"
            )
        num_ranks = _num_ranks()
        if num_ranks > 1:
            raise DataError(
                f"this loader gives each of {num_ranks} ranks its part already: another DataLoader "
                "over it, as accelerate's skip_first_batches makes one, may divide it again; "
                "iterate over it itself, from where load_state_dict says"
            )
        return self.batches()

    def batches(self) -> Iterator[Batch]:
        """Iterate over the rest of the epoch."""
        epoch, step = self.position.start()
        making = self._taken(epoch, step)
        is_whole = False
        try:
            for number in range(step, self._maker.plan.num_steps):
                yield self._handed_out(making, epoch, number)
            self.position.epoch = epoch + 1
            self.position.step = 0
            is_whole = True
        finally:
            making.stop()
            if making in self._iterated:  # not so where the process ends
                self._iterated.remove(making)
            if self._current is making:
                self._current = None
            following = self.following()
            if following is not None and not is_whole:
                following.forget_ahead()  # left: what follows is not what was thought

    def make_ahead(self, num_threads: int, beside: BatchMaker) -> None:
        """Make the first batches of the next iteration, by `num_threads` threads: as many as have
        nothing left to do in the iteration of another maker.

        Of a split on a device none: that takes no time, and memory there.
        """
        if self._maker.in_one_thread or not num_threads:
            return
        if not self._ahead:
            if not self._maker.fetching.has_room_beside(beside.fetching, self._num_threads):
                return
            if self._current is None:
                start = self.position.following()
                self._maker.prepare(*start)
                making = self._making(*start)
            else:
                making = self._making(self._current.start[0] + 1, 0)
            self._ahead.append(making)
        self._ahead[0].make_ahead(num_threads)

    def go_to(self, epoch: int, step: int) -> None:
        """Let the next iteration begin there."""
        self.position.go_to(epoch, step)
        if self._ahead and self._ahead[0].start != (epoch, step):
            self.forget_ahead()

    def forget_ahead(self) -> None:
        """Let go what was made ahead, and its threads."""
        _stop_all(self._ahead)

    def _making(self, epoch: int, step: int) -> Making:
        num_threads = 1 if self._maker.in_one_thread else self._num_threads
        return Making(self._maker, epoch, step, num_threads, self._read_timeout_s, self.position)

    def _taken(self, epoch: int, step: int) -> Making:
        """Give the batches from a step on, those made ahead among them, if they are these."""
        if self._ahead and self._ahead[0].start == (epoch, step):
            making = self._ahead.pop()
        else:
            self.forget_ahead()
            self._maker.prepare(epoch, step)
            making = self._making(epoch, step)
        making.begin()
        self._iterated.append(making)
        self._current = making
        return making

    def _handed_out(self, making: Making, epoch: int, number: int) -> Batch:
        # Yielded from here, the batch is no local of the generator: its buffer is free when the
        # consumer drops it.
        batch = making.next()
        self.position.epoch = epoch
        self.position.step = number + 1
        following = self.following()
        if following is not None:
            following.make_ahead(making.num_idle(), self._maker)
        return batch

    def __len__(self) -> int:
        return self._maker.plan.num_steps


def _nobody() -> None:
    return None


def _stop_all(*makings: list[Making]) -> None:
    for those in makings:
        while those:
            those.pop().stop()


class Loader(DataLoader[Batch]):
    """Deliver every sample of a split exactly once per epoch, as whole batches
    (shards.pipeline.batch.Batch).

    `train=True` shuffles all samples again each epoch and draws random-resized crops and flips;
    `train=False` keeps the index's order and takes the centre. Every rank makes `len(self)` steps.
    Both order and crops are pure functions of (seed, epoch, sample); neither `world` nor
    `num_threads` changes them, nor the batch size, but for the order near. `world` says which
    rank's part to read: on one of several ranks it has to be given. `num_threads` 0 is one per core
    of this rank's share of the machine. An epoch of which all batches were handed out moves the
    loader on to the next one; one that was left before starts again, unless `load_state_dict` says
    where.

    `view` takes the place of `size`, `train` and `scale` where more is to be chosen of what is seen
    of an image; `images` of five crops are [5 B, C, size, size], first the centres of all samples.
    `size_at` makes training start with smaller images: it says the size of an epoch, counted from
    0, at most the view's. `order="near"`, short for `order=Order("near")`, trains on few shards at
    a time.
    `cache` keeps decoded images; `cache="ram"` is short for `cache=Cache("ram")`. `device` is where
    a cache of the device is; otherwise it only says where batches go: for a GPU, or any where it is
    not given, they are in pinned memory.

    `on_bad_sample="skip"` leaves out samples that cannot be read, as `Batch.skipped` says, up to
    one in a hundred an epoch; otherwise the first one raises SampleError. Of several ranks each
    knows only its own: there the bound is for the consumer to hold, on all at once
    (`bad_samples.check_skipped`), as one that stopped by itself would leave the others waiting.
    Where reading one does not end within `read_timeout_s`, DataError names it.
    """

    # What accelerate asks of a loader that it has made: accelerator.prepare(loader) leaves this one
    # as it is. Around batches that are divided and ready, one of its own would fail.
    _is_accelerate_prepared = True

    def __init__(
        self,
        index: DatasetIndex | str | Path,
        global_batch_size: int = 64,
        size: int = 224,
        train: bool = True,
        seed: int = 0,
        world: World | None = None,
        num_threads: int = 0,
        scale: tuple[float, float] = (0.08, 1.0),
        *,
        view: View | None = None,
        size_at: Callable[[int], int] | None = None,
        order: Order | OrderName = "auto",
        cache: Cache | CacheName = "none",
        device: torch.device | str | None = None,
        on_bad_sample: OnBadSample = "stop",
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        index = index if isinstance(index, DatasetIndex) else DatasetIndex.open(index)
        global_batch_size = whole_number("global_batch_size", global_batch_size)
        num_threads = whole_number("num_threads", num_threads)
        seed = whole_number("seed", seed)
        _check_numbers(global_batch_size, num_threads, seed, read_timeout_s)
        if on_bad_sample not in get_args(OnBadSample):
            raise DataError(f"on_bad_sample is {on_bad_sample!r}: give stop or skip")
        if not (size_at is None or callable(size_at)):
            raise DataError(f"size_at is {size_at!r:.100}: give a function of the epoch")
        if index.num_samples == 0:
            raise DataError(f"{index.root}: holds no samples; pack the split again")
        if device is not None:
            device = device_of(device)
        world = _alone() if world is None else world
        if not isinstance(world, World):
            raise DataError(f"world is {world!r:.100}: give World(rank, num_ranks)")
        beside = View(size, train, scale)
        if view is not None and beside != View():
            raise DataError(
                "size, train and scale are the view's: with view=View(...) give them only there"
            )
        view = beside if view is None else view
        if not isinstance(view, View):
            raise DataError(f"view is {view!r:.100}: give View(size=...)")
        cache = cache if isinstance(cache, Cache) else Cache(cache)
        order = order if isinstance(order, Order) else Order(order)
        plan = order.plan(index, global_batch_size, view.train, seed, world)
        if isinstance(plan, NearPlan) and world.rank == 0:
            say_mixing(index, plan.order)
        self.index = index
        self.plan = plan
        num_threads = num_threads or cores_per_rank(world.num_local)
        self.num_threads = num_threads
        self.maker = _maker(index, plan, view, cache, device, num_threads, on_bad_sample, size_at)
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
        """Go to the start of an epoch, counted from 0."""
        epoch = whole_number("epoch", epoch)
        if not 0 <= epoch < 2**63:
            raise DataError(f"epoch is {epoch}: give 0 or more")
        self._steps.go_to(epoch, 0)

    def then(self, following: "Loader | None") -> None:
        """Say which loader is read when this one's epoch is over: its first batches are made as
        soon as threads have nothing left to do here, so that nobody waits for them.

        It may be this one, for its next epoch: `loader.then(loader)`. At most as many batches are
        made as a loader is ahead of its consumer, and no thread waits: they end when these are
        made. An epoch that is left takes them with it, and a state that is loaded, or another
        epoch that is set, lets them go.
        """
        self._steps.following = _nobody if following is None else weakref.ref(following._steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the latest iteration: `step` batches of `epoch` have been handed
        out, or what OnDevice has handed on of them.
        """
        position = self._steps.position
        return {"epoch": position.epoch, "step": position.step, **self.plan.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: the next iteration hands out batch `step` of `epoch` first, on any
        number of ranks.
        """
        if not isinstance(state, dict):
            raise DataError(
                f"the saved state is {state!r:.100}: give one that Loader.state_dict() has returned"
            )
        saved = {"order": "global", **state}  # the only one of earlier releases
        for name, value in self.plan.identity().items():
            if saved.get(name) != value:
                raise DataError(
                    f"the saved order has {name} {saved.get(name)}, this loader {value}: "
                    "going on exactly needs the same; start a new run to change it"
                )
        epoch, step = (_count(state, name) for name in ("epoch", "step"))
        if step >= self.plan.num_steps:
            epoch = epoch + 1
            step = 0
        self._steps.go_to(epoch, step)


def _check_numbers(
    global_batch_size: int, num_threads: int, seed: int, read_timeout_s: float
) -> None:
    if global_batch_size < 1:
        raise DataError(f"global_batch_size is {global_batch_size}: give at least 1")
    if num_threads < 0:
        raise DataError(f"num_threads is {num_threads}: give at least 1, or 0 for one per core")
    if not 0 <= seed < 2**63:
        raise DataError(f"seed is {seed}: give a number from 0 to 2**63 - 1")
    if not isinstance(read_timeout_s, int | float) or read_timeout_s <= 0:
        raise DataError(f"read_timeout_s is {read_timeout_s}: give seconds, above 0")


def _count(state: dict[str, Any], name: str) -> int:
    """Read a number of a saved state. Raises DataError for what no loader has saved."""
    value = state.get(name)
    with suppress(DataError):
        if whole_number(name, value) >= 0:
            return whole_number(name, value)
    raise DataError(
        f"the saved state has {name} {value!r}: give one that Loader.state_dict() has returned"
    )


def _maker(
    index: DatasetIndex,
    plan: Plan,
    view: View,
    cache: Cache,
    device: torch.device | str | None,
    num_threads: int,
    on_bad_sample: OnBadSample,
    size_at: Callable[[int], int] | None,
) -> BatchMaker:
    short_side = cache.side_for(view)
    if size_at is not None and cache.kind != "none" and view.is_fixed:
        raise DataError(
            f"cache is {cache.kind}, which keeps the finished images of this view, and they are of "
            f"one size: leave out size_at or the cache"
        )
    if cache.kind == "device":
        return DeviceMaker(
            index, plan, view, device_of(device), short_side, num_threads, on_bad_sample, size_at
        )
    resident = (
        make_resident(index, view, short_side, plan.world.num_local)
        if cache.kind == "ram"
        else None
    )
    pinned = torch.cuda.is_available() and (device is None or device_of(device).type == "cuda")
    return BatchMaker(index, plan, view, resident, on_bad_sample, pinned, size_at)
