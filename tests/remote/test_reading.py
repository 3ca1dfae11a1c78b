"""Batches from shards that are elsewhere: the same bits, few requests, no deadlock, nothing lost."""

import os
import pickle
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from benchmarks.object_server import ObjectServer
from shards.dataset import ShardDataset
from shards.errors import DataError
from shards.index import open_split
from shards.loader import Loader, Order
from shards.remote import fetch_ahead, patience, remote_shards
from shards.remote.cache_folder import CacheFolder
from shards.remote.future import Course, Future, uses_of_all
from shards.sampler import World
from tests.remote.faulty_server import FaultyServer, wait_until

ROWS_BYTES = 90_000  # of index.json and the tables, whose greatest length counts
TABLES = ("shards.npy", "rows.npy")
NEAR = Order("near", groups=2, window=2)


def batches(index, epochs=1, follow=False, **options):
    """Read epochs; return what identifies their bits. With `follow` each begins before the one
    before it is over.
    """
    options = {"order": "global", **options}
    loader = Loader(index, 16, size=32, num_threads=2, **options)
    loader.then(loader if follow else None)
    return [bits(batch) for _ in range(epochs) for batch in loader]


def bits(batch) -> tuple:
    return batch.ids.tolist(), batch.images.numpy().tobytes(), batch.labels.numpy().tobytes()


@pytest.fixture
def _never_crowded(monkeypatch):
    """A cache that waits for room does not grow meanwhile, however long a busy machine takes."""
    monkeypatch.setattr(remote_shards, "CROWDED_S", 120.0)


@pytest.fixture
def far(server, tmp_path):
    return open_split(server.url, "train", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "options",
    [{}, {"train": False}, {"cache": "ram"}, {"seed": 3}, {"order": "near"}, {"order": NEAR}],
)
def test_batches_are_those_from_the_folder(server, far, dataset, options):
    near = batches(open_split(dataset, "train"), 2, **options)
    assert batches(far, 2, **options) == near
    assert batches(far, 3, follow=True, **options)[: len(near)] == near
    assert all(server.wholes[f"train/{shard.name}"] == 1 for shard in far.shards)


def test_decoded_images_need_their_shards_once(server, dataset, tmp_path):
    largest = max(shard.num_bytes for shard in open_split(dataset, "train").shards)
    gigabytes = (4.1 * largest + ROWS_BYTES) / 1e9
    far = open_split(server.url, "train", str(tmp_path / "cache"), gigabytes)
    assert batches(far, 4, order=NEAR, cache="ram") == batches(
        open_split(dataset, "train"), 4, order=NEAR, cache="ram"
    )
    assert all(server.wholes[f"train/{shard.name}"] == 1 for shard in far.shards)


def test_a_device_cache_reads_them_too(far, dataset):
    options = {"size": 32, "cache": "device", "device": "cpu", "order": "near"}
    near = Loader(open_split(dataset, "train"), 16, **options)
    there = Loader(far, 16, **options)
    for one, other in zip(near, there, strict=True):
        assert torch.equal(one.images, other.images)


def test_a_resumed_run_reads_what_it_would_have_read(far, dataset):
    whole = batches(open_split(dataset, "train"), order="near")
    loader = Loader(far, 16, size=32)  # near by itself
    rows = iter(loader)
    next(rows)
    next(rows)
    state = loader.state_dict()
    rows.close()
    again = Loader(far, 16, size=32)
    again.load_state_dict(state)
    assert [batch.ids.tolist() for batch in again] == [ids for ids, _, _ in whole[2:]]


def test_single_images_are_fetched_when_asked_for(server, far, dataset):
    near = ShardDataset(open_split(dataset, "train"))
    there = pickle.loads(pickle.dumps(ShardDataset(far)))
    for number in (69, 0, 33, 1):
        assert np.array_equal(there[number][0], near[number][0])
    assert sum(server.wholes[f"train/{shard.name}"] for shard in far.shards) == 3


def test_workers_of_another_loader_read_them(far, dataset):
    from torch.utils.data import DataLoader

    def keys(index):
        sets = ShardDataset(index)
        return [
            row[0][3] for row in DataLoader(sets, None, num_workers=2, collate_fn=lambda r: [r])
        ]

    assert keys(far) == keys(open_split(dataset, "train"))


def test_a_cache_that_is_too_small_is_one_line_with_the_sizes(server, tmp_path):
    index = open_split(server.url, "train", str(tmp_path / "cache"), 1e-4)
    with pytest.raises(DataError, match=r"GB of its shards are needed at once.*give --cache-gb"):
        batches(index)


@pytest.mark.usefixtures("_never_crowded")
def test_validation_reads_through_a_small_cache(server, dataset, tmp_path, capfd):
    index = open_split(dataset, "train")
    largest = max(shard.num_bytes for shard in index.shards)
    # two threads, each with a batch of two shards: with less room than that the cache grows
    gigabytes = (4 * largest + ROWS_BYTES) / 1e9
    far = open_split(server.url, "train", str(tmp_path / "cache"), gigabytes)
    assert batches(far, 2, train=False) == batches(index, 2, train=False)
    held = sum(path.stat().st_size for path in (tmp_path / "cache").iterdir())
    assert held <= gigabytes * 1e9


@pytest.mark.usefixtures("_never_crowded")
@pytest.mark.parametrize("follow", [False, True])
def test_training_in_the_near_order_reads_through_a_small_cache(
    server, dataset, tmp_path, capfd, follow
):
    """Where it has no room for the shards of two epochs, the next one is not begun ahead."""
    index = open_split(dataset, "train")
    largest = max(shard.num_bytes for shard in index.shards)
    gigabytes = (4 * largest + ROWS_BYTES) / 1e9
    near = batches(index, 3, order="near")
    far = open_split(server.url, "train", str(tmp_path / "cache"), gigabytes)
    assert batches(far, 3, follow, order="auto") == near
    held = sum(path.stat().st_size for path in (tmp_path / "cache").iterdir())
    assert held <= gigabytes * 1e9
    assert "wait" not in capfd.readouterr().err


def test_ranks_of_a_machine_fetch_each_shard_once(server, dataset, tmp_path):
    cache = str(tmp_path / "cache")
    options = {"size": 32, "order": NEAR}
    whole = Loader(open_split(dataset, "train"), 16, **options)
    loaders = [
        Loader(open_split(server.url, "train", cache), 16, **options, world=World(rank, 2, 2))
        for rank in range(2)
    ]
    for one, *parts in zip(whole, *loaders, strict=True):
        ids = torch.cat([part.ids[part.valid] for part in parts])
        assert ids.tolist() == one.ids[one.valid].tolist()
    tars = [count for name, count in server.wholes.items() if name.endswith(".tar")]
    assert tars == [1] * len(tars)


def test_two_readers_of_one_cache_fetch_each_shard_once(server, dataset, tmp_path):
    cache = str(tmp_path / "cache")
    near = batches(open_split(dataset, "train"))
    found = {}

    def read(number):
        found[number] = batches(open_split(server.url, "train", cache))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[number] == near for number in range(3))
    shards = [count for name, count in server.wholes.items() if name.endswith(".tar")]
    assert shards == [1] * len(shards)


def test_a_damaged_part_is_fetched_again_whole(server, dataset, tmp_path):
    cache = str(tmp_path / "cache")
    index = open_split(server.url, "train", cache)
    shard = index.shards[2]
    path = tmp_path / "cache" / f"{shard.sha256}-{shard.num_bytes}.part"
    path.write_bytes(b"damaged" * 100)
    with index.open_shard(2) as file:
        assert file.read() == (dataset / "train" / shard.name).read_bytes()
    assert not path.exists()


@pytest.mark.usefixtures("hasty")
def test_a_replaced_object_is_fetched_once_more_then_one_line(server, dataset, tmp_path):
    index = open_split(server.url, "train", str(tmp_path / "cache"))
    name = index.shards[3].name
    path = dataset / "train" / name
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        batches(index)
    assert str(caught.value).startswith(f"{server.url}/train/{name}: is not the object that index")
    assert server.wholes[f"train/{name}"] == 2
    # others may still be on their way
    assert wait_until(lambda: not list((tmp_path / "cache").glob("*.part")))


@pytest.mark.usefixtures("hasty")
def test_a_server_that_goes_away_is_one_line(dataset, tmp_path):
    with FaultyServer(dataset) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        server.always = "500"
        with pytest.raises(DataError, match=r"train-00000\d\.tar: the server answers 500"):
            batches(index)
        server.always = ""
        # a shard that could not be fetched ahead is fetched when it is needed
        assert batches(index) == batches(open_split(dataset, "train"))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("seed", range(4))
def test_a_mix_of_faults_gives_the_same_batches_or_one_line(dataset, tmp_path, seed):
    kinds = ("500", "503", "reset", "cut", "unmarked cut", "stretched", "flipped", "garbage")
    near = batches(open_split(dataset, "train"), train=False)
    rates = dict.fromkeys(kinds, 0.05)
    with FaultyServer(dataset, rates, seed) as server:
        for attempt in range(10):
            found = None
            said = f"{server.url}/train/"
            try:
                index = open_split(server.url, "train", str(tmp_path / f"cache{attempt % 5}"))
                found = batches(index, train=False)
            except DataError as error:
                said = str(error)
            assert found in (near, None)
            assert f"{server.url}/train/" in said
            assert "\n" not in said
        assert sum(server.done[kind] for kind in kinds) > 5


def test_threads_that_fetch_end_with_their_shards(server, tmp_path):
    def fetching():
        return {thread for thread in threading.enumerate() if thread.name == "tarmac-fetch"}

    before = fetching()
    batches(open_split(server.url, "train", str(tmp_path / "cache")))
    own = fetching() - before
    assert wait_until(lambda: not any(thread.is_alive() for thread in own))


@pytest.mark.usefixtures("_never_crowded")
def test_room_is_made_from_what_is_open_but_not_needed(server, dataset, tmp_path):
    index = open_split(dataset, "train")
    sizes = [shard.num_bytes for shard in index.shards]
    cache = tmp_path / "cache"
    far = open_split(server.url, "train", str(cache), (2.2 * max(sizes) + 60_000) / 1e9)
    images = ShardDataset(far)
    near = ShardDataset(index)
    for number in np.random.default_rng(0).permutation(70)[:30].tolist():
        assert np.array_equal(images[number][0], near[number][0])
    assert sum(path.stat().st_size for path in cache.iterdir()) <= 2.2 * max(sizes) + 60_000


@pytest.mark.parametrize("release_s", [0.0, 3600.0])
def test_an_epoch_from_a_full_cache_opens_and_plans_nothing_again(far, monkeypatch, release_s):
    monkeypatch.setattr(fetch_ahead, "RELEASE_S", release_s)
    loader = Loader(far, 16, size=32, num_threads=1, order=NEAR)
    for _ in loader:
        pass
    opened, planned = [], []
    open_object, coming = CacheFolder.open_object, Future.coming
    # of whatever tests before this one have left behind as well
    monkeypatch.setattr(
        CacheFolder, "open_object", lambda *at: opened.append(at[0]) or open_object(*at)
    )
    monkeypatch.setattr(Future, "coming", lambda self: planned.append(self) or coming(self))
    for _ in loader:
        pass
    is_opened = far.remote.folder in opened
    assert is_opened == (release_s == 0), "shards that others may want are closed now and then"
    assert far.remote._future not in planned


def test_what_others_hold_makes_the_cache_grow_rather_than_wait_for_ever(
    server, dataset, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(remote_shards, "CROWDED_S", 0.2)
    cache = str(tmp_path / "cache")
    size = max(shard.num_bytes for shard in open_split(dataset, "train").shards)
    one = open_split(server.url, "train", cache, (1.2 * size + 60_000) / 1e9)
    other = open_split(server.url, "train", cache, (1.2 * size + 60_000) / 1e9)
    with one.open_shard(0), other.open_shard(1) as file:
        assert len(file.read()) == other.shards[1].num_bytes
    assert "grows beyond its size" in capfd.readouterr().err


def test_a_cache_needs_room_for_all_that_a_global_order_needs():
    course = Course(lambda _: uses_of_all(np.array([3, 0, 4]), 5), 5)
    assert course.uses_of(0).tolist() == [[0, 4, 0], [0, 4, 2]]


def test_no_secret_is_in_what_is_pickled_or_shown(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    from fsspec.config import conf

    monkeypatch.setitem(conf, "http", {"headers": {"Authorization": "Bearer planted-secret"}})
    index = open_split(server.url, "train", str(tmp_path / "cache"))
    loader = Loader(index, 16, size=32)
    assert loader.plan.name == "near"
    next(iter(loader))
    for thing in (index, ShardDataset(index)):
        assert b"planted-secret" not in pickle.dumps(thing)
        assert "planted-secret" not in repr(thing)
    cache = index.remote.folder  # where parts get their names meanwhile
    assert wait_until(lambda: all(cache.has(shard.sha256) for shard in index.shards))
    stored = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    assert b"planted-secret" not in stored
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "planted-secret"


@pytest.mark.slow
def test_a_slow_link_is_no_file_system_that_hangs(dataset, tmp_path, monkeypatch, hasty):
    """The first batch needs three times its timeout, and some of it comes all the while."""
    monkeypatch.setattr(patience, "PATIENCE", hasty._replace(window_s=60.0, min_bytes_per_s=1))
    near = batches(open_split(dataset, "train"), train=False)
    with ObjectServer(dataset) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        server.link.bytes_per_s = index.shards[0].num_bytes / 4.5
        found = []
        for batch in Loader(index, 16, size=32, num_threads=2, train=False, read_timeout_s=1.5):
            server.link.bytes_per_s = 0.0
            found.append(bits(batch))
        assert found == near


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")
def test_the_folder_of_a_cache_is_closed_with_it(tmp_path):
    path = str(tmp_path / "cache")
    folder = CacheFolder(tmp_path / "cache")
    assert path in open_paths()
    del folder
    assert path not in open_paths()


def open_paths() -> list[str]:
    """Name what this process has open; other threads may close theirs meanwhile."""
    paths = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            paths.append(os.readlink(f"/proc/self/fd/{number}"))
    return paths


def test_a_server_is_asked_for_nothing_but_what_the_index_lists(server, far):
    batches(far, 2)
    names = {f"train/{shard.name}" for shard in far.shards}
    assert set(server.asked) == names | {"train/index.json", *(f"train/{name}" for name in TABLES)}
    assert isinstance(server, ObjectServer)


def test_threads_that_fetch_go_on_after_the_cache_could_not_be_looked_at(far, monkeypatch):
    """Of more open files than are allowed, say: who reads has the error, and they try again."""
    real = CacheFolder.listed
    failed = threading.Event()

    def listed(folder):
        if not failed.is_set():
            failed.set()
            raise DataError("cannot be listed")
        return real(folder)

    monkeypatch.setattr(CacheFolder, "listed", listed)
    before = set(threading.enumerate())
    loader = Loader(far, 16, size=32, num_threads=2)
    assert sum(int(batch.valid.sum()) for batch in loader) == 70
    assert failed.is_set()
    fetching = [thread for thread in threading.enumerate() if thread.name == "tarmac-fetch"]
    assert len(set(fetching) - before) == fetch_ahead.DOWNLOADS


def test_readers_may_come_while_shards_are_released(far):
    """A second loader is made while the threads of the first one read."""

    class Nothing:
        def keep_only(self, needed):
            pass

    def come_and_go():
        for _ in range(5000):
            readers = [Nothing() for _ in range(3)]
            for reader in readers:
                far.remote.add_reader(reader)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            far.remote.release(set())
    finally:
        sys.setswitchinterval(before)
