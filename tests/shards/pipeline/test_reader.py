"""Bytes of samples: shards mapped side by side, as many as the system allows, their pages let go
again.
"""

import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shards.index import DatasetIndex
from shards.pipeline.reader import MAX_OPEN_SHARDS, MIN_OPEN_SHARDS, ShardReader


def test_shards_are_opened_side_by_side_and_kept_once(index, monkeypatch):
    """Two threads open the same shard at the same time, and two others: none waits for another."""
    reader, check = ShardReader(index), ShardReader._check
    all_inside = threading.Barrier(4)

    def slow(self, file, number):
        all_inside.wait(60)  # under the reader's lock they would never meet
        check(self, file, number)

    monkeypatch.setattr(ShardReader, "_check", slow)
    numbers = [0, 0, 16, 32]
    with ThreadPoolExecutor(4) as pool:
        views = list(pool.map(lambda number: reader.member(index.samples[number], 0), numbers))
    assert sorted(reader._maps) == [0, 1, 2]
    assert np.shares_memory(views[0], views[1])
    monkeypatch.undo()
    for view, number in zip(views, numbers, strict=True):
        assert np.array_equal(view, ShardReader(index).member(index.samples[number], 0))


def test_few_open_shards_suffice(index, monkeypatch):
    reader, many = ShardReader(index), ShardReader(index)
    reader._max_open = 2
    order = np.random.default_rng(0).integers(0, 70, 300)
    for row in index.samples[order]:
        assert np.array_equal(reader.member(row, 0), many.member(row, 0))
        assert len(reader._maps) <= 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(index):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 4096:
        pytest.skip("the system allows no more")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        reader = ShardReader(index)
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raised[0] == (min(hard, 4 * MAX_OPEN_SHARDS) if hard >= 0 else 4 * MAX_OPEN_SHARDS)
        assert raised[1] == hard
        assert reader._max_open == raised[0] // 4 > MIN_OPEN_SHARDS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def mapped_bytes(name: str) -> int:
    """Sum the resident bytes of all maps of files whose path holds `name`."""
    lines, total, inside = Path("/proc/self/smaps").read_text().splitlines(), 0, False
    for line in lines:
        if not line.split()[0].endswith(":"):
            inside = name in line
        elif inside and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mapped_pages_are_bounded_and_views_stay_good(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("shards.pipeline.reader.MAPPED_BYTES", 50_000)
    root = tmp_path / "bounded-pages"
    shutil.copytree(packed, root)
    reader = ShardReader(DatasetIndex.open(root))
    held = [(reader.member(row, 0), bytes(reader.member(row, 0))) for row in reader.index.samples]
    assert sum(len(copy) for _, copy in held) > 150_000
    # what is read ahead around a touched page
    assert 0 < mapped_bytes("bounded-pages/train") < 50_000 + 16 * 4096 * 20
    reader._let_go()
    assert mapped_bytes("bounded-pages/train") == 0
    assert all(bytes(view) == copy for view, copy in held)
