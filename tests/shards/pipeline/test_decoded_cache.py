"""Images kept in memory: decoded once, the same pixels, one copy for all processes of a job on a
machine.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.decode.decoder import Decoder
from shards.errors import DataError, SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.decoded_cache import bounded
from shards.pipeline.shared_memory import _left_to_container, shared_memory
from tests.loading import load


def loader(index, **options) -> Loader:
    return load(index, **{"global_batch_size": 16, "size": 32, "seed": 3, **options})


def assert_same(a, b):
    for one, other in zip(a, b, strict=True):
        assert one.num_known == other.num_known
        for name, value in one.tensors().items():
            assert torch.equal(value, other.tensors()[name]), name


@pytest.fixture
def without_tile_decoder(monkeypatch):
    """Let all images take the road of those that the tile decoder refuses, which is that of cached
    ones, too.
    """
    monkeypatch.setattr(Decoder, "crop_tiles_into", lambda *_: False)


@pytest.mark.usefixtures("without_tile_decoder")
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_cache_changes_no_pixel(index, train, num_threads):
    """At full size: crops are of the same images, evaluation is always the finished view."""
    kept = loader(index, train=train, cache="ram", cache_short_side=10**6, num_threads=num_threads)
    plain = loader(index, train=train)
    for _ in range(3):
        assert_same(kept, plain)


@pytest.mark.usefixtures("without_tile_decoder")
@pytest.mark.parametrize("train", [True, False])
def test_later_epochs_touch_no_shard(packed, tmp_path, train):
    root = tmp_path / "train"
    shutil.copytree(packed, root)
    index = DatasetIndex.open(root)
    kept, plain = (
        loader(index, train=train, cache=cache, cache_short_side=999) for cache in ("ram", "none")
    )
    for _ in kept:
        pass
    expected = [list(plain), list(plain)][1]
    for shard in index.shards:
        (root / shard.name).write_bytes(bytes(shard.num_bytes))
    assert_same(kept, expected)
    with pytest.raises(SampleError):
        list(plain)


def test_a_bound_shrinks_and_stays_near(index):
    """Crops of images shrunk to a short side of 48 differ little from crops of whole ones, the same
    each time.
    """
    small, whole = (
        loader(index, size=24, cache="ram", cache_short_side=side) for side in (48, 10**6)
    )
    widths, heights = small.maker.resident.widths, small.maker.resident.heights
    assert np.minimum(widths, heights).max() == 48
    assert (
        3 * (widths * heights).sum()
        < len(small.maker.resident._pixels)
        < 3 * (widths * heights).sum() + 1000
    )
    near = [
        (a.images.float() - b.images.float()).abs().mean()
        for a, b in zip(small, whole, strict=True)
    ]
    assert max(near) < 12
    small.set_epoch(0)
    again = loader(index, size=24, cache="ram", cache_short_side=48)
    assert_same(small, again)


def test_bounded_sizes():
    widths, heights = np.array([640, 375, 100, 4000, 1]), np.array([480, 500, 100, 10, 9000])
    assert [side.tolist() for side in bounded(widths, heights, 256)] == [
        [341, 256, 100, 4000, 1],
        [256, 341, 100, 10, 9000],
    ]
    assert [side.tolist() for side in bounded(widths, heights, 5)] == [
        [7, 5, 5, 2000, 1],
        [5, 7, 5, 5, 9000],
    ]


def test_more_than_there_is_is_refused_in_one_line(index):
    with pytest.raises(
        DataError, match=r"^1000000\.00 GB of memory are needed, \d+\.\d+ GB are available$"
    ):
        shared_memory(10**15, "huge")
    with pytest.raises(DataError, match="cache is 'disk': give none, ram or device"):
        loader(index, cache="disk")
    with pytest.raises(DataError, match="cache_short_side is -1"):
        loader(index, cache_short_side=-1)


SHARER = """
import sys
import time
from shards.pipeline.shared_memory import shared_memory
memory = shared_memory(1 << 20, "test", int(sys.argv[1]))
first = memory[:4].tolist()
memory[int(sys.argv[2])] = 7
print(first, flush=True)
sys.stdin.readline()
print(memory[:4].tolist(), flush=True)
"""


class Sharer:
    """A process that sets a byte to 7, prints the first ones from before, and on a line of input
    prints them again.
    """

    def __init__(
        self, folder: Path, num_sharers: int, at: int, port: str = "4321", **environment: str
    ) -> None:
        env = {
            **os.environ,
            **environment,
            "MASTER_PORT": port,
            "MASTER_ADDR": "x",
            "TMPDIR": str(folder),
            "PYTHONPATH": ".",
        }
        command = [sys.executable, "-c", SHARER, str(num_sharers), str(at)]
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.first = self.process.stdout.readline().strip()

    def again(self) -> str:
        return self.process.communicate("\n")[0].strip()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux alone")
def test_processes_of_a_job_share_and_leave_nothing(tmp_path):
    one = Sharer(tmp_path, 3, at=0)
    assert len(list(tmp_path.iterdir())) == 1
    two, three = Sharer(tmp_path, 3, at=1), Sharer(tmp_path, 3, at=2)
    assert list(tmp_path.iterdir()) == []  # all are there: nothing is left to be found by others
    other, alone = Sharer(tmp_path, 1, at=0), Sharer(tmp_path, 2, at=0, port="4322")
    assert [each.first for each in (other, alone)] == ["[0, 0, 0, 0]"] * 2
    assert [each.again() for each in (one, two, three)] == ["[7, 7, 7, 0]"] * 3
    for each in (other, alone):
        each.process.kill()
        each.process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux alone")
def test_a_killed_first_process_is_not_waited_for(tmp_path):
    gone = Sharer(tmp_path, 2, at=0)
    gone.process.kill()
    gone.process.communicate()
    one, two = Sharer(tmp_path, 2, at=1), Sharer(tmp_path, 2, at=2)
    assert one.first == "[0, 0, 0, 0]"  # fresh memory, not half a cache
    assert list(tmp_path.iterdir()) == []
    assert [each.again() for each in (one, two)] == ["[0, 7, 7, 0]"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux alone")
def test_what_killed_jobs_left_is_removed_by_the_next(tmp_path):
    gone, alive = Sharer(tmp_path, 2, at=0), Sharer(tmp_path, 2, at=0, port="4322")
    gone.process.kill()
    gone.process.communicate()
    (tmp_path / "tarmac-strange").write_text("[]")
    assert len(list(tmp_path.iterdir())) == 3
    next_job = Sharer(tmp_path, 2, at=0, port="4323")
    assert len(list(tmp_path.iterdir())) == 2  # those of the two that wait for others
    others = [Sharer(tmp_path, 2, at=1, port=port) for port in ("4322", "4323")]
    assert list(tmp_path.iterdir()) == []
    assert [each.again() for each in (alive, next_job, *others)] == ["[7, 7, 0, 0]"] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux alone")
def test_machines_with_one_folder_for_temporary_files_do_not_mix(tmp_path):
    """Each rank of a machine shares with those of its own, whichever comes first."""
    first = [Sharer(tmp_path, 2, at=0, GROUP_RANK=node) for node in "01"]
    second = [Sharer(tmp_path, 2, at=node + 1, GROUP_RANK=str(node)) for node in (0, 1)]
    assert list(tmp_path.iterdir()) == []
    said = [[each.again() for each in ranks] for ranks in (first, second)]
    assert said == [["[7, 7, 0, 0]", "[7, 0, 7, 0]"]] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux alone")
def test_a_notice_of_another_host_is_not_removed(tmp_path):
    """Its processes are not here, but they may well be there."""
    waits = Sharer(tmp_path, 2, at=0)
    (notice,) = tmp_path.iterdir()
    other = json.loads(notice.read_text()) | {"host": "another", "holder": 2**22 + 1}
    (tmp_path / "tarmac-of-another-host").write_text(json.dumps(other))
    (tmp_path / "tarmac-of-this-host").write_text(
        json.dumps(other | {"host": socket.gethostname()})
    )
    Sharer(tmp_path, 2, at=1).again()
    waits.again()
    assert [path.name for path in tmp_path.iterdir()] == ["tarmac-of-another-host"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux alone")
def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "4321")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shared_memory(64, "test", 2)
    (notice,) = tmp_path.iterdir()
    notice.unlink()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    notice.symlink_to(victim)
    with pytest.raises(DataError, match="remove it, or set TMPDIR"):
        shared_memory(64, "test", 2)
    assert victim.read_text() == "precious"


def test_what_a_container_leaves_counts(tmp_path):
    assert _left_to_container(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    assert _left_to_container(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("1005\n")
    assert _left_to_container(tmp_path) == 1000


V1 = (
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
    "total_",
)


@pytest.mark.parametrize(
    "names", [("memory.max", "memory.current", "memory.stat", ""), V1], ids=["v2", "v1"]
)
def test_page_cache_that_the_kernel_would_give_back_is_left(tmp_path, names):
    """A container that has just packed: nearly all that it uses is the cache of files."""
    limit, used, counts, prefix = names
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("990\n")
    # version 1 tells of the cgroup alone, and of all below
    own = "inactive_file 1\nactive_file 1\n" if prefix else ""
    (tmp_path / counts).write_text(
        f"anon 90\n{own}{prefix}inactive_file 700\n{prefix}active_file 200\nshmem 80\n"
    )
    assert _left_to_container(tmp_path) == 910
    (tmp_path / counts).write_text("not such a table\n")
    assert _left_to_container(tmp_path) == 10


def test_a_batch_that_is_too_large_gets_one_line(index):
    with pytest.raises(
        DataError,
        match=r"no memory for one more batch of 16 images of 2,000,000 pixels .*smaller size",
    ):
        next(iter(loader(index, size=2_000_000, train=False)))
