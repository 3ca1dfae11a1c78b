"""A loader of a script of one's own on several ranks: data doubled or divided twice, which no loss
shows.
"""

import os
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader

from shards.errors import DataError
from shards.loader import Loader
from shards.sampler import World
from tests.faults.launching import free_port

PREPARED = """
import sys
import torch
from accelerate import Accelerator, skip_first_batches
from shards.errors import DataError
from shards.loader import Loader
from shards.sampler import World
accelerator = Accelerator(cpu=True)
rank, num_ranks = accelerator.process_index, accelerator.num_processes
loader = Loader(sys.argv[1], 16, 32, world=World(rank, num_ranks))
loader = accelerator.prepare(loader)
try:
    next(iter(skip_first_batches(loader, 1)))
except DataError as error:
    print("refused:", error)
ids = accelerator.gather(torch.cat([batch.ids for batch in loader]))
print("together:", sorted(ids[ids >= 0].tolist()))
"""


def on_two_ranks(*args: str) -> list[str]:
    """Run Python twice, as a launcher does; return what each rank printed."""
    given = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, *args],
            env={**given, "RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return [rank.communicate(timeout=240)[0] for rank in ranks]


@pytest.fixture
def launched(monkeypatch):
    """The variables that torchrun and accelerate launch set."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_no_world_on_one_of_several_ranks(index, launched):
    with pytest.raises(
        DataError,
        match=r"one of 2 ranks, .* no world: give world=World\(rank, 2\) .* or world=World",
    ):
        Loader(index)


def test_a_world_that_is_given_is_taken(index, launched):
    assert (
        sum(int(batch.valid.sum()) for batch in Loader(index, 16, 32, world=World(1, 2)))
        < index.num_samples
    )
    assert (
        sum(int(batch.valid.sum()) for batch in Loader(index, 16, 32, world=World()))
        == index.num_samples
    )


@pytest.mark.parametrize("variables", [{}, {"RANK": "0", "WORLD_SIZE": "1"}, {"WORLD_SIZE": "4"}])
def test_one_process_needs_no_world(index, monkeypatch, variables):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loader = Loader(index, 16, 32)
    assert loader.plan.world == World()
    assert (
        sum(int(batch.valid.sum()) for batch in DataLoader(loader.dataset, batch_size=None))
        == index.num_samples
    )


def test_another_dataloader_over_it(index, launched):
    loader = Loader(index, 16, 32, world=World(1, 2))
    with pytest.raises(
        DataError, match=r"its part already: .* skip_first_batches .* may divide it again"
    ):
        next(iter(DataLoader(loader.dataset, batch_size=None)))


@pytest.mark.slow
def test_accelerate_prepares_it_on_two_ranks(index):
    """One rank read for all, and failed: `Can only concatenate tensors but got <class 'int'>`."""
    for printed in on_two_ranks("-c", PREPARED, str(index.root)):
        assert "refused: this loader gives each of 2 ranks its part already" in printed
        assert f"together: {list(range(index.num_samples))}" in printed
