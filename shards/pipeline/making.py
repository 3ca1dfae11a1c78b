"""The threads that make the batches of one iteration, ahead of their consumer."""

import os
import threading
import time
from dataclasses import replace

from shards.errors import DataError
from shards.pipeline.bad_samples import Watch, check_skipped
from shards.pipeline.batch import Batch
from shards.pipeline.batch_maker import BatchMaker
from shards.pipeline.position import Place, Position

# so long the end of an iteration waits for batches that nobody wants any more
JOIN_TIMEOUT_S = 10.0
BATCHES_AHEAD = 2  # beyond those being made: one to hand out at once, one as slack for a slow one


class Making:
    """The batches of an epoch from `first_step` on.

    Invariant: handed out <= made <= claimed <= handed out + num_threads + BATCHES_AHEAD.

    It is made ahead of its iteration or begins with it. Ahead, a thread that has nothing to do
    ends; `begin` starts those that are missing, which then wait for the consumer.
    """

    def __init__(
        self,
        maker: BatchMaker,
        epoch: int,
        first_step: int,
        num_threads: int,
        read_timeout_s: float,
        position: Position,
    ) -> None:
        self.start = (epoch, first_step)
        self._maker = maker
        self._position = position
        self._epoch = epoch
        self._last_step = maker.plan.num_steps
        self._read_timeout_s = read_timeout_s
        self._watches: dict[int, Watch] = {}  # of the threads, by the step that they are making
        self._claimed = self._handed_out = first_step
        self._num_threads = num_threads
        self._limit = num_threads + BATCHES_AHEAD
        self._made: dict[int, Batch | BaseException] = {}
        self._is_ahead = True
        self._stopped = False
        self._num_skipped = 0
        self._num_running = 0
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._process = os.getpid()

    def begin(self) -> None:
        """Let the consumer have the batches: from now on all threads make them."""
        try:
            with self._changed:
                self._is_ahead = False
                self._start(self._num_threads)
        except BaseException:  # no more threads, or Ctrl-C: those that run would wait for ever
            self.stop()
            raise

    def make_ahead(self, num_threads: int) -> None:
        """Let some threads make the first batches, as many as a consumer's threads are ahead of
        it.
        """
        with self._changed:
            if self._is_ahead and self._may_claim():
                self._start(min(num_threads, self._num_threads))

    def num_idle(self) -> int:
        """Count the threads that have nothing left to do."""
        with self._changed:
            if self._claimed < self._last_step:
                return 0
            # one that has made the last batch may be on its way out
            num_running = self._num_running if self._handed_out < self._last_step else 0
            return self._num_threads - num_running

    def next(self) -> Batch:
        """Wait for the next batch in order; what a thread raised while making it is raised here.

        Raises DataError where reading one sample does not end, SampleError where one rank skips too
        many. In a process that was forked since, which has no threads of this one, DataError too.
        """
        if os.getpid() != self._process:
            raise DataError(
                "this iteration over a loader began before the process was forked: begin one here, "
                "of a loader that is made here"
            )
        with self._changed:
            num_seen = -1
            remote = self._maker.index.remote
            received = -1
            while not self._changed.wait_for(
                lambda: self._handed_out in self._made, self._read_timeout_s
            ):
                watch = self._watches.get(self._handed_out)
                if remote is not None and remote.num_received != received:
                    received = remote.num_received  # a slow link is no hanging one
                    continue
                # still at the same sample as a timeout ago
                if watch is not None and watch.num_seen == num_seen:
                    raise DataError(
                        f"{watch.where()}: reading it has not ended for {self._read_timeout_s:g} "
                        "s: does its file system hang?"
                    )
                num_seen = -1 if watch is None else watch.num_seen
            made = self._made.pop(self._handed_out)
            self._handed_out += 1
            self._changed.notify_all()
        if isinstance(made, BaseException):
            raise made
        self._num_skipped += len(made.skipped)
        if self._maker.plan.world.num_ranks == 1:
            check_skipped(self._num_skipped, self._maker.index, made.skipped)
        return made

    def stop(self) -> None:
        """Let the threads finish their batch and end; one whose read hangs is left behind, it ends
        with the process.
        """
        if os.getpid() != self._process:  # a fork has the threads' locks, but not the threads
            return
        with self._changed:
            if self._stopped:  # by the end of the process: it has waited
                return
            self._stopped = True
            self._changed.notify_all()
        # The garbage collector may end an abandoned iteration inside one of its own threads: no
        # waiting there.
        if threading.current_thread() not in self._threads:
            ends_at = time.monotonic() + JOIN_TIMEOUT_S
            for thread in self._threads:
                thread.join(max(0.0, ends_at - time.monotonic()))
        self._made.clear()

    def _start(self, num: int) -> None:
        """Start threads until `num` are running. Only with `_changed` held."""
        while self._num_running < num and not self._stopped:
            name = f"tarmac-loader-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            thread.start()  # it waits for `_changed` first
            self._threads.append(thread)
            self._num_running += 1

    def _may_claim(self) -> bool:
        return self._claimed < min(self._last_step, self._handed_out + self._limit)

    def _claim(self) -> int | None:
        """Take the next step to make; None where there is none, and this thread ends."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped
                    or self._may_claim()
                    or self._is_ahead
                    or self._claimed >= self._last_step
                )
            )
            if self._stopped or not self._may_claim():
                self._num_running -= 1
                return None
            self._claimed += 1
            return self._claimed - 1

    def _run(self) -> None:
        while (step := self._claim()) is not None:
            made: Batch | BaseException
            self._maker.watch().begin()
            self._watches[step] = self._maker.watch()
            try:
                place = Place(self._position, self._epoch, step)
                made = replace(self._maker.make(self._epoch, step), place=place)
            except BaseException as error:
                made = error
            with self._changed:
                self._made[step] = made
                del self._watches[step]
                self._changed.notify_all()
            del made  # a thread must not keep a batch that its consumer has let go
