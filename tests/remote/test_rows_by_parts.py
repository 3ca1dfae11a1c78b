"""A large table of rows by address: fetched part by part, with its shards, and never a wrong row."""

import gc
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter

import numpy as np
import pytest

from benchmarks.object_server import Objects, ObjectServer
from preprocess.packing.pool import open_pool
from preprocess.verifying.remote_split import verify_remote
from shards.dataset import ShardDataset
from shards.disk.format import CHECKSUM, CONTENTS, INDEX_NAME, ROWS_NAME, SHARDS_NAME, digest
from shards.errors import DataError
from shards.identity import identity
from shards.index import open_split
from shards.loader import Loader, Order
from shards.order.mixing import mixing_of
from shards.remote import patience, row_parts, split_tables
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder, Part
from shards.remote.part_file import PartFile
from shards.sampler import World
from tests.conftest import pack, write_photographs
from tests.faults.disk import resize, small_disk
from tests.remote.faulty_server import FAULTS, HASTY, IMPATIENT, FaultyServer, wait_until
from tests.remote.test_first_batches import CUT, RangedObjects
from train.run.validation import has_metric

ROWS = f"train/{ROWS_NAME}"
NEAR = Order("near", groups=2)
BATCH = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """48 photographs in 12 shards of 4, whose rows are 12 parts."""
    root = tmp_path_factory.mktemp("parts")
    pack(write_photographs(root / "source", 48), root / "set" / "train", shard_samples=4)
    return root / "set"


@pytest.fixture(autouse=True)
def _large(monkeypatch):
    """Every table is a large one, and no request brings two parts that are no neighbours."""
    monkeypatch.setattr(split_tables, "WHOLE_BYTES", 0)
    monkeypatch.setattr(patience, "PATIENCE", HASTY)


class Noting(FaultyServer):
    """Notes the ranges of rows that were asked for, and what came before them. Those of the tables
    that are wrong are the first `num_wrong` after opening.
    """

    def __init__(self, folder, fault="", num_wrong=1 << 30) -> None:
        super().__init__(folder)
        self.RequestHandlerClass = NotingObjects
        self.fault = fault
        self.num_wrong = num_wrong
        self.is_open = False
        self.order: list[tuple[str, str]] = []
        self.sent = Counter()

    def draw(self, name):
        if not (self.is_open and name == ROWS):
            return ""
        with self.lock:
            self.num_wrong -= 1
            return self.fault if self.num_wrong >= 0 else ""

    def ranges(self):
        return [wanted for name, wanted in self.order if name == ROWS]


class NotingObjects(RangedObjects):
    def answer(self, name, data):
        wanted = self.headers.get("Range", "")
        with self.server.lock:
            self.server.order.append((name, wanted))
            if match := re.fullmatch(r"bytes=(\d+)-(\d+)", wanted):
                self.server.sent[name] += int(match[2]) + 1 - int(match[1])
        fault = self.server.draw(name)
        if fault:
            self.close_connection = True
            part = self._part(data) if fault in CUT else data
            getattr(self, "_" + fault.replace(" ", "_"))(name, part)
        else:
            Objects.answer(self, name, data)


def read(index, epochs=1, **options):
    loader = Loader(index, BATCH, size=32, num_threads=2, **options)
    return [
        (
            batch.num_known,
            *(
                getattr(batch, name).numpy().tobytes()
                for name in ("ids", "images", "labels", "known")
            ),
        )
        for _ in range(epochs)
        for batch in loader
    ]


def test_three_requests_open_it_and_bring_no_row(made, tmp_path):
    with Noting(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert index.num_samples == 48
        assert server.asked == {f"train/{n}": 1 for n in (INDEX_NAME, SHARDS_NAME, ROWS_NAME)}
        assert server.ranges() == [f"bytes=0-{index.remote._rows._starts[0] - 1}"]
        assert not index.remote._rows.here.any()
        again = pickle.loads(pickle.dumps(index))
        assert server.asked.total() == 3
        open_split(server.url, "train", str(tmp_path / "cache"))
        assert server.asked.total() == 4
        assert np.array_equal(again.samples, open_split(made, "train").samples)


@pytest.mark.parametrize("rank", [0, 1])
def test_until_the_first_batch_only_its_own_parts_are_fetched(made, tmp_path, rank):
    with Noting(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        loader = Loader(index, BATCH, size=32, num_threads=1, order=NEAR, world=World(rank, 2))
        ids = next(iter(loader)).ids.numpy()
        asked = [name for name, _ in server.order]
        until = next(n for n, name in enumerate(asked) if name.endswith(".tar"))
        before = [wanted for name, wanted in server.order[3:until] if name == ROWS]
        near = open_split(made, "train")
        wanted = set(near.samples["shard"][ids].tolist())
        # neighbours share a request
        starts = index.remote._rows._starts
        brought = set()
        for each in before:
            first, last = map(int, re.findall(r"\d+", each))
            brought |= {n for n in range(12) if first <= starts[n] and starts[n + 1] <= last + 1}
        assert brought == wanted
        assert len(wanted) < 4


def test_an_epoch_of_a_node_brings_the_rows_of_its_own_shards(made, tmp_path):
    with Noting(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        loader = Loader(index, BATCH, size=32, num_threads=2, order=NEAR, world=World(1, 2))
        ids = np.concatenate([batch.ids.numpy() for _ in range(2) for batch in loader])
        own = set(open_split(made, "train").samples["shard"][ids].tolist())
        assert len(own) < 12
        places = np.flatnonzero(index.remote._rows.here).tolist()
        assert set(places) == own
        assert server.sent[ROWS] == index.remote._rows._starts[0] + sum(
            index.remote._rows._length(number, number) for number in own
        )


@pytest.mark.parametrize(
    "options",
    [
        {"order": NEAR},
        {"order": "global"},
        {"order": NEAR, "seed": 3},
        {"train": False},
        {"train": False, "order": "near", "world": World(1, 3)},
        {"order": NEAR, "world": World(2, 3)},
        {"order": NEAR, "cache": "ram"},
        {"order": "global", "cache": "device", "device": "cpu"},
    ],
)
def test_batches_are_those_from_the_folder_and_each_row_comes_once(made, tmp_path, options):
    with Noting(made) as server:
        far = open_split(server.url, "train", str(tmp_path / "cache"))
        assert read(far, 2, **options) == read(open_split(made, "train"), 2, **options)
        shards = sum(server.wholes[f"train/{shard.name}"] for shard in far.shards)
        assert len(server.ranges()) <= 1 + shards  # two requests a shard, one to open
        assert server.sent[ROWS] <= (made / ROWS).stat().st_size


READERS = {
    "one row": lambda index: index.samples[7],
    "some rows": lambda index: index.samples[np.array([40, 3, 3])],
    "a slice": lambda index: index.samples[9:31:4],
    "backwards": lambda index: index.samples[::-1],
    "a field": lambda index: index.samples["width"],
    "the whole": lambda index: np.asarray(index.samples),
    "row by row": lambda index: np.array(list(index.samples)),
    "labels": lambda index: index.labels(),
    "some labels": lambda index: index.labels(np.array([47, 0, 12])),
    "labels of a slice": lambda index: index.labels(slice(20, 29)),
    "known": lambda index: index.known(),
    "some known": lambda index: index.known(np.array([5, 46])),
    "keys": lambda index: index.keys(),
    "sizes": lambda index: index.shard_sizes,
    "count": lambda index: (index.num_samples, index.num_classes, index.num_channels),
    "identity": identity,
    "mixing": lambda index: mixing_of(index, NEAR.plan(index, 4, True, 0, World()).order),
    "metric": has_metric,
    "images": lambda index: [ShardDataset(index)[n] for n in (33, 2)],
}


@pytest.mark.parametrize("what", READERS)
def test_what_is_no_row_yet_is_never_read(made, tmp_path, what):
    """All that was not fetched is rubbish in the file, which nobody may see."""
    root = tmp_path / "set"
    shutil.copytree(made, root)
    describe(root, lambda told: (told.pop(CONTENTS), told["statistics"].pop("shard_correlation")))
    with ObjectServer(root) as server:
        far = open_split(server.url, "train", str(tmp_path / "cache"))
        path = far.remote._rows.path
        start = int(far.remote._rows._starts[0])
        rubbish = np.random.default_rng(0).bytes(path.stat().st_size - start)
        with path.open("r+b") as file:
            file.seek(start)
            file.write(rubbish)
        assert np.asarray(far.samples._rows).tobytes() == rubbish
        found = READERS[what](far)
        right = READERS[what](open_split(root, "train"))
        np.testing.assert_equal(found, right)


def describe(root, change) -> None:
    path = root / "train" / INDEX_NAME
    told = json.loads(path.read_bytes())
    change(told)
    told.pop(CHECKSUM, None)
    path.write_text(json.dumps({**told, CHECKSUM: digest(told)}))


def test_verify_reads_all_rows(made, tmp_path):
    with ObjectServer(made) as server, open_pool(1) as pool:
        found = verify_remote(Address.parse(f"{server.url}/train"), pool, str(tmp_path / "cache"))
        assert not found.findings
        assert found.num_samples == 48


# a trickle brings a part of a few bytes soon
SLOW = ("silence", "header trickle")
# there are the bytes that were asked for
RIGHT = ("whole for a range", "stretched", "to the end", "trickle")
WRONG = ("flipped", "another length")  # which is looked at once more, not six times
ALL = (*FAULTS, "to the end", "shorter", "another length")


@pytest.mark.parametrize("num_wrong", [1, 2])
@pytest.mark.parametrize("fault", ALL)
def test_after_a_fault_rows_are_right(made, tmp_path, monkeypatch, fault, num_wrong):
    if fault in SLOW:  # at most twice; what is right comes in the end
        monkeypatch.setattr(patience, "PATIENCE", IMPATIENT._replace(attempts=100))
    near = open_split(made, "train")
    with Noting(made, fault, num_wrong) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        server.is_open = True
        if fault == "gzip" or (num_wrong == 2 and fault in WRONG):
            with pytest.raises(DataError, match=rf"^{server.url}/{ROWS}: [^\n]*$"):
                index.samples[5]
        else:
            assert np.array_equal(index.samples[5], near.samples[5])
        server.is_open = False
        assert np.array_equal(index.samples, near.samples)


@pytest.mark.parametrize("fault", ALL)
def test_a_fault_that_stays_is_one_line_or_no_fault(made, tmp_path, monkeypatch, fault):
    with Noting(made, fault) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        server.is_open = True
        if fault in SLOW:
            monkeypatch.setattr(patience, "PATIENCE", IMPATIENT)
        some = np.array([0, 20, 40])
        if fault in RIGHT:
            assert np.array_equal(index.samples[some], open_split(made, "train").samples[some])
            return
        with pytest.raises(DataError, match=rf"^{server.url}/{ROWS}: [^\n]*$"):
            index.samples[some]
        server.is_open = False
        monkeypatch.setattr(patience, "PATIENCE", HASTY)
        assert np.array_equal(index.samples, open_split(made, "train").samples)


def test_a_server_without_ranges_sends_the_table_once(made, tmp_path):
    with Noting(made, "whole for a range") as server:
        server.is_open = True
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert read(index, 2, order=NEAR) == read(open_split(made, "train"), 2, order=NEAR)
        # to open it, two that are cut off, and the whole; other threads may have asked, too
        assert 4 <= len(server.ranges()) <= 10
        asked = len(server.ranges())
        assert np.array_equal(index.samples, open_split(made, "train").samples)
        assert len(server.ranges()) == asked


@pytest.mark.parametrize("longer", [False, True])
def test_a_replaced_table_is_one_line_when_it_is_needed(made, tmp_path, longer):
    root = tmp_path / "set"
    shutil.copytree(made, root)
    with Noting(root) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        right = index.samples[:4].copy()
        data = bytearray((root / ROWS).read_bytes())
        data[-300] ^= 1
        (root / ROWS).write_bytes(data + bytes(40 * longer))
        asked = len(server.ranges())
        says = "is longer than" if longer else "its bytes are not those"
        with pytest.raises(DataError, match=rf"^{server.url}/{ROWS}: {says}"):
            index.samples[:]
        assert np.array_equal(index.samples[:4], right)
        if not longer:
            wrong = np.flatnonzero(~index.remote._rows.here)
            assert len(wrong) == 1
            assert len(server.ranges()) == asked + 2  # all, then the wrong part


@pytest.mark.parametrize("byte", [0, 8, 30])
def test_a_header_of_another_table_is_one_line(made, tmp_path, byte):
    root = tmp_path / "set"
    shutil.copytree(made, root)
    data = bytearray((root / ROWS).read_bytes())
    data[byte] ^= 2
    (root / ROWS).write_bytes(data)
    with Noting(root) as server, pytest.raises(DataError, match=rf"^{server.url}/{ROWS}: "):
        open_split(server.url, "train", str(tmp_path / "cache"))
    assert len(server.ranges()) == 2


def test_neighbours_share_requests_over_several_connections(made, tmp_path, monkeypatch):
    with Noting(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        index.samples[:]
        assert len(server.ranges()) == 2
        sizes = np.diff(index.remote._rows._starts)
    monkeypatch.setattr(row_parts, "RUN_BYTES", int(3 * sizes.max()))
    server = Noting(made)
    server.delay_s = 0.2
    with server:
        again = open_split(server.url, "train", str(tmp_path / "other"))
        started = time.monotonic()
        assert np.array_equal(again.samples[5:48], open_split(made, "train").samples[5:48])
        assert len(server.ranges()) == 1 + 4
        assert time.monotonic() - started < 60


def _rows_of(url, cache, results, first=0):
    index = open_split(url, "train", cache)
    ids = np.roll(np.arange(48), -first)
    results.put(b"".join(index.samples[number].tobytes() for number in ids[np.argsort(ids)]))


def test_processes_that_share_a_cache_fetch_a_part_once(made, tmp_path):
    context = multiprocessing.get_context("fork")
    right = np.asarray(open_split(made, "train").samples).tobytes()
    results = context.Queue()
    server = Noting(made)
    server.delay_s = 0.05
    with server:
        args = (server.url, str(tmp_path / "cache"), results)
        jobs = [context.Process(target=_rows_of, args=args) for _ in range(3)]
        for job in jobs:
            job.start()
        assert [results.get(timeout=120) for _ in jobs] == [right] * 3
        for job in jobs:
            job.join()
    parts = [each for each in server.ranges() if not each.startswith("bytes=0-")]
    assert len(parts) == len(set(parts)) == 12


def test_a_forked_process_reads_and_locks_for_itself(made, tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with Noting(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        index.samples[0]
        index.remote._rows._fetching.add(3)  # of a thread that does not survive

        def work():
            results.put(np.asarray(index.samples).tobytes())

        jobs = [context.Process(target=work) for _ in range(2)]
        for job in jobs:
            job.start()
        right = np.asarray(open_split(made, "train").samples).tobytes()
        assert [results.get(timeout=60) for _ in jobs] == [right] * 2
        for job in jobs:
            job.join()
        parts = server.ranges()[1:]
        assert len(parts) == len(set(parts))


def _hold(path, ready):
    with open(path, "r+b", buffering=0) as file, PartFile(file).locked(0, 1 << 20):
        ready.set()
        time.sleep(600)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_process_that_is_stopped_or_killed_keeps_nobody(made, tmp_path, monkeypatch, is_killed):
    # who is stopped is waited for three of these windows: long beside the moment in which nothing
    # may be found
    monkeypatch.setattr(patience, "PATIENCE", HASTY._replace(window_s=20.0 if is_killed else 1.5))
    context = multiprocessing.get_context("fork")
    with Noting(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        ready = context.Event()
        job = context.Process(target=_hold, args=(index.remote._rows.path, ready))
        job.start()
        assert ready.wait(30)
        found = []
        reader = threading.Thread(target=lambda: found.append(index.samples[9].tobytes()))
        reader.start()
        time.sleep(0.3)
        assert not found
        os.kill(job.pid, signal.SIGKILL if is_killed else signal.SIGSTOP)
        reader.join(60)
        assert found == [open_split(made, "train").samples[9].tobytes()]
        os.kill(job.pid, signal.SIGKILL)
        job.join()


def test_a_kill_in_the_middle_of_a_part_leaves_no_wrong_row(made, tmp_path):
    near = open_split(made, "train")
    with Noting(made) as server:
        cache = str(tmp_path / "cache")
        index = open_split(server.url, "train", cache)
        starts = index.remote._rows._starts
        right = (made / ROWS).read_bytes()
        for number, share in enumerate(np.linspace(0, 1, 12)):  # as far as a write came
            start = int(starts[number])
            stop = start + int(share * (starts[number + 1] - start))
            with index.remote._rows.path.open("r+b") as file:
                file.seek(start)
                file.write(right[start:stop])
        again = open_split(server.url, "train", cache)
        asked = len(server.ranges())
        assert np.array_equal(again.samples, near.samples)
        assert len(server.ranges()) == asked + 1
        assert server.sent[ROWS] == starts[-1] - (starts[12] - starts[11])  # the last was whole


def test_killed_processes_leave_a_table_that_goes_on(made, tmp_path):
    context = multiprocessing.get_context("fork")
    cache = str(tmp_path / "cache")
    size = (made / ROWS).stat().st_size
    with ObjectServer(made, bytes_per_s=40 * size) as server:
        for moment in range(4):
            job = context.Process(target=_rows_of, args=(server.url, cache, context.Queue()))
            job.start()
            time.sleep(0.05 + 0.05 * moment)
            job.kill()
            job.join()
        index = open_split(server.url, "train", cache)
        assert np.array_equal(index.samples, open_split(made, "train").samples)


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "no header", "zeros"])
def test_a_damaged_file_is_put_right(made, tmp_path, damage):
    cache = tmp_path / "cache"
    near = open_split(made, "train").samples
    with Noting(made) as server:
        index = open_split(server.url, "train", str(cache))
        assert np.array_equal(index.samples, near)
        path = index.remote._rows.path
        size = path.stat().st_size
        del index
        with path.open("r+b") as file:
            if damage == "longer":
                file.truncate(size + 100)
            elif damage == "cut":
                file.truncate(size // 2)
            elif damage == "empty":
                file.truncate(0)
            else:
                file.write(bytes(40 if damage == "no header" else size))
        again = open_split(server.url, "train", str(cache))
        assert np.array_equal(again.samples, near)
        assert path.stat().st_size == size


def test_a_link_in_place_of_the_file_is_refused(made, tmp_path):
    cache = tmp_path / "cache"
    with Noting(made) as server:
        index = open_split(server.url, "train", str(cache))
        path = index.remote._rows.path
        del index
        victim = tmp_path / "precious"
        victim.write_bytes(b"precious")
        for link in (os.link, os.symlink):
            path.unlink()
            link(victim, path)
            with pytest.raises(DataError, match="is a link; move it away"):
                open_split(server.url, "train", str(cache))
        assert victim.read_bytes() == b"precious"


def test_a_whole_table_of_an_earlier_release_is_used_and_a_part_is_no_whole(
    made, tmp_path, monkeypatch
):
    near = open_split(made, "train").samples
    with Noting(made) as server:
        cache = str(tmp_path / "cache")
        parted = open_split(server.url, "train", cache)
        parted.samples[3]
        monkeypatch.setattr(split_tables, "WHOLE_BYTES", 1 << 20)  # as an earlier release reads it
        whole = open_split(server.url, "train", cache)
        assert np.array_equal(whole.samples, near)
        assert isinstance(whole.samples, np.ndarray)
        asked = len(server.ranges())
        monkeypatch.setattr(split_tables, "WHOLE_BYTES", 0)
        again = open_split(server.url, "train", cache)
        assert isinstance(again.samples, np.ndarray)
        assert np.array_equal(parted.samples[:3], near[:3])
        assert len(server.ranges()) == asked


def test_parts_that_do_not_fit_into_memory_come_with_the_whole(made, tmp_path, monkeypatch):
    monkeypatch.setattr(split_tables, "MAX_PART_BYTES", 100)
    with ObjectServer(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert isinstance(index.samples, np.ndarray)
        assert server.wholes[ROWS] == 1


def test_holes_take_no_room_from_the_shards(tmp_path):
    folder = CacheFolder(tmp_path / "cache", 1e-4)
    kept = folder.begin("a" * 64, 50_000, lambda _: None, 0.0)
    assert isinstance(kept, Part)
    kept.file.write(bytes(50_000))
    kept.finish()
    kept.close()
    folder.stamp("a" * 64, 100.0)
    holes = folder.open_holes("b" * 64, 10**12, b"header")
    assert holes is not None
    folder.make_room("b" * 64, 30_000)
    assert folder.has("a" * 64)
    assert os.fstat(holes.fileno()).st_size == 10**12
    folder.make_room("b" * 64, 60_000)
    assert not folder.has("a" * 64)
    assert folder.has("b" * 64)  # it is open


def test_a_table_that_the_cache_can_never_hold_is_one_line(made, tmp_path):
    with Noting(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"), 1e-6)
        asked = len(server.ranges())
        says = r"GB of it may come, .* has room for .*; give a greater --cache-gb"
        with pytest.raises(DataError, match=rf"^{server.url}/{ROWS}: \S+ {says}"):
            index.labels()
        assert len(server.ranges()) == asked


def test_a_run_whose_rows_have_no_room_beside_its_shards_is_refused_at_its_start(made, tmp_path):
    sizes = [shard.num_bytes for shard in open_split(made, "train").shards]
    size = (made / ROWS).stat().st_size
    with Noting(made) as server:
        gigabytes = (max(sizes) + size // 2) / 1e9
        index = open_split(server.url, "train", str(tmp_path / "cache"), gigabytes)
        asked = server.asked.total()
        with pytest.raises(DataError, match=r"needed at once.* beside .* GB of rows: give --cache"):
            read(index, order=Order("near", groups=1))
        assert server.asked.total() == asked
        # a machine that needs half of them has
        Loader(index, BATCH, size=32, order=NEAR, world=World(1, 2)).maker.prepare(0, 0)


def test_a_full_disk_is_one_line_and_goes_on_with_room(made, tmp_path):
    with small_disk(tmp_path / "disk") as disk, Noting(made) as server:
        if disk is None:
            pytest.skip("mounting a small disk needs root")
        resize(disk, 400)
        index = open_split(server.url, "train", str(disk / "cache"))
        right = index.samples[:4].copy()
        with open(disk / "others", "wb", buffering=0) as file:
            left = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize)
        with pytest.raises(DataError, match=r"^[^\n]*free some space[^\n]*$"):
            index.samples["width"]
        assert np.array_equal(index.samples[:4], right)
        (disk / "others").unlink()
        assert np.array_equal(index.samples, open_split(made, "train").samples)
        del index
        gc.collect()  # of the error's traceback: what is open keeps the disk


def test_a_cache_that_cannot_be_written_serves_what_it_has(made, tmp_path):
    with small_disk(tmp_path / "disk") as disk, Noting(made) as server:
        if disk is None:
            pytest.skip("mounting a small disk needs root")
        index = open_split(server.url, "train", str(disk / "cache"))
        right = index.samples[:8].copy()
        del index
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        again = open_split(server.url, "train", str(disk / "cache"))
        assert np.array_equal(again.samples[:8], right)
        with pytest.raises(DataError, match=r"cannot be written, and has not all of .*rows.npy"):
            again.samples[40]
        del again
        gc.collect()


def test_a_bad_answer_never_overwrites_what_another_process_reads(made, tmp_path):
    near = open_split(made, "train").samples
    with Noting(made) as server:
        cache = str(tmp_path / "cache")
        one = open_split(server.url, "train", cache)
        other = open_split(server.url, "train", cache)
        assert np.array_equal(one.samples, near)
        server.fault = "flipped"
        server.is_open = True
        transfer = other.remote._rows._transfer([3, 4])  # as one that has not seen them
        transfer.run()
        assert np.array_equal(one.samples, near)


def test_rows_come_ahead_with_their_shards(made, tmp_path):
    """Also of shards that are in the cache already, without their rows."""
    cache = tmp_path / "cache"
    with Noting(made) as server:
        index = open_split(server.url, "train", str(cache))
        for number in range(12):
            index.open_shard(number).close()
        assert not index.remote._rows.here.any()
        loader = Loader(index, BATCH, size=32, num_threads=1, order=NEAR)
        batches = iter(loader)
        next(batches)
        assert wait_until(lambda: index.remote._rows.here.all())
        batches.close()


def test_a_bucket_brings_them_too(made, tmp_path):
    near = open_split(made, "train")
    far = open_split(made.as_uri(), "train", str(tmp_path / "cache"))
    assert not isinstance(far.samples, np.ndarray)
    assert read(far, order=NEAR) == read(near, order=NEAR)
    assert np.array_equal(far.samples, near.samples)
