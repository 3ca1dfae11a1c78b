"""Die at a chosen file operation: in a fork, just before Python would do it. No tracer is needed."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

# What changes a folder, and every opening of a file, as Python's audit events tell of them.
EVENTS = {"open", "os.rename", "os.mkdir", "os.link", "os.truncate", "shutil.rmtree"}
# shutil.rmtree names what it removes relative to an open folder
REMOVALS = {"os.remove", "os.rmdir"}


def dies_before(operation: int, folder: Path, work: Callable[[], None]) -> bool:
    """Do `work` in a fork that gets SIGKILL before its file operation number `operation` in
    `folder`.

    False if it had fewer operations and came to its end. What `work` raises is raised here as
    RuntimeError.
    """
    child = os.fork()
    if child == 0:
        try:
            sys.addaudithook(_killer(operation, str(folder)))
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise RuntimeError("the work failed by itself, see above")
    return False


def _killer(operation: int, folder: str) -> Callable[[str, tuple[object, ...]], None]:
    left = operation

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        inside = any(
            str(arg).startswith(folder) for arg in args if isinstance(arg, str | os.PathLike)
        )
        if event in REMOVALS or (event in EVENTS and inside):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    return hook
