"""What the pretended runtime counts, in the process that it was preloaded into."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = (
    "launches",
    "to_device",
    "to_host",
    "on_device",
    "stream_waits",
    "event_waits",
    "device_waits",
    "pageable_waits",
    "pinned_blocks",
    "streams",
)
WAITS = ("stream_waits", "event_waits", "device_waits", "pageable_waits")
_library = ctypes.CDLL(os.environ["LD_PRELOAD"])
_library.pretended_kernel_us.argtypes = [ctypes.c_double]


def counts() -> dict[str, int]:
    """Read all counters."""
    values = (ctypes.c_long * len(NAMES))()
    _library.pretended_counts(values)
    return dict(zip(NAMES, values, strict=True))


@contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Give a dictionary that holds, at the end, by how much each counter has risen."""
    risen: dict[str, int] = {}
    before = counts()
    yield risen
    risen.update({name: value - before[name] for name, value in counts().items()})


def keep_up() -> None:
    """Let the device do all that it is asked for at once, in the thread that asks: what the host
    waits for depends on its own code then, not on when a thread of the device has its turn.
    """
    _library.pretended_at_once()


@contextmanager
def slow_kernels(ms: float) -> Iterator[None]:
    """Let each kernel take so much of the device's time."""
    _library.pretended_kernel_us(1e3 * ms)
    try:
        yield
    finally:
        _library.pretended_kernel_us(0)
