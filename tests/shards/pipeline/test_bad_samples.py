"""`on_bad_sample="skip"`: what cannot be read is left out, told once an epoch, weighs nothing, and
is bounded.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

from shards.errors import DataError, SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.bad_samples import most_skipped
from shards.sampler import World
from tests.loading import load

BAD = (3, 37, 38, 64)


def harm(index: DatasetIndex, numbers) -> None:
    """Overwrite the headers of some images."""
    for number in numbers:
        row = index.samples[number]
        with open(index.shard_path(int(row["shard"])), "r+b") as file:
            file.seek(int(row["offset"][0]) + 10)
            file.write(bytes(80))


@pytest.fixture(scope="module")
def harmed(packed, tmp_path_factory) -> DatasetIndex:
    root = tmp_path_factory.mktemp("harmed") / "train"
    shutil.copytree(packed, root)
    harm(DatasetIndex.open(root), BAD)
    return DatasetIndex.open(root)


@pytest.fixture
def many(monkeypatch):
    """Put up with more than one in a hundred."""
    monkeypatch.setattr("shards.pipeline.bad_samples.most_skipped", lambda _: 10)


def loader(index, **options) -> Loader:
    settings = {
        "global_batch_size": 16,
        "size": 32,
        "seed": 3,
        "on_bad_sample": "skip",
        "device": "cpu",
    }
    return load(index, **settings | options)


WAYS = [
    {"train": True},
    {"train": False},
    {"train": False, "five_crops": True},
    {"train": True, "augment": "pad", "cutout": 8},
    {"train": True, "cache": "ram"},
    {"train": False, "cache": "ram", "five_crops": True},
    {"train": True, "cache": "ram", "augment": "pad"},
    {"train": True, "cache": "device"},
    {"train": False, "cache": "device"},
]


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_bad_samples_are_left_out_and_all_others_are_as_ever(
    index, harmed, many, options, num_ranks
):
    worlds = [World(rank, num_ranks) for rank in range(num_ranks)]
    ranks = [
        list(loader(harmed, world=world, num_threads=1 + world.rank, **options)) for world in worlds
    ]
    whole = [list(loader(index, world=world, **options)) for world in worlds]
    seen, skipped = [], []
    for batches, originals in zip(ranks, whole, strict=True):
        for batch, original in zip(batches, originals, strict=True):
            bad = torch.isin(original.ids, torch.tensor(BAD))
            assert torch.equal(batch.valid, original.valid & ~bad)
            assert torch.equal(batch.ids, torch.where(bad, -1, original.ids))
            assert torch.equal(batch.known, original.known & ~bad[:, None])
            assert [each.id for each in batch.skipped] == original.ids[bad].tolist()
            lost = int(original.known[bad].sum())
            assert batch.num_known == original.num_known - lost
            views = batch.images.view(-1, len(batch.valid), *batch.images.shape[1:])
            clean = original.images.view(views.shape)
            good = batch.valid
            assert torch.equal(views[:, good], clean[:, good])
            # padding shows a photograph of this very batch
            for at in torch.nonzero(~good)[:, 0].tolist():
                assert (
                    not good.any()
                    or (views[:, good] == views[:, at : at + 1]).flatten(2).all(2).all(0).any()
                )
            seen += batch.ids[good].tolist()
            skipped += [each.id for each in batch.skipped]
    assert sorted(seen) == [number for number in range(70) if number not in BAD]
    assert sorted(skipped) == list(BAD)


def test_a_skipped_sample_is_named(harmed, many):
    told = {each.id: each for batch in loader(harmed) for each in batch.skipped}
    assert told[37].line() == f"{harmed.root}/train-000002.tar: sample 37%2E259: {told[37].reason}"
    assert "not a JPEG of the 17 x 15 pixels that the index tells" in told[37].reason


def test_every_epoch_and_every_resumption_skips_the_same(harmed, many):
    ours = loader(harmed)
    first, second = ([each.id for batch in ours for each in batch.skipped] for _ in range(2))
    assert sorted(first) == sorted(second) == list(BAD)
    resumed = loader(harmed, num_threads=5)
    resumed.load_state_dict({**ours.state_dict(), "epoch": 0, "step": 2})
    whole = loader(harmed)
    for _, (a, b) in enumerate(zip(list(whole)[2:], resumed, strict=True)):
        assert all(torch.equal(value, b.tensors()[name]) for name, value in a.tensors().items())


def test_past_one_in_a_hundred_it_stops(harmed):
    assert [most_skipped(n) for n in (1, 70, 199, 200, 5823)] == [1, 1, 1, 2, 58]
    with pytest.raises(
        SampleError,
        match=r"stopping: 2 of 70 samples could not be read \(limit 1\); list them with: "
        r"python -m preprocess\.verify",
    ):
        list(loader(harmed))


def test_no_rank_stops_alone(harmed):
    """Each knows only its own: the others would wait for it in the next exchange."""
    ranks = [loader(harmed, world=World(rank, 2)) for rank in range(2)]
    num_skipped = [sum(len(batch.skipped) for batch in rank) for rank in ranks]
    assert max(num_skipped) > most_skipped(70)
    assert sum(num_skipped) == len(BAD)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ESTALE, errno.EIO])
@pytest.mark.parametrize("on_bad_sample", ["skip", "stop"])
def test_what_the_system_refuses_is_no_bad_sample(packed, monkeypatch, number, on_bad_sample):
    """The shard may be whole: packing again would not help, and nothing may be left out for it."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("shards.index.open", refuse, raising=False)
    with pytest.raises(
        DataError,
        match=rf"train-00000\d\.tar: the shard cannot be read \({os.strerror(number)}\); ",
    ) as told:
        list(loader(DatasetIndex.open(packed), on_bad_sample=on_bad_sample))
    assert not isinstance(told.value, SampleError)
    assert "preprocess" not in str(told.value)
    assert "check this path" not in str(told.value)


def test_the_default_is_to_stop(harmed):
    with pytest.raises(
        SampleError, match=r"sample .*; run the same preprocess\.shard command again"
    ):
        list(loader(harmed, on_bad_sample="stop"))
    with pytest.raises(DataError, match="on_bad_sample is 'ignore': give stop or skip"):
        loader(harmed, on_bad_sample="ignore")


@pytest.mark.parametrize("cache", ["none", "ram", "device"])
def test_a_rank_whose_part_is_all_bad_shows_others_of_the_global_batch(harmed, many, cache):
    lonely = loader(harmed, train=False, global_batch_size=2, world=World(1, 2), cache=cache)
    whole = list(loader(harmed, train=False, global_batch_size=2, cache=cache))
    for batch, all_of_it in zip(lonely, whole, strict=True):
        if batch.skipped:
            assert not batch.valid.any()
            assert torch.equal(batch.images[0], all_of_it.images[0])


def test_a_batch_without_a_single_good_sample_stops(packed, tmp_path, many):
    root = Path(shutil.copytree(packed, tmp_path / "train"))
    harm(DatasetIndex.open(root), (8, 9))
    index = DatasetIndex.open(root)
    for cache in ("none", "ram", "device"):
        with pytest.raises(
            SampleError, match=r"no sample of this batch can be read, the last: .*sample"
        ):
            list(loader(index, train=False, global_batch_size=2, cache=cache))


def test_the_warm_up_leaves_bad_samples_to_their_turn(packed, tmp_path):
    root = Path(shutil.copytree(packed, tmp_path / "train"))
    index = DatasetIndex.open(root)
    ours = loader(index)
    harm(index, ours.plan.global_ids(0, 0)[:1].tolist())
    ours.warm_up()
    assert sum(len(batch.skipped) for batch in ours) == 1
