"""A loader at odd moments: states that are none, and a system that gives no more threads."""

import multiprocessing
import threading

import pytest

from shards.errors import DataError
from shards.loader import Loader


@pytest.mark.parametrize("name", ["epoch", "step"])
@pytest.mark.parametrize("value", [-1, 1.0, "1", None, True])
def test_a_state_that_no_loader_made_is_refused(index, name, value):
    """With a step below 0 other samples came than the order says, or IndexError."""
    loader = Loader(index, 16, 32, num_threads=2)
    with pytest.raises(DataError, match=f"the saved state has {name} {value!r}: give one that"):
        loader.load_state_dict({**loader.state_dict(), name: value})
    half = loader.state_dict()
    del half[name]
    with pytest.raises(DataError, match=f"the saved state has {name} None: give one that"):
        loader.load_state_dict(half)


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


def _go_on(iterator, results) -> None:
    try:
        next(iterator)
    except DataError as error:
        results.put(str(error))
    iterator.close()
    results.put("left")


def test_a_process_that_was_forked_in_an_iteration_has_no_part_in_it(index):
    """It waited without end: for batches that no thread made, or for a lock of such a thread."""
    loader = Loader(index, 8, 32, num_threads=2)
    iterator = iter(loader)
    next(iterator)
    held, free = threading.Event(), threading.Event()

    def hold():
        with loader._steps._current._changed:
            held.set()
            free.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    job = fork.Process(target=_go_on, args=(iterator, results), daemon=True)
    job.start()
    free.set()
    thread.join()
    assert "began before the process was forked" in results.get(timeout=60)
    assert results.get(timeout=60) == "left"
    job.join()
    next(iterator)
