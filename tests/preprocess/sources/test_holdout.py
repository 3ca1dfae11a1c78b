"""Holding out a validation part: every class keeps its share, sizes are exact, random is
scikit-learn's own draw.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from preprocess.record import MAX_CLASSES, Record, Source
from preprocess.sources.holdout import Holdout, random_holdout, stratified_holdout
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import write_photographs
from tests.preprocess.commands import shard


class Fixed(Source):
    """40 records of 3 classes in splits of one's choosing."""

    def __init__(self, *splits: str, num: int = 40) -> None:
        self.class_names, self._splits, self._num = ("a", "b", "c"), splits, num

    def splits(self):
        return self._splits

    def records(self, split):
        return [
            Record(f"{split}{n}", Path(f"{split}{n}.jpg"), f"{split}{n}.jpg", (n % 3,), ())
            for n in range(self._num)
        ]


def drawn(num_samples: int, num_classes: int, seed: int) -> np.ndarray:
    """Labels bool [N, K] from classes of a few samples to classes of a third of all."""
    rates = np.geomspace(3 / num_samples, 0.33, num_classes)
    return np.random.default_rng(seed).random((num_samples, num_classes)) < rates


def indices(labels: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in labels]


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.77])
@pytest.mark.parametrize("shape", [(400, 5), (3000, 40), (1001, 120)])
def test_every_class_keeps_its_share_better_than_at_random(shape, fraction):
    labels = drawn(*shape, seed=shape[0])
    counts = labels.sum(0)
    held_out = stratified_holdout(indices(labels), shape[1], fraction, seed=0)
    assert held_out.sum() == math.ceil(fraction * shape[0])
    off = np.abs(labels[held_out].sum(0) - fraction * counts)
    # standard deviations of a random draw
    by_chance = np.sqrt(np.maximum(counts, 1) * fraction * (1 - fraction))
    assert (off / by_chance).max() < 1.5
    at_random = [random_holdout(shape[0], fraction, seed) for seed in range(5)]
    assert (
        off.mean()
        < min(np.abs(labels[held].sum(0) - fraction * counts).mean() for held in at_random) / 2
    )


@given(
    labels=st.lists(st.sets(st.integers(0, 6)).map(sorted), min_size=2, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_sizes_are_exact_and_draws_repeat(labels, fraction, seed):
    expected = min(math.ceil(fraction * len(labels)), len(labels) - 1)
    for held_out in (
        stratified_holdout(labels, 7, fraction, seed),
        random_holdout(len(labels), fraction, seed),
    ):
        assert held_out.dtype == bool
        assert held_out.shape == (len(labels),)
        assert held_out.sum() == expected
    assert np.array_equal(
        stratified_holdout(labels, 7, fraction, seed), stratified_holdout(labels, 7, fraction, seed)
    )


@pytest.mark.parametrize("num", [2, 3, 40, 999])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.3333])
@pytest.mark.parametrize("seed", [0, 1, 7, 321])
def test_random_is_scikit_learns_draw(num, fraction, seed):
    train, val = train_test_split(np.arange(num), test_size=fraction, random_state=seed)
    held_out = random_holdout(num, fraction, seed)
    assert np.flatnonzero(held_out).tolist() == sorted(val.tolist())
    assert np.flatnonzero(~held_out).tolist() == sorted(train.tolist())


def test_one_label_each_gives_the_usual_stratified_split():
    labels = [[0]] * 50 + [[1]] * 30 + [[2]] * 20
    held_out = stratified_holdout(labels, 3, 0.2, seed=3)
    assert [
        int(held_out[part].sum()) for part in (slice(0, 50), slice(50, 80), slice(80, 100))
    ] == [10, 6, 4]


def test_a_draw_never_changes():
    """A set is packed again into the same bytes, and a set that grows knows its val again."""
    held_out = b"".join(
        stratified_holdout(indices(drawn(300, 12, seed)), 12, 0.2, seed).tobytes()
        for seed in range(8)
    )
    assert hashlib.sha256(held_out).hexdigest()[:16] == "0d8e4d0199b9b92a"


def test_as_many_classes_as_there_may_be():
    """Looking for the rarest of 100,000 classes 100,000 times took minutes."""
    labels = [[number] for number in range(MAX_CLASSES)]
    assert stratified_holdout(labels, MAX_CLASSES, 0.2, 0).sum() == MAX_CLASSES // 5


def test_seeds_differ_and_nothing_of_the_order_is_special():
    labels = indices(drawn(2000, 20, 1))
    draws = [stratified_holdout(labels, 20, 0.2, seed) for seed in range(3)]
    assert not np.array_equal(draws[0], draws[1])
    assert all(150 < draw[:1000].sum() < 250 for draw in draws)  # not the first that fit


@pytest.mark.parametrize("by", ["stratified", "random"])
@pytest.mark.parametrize("splits", [("all",), ("train",), ("train", "test"), ("trainval", "test")])
def test_a_source_is_divided_in_its_own_order(by, splits):
    source = Fixed(*splits)
    held = Holdout(source, 0.25, 7, by)
    assert held.splits() == ("train", "val", *splits[1:])
    assert (held.class_names, held.task) == (source.class_names, "multilabel")
    train, val = held.records("train"), held.records("val")
    everything = source.records(splits[0])
    assert (len(train), len(val)) == (30, 10)
    assert sorted([*train, *val], key=everything.index) == everything
    assert [list(part) for part in (train, val)] == [
        [r for r in everything if r in part] for part in (train, val)
    ]
    for split in splits[1:]:
        assert held.records(split) == source.records(split)


@pytest.mark.parametrize(
    ("splits", "options", "says"),
    [
        (("train", "val"), (0.2,), "the source has splits of its own, train, val"),
        (("test",), (0.2,), "the source has test"),
        (("all",), (1.0,), "--val-fraction is 1.0"),
        (("all",), (-0.1,), "--val-fraction is -0.1"),
        (("all",), (float("nan"),), "--val-fraction is nan"),
        (("all",), (0.2, -1), "--split-seed is -1"),
        (("all",), (0.2, 2**32), "--split-seed is 4294967296"),
        (("all",), (0.2, 0, "luck"), "--split-by luck"),
    ],
)
def test_what_cannot_be_divided(splits, options, says):
    with pytest.raises(DataError) as caught:
        Holdout(Fixed(*splits), *options)
    assert says in str(caught.value)


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="split 'all' has 1 image, too few"):
        Holdout(Fixed("all", num=1), 0.5).records("train")


LISTED = """
from preprocess.record import MAX_CLASSES, Record, Source

class Listed(Source):
    class_names = ("even", "odd")
    def __init__(self, root):
        self.root = root
    def splits(self):
        return ("all",)
    def records(self, split):
        return [Record(p.stem, p, p.name, (n % 2,), ()) for n, p in enumerate(sorted(self.root.glob("*.jpg")))]

class Train(Listed):
    def splits(self):
        return ("train",)

class Val(Listed):
    def splits(self):
        return ("val",)
"""


def test_packed_with_and_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "listed_source.py").write_text(LISTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_photographs(tmp_path / "photos", 20)
    args = [
        "--order",
        "source",
        "--source",
        "listed_source:Listed",
        "--root",
        str(tmp_path / "photos"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, told, _ = shard(monkeypatch, capsys, *args)
    assert status == 0
    assert told.splitlines()[-1] == (
        "training needs train and val, this source has all: --val-fraction 0.2 divides it"
    )
    assert DatasetIndex.open(tmp_path / "out/all").num_samples == 20
    status, told, _ = shard(
        monkeypatch, capsys, *args[:-1], str(tmp_path / "parts"), "--source", "listed_source:Val"
    )
    assert (
        told.splitlines()[-1]
        == "training needs train and val, this source has val: pack train into the same --out too"
    )
    status, told, _ = shard(
        monkeypatch, capsys, *args[:-1], str(tmp_path / "parts"), "--source", "listed_source:Train"
    )
    assert (status, "training needs" in told) == (0, False)  # val is there already
    status, told, errors = shard(monkeypatch, capsys, *args, "--val-fraction", "0.3")
    assert (status, "training needs" in told) == (0, False), errors
    train, val = DatasetIndex.open(tmp_path / "out/train"), DatasetIndex.open(tmp_path / "out/val")
    assert (train.num_samples, val.num_samples) == (14, 6)
    assert train.labels().sum(0).tolist() == [7, 7]
    assert val.labels().sum(0).tolist() == [3, 3]
    assert not set(train.keys()) & set(val.keys())
    assert list(val.keys()) == sorted(val.keys())
    assert "--val-fraction 0.3" in train.command
    status, _, errors = shard(monkeypatch, capsys, *args, "--split-seed", "3")
    assert (status, errors.count("\n")) == (2, 1)
    for splits, says in (
        ("all", "--splits all asks for neither"),
        ("train,all", "split 'all' is divided by"),
    ):
        status, _, told = shard(
            monkeypatch, capsys, *args, "--val-fraction", "0.3", "--splits", splits
        )
        assert (status, says in told) == (2, True), told
    assert "--split-seed and --split-by say how --val-fraction divides" in errors
