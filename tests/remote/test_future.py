"""When a shard is needed next, and what is needed at once."""

import numpy as np
import pytest

from shards.order.near_order import NearOrder
from shards.remote.future import (
    Course,
    Future,
    most_open_bytes,
    uses_in_order,
    uses_of_all,
)

NEVER = np.iinfo(np.int64).max


def test_uses_in_the_order_of_the_index_are_those_of_its_batches():
    sizes = np.array([5, 0, 3, 8])
    uses = uses_in_order(sizes, 4)
    shard_of = np.repeat(np.arange(4), sizes)
    for step in range(4):
        needed = set(shard_of[4 * step : 4 * step + 4].tolist())
        assert {s for first, last, s in uses.tolist() if first <= step <= last} == needed


def test_the_future_of_an_epoch_and_the_next():
    uses = {0: [[0, 1, 0], [2, 3, 1]], 1: [[0, 1, 2], [2, 3, 0]], 2: [[0, 3, 1]]}
    future = Future(Course(lambda epoch: np.array(uses[epoch]), 4), 4)
    future.turn_to(1)
    assert future.next_use().tolist() == [1, 2, 4, NEVER]
    assert future.coming().tolist() == [0, 1, 2]
    assert future.open_at([1]) == {0}
    assert future.open_at([1, 2]) == {0, 1}
    assert future.open_at([0, 5]) == {0, 2}
    assert future.open_at([]) == set()
    future.turn_to(2)
    assert future.next_use().tolist() == [6, 2, 4, NEVER]
    assert future.coming().tolist() == [1, 2, 0]
    future.turn_to(4)
    assert future.next_use().tolist() == [6, 8, 4, NEVER]
    future.turn_to(0)
    assert future.next_use().tolist() == [0, 2, 4, NEVER]


@pytest.mark.parametrize(("groups", "window"), [(1, 1), (3, 1), (4, 2)])
def test_the_most_that_is_open_is_counted_step_by_step(groups, window):
    sizes = np.random.default_rng(groups).integers(1, 40, 30)
    order = NearOrder(sizes, 8, groups, window, 5)
    uses = order.uses(0, np.arange(groups))
    num_bytes = sizes * 1000
    slow = 0
    for step in range(int(uses[:, 1].max()) + 1):
        rows = uses[(uses[:, 0] <= step) & (uses[:, 1] >= step)]
        slow = max(slow, int(num_bytes[rows[:, 2]].sum()))
    assert most_open_bytes(uses, num_bytes) == slow
    assert most_open_bytes(uses_of_all(sizes, 3), num_bytes) == num_bytes.sum()
    assert most_open_bytes(np.empty((0, 3), np.int64), num_bytes) == 0
