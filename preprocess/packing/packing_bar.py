"""Report how far a packing is, over all of its workers: a bar, or a line now and then in a log."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_EVERY_S = 30.0


class PackingBar:
    """A bar on a terminal; elsewhere, such as in a job's log, a line every half minute."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self._what = what
        self._total = total
        self._done = done
        self._done_before = done
        self._started = time.monotonic()
        self._next_line = self._started + LINE_EVERY_S
        self._bar = tqdm(total=total, initial=done, desc=what, unit="img", disable=None)

    def advance(self, num: int) -> None:
        """Count images as done."""
        self._done += num
        self._bar.update(num)
        now = time.monotonic()
        if self._bar.disable and now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            print(self.line(now - self._started), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """Say how many images are done, how fast, and how long the rest takes."""
        rate = (self._done - self._done_before) / max(seconds, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        return (
            f"{self._what}: {self._done:,} of {self._total:,} images, {rate:,.0f} images/s, "
            f"{tqdm.format_interval(left)} left"
        )

    def __enter__(self) -> "PackingBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
