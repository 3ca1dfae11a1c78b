"""Make `accelerate launch --cpu --num_processes N` start the N processes it was asked for.

accelerate (1.15) starts one process there, with MASTER_ADDR set and nothing else: every rank would be rank 0 of 1. So
the command that finds itself in that place hands over to torchrun, with the number that the launcher was given.
"""

import os
import sys
from collections.abc import Sequence

import psutil

from shards.errors import DataError


def spread(module: str) -> None:
    """Replace this process by N ranks of `python -m module` where accelerate should have; otherwise do nothing."""
    alone = "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
    if not alone or os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true":
        return
    num_processes = asked_for(psutil.Process(os.getppid()).cmdline())
    if num_processes == 1:  # somebody else has set MASTER_ADDR
        return
    if num_processes is None:
        raise DataError(
            "accelerate launch started one process of several; say how many with "
            f"`accelerate launch --cpu --num_processes N -m {module}`, or use "
            f"`ACCELERATE_USE_CPU=true torchrun --nproc_per_node N -m {module}`"
        )
    port = os.environ.pop("MASTER_PORT", "29500")
    del os.environ["MASTER_ADDR"]
    ranks = ["--nproc_per_node", str(num_processes), "--master_port", port]
    arguments = [sys.executable, "-m", "torch.distributed.run", *ranks, "-m", module, *sys.argv[1:]]
    os.execv(sys.executable, arguments)


def asked_for(command: Sequence[str]) -> int | None:
    """Find the number of processes in the launcher's command line; None where it does not say."""
    for place, word in enumerate(command):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == "__num_processes":
            value = value if equals else (command[place + 1] if place + 1 < len(command) else "")
            return int(value) if value.isdigit() else None
    return None


def check_world(num_processes: int) -> None:
    """Refuse to run as many separate processes what was launched as one job."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != num_processes:
        raise DataError(
            f"{launched} processes were launched, but each sees {num_processes}: on a CPU set ACCELERATE_USE_CPU=true, "
            "on GPUs launch no more processes than there are GPUs"
        )
