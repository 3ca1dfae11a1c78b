"""`python -m tests.train.halting RUN train ...`: a command that stops itself, as by SIGSTOP, when the
first checkpoint inside the second epoch of a run is on the disk.

What is killed then is killed there, however fast the run and however busy the machine is.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from train.run import checkpoint
from train.run.checkpoint import Meta


def halt_in(run: Path) -> None:
    """Stop this process, once, when `run` has such a checkpoint: training goes on at most to the
    next save, which waits for the thread that is here.
    """
    save, is_done = checkpoint.save, False

    def saved(path: Path, config: Any, meta: Meta, *more: Any) -> None:
        nonlocal is_done
        save(path, config, meta, *more)
        inside = meta.progress.epoch == 1 and meta.progress.step > 0
        if path.parent == run and inside and not is_done:
            is_done = True
            os.kill(os.getpid(), signal.SIGSTOP)

    checkpoint.save = saved


if __name__ == "__main__":
    halt_in(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
