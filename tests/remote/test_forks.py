"""A process that forks while shards come: neither it nor its child waits for what never ends."""

import hashlib
import multiprocessing
import threading
import time

from shards.index import open_split
from shards.remote.cache_folder import CacheFolder
from tests.remote.faulty_server import wait_until

FORK = multiprocessing.get_context("fork")
NAME = hashlib.sha256(b"object").hexdigest()


def in_time(work) -> list:
    """Do something in a thread; an empty list where it does not end."""
    done = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(60)
    return done


def test_a_child_does_not_keep_a_finished_download_locked(tmp_path, idle):
    folder = CacheFolder(tmp_path / "cache")
    part = folder.begin(NAME, 6, lambda _: None, 0.0)
    idle()
    part.file.write(b"object")
    part.finish()
    part.close()
    assert [file.read() for file in in_time(lambda: folder.open_object(NAME))] == [b"object"]


def test_a_child_does_not_keep_a_download_that_was_left(tmp_path, idle):
    folder = CacheFolder(tmp_path / "cache")
    part = folder.begin(NAME, 6, lambda _: None, 0.0)
    idle()
    part.close()
    assert folder.begin(NAME, 6, lambda _: None, 0.0) != "busy"


def test_a_child_does_not_keep_the_cache_locked(tmp_path, idle):
    folder = CacheFolder(tmp_path / "cache")
    with folder._making_room():
        idle()
    assert in_time(lambda: folder.make_room(NAME, 6)) == [None]


def _sizes(index, results):
    results.put([index.open_shard(number).seek(0, 2) for number in range(len(index.shards))])


def test_a_child_reads_what_a_thread_of_its_parent_was_fetching(server, tmp_path):
    index = open_split(server.url, "train", str(tmp_path / "cache"))
    server.delay_s = 3.0
    threading.Thread(target=index.open_shard, args=(1,), daemon=True).start()
    assert wait_until(lambda: index.remote.is_fetching(1))
    results = FORK.Queue()
    job = FORK.Process(target=_sizes, args=(index, results), daemon=True)
    job.start()
    server.delay_s = 0.0
    assert results.get(timeout=120) == [shard.num_bytes for shard in index.shards]
    job.join()


def test_a_child_does_not_wait_for_a_lock_of_a_thread_that_it_lacks(server, tmp_path):
    index = open_split(server.url, "train", str(tmp_path / "cache"))
    held = threading.Event()

    def hold():
        with index.remote.changed:
            held.set()
            time.sleep(1)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    results = FORK.Queue()
    job = FORK.Process(target=_sizes, args=(index, results), daemon=True)
    job.start()
    thread.join()
    assert results.get(timeout=120) == [shard.num_bytes for shard in index.shards]
    job.join()
