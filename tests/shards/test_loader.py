"""What the loader promises: exactly once, the same on any threads and ranks, memory that is never
overwritten.
"""

import gc
import random
import re
import shutil
import threading
import weakref
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shards.dataset import ShardDataset
from shards.errors import DataError, SampleError
from shards.index import DatasetIndex
from shards.loader import Cache, Loader, Order, View
from shards.pipeline.buffers import PinnedRing
from shards.pipeline.copy_ahead import OnDevice
from shards.pipeline.making import BATCHES_AHEAD
from shards.sampler import World
from tests.conftest import CLASSES, pack, write_photographs
from tests.loading import load
from tests.shards.left_behind import still_running


def loader(index, **options) -> Loader:
    return load(index, **{"global_batch_size": 16, "size": 32, "seed": 3, **options})


def same(a, b) -> bool:
    mine, other = a.tensors(), b.tensors()
    return a.num_known == b.num_known and all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("train", [True, False])
def test_every_sample_once_with_its_own_labels(index, train):
    ids = []
    for batch in loader(index, train=train):
        assert batch.images.shape == (16, 3, 32, 32)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.dtype == torch.float32
        valid = batch.valid.numpy()
        rows = batch.ids.numpy()[valid]
        np.testing.assert_array_equal(batch.labels.numpy()[valid], index.labels(rows))
        np.testing.assert_array_equal(batch.known.numpy()[valid], index.known(rows))
        assert not batch.known[~batch.valid].any()
        assert (batch.ids[~batch.valid] == -1).all()
        assert batch.num_known == int(index.known(rows).sum())
        ids += rows.tolist()
    assert sorted(ids) == list(range(index.num_samples))
    assert (ids == sorted(ids)) is not train


def test_it_is_a_dataloader(index):
    ours = loader(index)
    assert isinstance(ours, DataLoader)
    assert len(ours) == 5
    with pytest.raises(AttributeError, match="pixels"):
        _ = next(iter(ours)).pixels


def test_padding_repeats_photographs(index):
    last = list(loader(index))[-1]
    assert last.valid.sum() == 6
    assert torch.equal(last.images[6:12], last.images[:6])


@pytest.mark.parametrize("train", [True, False])
def test_threads_change_nothing(index, train):
    one, two, five = (list(loader(index, train=train, num_threads=n)) for n in (1, 2, 5))
    assert all(same(a, b) and same(a, c) for a, b, c in zip(one, two, five, strict=True))


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_ranks_together_see_what_one_sees(index, num_ranks):
    ranks = [list(loader(index, world=World(rank, num_ranks))) for rank in range(num_ranks)]
    for whole, *parts in zip(loader(index), *ranks, strict=True):
        for name in ("ids", "images", "labels"):
            together = torch.cat([getattr(part, name)[part.valid] for part in parts])
            assert torch.equal(together, getattr(whole, name)[whole.valid]), name
        assert {part.num_known for part in parts} == {whole.num_known}


def test_epochs_differ_and_come_back(index):
    ours = loader(index)
    first, second = list(ours), list(ours)  # an epoch read to its end moves on to the next
    assert not torch.equal(first[0].ids, second[0].ids)
    ours.set_epoch(0)
    assert all(same(a, b) for a, b in zip(first, ours, strict=True))


def test_a_left_epoch_starts_again(index):
    ours = loader(index)
    first = next(iter(ours))
    assert same(first, next(iter(ours)))


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_state_resumes_in_the_middle_on_other_ranks(index, stop):
    ours = loader(index)
    ours.set_epoch(2)
    iterator = iter(ours)
    for _ in range(stop):
        next(iterator)
    state = ours.state_dict()
    assert (state["epoch"], state["step"]) == (2, stop)
    iterator.close()
    whole = loader(index)
    whole.set_epoch(2)
    rest = list(whole)[stop:]
    if stop == len(ours):  # the epoch is over: the next one follows
        rest = list(whole)
    resumed = [loader(index, world=World(rank, 2)) for rank in range(2)]
    for one in resumed:
        one.load_state_dict(state)
    for expected, a, b in zip(rest, *resumed, strict=True):
        ids = torch.cat([a.ids[a.valid], b.ids[b.valid]])
        assert torch.equal(ids, expected.ids[expected.valid])


def test_another_order_is_refused(index):
    state = loader(index).state_dict()
    with pytest.raises(DataError, match="the saved order has seed 3, this loader 4"):
        loader(index, seed=4).load_state_dict(state)
    with pytest.raises(DataError, match="global_batch_size 16, this loader 8"):
        loader(index, global_batch_size=8).load_state_dict(state)


def test_a_kept_batch_is_never_overwritten(index):
    ours = loader(index, global_batch_size=2)
    kept = [batch.images for batch in ours]  # every batch of an epoch, more than are ever in flight
    views = [images[0, 0] for images in kept]
    copies = [images.clone() for images in kept]
    del kept
    for _ in range(2):
        for batch in ours:
            del batch
    assert all(torch.equal(view, copy[0, 0]) for view, copy in zip(views, copies, strict=True))


def test_slots_are_used_again(index):
    ours = loader(index, global_batch_size=2, num_threads=2)
    for _ in range(3):
        for batch in ours:
            del batch
    # being made, ahead, handed out, in the loop's hands
    assert ours.maker.ring.num_slots <= 2 + BATCHES_AHEAD + 2


def test_no_thread_stays_behind(index):
    before = set(threading.enumerate())
    iterator = iter(loader(index, num_threads=4))
    next(iterator)
    iterator.close()
    list(loader(index, num_threads=3))
    gc.collect()
    assert still_running(before) == []


def test_global_randomness_is_left_alone(index):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(loader(index))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


@pytest.mark.parametrize(
    "options", [{"global_batch_size": 500}, {"num_threads": 9, "global_batch_size": 64}]
)
def test_odd_proportions(index, options):
    batches = list(loader(index, **options))
    assert sum(int(batch.valid.sum()) for batch in batches) == index.num_samples


def test_fewer_samples_than_ranks(tmp_path):
    pack(write_photographs(tmp_path / "photos", 1), tmp_path / "train")
    index = DatasetIndex.open(tmp_path / "train")
    batches = [next(iter(loader(index, world=World(rank, 3)))) for rank in range(3)]
    assert [int(batch.valid.sum()) for batch in batches] == [1, 0, 0]
    # padding is a photograph there, too
    assert torch.equal(batches[0].images[0], batches[2].images[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"global_batch_size": 0}, "global_batch_size is 0"),
        ({"size": 0}, "size is 0"),
        ({"num_threads": -1}, "num_threads is -1: give at least 1, or 0 for one per core"),
        ({"scale": (0.9, 0.1)}, r"crop_scale is \(0\.9, 0\.1\)"),
        ({"crop_share": 1.5}, "crop_share is 1.5"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_options_out_of_range(index, options, says):
    with pytest.raises(DataError, match=says):
        loader(index, **options)


def test_a_damaged_image_stops_with_shard_and_key(packed, tmp_path):
    root = tmp_path / "train"
    shutil.copytree(packed, root)
    index = DatasetIndex.open(root)
    row = index.samples[37]
    with open(index.shard_path(int(row["shard"])), "r+b") as file:
        file.seek(int(row["offset"][0]) + 10)
        file.write(bytes(80))
    damaged = DatasetIndex.open(root)
    with pytest.raises(
        SampleError, match=rf"train-000002\.tar: sample {index.key(37)}: .*preprocess\.shard"
    ):
        list(loader(damaged, num_threads=2))
    with pytest.raises(SampleError, match=index.key(37)):
        ShardDataset(damaged)[37]


@pytest.mark.slow
def test_map_style_dataset_in_worker_processes(index):
    dataset = ShardDataset(index)
    workers = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    for number, (image, labels, known, key) in enumerate(workers):
        assert key == index.key(number)
        np.testing.assert_array_equal(image, dataset[number][0])
        np.testing.assert_array_equal(labels, index.labels()[number].astype(np.float32))
        np.testing.assert_array_equal(known, index.known()[number])
    assert number == len(dataset) - 1
    assert len(labels) == len(CLASSES)
    np.testing.assert_array_equal(dataset[-1][0], dataset[len(dataset) - 1][0])
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
def test_a_loader_ends_with_its_last_user(index, cache):
    """Not when the garbage collector comes: a cache may be most of the memory."""
    gone = loader(index, cache=cache, device="cpu")
    for _ in zip(range(2), gone, strict=False):
        pass
    gc.collect()
    gc.disable()
    try:
        ends = [weakref.ref(each) for each in (gone, gone.maker)]
        del gone
        assert [end() for end in ends] == [None, None]
    finally:
        gc.enable()


def test_what_torch_is_told_of_goes_on_without_its_loader(index):
    """Others wrap `dataset` in a DataLoader of their own and let ours go."""
    expected = [batch.ids.tolist() for batch in loader(index)]
    assert [
        batch.ids.tolist() for batch in DataLoader(loader(index).dataset, batch_size=None)
    ] == expected


def test_memory_is_pinned_for_a_gpu_alone(index, monkeypatch):
    """On a machine with a GPU, a run on the CPU needs no CUDA context."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    devices = (None, "cuda", "cuda:0", "cpu")
    pinned = {
        device: isinstance(loader(index, device=device).maker.ring, PinnedRing)
        for device in devices
    }
    assert pinned == {None: True, "cuda": True, "cuda:0": True, "cpu": False}
    loader(index, device="cpu").warm_up()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_cross_to_the_gpu_unchanged(index):
    device = torch.device("cuda")
    for here, there in zip(loader(index), OnDevice(loader(index), device), strict=True):
        assert there.images.device.type == "cuda"
        assert here.images.is_pinned()
        assert torch.equal(here.images, there.images.cpu())
        assert torch.equal(here.labels, there.labels.cpu())


def test_a_state_of_another_order_is_refused(index):
    """In both directions, with other groups, and in shards of other sizes; not one that names no
    order, as earlier releases wrote.
    """
    near = Loader(index, size=32, order=Order("near", 2))
    plain = Loader(index, size=32)
    with pytest.raises(DataError, match="the saved order has order near, this loader global"):
        plain.load_state_dict(near.state_dict())
    with pytest.raises(DataError, match="the saved order has order global, this loader near"):
        near.load_state_dict(plain.state_dict())
    with pytest.raises(DataError, match="the saved order has shuffle_groups 2, this loader 3"):
        Loader(index, size=32, order=Order("near", 3)).load_state_dict(near.state_dict())
    larger = replace(index, shards=(replace(index.shards[0], num_samples=17), *index.shards[1:]))
    with pytest.raises(DataError, match="the saved order has shard_sizes"):
        Loader(larger, size=32, order=Order("near", 2)).load_state_dict(
            {**near.state_dict(), "num_samples": 70}
        )
    plain.load_state_dict(
        {name: plain.state_dict()[name] for name in plain.state_dict() if name != "order"}
    )


def test_a_state_of_something_else_is_refused(index):
    with pytest.raises(DataError, match="the saved order has seed None"):
        Loader(index, size=32).load_state_dict({"epoch": 0, "step": 1})


def test_an_iteration_that_its_own_thread_collects_does_not_wait_for_itself(index):
    """The garbage collector ends an abandoned iteration in whichever thread it happens to run."""
    iterator = iter(Loader(index, global_batch_size=8, size=32, num_threads=2))
    next(iterator)
    making = iterator.gi_frame.f_locals["making"]
    ended = threading.Event()

    def stop_from_inside():
        making.stop()
        ended.set()

    thread = threading.Thread(target=stop_from_inside)
    making._threads.append(thread)
    thread.start()
    assert ended.wait(60)
    iterator.close()


def test_a_batch_is_frozen_and_its_tensors_move_together(index):
    batch = next(iter(loader(index)))
    with pytest.raises(FrozenInstanceError):
        batch.num_known = 0
    there = batch.to("cpu")
    assert set(batch.tensors()) == {"images", "labels", "known", "valid", "ids"}
    assert (there.num_known, there.skipped) == (batch.num_known, batch.skipped)
    assert all(torch.equal(value, there.tensors()[name]) for name, value in batch.tensors().items())


def test_nothing_is_kept_of_a_batch_that_was_handed_out(index):
    """The consumer's reference is the only one: while it waits for the next batch the buffer is
    free again.
    """
    batches = OnDevice(loader(index), torch.device("cpu"))
    for _ in range(3):
        images = weakref.ref(next(batches).images)
        assert images() is None


def test_the_documented_call_is_a_view_of_its_size(index):
    short = Loader(
        index,
        global_batch_size=16,
        size=32,
        train=True,
        seed=3,
        world=World(0, 1),
        num_threads=2,
        scale=(0.3, 1),
    )
    for ours in (short, Loader(index, 16, 32, True, 3, World(), 2, (0.3, 1.0))):
        assert ours.maker.view == View(32, scale=(0.3, 1.0))
    assert same(
        next(iter(short)), next(iter(Loader(index, 16, seed=3, view=View(32, scale=(0.3, 1.0)))))
    )
    kept = Loader(index, 16, 32, seed=3, cache="ram")
    assert same(next(iter(kept)), next(iter(Loader(index, 16, 32, seed=3, cache=Cache("ram")))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size is 0: give at least 1"),
        ({"augment": "auto"}, "augment is 'auto': give crop or pad"),
        ({"augment": "pad", "size": 8, "pad": 8}, "pad is 8: an image of 8 pixels"),
        ({"cutout": 500}, "cutout is 500"),
        ({"crop_share": 1.5, "train": False}, "crop_share is 1.5"),
        ({"scale": (0.5, 0.1)}, "crop_scale is"),
        ({"five_crops": True}, "five_crops is for evaluation"),
        ({"bands": "nir"}, "bands is 'nir': give all or rgb"),
    ],
)
def test_a_view_checks_itself(options, words):
    with pytest.raises(DataError, match=re.escape(words)):
        View(**options)


def test_a_cache_checks_itself_and_its_view(index):
    with pytest.raises(DataError, match="cache is 'disk': give none, ram or device"):
        Cache("disk")
    with pytest.raises(DataError, match="cache_short_side is -1"):
        Cache("ram", -1)
    with pytest.raises(DataError, match="augment pad keeps images at their size"):
        Loader(index, 16, view=View(32, augment="pad"), cache=Cache("ram", 40))


@pytest.mark.parametrize("beside", [{"size": 32}, {"train": False}, {"scale": (0.5, 1.0)}])
def test_what_a_view_says_is_not_said_beside_it(index, beside):
    with pytest.raises(DataError, match="size, train and scale are the view's"):
        Loader(index, 16, view=View(48), **beside)
