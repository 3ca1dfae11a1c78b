"""What the loader says of shards that are sorted by label: against counts of real batches."""

from dataclasses import replace

import numpy as np
import pytest

from shards.index import DatasetIndex
from shards.loader import Loader, Order
from shards.order.mixing import sampled_correlation, shard_correlation, variance_ratio
from shards.order.near_order import NearOrder
from shards.sampler import World
from tests.conftest import pack, write_photographs

NUM_SHARDS, SIZE = 256, 100


def counted(order: NearOrder, labels: np.ndarray, num_batches: int) -> float:
    """The variance of the class counts of so many batches in a row, over that of a global
    shuffle.
    """
    num = num_batches * order.global_batch_size
    steps = range(order.num_samples // order.global_batch_size)
    classes = int(labels.max()) + 1
    share = np.bincount(labels) / len(labels)
    found = []
    for epoch in range(3):
        ids = [order.fill(epoch, step, 0, order.global_batch_size) for step in steps]
        seen = np.concatenate(ids)
        seen = seen[: len(seen) // num * num].reshape(-1, num)
        counts = np.stack([np.bincount(labels[batch], minlength=classes) for batch in seen])
        found.append(((counts - num * share) ** 2).mean(0).sum())
    expected = num * share * (1 - share) * (len(labels) - num) / (len(labels) - 1)
    return float(np.mean(found) / expected.sum())


@pytest.mark.parametrize(("groups", "window"), [(16, 1), (8, 4), (32, 1)])
@pytest.mark.parametrize("num_classes", [20, 500])
def test_the_variance_of_sorted_shards_is_as_estimated(groups, window, num_classes):
    labels = np.arange(NUM_SHARDS * SIZE) * num_classes // (NUM_SHARDS * SIZE)
    order = NearOrder(np.full(NUM_SHARDS, SIZE), 64, groups, window, seed=3)
    correlation = correlation_of(labels)
    for num_batches in (1, 10):
        estimate = variance_ratio(order, correlation, num_batches)
        assert estimate == pytest.approx(counted(order, labels, num_batches), rel=0.35)
    assert variance_ratio(order, correlation, 10) > 3


def test_shuffled_shards_are_as_a_global_shuffle():
    labels = np.random.default_rng(0).permutation(np.arange(NUM_SHARDS * SIZE) % 20)
    order = NearOrder(np.full(NUM_SHARDS, SIZE), 64, 16, 1, seed=3)
    assert counted(order, labels, 10) == pytest.approx(1, abs=0.2)
    assert variance_ratio(order, correlation_of(labels), 10) == pytest.approx(1, abs=0.2)


def correlation_of(labels: np.ndarray) -> float:
    shares = [
        np.bincount(part, minlength=int(labels.max()) + 1) / SIZE
        for part in labels.reshape(NUM_SHARDS, SIZE)
    ]
    return shard_correlation(np.array(shares), np.full(NUM_SHARDS, SIZE))


def test_nothing_to_compare():
    assert shard_correlation(np.ones((3, 2)), np.ones(3)) == 0
    assert shard_correlation(np.ones((3, 2)), np.full(3, 9)) == 0


@pytest.fixture(scope="module")
def in_order(tmp_path_factory):
    """96 photographs of three classes, in shards of 4: sorted by class, and not."""
    folder = tmp_path_factory.mktemp("order")
    records = write_photographs(folder / "photos", 96)
    found = {}
    for name, wanted in (("sorted", lambda i: i // 32), ("mixed", lambda i: i % 3)):
        labelled = [
            replace(record, labels=(wanted(number),), ignored=())
            for number, record in enumerate(records)
        ]
        pack(labelled, folder / name, shard_samples=4)
        found[name] = DatasetIndex.open(folder / name)
    return found


def test_the_loader_says_in_one_line_what_sorted_labels_imply(in_order, capsys):
    assert sampled_correlation(in_order["sorted"].shard_sizes, in_order["sorted"].labels) > 0.9
    for name, order, world in [
        ("sorted", Order("near", 2), World()),
        ("sorted", Order("near", 2), World(1, 2)),
        ("sorted", Order("global"), World()),
        ("mixed", Order("near", 2), World()),
    ]:
        Loader(in_order[name], 16, size=32, order=order, world=world)
        told = capsys.readouterr().err.splitlines()
        expected = int(name == "sorted" and order.kind == "near" and world.rank == 0)
        assert len(told) == expected
    Loader(in_order["sorted"], 16, size=32, order=Order("near", 2))
    (line,) = capsys.readouterr().err.splitlines()
    assert "labels are sorted by shard" in line
    assert "--shuffle-window" in line
