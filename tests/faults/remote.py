"""Read shards from a server that fails in every way, in processes that are killed, over small disks.

Right bytes, or one line that names the object; whatever is in the cache under its name is whole; the
same batches afterwards. Where a server is silent, deadlines are hundredths of what they are in
earnest.
"""

import hashlib
import multiprocessing
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.object_server import ObjectServer
from shards.disk.format import ROWS_NAME
from shards.disk.tables import Shard
from shards.errors import DataError
from shards.index import DatasetIndex, open_split
from shards.remote import patience, remote_shards, split_tables
from shards.remote.address import Address
from shards.remote.cache_folder import MARKER, CacheFolder
from shards.remote.remote_shards import RemoteShards
from shards.remote.transfer import open_store
from tests.faults.disk import NOT_TRIED, small_disk
from tests.faults.launching import pack_digits
from tests.faults.report import Options, Row, run
from tests.remote.faulty_server import FAULTS, HASTY, IMPATIENT, FaultyServer

SLOW = ("trickle", "header trickle", "silence")  # each costs a deadline
NUM_OBJECTS = 8
OBJECT_BYTES = 30_000
READERS = 4


def whole_objects(cache: Path, lost: list[str]) -> int:
    """See that what has a whole object's name has its bytes; return how many there are."""
    found = 0
    for path in cache.iterdir():
        if path.name == MARKER or path.suffix == ".part":
            continue
        found += 1
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            lost.append(f"{path.name} is not what its name says")
    return found


def faults(options: Options) -> Row:
    """Fetch objects again and again from a server that draws what it does wrong."""
    wanted = options.moments(10_000, 300)
    row = Row("every fault of a server")
    folder = options.folder / "objects"
    folder.mkdir()
    rng = random.Random(options.seed)
    shards = []
    for number in range(NUM_OBJECTS):
        data = rng.randbytes(OBJECT_BYTES)
        (folder / f"{number}.tar").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        shards.append(Shard(f"{number}.tar", OBJECT_BYTES, 1, digest))
    rates = {kind: 0.002 if kind in SLOW else 0.06 for kind in FAULTS}
    outcomes: list[str] = []
    with FaultyServer(folder, rates, options.seed) as server:

        def read(reader: int) -> None:
            root = Address.parse(server.url)
            cache = CacheFolder(options.folder / f"cache-{reader}")
            remote = RemoteShards(root, open_store(root), cache, shards)
            while sum(server.done.values()) - server.done[""] < wanted:
                number = rng.randrange(NUM_OBJECTS)
                where = root / shards[number].name
                outcomes.append(_outcome(partial(_is_whole, remote, number), where, row))
                cache.remove(shards[number].sha256)

        _in_threads(read)
        num_faults = sum(server.done.values()) - server.done[""]
    for kind in FAULTS:
        row.check(server.done[kind] > 0 or options.quick, f"{kind} was not tried")
    right = outcomes.count("right")
    row.tried = f"{num_faults} faults: {right} objects right, {len(outcomes) - right} lines"
    row.check(right > 0, "no object was ever right")
    return row


def _in_threads(read: Callable[[int], None]) -> None:
    """Let several readers, each by its number, read at the same time, from servers that are silent
    now and then.
    """
    patience.PATIENCE = IMPATIENT
    threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    patience.PATIENCE = HASTY


def _outcome(is_right: Callable[[], bool], where: Address, row: Row) -> str:
    """Tell what came of a reading of the object `where`: right bytes, or one line that names it."""
    try:
        row.check(is_right(), "wrong bytes")
        return "right"
    except DataError as error:
        text = str(error)
        row.check(text.startswith(f"{where}: "), f"no object in {text!r}")
        row.check("\n" not in text and "secret" not in text, f"odd line {text!r}")
        return "line"
    except Exception as error:
        row.check(False, f"{type(error).__name__}: {error}")
        return "traceback"


def _is_whole(remote: RemoteShards, number: int) -> bool:
    with remote.open(number) as file:
        return hashlib.sha256(file.read()).hexdigest() == remote.shards[number].sha256


def row_faults(options: Options, data: Path) -> Row:
    """Read rows again and again from a server that draws what it does wrong, over a file of
    rubbish.
    """
    wanted = options.moments(10_000, 300)
    row = Row("every fault of a server, rows by parts")
    rates = {kind: 0.002 if kind in SLOW else 0.06 for kind in FAULTS}
    outcomes: list[str] = []
    right = np.asarray(open_split(data, "train").samples)
    with FaultyServer(data, rates, options.seed) as server:
        server.only = "of no object"
        caches = [str(options.folder / f"rows-{reader}") for reader in range(READERS)]
        indexes = [open_split(server.url, "train", cache) for cache in caches]
        server.only = ROWS_NAME

        def read(reader: int) -> None:
            index = indexes[reader]
            rng = random.Random(options.seed + reader)
            while sum(server.done.values()) - server.done[""] < wanted:
                ids = np.array(rng.sample(range(len(right)), 3))
                is_right = partial(_are_rows, index, ids, right[ids])
                outcomes.append(_outcome(is_right, index.root / ROWS_NAME, row))
                _forget_rows(index)

        _in_threads(read)
        num_faults = sum(server.done.values()) - server.done[""]
    lines = len(outcomes) - outcomes.count("right")
    row.tried = f"{num_faults} faults: {outcomes.count('right')} times right rows, {lines} lines"
    row.check(outcomes.count("right") > 0, "no rows were ever right")
    return row


def _are_rows(index: DatasetIndex, ids: np.ndarray, right: np.ndarray) -> bool:
    return bool(index.samples[ids].tobytes() == right.tobytes())


def _forget_rows(index: DatasetIndex) -> None:
    """Make what is here of the rows rubbish, and forget it."""
    parts = index.remote._rows  # type: ignore[union-attr]
    assert parts is not None
    parts.here[:] = False
    parts._has_ranges = True
    start = int(parts._starts[0])
    with parts.path.open("r+b") as file:
        file.seek(start)
        file.write(random.randbytes(parts._num_bytes - start))


def _read_all(url: str, cache: str, gigabytes: float, results: object = None) -> None:
    """Read every shard of a split, as a process of its own."""
    index = open_split(url, "train", cache, gigabytes)
    digest = hashlib.sha256()
    for number in range(len(index.shards)):
        with index.open_shard(number) as file:
            digest.update(file.read())
    if results is not None:
        results.put(digest.hexdigest())  # type: ignore[attr-defined]


def _digest(index: DatasetIndex) -> str:
    digest = hashlib.sha256()
    for number in range(len(index.shards)):
        with index.open_shard(number) as file:
            digest.update(file.read())
    return digest.hexdigest()


def kills(options: Options, data: Path) -> Row:
    """Kill a process that fills the cache, at random moments."""
    moments = options.moments(30, 3)
    row = Row("SIGKILL while the cache is filled", f"{moments} moments")
    rng = random.Random(options.seed)
    context = multiprocessing.get_context("fork")
    size = sum(shard.num_bytes for shard in open_split(data, "train").shards)
    right = _digest(open_split(data, "train"))
    seen = set()
    for moment in range(moments):
        cache = options.folder / f"killed-{moment % 5}"
        with ObjectServer(data, bytes_per_s=size / 0.5) as server:
            job = context.Process(target=_read_all, args=(server.url, str(cache), 0.0))
            job.start()
            time.sleep(rng.uniform(0.02, 0.6))
            job.kill()
            job.join()
            seen.add(sum(path.name != MARKER for path in cache.iterdir()) if cache.exists() else 0)
            if moment % 5 == 4 or moment == moments - 1:
                again = open_split(server.url, "train", str(cache))
                row.check(_digest(again) == right, f"other bytes after kill {moment}")
    row.check(len(seen) > 1 or options.quick, "all kills were at the same moment")
    return row


def two_jobs(options: Options, data: Path) -> Row:
    """Several processes share one small cache and fetch each shard as seldom as it allows."""
    row = Row("jobs that share a cache")
    context = multiprocessing.get_context("fork")
    index = open_split(data, "train")
    right = _digest(index)
    largest = max(shard.num_bytes for shard in index.shards)
    tries = options.moments(10, 2)
    row.tried = f"{tries} times 3 processes, a cache of everything and of 3 shards"
    for number in range(tries):
        gigabytes = 0.0 if number % 2 == 0 else (3 * largest + 100_000) / 1e9
        cache = options.folder / f"shared-{number}"
        results = context.Queue()
        with ObjectServer(data) as server:
            args = (server.url, str(cache), gigabytes, results)
            jobs = [context.Process(target=_read_all, args=args) for _ in range(3)]
            for job in jobs:
                job.start()
            for _ in jobs:
                row.check(results.get(timeout=120) == right, "other bytes")
            for job in jobs:
                job.join()
            tars = {name: num for name, num in server.wholes.items() if name.endswith(".tar")}
        if not gigabytes:
            row.check(set(tars.values()) == {1}, f"a shard was fetched {max(tars.values())} times")
    return row


def disks(options: Options, data: Path) -> Row:
    """A disk that is too small, one that others fill, and one that cannot be written."""
    row = Row("a cache on a full or read-only disk")
    with small_disk(options.folder / "disk") as disk, ObjectServer(data) as server:
        if disk is None:
            return Row("a cache on a full or read-only disk", NOT_TRIED)
        _fill_and_read(disk, server.url, open_split(data, "train"), row)
        _remount(disk, "ro")
        _read_only(disk, server.url, row)
        _remount(disk, "rw")
    row.tried = "room for 4 shards; filled by another file; read-only"
    return row


def _fill_and_read(disk: Path, url: str, index: DatasetIndex, row: Row) -> None:
    largest = max(shard.num_bytes for shard in index.shards)
    right = _digest(index)
    _remount(disk, f"size={(4 * largest + 200_000) // 1024}k")
    cache = str(disk / "cache")
    row.check(_digest(open_split(url, "train", cache)) == right, "other bytes")
    with open(disk / "of-others", "wb") as file:
        _fill(file)
    far = open_split(url, "train", cache)
    held = [far.open_shard(number) for number in _here(disk, far)]
    absent = next(number for number in range(len(far.shards)) if number not in _here(disk, far))
    _one_line(lambda: far.open_shard(absent), "free some space", row)
    for each in held:
        each.close()
    row.check(_digest(far) == right, "other bytes on a full disk")
    (disk / "of-others").unlink()
    row.check(_digest(far) == right, "other bytes after it")


def _read_only(disk: Path, url: str, row: Row) -> None:
    far = open_split(url, "train", str(disk / "cache"))
    for number in range(len(far.shards)):
        if number in _here(disk, far):
            far.open_shard(number).close()
        else:
            _one_line(lambda: far.open_shard(number), "Read-only", row)  # noqa: B023


def _here(disk: Path, index: DatasetIndex) -> list[int]:
    listed = CacheFolder(disk / "cache").listed()
    return [number for number, shard in enumerate(index.shards) if shard.sha256 in listed]


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def _fill(file: object) -> None:
    try:
        while True:
            file.write(bytes(1 << 16))  # type: ignore[attr-defined]
            file.flush()  # type: ignore[attr-defined]
    except OSError:
        return


def _one_line(work: object, says: str, row: Row) -> None:
    try:
        work()  # type: ignore[operator]
        row.check(False, f"nothing was said that has {says!r}")
    except DataError as error:
        row.check(says in str(error) and "\n" not in str(error), f"it says {error}")
    except Exception as error:
        row.check(False, f"{type(error).__name__}: {error}")


def experiments(options: Options) -> Iterator[Row]:
    """Run all of them."""
    patience.PATIENCE = HASTY
    remote_shards.REPLACED_S = 0.0
    yield faults(options)
    data = pack_digits(options.folder / "digits", 200, 20)
    split_tables.WHOLE_BYTES = 0  # rows of small sets come by parts, too
    yield row_faults(options, data)
    yield kills(options, data)
    yield two_jobs(options, data)
    yield disks(options, data)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run(experiments, __doc__ or "")
