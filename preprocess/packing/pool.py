"""Work in parallel, results in order, memory bounded; a dead worker and a hung file system are
reported.

Each worker process has a pipe of its own, and a thread here that talks to it. A process pool of
concurrent.futures has one pipe and its locks for all: a worker killed in the middle of writing to
it held up the others, and us, for ever.
"""

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from preprocess.images.outcome import BadImage, Packed
from preprocess.record import Record
from shards.errors import DataError
from shards.host.machine import num_cores, open_files

CHUNK = 8  # images per task: a task's overhead is about 0.2 ms, an image costs 2 to 20
TASKS_PER_WORKER = 4
FILES_PER_WORKER = 3  # of the parent: a pipe, and two by which multiprocessing knows it alive
SPARE_FILES = 24  # streams, libraries, what is read and written, those of a process being started
PRELOADED = ["__main__", "preprocess.packing.pieces"]  # imported once, not by each worker
READ_TIMEOUT_S = 300.0  # so long may reading one image take

T = TypeVar("T")
R = TypeVar("R")
Result = Packed | str  # the packed image, or why it was rejected

_STARTING = threading.Lock()


class Worker:
    """A process that calls functions, one at a time."""

    def __init__(self, preloaded: Sequence[str] = ()) -> None:
        context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
        try:
            if os.name == "posix":
                _start_server(preloaded)
            self._pipe, theirs = context.Pipe()
            self.process: BaseProcess = context.Process(target=_serve, args=(theirs,), daemon=True)  # type: ignore[attr-defined]
            self.process.start()
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or "their server has ended"
            raise DataError(
                f"a worker process cannot be started ({reason}): give fewer --workers, or raise "
                "the limits that `ulimit -a` shows; what is finished is kept"
            ) from error
        theirs.close()  # so that its end is the end of the pipe

    def call(self, function: Callable[[T], R], task: T) -> R:
        """Return what a function of a module makes of a task, or raise what it raises. Raises
        DataError if killed.
        """
        try:
            self._pipe.send((function, task))
            done, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise DataError(
                "a worker process was killed, perhaps for lack of memory; what is finished is "
                "kept: run the same command again, with fewer --workers if memory is short"
            ) from error
        if not done:
            raise answer
        return answer

    def end(self) -> None:
        self._pipe.close()
        self.process.join()


class Pool:
    """Worker processes; with one worker the work is done in this process."""

    def __init__(
        self,
        workers: int,
        read_timeout_s: float = READ_TIMEOUT_S,
        preloaded: Sequence[str] = (),
    ) -> None:
        self._preloaded = preloaded  # modules that the fork server imports besides PRELOADED
        self.workers = workers or num_cores()
        if self.workers > 1:
            _make_room_for_files(self.workers)
        self._read_timeout_s = read_timeout_s
        self._threads = ThreadPoolExecutor(self.workers) if self.workers > 1 else None
        self.started: list[Worker] = []  # as many as there were tasks at once
        self._idle: list[Worker] = []
        self._lock = threading.Lock()

    def images(
        self, function: Callable[[bytes], Packed], records: Sequence[Record]
    ) -> Iterator[Result]:
        """Call a function of a module with each record's image; results in order.

        Raises DataError naming an image that cannot be read to its end.
        """
        starts = range(0, len(records), CHUNK if self._threads is not None else 1)
        chunks = (
            (list(records[start : start + starts.step]), function, self._read_timeout_s)
            for start in starts
        )
        for results in self.run(read_and_do, chunks):
            yield from results

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Generator[R, None, None]:
        """Call a function of a module with each task; results in order, a few tasks per worker
        ahead of the reader.

        What it raises is raised here. Raises DataError where a worker process was killed.
        """
        if self._threads is None:
            yield from map(function, tasks)
            return
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                waiting.append(self._threads.submit(self._call, function, task))
                if len(waiting) >= TASKS_PER_WORKER * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _call(self, function: Callable[[T], R], task: T) -> R:
        with self._lock:
            if not self._idle:
                self._idle.append(Worker(self._preloaded))
                self.started += self._idle
            worker = self._idle.pop()
        try:
            return worker.call(function, task)
        finally:
            self._idle.append(worker)

    def close(self) -> None:
        """End the processes, each when it has done what it is doing."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            for worker in self.started:
                worker.end()


@contextmanager
def open_pool(workers: int, preloaded: Sequence[str] = ()) -> Iterator[Pool]:
    """Make a pool and end its processes afterwards."""
    pool = Pool(workers, preloaded=preloaded)
    try:
        yield pool
    finally:
        pool.close()


def start_early(workers: int, preloaded: Sequence[str]) -> None:
    """Start what workers are forked from: it imports its modules while this process goes on."""
    if os.name == "posix" and (workers or num_cores()) > 1:
        with suppress(OSError):  # the first worker will say what is wrong
            _start_server(preloaded)


def _start_server(preloaded: Sequence[str]) -> None:
    """Start the fork server, once, on modules of this process's path.

    By itself it would look in the working folder first, where a user may have a shards.py.
    """
    with _STARTING:
        multiprocessing.set_forkserver_preload([*PRELOADED, *preloaded])
        before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            forkserver.ensure_running()
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _make_room_for_files(workers: int) -> None:
    """Raise DataError where so few files may be open that a worker could wait for ever for its
    pipe.
    """
    needed = FILES_PER_WORKER * workers + SPARE_FILES
    most = open_files(needed)
    if 0 < most < needed:
        fewer = max(1, (most - SPARE_FILES) // FILES_PER_WORKER)
        raise DataError(
            f"--workers {workers}: needs {needed} open files, at most {most} are allowed; raise "
            f"the limit with `ulimit -n {needed}`, or give --workers {fewer}"
        )


def _serve(pipe: Connection) -> None:
    """Call what is asked for until the other side is gone."""
    # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes()))


def _answer(asked: bytes) -> bytes:
    answer: tuple[bool, Any]
    try:
        function, task = pickle.loads(asked)
        answer = True, function(task)
    except Exception as error:
        # where, for a developer: DataError shows its message alone
        error.add_note(traceback.format_exc())
        answer = False, error
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps(
            (
                False,
                RuntimeError(f"{answer[1]!r:.500} cannot be sent to the parent process: {error}"),
            )
        )


def _follow_parent() -> None:
    """End this worker when its parent was killed: it would wait for work for ever, and keep its
    memory.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def read_and_do(task: tuple[list[Record], Callable[[bytes], Packed], float]) -> list[Result]:
    """Read records and call a function with each image. Raises DataError where reading hangs."""
    records, function, timeout_s = task
    return [
        _do(function, record, data)
        for record, data in zip(records, _read(records, timeout_s), strict=True)
    ]


def _read(records: list[Record], timeout_s: float) -> Iterator[bytes | Exception]:
    """Read images, or tell what went wrong, in a thread of its own: one whose read hangs can be
    left behind.
    """
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    wanted: queue.SimpleQueue[Record | None] = queue.SimpleQueue()

    def answer() -> None:
        while (record := wanted.get()) is not None:
            try:
                answers.put(record.read())
            except Exception as error:  # a dead thread would be taken for a read that hangs
                answers.put(error)

    threading.Thread(target=answer, daemon=True).start()
    try:
        for record in records:
            wanted.put(record)
            try:
                yield answers.get(timeout=timeout_s)
            except queue.Empty:
                raise DataError(
                    f"{record.path}: reading it has not ended for {timeout_s:g} s: does its file "
                    "system hang? What is finished is kept: run the same command again"
                ) from None
    finally:
        wanted.put(None)


def _do(function: Callable[[bytes], Packed], record: Record, data: bytes | Exception) -> Result:
    if isinstance(data, OSError):
        return f"cannot be read ({data.strerror})"
    try:
        if isinstance(data, Exception):
            raise data  # a mistake of whoever wrote the source
        return function(data)
    except BadImage as error:
        return str(error)
    except MemoryError as error:
        raise DataError(
            f"{record.path}: no memory is left for this image; what is finished is kept: "
            "run the same command again, with fewer --workers"
        ) from error
