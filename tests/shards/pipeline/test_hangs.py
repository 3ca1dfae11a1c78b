"""Nothing hangs: not a read without an end, not Ctrl-C, not an iteration that nobody wants any
more.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from shards.errors import DataError
from shards.loader import Loader
from tests.shards.left_behind import still_running

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(300)  # the first may compile the decoder


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch):
    """A thread whose read hangs is left behind after 10 s otherwise."""
    monkeypatch.setattr("shards.pipeline.making.JOIN_TIMEOUT_S", 0.5)


class Hang(NamedTuple):
    """A read that does not end: whether it has begun, and what lets it go on."""

    reached: threading.Event
    released: threading.Event


def hang_at(loader: Loader, sample: int) -> Hang:
    """Let the reading of one sample wait until it is released."""
    hang, member = Hang(threading.Event(), threading.Event()), loader.maker._reader.member
    wanted = loader.index.samples[sample]

    def slow(row, number):
        if row["shard"] == wanted["shard"] and row["offset"][0] == wanted["offset"][0]:
            hang.reached.set()
            hang.released.wait()
        return member(row, number)

    loader.maker._reader.member = slow
    return hang


def let_time_pass(monkeypatch, expires: Callable[[], bool]) -> None:
    """Let the timeout of a read expire whenever `expires` says so, however fast the machine is."""

    class Watched(threading.Condition):
        def wait_for(self, predicate, timeout=None):
            if timeout is None:
                return super().wait_for(predicate)
            while not predicate():
                if expires():
                    return False
                self.wait(0.005)
            return True

    monkeypatch.setattr("threading.Condition", Watched)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_read_that_hangs_ends_with_shard_and_key(index, monkeypatch, num_threads):
    loader = Loader(index, 8, 32, train=False, num_threads=num_threads, read_timeout_s=0.3)
    loader.warm_up()
    hang = hang_at(loader, 37)
    seen = []
    let_time_pass(monkeypatch, lambda: hang.reached.is_set() and len(seen) == 4)
    try:
        with pytest.raises(
            DataError,
            match=r"train-000002\.tar: sample 37%2E259: reading it has not ended for 0\.3 s",
        ):
            seen.extend(batch.ids[0].item() for batch in loader)
    finally:
        hang.released.set()
    assert seen == [0, 8, 16, 24]  # what came before was handed out


def test_the_timeout_is_one_of_the_clock(index):
    loader = Loader(index, 8, 32, train=False, num_threads=1, read_timeout_s=0.3)
    loader.warm_up()
    hang = hang_at(loader, 0)
    try:
        with pytest.raises(DataError, match=r"reading it has not ended for 0\.3 s"):
            next(iter(loader))
    finally:
        hang.released.set()


def test_a_hang_before_the_first_sample_of_a_batch_names_no_sample_of_the_one_before(
    index, monkeypatch
):
    loader = Loader(index, 8, 32, train=False, num_threads=1, read_timeout_s=0.3)
    loader.warm_up()
    hang, share = Hang(threading.Event(), threading.Event()), loader.maker._padded

    def slow(epoch, step):
        if step == 1:
            hang.reached.set()
            hang.released.wait()
        return share(epoch, step)

    monkeypatch.setattr(loader.maker, "_padded", slow)
    seen = []
    let_time_pass(monkeypatch, lambda: hang.reached.is_set() and len(seen) == 1)
    try:
        with pytest.raises(
            DataError, match=rf"^{index.root}/rows\.npy: reading it has not ended for 0\.3 s"
        ):
            seen.extend(batch.num_known for batch in loader)
    finally:
        hang.released.set()


def test_a_slow_batch_is_no_hang(index, monkeypatch):
    """Three of its samples take longer than the timeout each: it expires at each, then the next one
    is being read.
    """
    begun, expired, next_one = (threading.Event() for _ in range(3))
    num_expired = 0

    def expires():
        nonlocal num_expired
        if begun.is_set():
            begun.clear()
            num_expired += 1
            expired.set()
            next_one.wait()
            next_one.clear()
            return True
        return False

    loader = Loader(index, 8, 32, train=False, num_threads=1, read_timeout_s=0.05)
    loader.warm_up()
    member, num_read = loader.maker._reader.member, 0

    def slow(row, number):
        nonlocal num_read
        num_read += 1
        if num_read in (4, 5, 6):
            next_one.set()
        if num_read in (3, 4, 5):
            begun.set()
            expired.wait()
            expired.clear()
        return member(row, number)

    loader.maker._reader.member = slow
    let_time_pass(monkeypatch, expires)
    batch = next(iter(loader))
    assert batch.valid.all()
    assert num_expired == 3


def test_an_exception_in_a_thread_reaches_the_consumer(index):
    loader = Loader(index, 8, 32, num_threads=3)

    def broken(row, number):
        raise RuntimeError("a bug of ours")

    loader.maker._reader.member = broken
    with pytest.raises(RuntimeError, match="a bug of ours"):
        list(loader)


def test_an_exception_in_the_loop_leaves_no_thread(index):
    before = set(threading.enumerate())

    def loop():
        for _ in Loader(index, 8, 32, num_threads=3):
            raise RuntimeError("in the training loop")

    with pytest.raises(RuntimeError, match="in the training loop"):
        loop()
    assert still_running(before) == []


def tell_when_waiting() -> None:
    """Print a line once the main thread waits for something."""
    main = threading.main_thread().ident

    def look() -> None:
        while sys._current_frames()[main].f_code is not threading.Condition.wait.__code__:
            time.sleep(0.01)
        print("waiting", flush=True)

    threading.Thread(target=look, daemon=True).start()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["hanging", "abandoned"])
def test_ctrl_c_and_exit_do_not_wait_for_a_read_that_hangs(packed, way):
    script = f"""
import atexit
import signal
import threading
atexit.register(lambda: print(*(t.name for t in threading.enumerate() if "tarmac" in t.name)))  # runs last
from shards.loader import Loader
from shards.pipeline import making
from shards.index import DatasetIndex
from tests.shards.pipeline.test_hangs import hang_at, tell_when_waiting
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a job in the background is started without
making.JOIN_TIMEOUT_S = 5.0  # the threads that do not hang end in it, however busy the machine
loader = Loader(DatasetIndex.open({str(packed)!r}), 8, 32, train=False)
loader.warm_up()
hang_at(loader, 20)
iterator = iter(loader)
next(iterator), next(iterator)
if {way!r} == "hanging":
    tell_when_waiting()
    next(iterator)
print("abandoned", flush=True)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", script], env=env, cwd=ROOT, **pipes)
    said = process.stdout.readline()
    if way == "hanging":
        process.send_signal(signal.SIGINT)
    left, errors = process.communicate()
    assert said == ("waiting\n" if way == "hanging" else "abandoned\n"), errors
    assert ("KeyboardInterrupt" in errors) == (way == "hanging"), errors
    # the one that hangs: any other would be torn down in the middle of what it does
    assert left.splitlines()[-1].count("tarmac-loader-") == 1
    assert process.returncode == (-signal.SIGINT if way == "hanging" else 0)
