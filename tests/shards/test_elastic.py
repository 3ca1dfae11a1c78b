"""Ranks, threads, shards and stops change nothing: the same samples with the same crops in every
global batch.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.disk.format import INDEX_NAME, SAMPLES_NAME
from shards.disk.writer import Sample, ShardWriter
from shards.index import DatasetIndex
from shards.loader import Loader, Order
from shards.order.near_order import EMPTY, NearOrder
from shards.order.permutation import shuffled
from shards.pipeline.batch import Batch
from shards.pipeline.reader import ShardReader
from shards.sampler import World
from tests.conftest import pack, write_photographs
from tests.version_1 import as_version_1

RANKS = (1, 2, 3, 4, 7)
THREADS = (1, 2, 5)
SEED = 5
GLOBAL = Order("global")


def reshard(index: DatasetIndex, sizes: Sequence[int], root: Path) -> DatasetIndex:
    """Write the first sum(sizes) samples anew, in shards of the given numbers of samples; 0 makes
    an empty one.
    """
    reader, num_samples = ShardReader(index), sum(sizes)
    samples = np.array(index.samples[:num_samples])
    root.mkdir(parents=True)
    entries, at = [], 0
    for number, size in enumerate(sizes):
        writer = ShardWriter(root / f"train-{number:06d}.tar")
        for row in index.samples[at : at + size]:
            data = bytes(reader.member(row, 0))
            writer.add(
                Sample(
                    row["key"].decode(),
                    {"jpg": data},
                    (),
                    (),
                    int(row["width"]),
                    int(row["height"]),
                    "",
                )
            )
        sha256 = writer.close()
        part = samples[at : at + size]
        part["shard"], part["offset"] = (
            number,
            np.reshape([row.offset for row in writer.rows], part["offset"].shape),
        )
        num_bytes = writer.path.stat().st_size
        entries.append(
            {"name": writer.path.name, "bytes": num_bytes, "num_samples": size, "sha256": sha256}
        )
        at += size
    np.save(root / SAMPLES_NAME, samples)
    described = json.loads((index.root / INDEX_NAME).read_bytes())
    (root / INDEX_NAME).write_text(
        json.dumps({**described, "num_samples": num_samples, "shards": entries})
    )
    return DatasetIndex.open(root)


class Photographs:
    """26 photographs in shards of any sizes, and what a rank alone, with one thread, makes of each
    of them.
    """

    def __init__(self, folder: Path) -> None:
        pack(write_photographs(folder / "photos", 26), folder / "whole")
        # whose shards are listed with their names, and whose rows are one table
        self.whole = DatasetIndex.open(as_version_1(folder / "whole"))
        self.in_shards = cache(
            lambda sizes: reshard(self.whole, sizes, folder / "-".join(map(str, sizes)))
        )
        self.pictures = cache(self._pictures)

    def _pictures(self, epoch: int, train: bool, cache: str) -> dict[int, torch.Tensor]:
        alone = Loader(self.whole, 1, size=16, train=train, seed=SEED, num_threads=1, cache=cache)
        alone.set_epoch(epoch)
        return {int(batch.ids): batch.images[0].clone() for batch in alone}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Photographs:
    return Photographs(tmp_path_factory.mktemp("elastic"))


def ranks_of(
    index, num_ranks: int, num_threads: int, global_batch_size: int, **options
) -> list[Loader]:
    """The loaders of all ranks of a run."""
    worlds = [World(rank, num_ranks) for rank in range(num_ranks)]
    options = {"size": 16, "seed": SEED, "num_threads": num_threads, **options}
    return [Loader(index, global_batch_size, world=world, **options) for world in worlds]


@dataclasses.dataclass(frozen=True)
class Global:
    """What all ranks together saw in one step."""

    ids: list[int]
    images: torch.Tensor
    num_known: int


def together(parts: Sequence[Batch]) -> Global:
    """Put the parts of a global batch together; padding must be marked, and weigh nothing."""
    if parts[0].num_known_is_local:  # to be added up, as the trainer does
        num_known = sum(part.num_known for part in parts)
        parts = [dataclasses.replace(part, num_known=num_known) for part in parts]
    assert len({part.num_known for part in parts}) == 1
    assert len({part.images.shape for part in parts}) == 1
    for part in parts:
        assert (part.ids[~part.valid] == -1).all()
        assert not part.known[~part.valid].any()
    assert sum(int(part.known.sum()) for part in parts) == parts[0].num_known
    ids = torch.cat([part.ids[part.valid] for part in parts]).tolist()
    return Global(ids, torch.cat([part.images[part.valid] for part in parts]), parts[0].num_known)


def rest_of_epoch(loaders: Sequence[Loader], num_steps: int | None = None) -> list[Global]:
    """Take `num_steps` global batches, or all there are; then leave the epoch as a stopped run
    does.
    """
    iterators = [iter(loader) for loader in loaders]
    num_steps = len(loaders[0]) if num_steps is None else num_steps
    seen = []
    for _ in range(num_steps):
        parts = [next(iterator, None) for iterator in iterators]
        if parts[0] is None:
            assert parts == [None] * len(parts)  # every rank makes the same number of steps
            break
        seen.append(together(parts))
    for iterator in iterators:
        iterator.close()
    return seen


def order_of(near: tuple[int, int] | None, global_batch_size: int) -> Order:
    """The order of a run."""
    if near is None:
        return Order("global")
    return Order("near", min(near[0], global_batch_size), near[1])


def plain_order(index, global_batch_size: int, epoch: int, order: Order) -> np.ndarray:
    """The whole epoch, from the function of its order."""
    if order.kind == "global":
        return shuffled(np.arange(index.num_samples), index.num_samples, SEED, epoch)
    near = NearOrder(index.shard_sizes, global_batch_size, order.groups, order.window, SEED)
    steps = range(-(-index.num_samples // global_batch_size))
    slots = np.concatenate([near.fill(epoch, step, 0, global_batch_size) for step in steps])
    ids = slots[slots != EMPTY]
    assert sorted(ids.tolist()) == list(range(index.num_samples))
    return ids


def assert_plain(
    seen: Sequence[Global],
    index,
    pictures,
    global_batch_size: int,
    epoch: int,
    shuffle: bool,
    order: Order = GLOBAL,
) -> None:
    """Compare with the plain reference: the order from its function, the picture of each sample
    made alone.
    """
    expected = np.arange(index.num_samples)
    if shuffle:
        expected = plain_order(index, global_batch_size, epoch, order)
    assert [sample for batch in seen for sample in batch.ids] == expected.tolist()
    assert [len(batch.ids) for batch in seen[:-1]] == [global_batch_size] * (len(seen) - 1)
    assert_pictures(seen, index, pictures)


def assert_pictures(seen: Sequence[Global], index, pictures) -> None:
    """Compare with the picture of each sample made alone."""
    for batch in seen:
        assert batch.num_known == int(index.known(np.array(batch.ids)).sum())
        assert torch.equal(batch.images, torch.stack([pictures[sample] for sample in batch.ids]))


SHARDS = st.one_of(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.just([1, 2, 3, 4, 5, 6]),
    st.just([0, 3, 0, 0, 1, 0]),
    st.just([1] * 9),
).filter(any)
# groups and windows of the near order; None is the global one
NEAR = st.one_of(st.none(), st.tuples(st.integers(1, 6), st.integers(1, 3)))
OPTIONS = st.fixed_dictionaries({"train": st.booleans(), "cache": st.sampled_from(["none", "ram"])})
RUN = st.tuples(st.sampled_from(RANKS), st.sampled_from(THREADS))
bounded = settings(max_examples=100, deadline=None)


@pytest.mark.slow
@bounded
@given(
    sizes=SHARDS,
    run=RUN,
    global_batch_size=st.integers(1, 24),
    epoch=st.integers(0, 3),
    options=OPTIONS,
    near=NEAR,
)
def test_ranks_threads_and_shards_change_nothing(
    photographs, sizes, run, global_batch_size, epoch, options, near
):
    index = photographs.in_shards(tuple(sizes))
    order = order_of(near, global_batch_size)
    loaders = ranks_of(index, *run, global_batch_size, order=order, **options)
    for loader in loaders:
        loader.set_epoch(epoch)
    seen = rest_of_epoch(loaders)
    if order.kind == "near" and not options["train"]:  # each rank evaluates a part in one piece
        ids = [sample for batch in seen for sample in batch.ids]
        assert sorted(ids) == list(range(index.num_samples))
        assert_pictures(seen, index, photographs.pictures(epoch, **options))
        return
    assert len(seen) == len(loaders[0]) == -(-index.num_samples // global_batch_size)
    assert_plain(
        seen,
        index,
        photographs.pictures(epoch, **options),
        global_batch_size,
        epoch,
        options["train"],
        order,
    )


@pytest.mark.slow
@bounded
@given(
    sizes=SHARDS,
    runs=st.lists(RUN, min_size=2, max_size=4),
    global_batch_size=st.integers(1, 12),
    epoch=st.integers(0, 3),
    options=OPTIONS,
    near=NEAR,
    data=st.data(),
)
def test_a_run_may_stop_anywhere_and_go_on_with_any_ranks(
    photographs, sizes, runs, global_batch_size, epoch, options, near, data
):
    """Each run takes some steps, stops, and hands its state, as JSON, to the next; the last goes to
    the epoch's end.
    """
    index = photographs.in_shards(tuple(sizes))
    # evaluation in parts is of one number of ranks: its state is refused on another
    order = order_of(near if options["train"] else None, global_batch_size)
    seen, state = [], None
    for number, run in enumerate(runs):
        loaders = ranks_of(index, *run, global_batch_size, order=order, **options)
        for loader in loaders:
            loader.set_epoch(epoch)
            if state is not None:
                loader.load_state_dict(state)
        left = len(loaders[0]) - len(seen)
        is_last = number == len(runs) - 1
        seen += rest_of_epoch(
            loaders, None if is_last else data.draw(st.integers(0, left - 1), label="steps")
        )
        states = [loader.state_dict() for loader in loaders]
        if not is_last:
            assert all(one == states[0] for one in states)
            assert (states[0]["epoch"], states[0]["step"]) == (epoch, len(seen))
            state = json.loads(json.dumps(states[0]))
    assert_plain(
        seen,
        index,
        photographs.pictures(epoch, **options),
        global_batch_size,
        epoch,
        options["train"],
        order,
    )


@pytest.mark.parametrize("num_ranks", RANKS)
def test_a_rank_of_the_near_order_opens_no_shard_of_others(photographs, num_ranks):
    """Neither for its samples nor to fill up its batches, to the last: what others have is on other
    machines.
    """
    index = photographs.in_shards((2,) * 13)
    for loader in ranks_of(index, num_ranks, 1, 7, order=Order("near", 7)):
        planned = {shard for _, _, shard in loader.plan.uses(0).tolist()}
        for _ in loader:
            pass
        opened = set(loader.maker._reader._maps)
        assert opened == planned
        assert num_ranks == 1 or len(planned) < 13


@pytest.mark.parametrize("num_ranks", RANKS)
def test_a_last_global_batch_of_one_sample(photographs, num_ranks):
    index = photographs.in_shards((6, 5))
    seen = rest_of_epoch(ranks_of(index, num_ranks, 2, 5))
    assert [len(batch.ids) for batch in seen] == [5, 5, 1]
    assert_plain(seen, index, photographs.pictures(0, train=True, cache="none"), 5, 0, True)


def test_the_format_may_hold_empty_shards(photographs):
    index = photographs.in_shards((0, 3, 0, 0, 1, 0))
    assert [shard.num_samples for shard in index.shards] == [0, 3, 0, 0, 1, 0]
    assert index.keys().tolist() == photographs.whole.keys().tolist()[:4]
