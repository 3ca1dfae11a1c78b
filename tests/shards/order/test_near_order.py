"""The near order: every sample once, the same batches on any ranks, few shards at a time, and the
same ones on a node in every epoch.
"""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from shards.errors import DataError
from shards.order.near_order import EMPTY, NearOrder
from shards.sampler import NearPlan, Order, World

RNG = np.random.default_rng(0)
RANKS = (1, 2, 3, 4, 7, 8, 24)
# sizes of shards, global batch size, groups, window
CASES = [
    (RNG.integers(10, 60, 97), 64, 16, 1),
    (RNG.integers(0, 20, 200), 96, 64, 4),
    (np.full(64, 100), 256, 64, 1),
    (np.array([5, 0, 0, 3, 1, 900, 0, 2]), 32, 8, 2),
    (np.array([1]), 64, 64, 1),
    (np.array([0, 7, 0]), 4, 4, 3),
    (RNG.integers(1, 9, 500), 250, 64, 8),
    (RNG.integers(15, 30, 40), 37, 64, 5),
    (np.full(10, 300), 100, 7, 3),
    (np.array([3_000, 1, 1, 1, 50]), 64, 16, 2),
    (RNG.integers(0, 3, 31), 512, 64, 2),
    (np.full(13, 129), 258, 43, 1),
    (np.full(48, 32), 48, 24, 1),
]


def ranks_of(order: NearOrder, num_ranks: int, num_local: int = 1) -> list[NearPlan]:
    """The plans of all ranks of a run."""
    worlds = [World(rank, num_ranks, num_local) for rank in range(num_ranks)]
    size = order.global_batch_size
    return [NearPlan(order.num_samples, size, order.seed, world, order) for world in worlds]


@pytest.mark.parametrize(("sizes", "size", "groups", "window"), CASES)
def test_every_sample_once_and_the_same_batches_on_any_ranks(sizes, size, groups, window):
    order = NearOrder(sizes, size, groups, window, seed=5)
    (one,) = ranks_of(order, 1)
    for epoch in (0, 1):
        seen = [one.global_ids(epoch, step) for step in range(one.num_steps)]
        assert [len(ids) for ids in seen] == [one.num_in(step) for step in range(one.num_steps)]
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(sum(sizes)))
        for num_ranks in RANKS:
            plans = ranks_of(order, num_ranks)
            assert {plan.num_steps for plan in plans} == {one.num_steps}
            for step in {0, 1, one.num_steps // 2, one.num_steps - 1} & set(range(one.num_steps)):
                parts = [plan.local_ids(epoch, step) for plan in plans]
                assert {len(part) for part in parts} == {plans[0].local_batch_size}
                slots = np.concatenate(parts)
                assert np.array_equal(slots[slots != EMPTY], seen[step])


@example(sizes=[3], size=4, groups=2, window=1, num_ranks=1, seed=0)  # an odd last batch, in pairs
@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any),
    size=st.integers(1, 40),
    groups=st.integers(1, 40),
    window=st.integers(1, 5),
    num_ranks=st.sampled_from(RANKS),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_sizes_batches_groups_and_windows(sizes, size, groups, window, num_ranks, seed):
    plans = ranks_of(NearOrder(np.array(sizes), size, groups, window, seed), num_ranks)
    parts = [
        plan.local_ids(epoch := 3, step) for step in range(plans[0].num_steps) for plan in plans
    ]
    ids = np.concatenate(parts)
    assert sorted(ids[ids != EMPTY].tolist()) == list(range(sum(sizes)))
    for plan in plans:
        spare = plan.spare_ids(epoch, plan.num_steps - 1)
        assert len(spare)
        assert spare.min() >= 0


@pytest.mark.parametrize(("sizes", "size", "groups", "window"), CASES)
@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4, 7, 8])
def test_a_node_reads_its_own_shards_in_every_epoch(sizes, size, groups, window, num_nodes):
    """`uses` says which, and when. Nodes that divide the groups share at most a shard each, others
    those of M - 1 groups.
    """
    order = NearOrder(sizes, size, groups, window, seed=1)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    plans = ranks_of(order, 2 * num_nodes, num_local=2)
    nodes = []
    for node in range(num_nodes):
        read: dict[int, set[int]] = {}
        for epoch in (0, 3):
            uses = plans[2 * node].uses(epoch)
            assert np.array_equal(uses, plans[2 * node + 1].uses(epoch))
            read[epoch] = set()
            for step in range(plans[0].num_steps):
                parts = [plans[2 * node + i].local_ids(epoch, step) for i in (0, 1)]
                ids = np.concatenate(parts)
                shards = set(shard_of[ids[ids != EMPTY]].tolist())
                assert shards <= {s for first, last, s in uses.tolist() if first <= step <= last}
                read[epoch] |= shards
            assert read[epoch] <= set(uses[:, 2].tolist())
        nodes.append(set(uses[:, 2].tolist()))
        if size % order.groups == 0 and order.groups % num_nodes == 0:
            assert read[0] == read[3] == nodes[-1]
    num_shards = int((np.asarray(sizes) > 0).sum())
    if size % (2 * num_nodes) == 0 and size % order.groups == 0:
        shared = sum(map(len, nodes)) - num_shards
        if order.groups % num_nodes == 0:
            assert shared <= num_nodes - 1
        else:
            of_group = [set(order.uses(0, np.array([g]))[:, 2]) for g in range(order.groups)]
            largest = sorted(map(len, of_group))[-(num_nodes - 1) :]
            assert shared <= sum(largest) + num_nodes - 1


def test_few_shards_are_open_at_a_time():
    """One window of each group, and another one where it changes: of 1,000 shards at most 32."""
    order = NearOrder(np.full(1_000, 20), 64, 16, 1, seed=0)
    shard_of = np.repeat(np.arange(1_000), 20)
    num_open = [len(set(shard_of[order.fill(2, step, 0, 64)].tolist())) for step in range(312)]
    assert max(num_open) <= 32
    ends = [len(np.unique(shard_of[order.fill(2, step, 0, 4)])) for step in range(312)]
    assert sum(ends) <= 312 + 1_000 // 16 + 2  # a group goes through its shards one by one


def test_the_last_batch_keeps_pairs_together():
    """Mixup pairs slots 2i and 2i + 1: at most one sample is without its neighbour."""
    sizes = np.random.default_rng(1).integers(90, 110, 50)
    order = NearOrder(sizes, 128, 64, 1, seed=0)
    last = -(-order.num_samples // 128) - 1
    pairs = (order.fill(0, last, 0, 128) != EMPTY).reshape(64, 2)
    assert 0 < pairs.sum() < 128
    assert (pairs.sum(1) == 1).sum() <= 1


def test_parts_of_a_batch_are_balanced():
    """The last batch too: no group has more than a pair more than another."""
    sizes = np.random.default_rng(2).integers(900, 1_100, 300)
    order = NearOrder(sizes, 256, 64, 1, seed=0)
    for step in (0, 100, -(-order.num_samples // 256) - 1):
        filled = (order.fill(0, step, 0, 256) != EMPTY).reshape(64, 4).sum(1)
        assert filled.max() - filled.min() <= 2


def test_a_sample_comes_at_any_step():
    """Groups are fixed, but within them each step is as likely as the other (chi-square)."""
    order = NearOrder(np.full(16, 10), 16, 4, 2, seed=9)
    counts = np.zeros((160, 10))
    for epoch, step in itertools.product(range(300), range(10)):
        counts[order.fill(epoch, step, 0, 16), step] += 1
    assert counts.sum(1).tolist() == [300] * 160
    chi = ((counts - 30) ** 2 / 30).sum()
    # samples of a shard come together, so the sum varies more than that of independent ones
    assert 0.9 < chi / (160 * 9) < 1.25


def test_neighbours_within_a_window_are_shuffled():
    """Inside one shard the step from one sample to the next is uniform."""
    order = NearOrder(np.array([101]), 101, 1, 1, seed=2)
    steps = [np.diff(order.fill(epoch, 0, 0, 101)) % 101 for epoch in range(300)]
    assert stats.chisquare(np.bincount(np.concatenate(steps), minlength=101)[1:]).pvalue > 1e-4


def test_seeds_and_epochs_differ():
    sizes = np.full(12, 5)
    orders = {
        tuple(NearOrder(sizes, 60, 2, 1, seed).fill(epoch, 0, 0, 60).tolist())
        for seed in range(6)
        for epoch in range(6)
    }
    assert len(orders) == 36


def test_a_step_is_the_same_whichever_was_asked_for_before():
    """Steps are made many at once and kept: in whatever order, on whichever epoch."""
    rng = np.random.default_rng(3)
    order = NearOrder(rng.integers(5, 40, 60), 16, 4, 2, seed=3)
    asked = [(epoch, step) for epoch in range(5) for step in (0, 31, 32, 33, 64)]
    expected = {
        (epoch, step): NearOrder(order.sizes, 16, 4, 2, 3).fill(epoch, step, 0, 16).tolist()
        for epoch, step in asked
    }
    for epoch, step in rng.permutation(asked * 3).tolist():
        got = order.fill(epoch, step, 0, 16)
        assert got.tolist() == expected[epoch, step]
        got[:] = 0  # the caller's own


def test_a_large_batch_is_made_in_less_memory():
    order = NearOrder(np.full(10, 30_000), 100_000, 2, 1, seed=3)
    seen = np.concatenate([order.fill(0, step, 0, 100_000) for step in range(3)])
    assert np.array_equal(np.sort(seen), np.arange(300_000))


def test_groups_by_default(index):
    """16; one for 16 shards where there are fewer, and never more than a batch has slots."""
    for num_shards, size, groups in [(1_000, 64, 16), (100, 64, 6), (10, 64, 1), (1_000, 8, 8)]:
        plan = Order("near").plan(_Sizes(np.full(num_shards, 9)), size, True, 0, World())
        assert plan.order.groups == groups
    with pytest.raises(DataError, match="shuffle_groups is 9, but global_batch_size is 8"):
        Order("near", groups=9).plan(index, 8, True, 0, World())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "far"}, "order is 'far': give auto, global or near"),
        ({"groups": -1}, "shuffle_groups is -1"),
        ({"window": 0}, "shuffle_window is 0"),
    ],
)
def test_values_out_of_bounds(given, message):
    with pytest.raises(DataError, match=message):
        Order(**given)


class _Sizes:
    """As much of an index as an order asks for."""

    is_remote = True

    def __init__(self, sizes: np.ndarray) -> None:
        self.shard_sizes = sizes
        self.num_samples = int(sizes.sum())
