"""A loader at odd moments: states that are none, and a system that gives no more threads."""

import threading

import pytest

from shards.loader import Loader


def test_a_system_without_threads_gives_its_own_error_and_keeps_none(index, monkeypatch):
    """Those that had started waited for ever, each with the memory of a batch."""
    loader = Loader(index, 4, 32, num_threads=3)
    list(loader)
    before = set(threading.enumerate())
    real = threading.Thread.start
    started = []

    def start(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            list(loader)
    assert set(threading.enumerate()) == before
    assert len(list(loader)) == len(loader)
