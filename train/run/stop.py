"""Leave in order when asked to: Ctrl-C, SIGTERM, and SIGUSR1 of a batch system before its time is
over.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType

from train.run.ranks import Ranks

STOP_CHECK_STEPS_ON_CUDA = 10  # agreeing holds the host up until the slowest rank's is there
# Windows has no SIGUSR1
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


class Ending(Enum):
    """How a run ended; true where it came to its end. The value is the command's exit status."""

    FINISHED = 0
    STOPPED = 130
    CONTINUE = 75  # EX_TEMPFAIL of sysexits.h: try again later

    def __bool__(self) -> bool:
        return self is Ending.FINISHED


class Stop:
    """Notes that somebody wants the run to end. The loop looks after each step; a second Ctrl-C
    ends at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self.to_continue = False  # who asks will start the same command again, with --resume
        self._first = 0.0

    def ask(self, signal_number: int, frame: FrameType | None) -> None:
        # A launcher may pass on the very Ctrl-C that the terminal has sent to all: only a later one
        # is a second one.
        if self.asked and signal_number == signal.SIGINT and time.monotonic() - self._first > 2:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self.to_continue = signal_number == getattr(signal, "SIGUSR1", None)
            self._first = time.monotonic()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Catch SIGINT, SIGTERM and SIGUSR1 for as long as the context lasts."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_agreed(ranks: Ranks, asked: bool, step: int, num_steps: int) -> bool:
    """Tell whether any rank was asked to stop, after `step` of an epoch's `num_steps`; the same on
    all ranks. No device is waited for.
    """
    if ranks.num_ranks == 1:
        return asked
    if ranks.device.type == "cuda" and step % STOP_CHECK_STEPS_ON_CUDA and step < num_steps:
        return False
    return ranks.sum_on_host([asked])[0] > 0


def ending_agreed(ranks: Ranks, stop: Stop) -> Ending:
    """Tell how a stopped run ends: the same on all ranks, whichever of them got the signal."""
    return Ending.CONTINUE if ranks.sum_on_host([stop.to_continue])[0] else Ending.STOPPED
