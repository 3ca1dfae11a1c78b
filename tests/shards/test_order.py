"""Order and crops are pure functions, every sample comes exactly once, ranks share the same global
batches.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from shards.augment.crops import random_resized_crops
from shards.errors import DataError
from shards.sampler import EMPTY, GlobalPlan, PartsPlan, World
from tests.shards.golden_order import golden, order

GOLDEN = Path(__file__).parents[1] / "golden" / "order.json"


def test_order_and_crops_never_change_between_versions_and_platforms():
    assert golden() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("num_samples", [*range(1, 130), 1000, 65_537])
def test_every_sample_once(num_samples):
    assert sorted(order(num_samples, seed=num_samples)) == list(range(num_samples))


def test_seeds_and_epochs_differ():
    orders = {tuple(order(50, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_orders_are_uniform():
    """All 24 orders of 4 samples, and where sample 0 lands among 10, come equally often
    (chi-square, p > 1e-4).
    """
    orders = [tuple(order(4, seed)) for seed in range(12_000)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4
    places = [order(10, 1, epoch).index(0) for epoch in range(5_000)]
    assert stats.chisquare(np.bincount(places, minlength=10)).pvalue > 1e-4


def test_neighbours_do_not_stay_together():
    """The step from one position to the next is as likely to be any other sample."""
    steps = np.concatenate([np.diff(order(101, 0, epoch)) % 101 for epoch in range(300)])
    assert stats.chisquare(np.bincount(steps, minlength=101)[1:]).pvalue > 1e-4


@settings(max_examples=150, deadline=None)
@given(
    num_samples=st.integers(1, 60),
    global_batch_size=st.integers(1, 70),
    num_ranks=st.integers(1, 9),
    shuffle=st.booleans(),
    epoch=st.integers(0, 5),
)
def test_ranks_share_the_global_batches(num_samples, global_batch_size, num_ranks, shuffle, epoch):
    one = GlobalPlan(num_samples, global_batch_size, 3, World(0, 1), shuffle)
    ranks = [
        GlobalPlan(num_samples, global_batch_size, 3, World(rank, num_ranks), shuffle)
        for rank in range(num_ranks)
    ]
    assert {plan.num_steps for plan in ranks} == {one.num_steps}
    seen = []
    for step in range(one.num_steps):
        whole = one.global_ids(epoch, step)
        parts = [plan.local_ids(epoch, step) for plan in ranks]
        assert {len(part) for part in parts} == {ranks[0].local_batch_size}
        together = np.concatenate(parts)
        np.testing.assert_array_equal(together[together != EMPTY], whole)
        seen += whole.tolist()
    assert sorted(seen) == list(range(num_samples))
    if not shuffle:
        assert seen == list(range(num_samples))


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 23), min_size=1, max_size=12).filter(sum),
    batch_size=st.integers(1, 9),
    machines=st.lists(st.sampled_from("abc"), min_size=1, max_size=9),
)
def test_parts_are_in_one_piece_and_keep_the_places_of_samples(sizes, batch_size, machines):
    """Each sample once, at the same place of its batch on any ranks; `uses` tells which shards a
    machine reads, which meet those of other ranks at the ends alone.
    """
    shard_sizes = np.array(sizes)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    num_samples = len(shard_of)
    num_ranks = len(machines)
    plans = [
        PartsPlan(
            num_samples,
            batch_size * num_ranks,
            0,
            World.on_machines(rank, machines),
            shard_sizes,
        )
        for rank in range(num_ranks)
    ]
    assert len({plan.num_steps for plan in plans}) == 1
    assert plans[0].num_steps == -(-num_samples // batch_size // num_ranks)
    seen: list[int] = []
    for rank, plan in enumerate(plans):
        own: list[int] = []
        uses = plan.uses(0).tolist()
        for step in range(plan.num_steps):
            ids = plan.local_ids(0, step)
            assert len(ids) == batch_size
            valid = ids != EMPTY
            assert (ids[valid] % batch_size == np.flatnonzero(valid)).all()
            assert plan.num_in(step) == sum(
                int((other.local_ids(0, step) != EMPTY).sum()) for other in plans
            )
            read = ids[valid] if valid.any() else plan.spare_ids(0, step)[:batch_size]
            assert len(read)
            due = {shard for first, last, shard in uses if first <= step <= last}
            assert set(shard_of[read].tolist()) <= due
            own += ids[valid].tolist()
        assert own == list(range(plan.own_ids(0)[0], plan.own_ids(0)[-1] + 1)) if own else True
        alone = PartsPlan(
            num_samples, batch_size * num_ranks, 0, World(rank, num_ranks), shard_sizes
        )
        if own:
            assert set(alone.uses(0)[:, 2].tolist()) == set(shard_of[own].tolist())
        seen += own
        assert rank in plan.world.local_ranks
    assert seen == list(range(num_samples))


def test_ranks_know_who_is_on_their_machine():
    machines = ["a", "b", "a", "b", "b"]
    worlds = [World.on_machines(rank, machines) for rank in range(5)]
    assert [world.local_ranks for world in worlds] == [
        (0, 2),
        (1, 3, 4),
        (0, 2),
        (1, 3, 4),
        (1, 3, 4),
    ]
    assert [world.num_local for world in worlds] == [2, 3, 2, 3, 3]
    assert [world.is_first_local for world in worlds] == [True, True, False, False, False]
    assert World(5, 8, 4).local_ranks == (4, 5, 6, 7)
    assert World(4, 6, 4).local_ranks == (4, 5)
    for wrong in ((1, 4, 0), (1, 4, 2, (2, 3)), (1, 4, 2, (1, 4))):
        with pytest.raises(DataError, match=r"num_local|local_ranks"):
            World(*wrong)


@pytest.mark.parametrize("size", [(500, 375), (200, 200), (100, 900), (640, 60), (9, 7)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 0.6)])
def test_crops_are_distributed_like_torchvisions(size, scale):
    """Two-sample Kolmogorov-Smirnov on each of x, y, width and height, p > 1e-4."""
    import torch

    num = 3_000
    width, height = size
    boxes, flips = random_resized_crops(
        np.arange(num), np.full(num, width), np.full(num, height), 1, 0, scale
    )
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(num)]
    )
    theirs = theirs[:, [1, 0, 3, 2]]  # top, left, height, width -> x, y, width, height
    for column in range(4):
        assert stats.ks_2samp(boxes[:, column], theirs[:, column], method="asymp").pvalue > 1e-4, (
            column
        )
    assert abs(flips.mean() - 0.5) < 0.05
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, 0] + boxes[:, 2] <= width).all()
    assert (boxes[:, 1] + boxes[:, 3] <= height).all()


def test_a_crop_depends_on_seed_epoch_and_sample_alone():
    sizes = np.full(8, 300)
    together, flips = random_resized_crops(np.arange(8), sizes, sizes, 1, 2, (0.08, 1.0))
    for sample in (5, 0, 7):
        alone, flip = random_resized_crops(
            np.array([sample]), sizes[:1], sizes[:1], 1, 2, (0.08, 1.0)
        )
        assert alone[0].tolist() == together[sample].tolist()
        assert flip[0] == flips[sample]
    assert (
        random_resized_crops(np.arange(8), sizes, sizes, 1, 3, (0.08, 1.0))[0].tolist()
        != together.tolist()
    )
    assert (
        random_resized_crops(np.arange(8), sizes, sizes, 2, 2, (0.08, 1.0))[0].tolist()
        != together.tolist()
    )


@pytest.mark.parametrize("world", [(-1, 1), (1, 1), (0, 0)])
def test_a_rank_outside_its_world_is_refused(world):
    with pytest.raises(DataError, match="is not in a world of"):
        World(*world)
