"""Loaders whose images grow by epoch: each epoch is that of a loader of its size."""

import threading

import pytest
import torch

from shards.errors import DataError
from shards.loader import Loader
from shards.pipeline.batch_maker import BatchMaker
from shards.pipeline.buffers import PinnedRing
from shards.pipeline.making import BATCHES_AHEAD
from tests.loading import load

SIZES = (24, 40, 64)


def size_of(epoch: int) -> int:
    return SIZES[min(epoch, 2)]


def growing(index, **options) -> Loader:
    given = {"global_batch_size": 16, "size": 64, "seed": 3, "size_at": size_of, **options}
    return load(index, **given)


def of_one_size(index, epoch: int, **options) -> Loader:
    loader = growing(index, **{**options, "size_at": None, "size": size_of(epoch)})
    loader.set_epoch(epoch)
    return loader


def assert_same(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        for name, value in one.tensors().items():
            assert torch.equal(value, other.tensors()[name]), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_threads": 3, "cutout": 9},
        {"augment": "pad", "pad": 3},
        # kept at one side, whatever the size of the crops
        {"cache": "ram", "cache_short_side": 48},
        {"cache": "device", "cache_short_side": 48, "device": "cpu"},
    ],
    ids=str,
)
def test_each_epoch_is_that_of_a_loader_of_its_size(index, options):
    ours = growing(index, **options)
    for epoch in range(4):
        assert_same(ours, of_one_size(index, epoch, **options))


def test_batches_are_channels_last_at_every_size(index):
    ours = growing(index)
    for epoch in range(3):
        batch = next(iter(ours))
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.shape[2:] == (size_of(epoch),) * 2
        ours.set_epoch(epoch + 1)


def test_threads_may_make_batches_of_two_epochs_at_the_same_time(index):
    """As whoever makes the next epoch's first batches before this one has ended."""
    maker = growing(index).maker
    made = {}

    def make(epoch: int) -> None:
        for _ in range(10):
            for step in range(3):
                made[epoch, step] = maker.make(epoch, step)

    threads = [threading.Thread(target=make, args=(epoch,)) for epoch in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for epoch in range(3):
        expected = of_one_size(index, epoch).maker
        for step in range(3):
            assert torch.equal(made[epoch, step].images, expected.make(epoch, step).images)


def test_all_sizes_share_the_same_memory(index):
    ours = growing(index, global_batch_size=2, num_threads=2)
    for _ in range(4):
        for batch in ours:
            del batch
    assert ours.maker.ring.num_slots <= 2 + BATCHES_AHEAD + 2


def test_a_kept_batch_is_never_overwritten_by_a_larger_one(index):
    ours = growing(index, global_batch_size=2)
    kept = [batch.images for batch in ours]
    copies = [images.clone() for images in kept]
    for _ in range(2):
        for batch in ours:
            del batch
    assert all(torch.equal(one, other) for one, other in zip(kept, copies, strict=True))


def test_slots_for_a_gpu_are_cut_to_size_too(index, monkeypatch):
    monkeypatch.setattr(
        "shards.pipeline.buffers._new_memory",
        lambda shape, num_bytes, pinned=False: torch.empty(num_bytes, dtype=torch.uint8),
    )
    plain = growing(index).maker
    maker = BatchMaker(index, plain.plan, plain.view, pinned=True, size_at=size_of)
    assert isinstance(maker.ring, PinnedRing)
    for epoch in range(3):
        assert torch.equal(maker.make(epoch, 0).images, plain.make(epoch, 0).images)


def test_a_state_goes_on_in_the_middle_of_an_epoch(index):
    ours = growing(index)
    ours.set_epoch(1)
    iterator = iter(ours)
    next(iterator)
    state = ours.state_dict()
    iterator.close()
    resumed = growing(index, num_threads=1)
    resumed.load_state_dict(state)
    assert_same(resumed, list(of_one_size(index, 1))[1:])
    assert_same(resumed, of_one_size(index, 2))


def test_what_cannot_grow_is_refused_in_one_line(index):
    for cache in ("ram", "device"):
        with pytest.raises(DataError, match=f"^cache is {cache}, which keeps the finished images"):
            growing(index, augment="pad", cache=cache, device="cpu")
    with pytest.raises(DataError, match="size_at says 64 pixels in epoch 2: give a view of the"):
        growing(index, size=40).maker.make(2, 0)
    with pytest.raises(DataError, match="size is 0"):
        growing(index, size_at=lambda _: 0).maker.make(0, 0)
