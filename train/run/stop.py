"""Leave in order when asked to: Ctrl-C and SIGTERM."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Notes that somebody wants the run to end. The loop looks after each step; a second Ctrl-C
    ends at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._first = 0.0

    def ask(self, signal_number: int, frame: FrameType | None) -> None:
        # A launcher may pass on the very Ctrl-C that the terminal has sent to all: only a later one
        # is a second one.
        if self.asked and signal_number == signal.SIGINT and time.monotonic() - self._first > 2:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self._first = time.monotonic()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM for as long as the context lasts."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
