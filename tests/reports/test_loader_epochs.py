"""How people count batches: every epoch is another one, and no sample comes twice in it."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader

from shards.errors import DataError
from shards.loader import Loader


def islice(loader):
    return itertools.islice(loader, len(loader))


def zipped(loader):
    return (batch for _, batch in zip(range(len(loader)), loader, strict=False))


def counted(loader):
    batches = iter(loader)
    return (next(batches) for _ in range(len(loader)))


def ids_of(batches) -> list[int]:
    return torch.cat([batch.ids[batch.valid] for batch in batches]).tolist()


@pytest.mark.parametrize("all_of", [islice, zipped, counted])
@pytest.mark.parametrize("follows", [False, True])
def test_who_counts_the_batches_of_an_epoch_goes_on_to_the_next_one(index, all_of, follows):
    whole = Loader(index, 16, 32, num_threads=2)
    expected = [ids_of(whole) for _ in range(3)]
    loader = Loader(index, 16, 32, num_threads=2)
    loader.then(loader if follows else None)
    assert [ids_of(all_of(loader)) for _ in range(3)] == expected


def test_an_epoch_that_is_set_or_loaded_again_comes_again(index):
    loader = Loader(index, 16, 32, num_threads=2)
    first = ids_of(islice(loader))
    loader.set_epoch(0)
    assert ids_of(islice(loader)) == first
    state = loader.state_dict()
    second = ids_of(islice(loader))
    loader.load_state_dict(state)
    assert ids_of(islice(loader)) == second != first


def test_an_epoch_that_was_left_begins_again(index):
    loader = Loader(index, 16, 32, num_threads=2)
    first = ids_of(itertools.islice(loader, len(loader) - 1))
    assert ids_of(loader)[: len(first)] == first


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_of_another_dataloader_are_refused(index, num_workers):
    """Each would deliver every sample."""
    loader = Loader(index, 16, 32, num_threads=2)
    other = DataLoader(
        loader.dataset, None, num_workers=num_workers, multiprocessing_context="fork"
    )
    with pytest.raises(DataError, match=r"makes its batches in threads.*num_workers=0"):
        list(other)
