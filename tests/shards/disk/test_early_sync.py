"""A shard is synced while it grows, and no error of that is lost."""

import errno
import os
import threading
from pathlib import Path

import pytest

from shards.disk import early_sync
from shards.disk.writer import Sample, ShardWriter

ERROR = OSError(errno.EIO, "Input/output error")


def sample(number: int) -> Sample:
    image = number.to_bytes(2, "big") * 20_000
    return Sample(f"{number:04d}", {"jpg": image}, (0,), (), 8, 8, f"{number}.jpg")


def write(path: Path, count: int) -> str:
    writer = ShardWriter(path)
    try:
        for number in range(count):
            writer.add(sample(number))
        return writer.close()
    except BaseException:
        writer.abort()
        raise


def test_a_shard_is_synced_while_it_grows_and_has_the_same_bytes(tmp_path, monkeypatch):
    synced = []

    def note(handle: int) -> None:
        synced.append((os.fstat(handle).st_size, threading.current_thread()))

    plain = write(tmp_path / "plain.tar", 20)
    monkeypatch.setattr(early_sync, "_sync", note)
    monkeypatch.setattr(early_sync, "SYNC_BYTES", 100_000)
    assert write(tmp_path / "synced.tar", 20) == plain
    assert (tmp_path / "synced.tar").read_bytes() == (tmp_path / "plain.tar").read_bytes()
    assert 1 <= len(synced) <= 8
    assert all(100_000 <= size < 900_000 for size, _ in synced)
    assert all(thread is not threading.main_thread() for _, thread in synced)
    assert not [thread for _, thread in synced if thread.is_alive()]


@pytest.mark.parametrize("count", [3, 20])  # at the end, and before it
def test_an_error_of_an_early_sync_fails_the_shard(tmp_path, monkeypatch, count):
    """The system reports a write that was lost to one sync only."""

    def fail(handle: int) -> None:
        raise ERROR

    monkeypatch.setattr(early_sync, "_sync", fail)
    monkeypatch.setattr(early_sync, "SYNC_BYTES", 100_000)
    with pytest.raises(OSError, match=r"Input/output error.*shard\.tar"):
        write(tmp_path / "shard.tar", count)
    assert not list(tmp_path.iterdir())
