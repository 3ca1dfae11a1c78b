"""Pack images in parallel, results in order, memory bounded, a dead worker reported."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from preprocess.geometry import ImageOptions
from preprocess.image import pack_image
from preprocess.members import BadImage, Packed
from preprocess.record import Record
from shards.errors import DataError
from shards.machine import num_cores

CHUNK = 8  # images per task: a task's overhead is about 0.2 ms, an image costs 2 to 20
TASKS_PER_WORKER = 4

Result = Packed | str  # the packed image, or why it was rejected


class Pool:
    """Worker processes that pack images; with one worker the work is done in this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers or num_cores()
        self._executor: ProcessPoolExecutor | None = None
        if self.workers > 1:
            context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
            self._executor = ProcessPoolExecutor(self.workers, context, initializer=_prepare_worker)

    def pack(self, records: Sequence[Record], options: ImageOptions) -> Iterator[Result]:
        """Pack the records' images in order. At most a few tasks per worker are ahead of the reader."""
        if self._executor is None:
            for record in records:
                yield _pack(record, options)
            return
        waiting: deque[Future[list[Result]]] = deque()
        starts = iter(range(0, len(records), CHUNK))
        try:
            for start in starts:
                chunk = list(records[start : start + CHUNK])
                waiting.append(self._executor.submit(_pack_chunk, chunk, options))
                if len(waiting) >= TASKS_PER_WORKER * self.workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a packing process was killed, perhaps for lack of memory; "
                "finished shards are kept: run the same command again, with fewer --workers if memory is short"
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


@contextmanager
def open_pool(workers: int) -> Iterator[Pool]:
    """Make a pool and end its processes afterwards."""
    pool = Pool(workers)
    try:
        yield pool
    finally:
        pool.close()


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this worker when its parent was killed: it would wait for work for ever, and keep its memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _pack(record: Record, options: ImageOptions) -> Result:
    try:
        return pack_image(record.read(), options)
    except BadImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _pack_chunk(records: list[Record], options: ImageOptions) -> list[Result]:
    return [_pack(record, options) for record in records]
