"""A run's epochs follow each other without a gap: what is read next is being made as they end."""

import threading

import pytest

from shards.pipeline.making import Making
from tests.shards.left_behind import still_running
from tests.train.here import train_here

pytestmark = pytest.mark.slow


def test_each_epoch_and_each_validation_but_the_first_is_begun_ahead(shades, tmp_path, monkeypatch):
    begun: list[tuple[str, tuple[int, int], bool]] = []
    begin = Making.begin

    def noted(making: Making) -> None:
        split = making._maker.index.split
        begun.append((split, making.start, bool(making._threads)))
        begin(making)

    monkeypatch.setattr(Making, "begin", noted)
    before = set(threading.enumerate())
    train_here(shades, tmp_path / "run", epochs=3)
    assert begun == [
        (split, (epoch, 0), (epoch, split) != (0, "train"))
        for epoch in range(3)
        for split in ("train", "val")
    ]
    assert [name for name in still_running(before) if name.startswith("tarmac-loader")] == []


def test_nothing_is_begun_that_no_epoch_follows(shades, tmp_path, monkeypatch):
    made: list[tuple[str, int]] = []
    init = Making.__init__

    def noted(making: Making, maker, epoch, *more) -> None:
        made.append((maker.index.split, epoch))
        init(making, maker, epoch, *more)

    monkeypatch.setattr(Making, "__init__", noted)
    train_here(shades, tmp_path / "run", epochs=2)
    assert made == [("train", 0), ("val", 0), ("train", 1), ("val", 1)]
