"""Which threads stay behind when what started them is over."""

import threading


def still_running(before: set[threading.Thread]) -> list[str]:
    """Name the threads that have been started since and do not end by themselves."""
    new = set(threading.enumerate()) - before
    for thread in new:
        thread.join(60)
    return [thread.name for thread in new if thread.is_alive()]
