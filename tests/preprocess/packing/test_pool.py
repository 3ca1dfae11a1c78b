"""The worker processes of the packer."""

import os
import signal

import pytest

from preprocess.packing.pool import Worker, open_pool
from shards.errors import DataError
from tests.preprocess.hanging import Unsendable, complain, large, pack_images


def test_a_killed_worker_ends_the_packing_in_one_line(records):
    with open_pool(2) as pool:
        results = pack_images(pool, records * 20)
        next(results)
        os.kill(pool.started[0].process.pid, signal.SIGKILL)
        with pytest.raises(
            DataError,
            match="a worker process was killed, perhaps for lack of memory; what is finished is "
            "kept",
        ):
            list(results)


class KilledWhileAnswering:
    """Our end of a worker's pipe; the worker is killed when half of its answer is in there."""

    def __init__(self, worker: Worker) -> None:
        self.process, self.pipe, self.send = worker.process, worker._pipe, worker._pipe.send

    def recv(self):
        assert self.pipe.poll(60)
        self.process.kill()
        self.process.join()
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.close()


def test_a_worker_killed_while_it_answers_holds_up_nobody():
    first, second = Worker(), Worker()
    try:
        first._pipe = KilledWhileAnswering(first)
        with pytest.raises(DataError, match="a worker process was killed"):
            first.call(large, 50_000_000)
        assert len(second.call(large, 50_000_000)) == 50_000_000
    finally:
        first.end()
        second.end()


def test_what_a_worker_raises_comes_back_with_its_place():
    worker = Worker()
    try:
        with pytest.raises(DataError, match="this one") as told:
            worker.call(complain, "this one")
        assert any("in complain" in note for note in told.value.__notes__)
        with pytest.raises(RuntimeError, match="cannot be sent to the parent process"):
            worker.call(Unsendable, 1)
        assert len(worker.call(large, 3)) == 3  # it goes on
    finally:
        worker.end()
