"""The first batches of what is read next are made before an epoch ends: the same batches, bounded,
and nothing of it stays behind.
"""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shards.errors import SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.copy_ahead import OnDevice
from shards.pipeline.making import BATCHES_AHEAD
from shards.sampler import World
from tests.loading import load
from tests.shards.left_behind import still_running

ROOT = Path(__file__).parents[3]
NUM_THREADS = 2
LIMIT = NUM_THREADS + BATCHES_AHEAD
LONGEST_S = 60
pytestmark = pytest.mark.timeout(300)  # the first may compile the decoder


def loader(index: DatasetIndex, **options) -> Loader:
    return load(
        index,
        **{
            "global_batch_size": 8,
            "size": 32,
            "seed": 3,
            "num_threads": NUM_THREADS,
            "device": "cpu",
            **options,
        },
    )


def following_itself(index: DatasetIndex, **options) -> Loader:
    ours = loader(index, **options)
    ours.then(ours)
    return ours


def same(a, b) -> bool:
    mine, other = a.tensors(), b.tensors()
    return a.num_known == b.num_known and all(torch.equal(mine[name], other[name]) for name in mine)


def all_same(a, b) -> bool:
    return all(same(one, other) for one, other in zip(a, b, strict=True))


def noting(ours: Loader) -> list[tuple[int, int]]:
    """List which batches are made, in the order of their beginnings."""
    made, make = [], ours.maker.make

    def noted(epoch, step):
        made.append((epoch, step))
        return make(epoch, step)

    ours.maker.make = noted
    return made


def wait_until(holds: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def num_threads_now(before: set[threading.Thread]) -> int:
    """Count the loaders' threads that have been started since; those of other tests may still end."""
    new = set(threading.enumerate()) - before
    return sum(thread.name.startswith("tarmac-loader") for thread in new)


@pytest.mark.parametrize("options", [{}, {"cache": "ram"}, {"train": False}, {"order": "near"}])
@pytest.mark.parametrize(
    "size", [8, 64, 100]
)  # nine steps an epoch, fewer than are made ahead, one
def test_epochs_are_the_same_batches(index, options, size):
    plain = loader(index, global_batch_size=size, **options)
    ours = following_itself(index, global_batch_size=size, **options)
    for _ in range(4):
        assert all_same(ours, plain)
        assert ours.state_dict() == plain.state_dict()


def test_the_next_epoch_begins_before_this_one_is_over(index):
    ours = following_itself(index)
    made = noting(ours)
    batches = iter(ours)
    for _ in range(len(ours)):
        next(batches)
    # the consumer has the last batch, and has asked for nothing more
    wait_until(lambda: (1, 0) in made)
    assert ours.state_dict()["epoch"] == 0
    assert list(batches) == []
    assert ours.state_dict()["epoch"] == 1


def test_validation_begins_before_training_is_over_and_training_before_validation_is(index):
    training, validation = loader(index), loader(index, train=False)
    training.then(validation)
    validation.then(training)
    expected = [list(loader(index)), list(loader(index, train=False))]
    trained, validated = noting(training), noting(validation)
    for epoch in range(2):
        batches = iter(training)
        seen = [next(batches) for _ in range(len(training))]
        wait_until(lambda epoch=epoch: (epoch, 0) in validated)
        assert list(batches) == []
        if epoch == 0:
            assert all_same(seen, expected[0])
        batches = iter(validation)
        seen = [next(batches) for _ in range(len(validation))]
        wait_until(lambda epoch=epoch: (epoch + 1, 0) in trained)
        assert list(batches) == []
        assert all_same(seen, expected[1])


def test_no_more_than_a_loader_is_ahead_and_no_thread_waits(index):
    before = set(threading.enumerate())
    ours = following_itself(index)
    made = noting(ours)
    for batch in ours:
        del batch
    wait_until(lambda: len(made) == len(ours) + LIMIT)
    assert still_running(before) == []
    assert len(made) == len(ours) + LIMIT
    assert made[-LIMIT:] != sorted(made)[:LIMIT]
    for batch in ours:
        del batch
    wait_until(lambda: len(made) == 2 * len(ours) + LIMIT)
    assert still_running(before) == []
    assert len(set(made)) == len(made)  # none twice
    # the rest of one epoch, the beginning of the next, and what the loop holds
    assert ours.maker.ring.num_slots <= 2 * LIMIT + 2


def test_never_more_threads_than_for_one_loader_and_a_batch_each(index):
    """Threads of what follows begin as those of this epoch have nothing left to do."""
    before = set(threading.enumerate())
    ours = following_itself(index, num_threads=3)
    most = 0
    for _ in range(4):
        for batch in ours:
            most = max(most, num_threads_now(before))
            del batch
    assert most <= 2 * 3


def test_an_epoch_that_is_left_takes_them_with_it(index):
    before = set(threading.enumerate())
    ours = following_itself(index)
    made = noting(ours)
    for batch, _ in zip(ours, range(len(ours) - 2), strict=False):
        del batch
    assert still_running(before) == []
    assert ours._steps._ahead == []
    expected = list(loader(index))
    assert all_same(ours, expected)  # an epoch that was left starts again
    assert (0, 0) in made


@pytest.mark.parametrize("where", ["first", "last"])
def test_an_exception_in_the_loop_leaves_no_thread(index, where):
    before = set(threading.enumerate())
    training, validation = loader(index), loader(index, train=False)
    training.then(validation)

    def loop():
        last = 0 if where == "first" else len(training) - 1
        for number, _ in enumerate(training):
            if number == last:
                raise RuntimeError("in the training loop")

    with pytest.raises(RuntimeError, match="in the training loop"):
        loop()
    assert still_running(before) == []
    assert validation._steps._ahead == []


def test_what_cannot_be_made_is_said_in_its_turn(index):
    """A sample that is damaged after it was read: the epoch ends well, the next one stops there."""
    ours = following_itself(index)
    make = ours.maker.make

    def broken(epoch, step):
        if (epoch, step) == (1, 2):
            raise SampleError("cannot be read")
        return make(epoch, step)

    ours.maker.make = broken
    assert len(list(ours)) == len(ours)
    seen: list[int] = []
    with pytest.raises(SampleError, match="cannot be read"):
        seen.extend(len(batch.ids) for batch in ours)
    assert seen == [8, 8]
    assert ours.state_dict()["step"] == 2


def test_skipped_samples_count_for_their_own_epoch(index):
    """The bound is of an epoch: what was skipped ahead belongs to the next one."""
    ours = following_itself(index, on_bad_sample="skip")
    read = ours.maker._reader.member
    bad = index.samples[11]

    def member(row, number):
        if row["shard"] == bad["shard"] and row["offset"][0] == bad["offset"][0]:
            raise SampleError("cannot be read")
        return read(row, number)

    ours.maker._reader.member = member
    for _ in range(3):  # one of 70 samples is tolerated
        assert sum(len(batch.skipped) for batch in ours) == 1


@pytest.mark.parametrize("way", ["set_epoch", "load_state_dict"])
def test_going_elsewhere_lets_them_go(index, way):
    ours = following_itself(index)
    list(ours)
    wait_until(lambda: bool(ours._steps._ahead))
    expected = loader(index)
    expected.set_epoch(5)
    wanted = list(expected)
    if way == "set_epoch":
        ours.set_epoch(5)
    else:
        ours.load_state_dict({**ours.state_dict(), "epoch": 5, "step": 3})
        wanted = wanted[3:]
    assert ours._steps._ahead == []
    assert all_same(ours, wanted)


def test_going_where_they_are_keeps_them(index):
    ours = following_itself(index)
    made = noting(ours)
    list(ours)
    ours.set_epoch(1)
    list(ours)
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("stop", [1, 4, 8, 9])
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_state_of_the_middle_goes_on_exactly(index, stop, num_ranks):
    """Stopped in the second epoch, some of which was made ahead; gone on with by other ranks."""
    ours = following_itself(index)
    list(ours)
    batches = iter(ours)
    for _ in range(stop):
        next(batches)
    state = ours.state_dict()
    assert (state["epoch"], state["step"]) == (1, stop)
    batches.close()
    whole = loader(index)
    whole.set_epoch(1)
    rest = list(whole)[stop:] + list(whole)
    resumed = [following_itself(index, world=World(rank, num_ranks)) for rank in range(num_ranks)]
    for one in resumed:
        one.load_state_dict(state)
    parts = [(list(one) + list(one) if stop < len(ours) else list(one)) for one in resumed]
    for expected, *shares in zip(rest, *parts, strict=True):
        for name in ("ids", "images"):
            together = torch.cat([getattr(share, name)[share.valid] for share in shares])
            assert torch.equal(together, getattr(expected, name)[expected.valid])


def test_a_loader_ends_with_its_last_user(index):
    """Also one that follows itself, and one that follows another."""
    gc.collect()
    gc.disable()
    try:
        ours, other = following_itself(index), loader(index, train=False)
        other.then(ours)
        list(ours), list(other)
        ends = [weakref.ref(each) for each in (ours, ours.maker, other, other.maker)]
        del ours
        list(other)  # what was to follow is gone
        del other
        assert [end() for end in ends] == [None] * 4
    finally:
        gc.enable()


def test_nothing_follows_any_more(index):
    ours = following_itself(index)
    made = noting(ours)
    ours.then(None)
    list(ours)
    assert len(made) == len(ours)
    assert ours._steps._ahead == []


def test_a_split_on_a_device_is_made_by_one_thread_in_order_and_not_ahead(index):
    ours = following_itself(index, cache="device", num_threads=4)
    made, threads, make = noting(ours), set(), ours.maker.make
    ours.maker.make = lambda *which: threads.add(threading.current_thread()) or make(*which)
    for batch in OnDevice(ours, torch.device("cpu")):
        del batch
    assert made == [(0, step) for step in range(len(ours))]
    assert len(threads) == 1
    assert ours.num_threads == 4  # those decode the split


@pytest.mark.slow
def test_a_process_ends_in_the_middle_of_it(packed):
    script = f"""
from shards.index import DatasetIndex
from shards.loader import Loader
loader = Loader(DatasetIndex.open({str(packed)!r}), 8, 32, num_threads=3)
loader.then(loader)
for batch in loader:
    pass
print("over")
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
