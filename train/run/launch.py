"""Ranks and what starts them: as many as were asked for, and none that outlives its launcher or
waits for a dead one.

accelerate (1.15) starts one process for `accelerate launch --cpu --num_processes N`, with
MASTER_ADDR set and nothing else: every rank would be rank 0 of 1. So the command that finds itself
in that place hands over to torchrun, with the number that the launcher was given.
"""

import ctypes
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

from shards.commandline import started_by_tarmac
from shards.errors import DataError, one_line

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def spread(module: str) -> None:
    """Replace this process by N ranks of `python -m module`, or of tarmac's, where accelerate
    should have.

    Here and in every rank, the launcher's end, in whatever way, becomes a SIGTERM.
    """
    _end_with_launcher()
    _use_all_cores()
    alone = "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
    if not alone or os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true":
        return
    command = psutil.Process(os.getppid()).cmdline()
    num_processes = asked_for(command)
    if num_processes == 1:  # somebody else has set MASTER_ADDR
        return
    if num_processes is None:
        raise DataError(
            "accelerate launch started one process of several; say how many with "
            f"`accelerate launch --cpu --num_processes N -m {module}`, or use "
            f"`ACCELERATE_USE_CPU=true torchrun --nproc_per_node N -m {module}`"
        )
    if asked_for(command, "__num_machines") not in (None, 1):
        raise DataError(
            "accelerate launch --cpu starts no ranks on several machines; use on each of them "
            f"`ACCELERATE_USE_CPU=true torchrun --nnodes M --nproc_per_node N ... -m {module}`"
        )
    port = os.environ.pop("MASTER_PORT", "29500")
    del os.environ["MASTER_ADDR"]
    meeting = ["--standalone"] if _in_use(port) else ["--master_port", port]
    ranks = ["--nproc_per_node", str(num_processes), *meeting]
    named = started_by_tarmac() or module
    arguments = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *ranks,
        "-m",
        *named.split(),
        *sys.argv[1:],
    ]
    os.execv(sys.executable, arguments)


def _use_all_cores() -> None:
    """Take back the one thread that `accelerate launch` gives a single process where nobody asked
    for it: on a CPU all other cores would be idle in every step. Before torch reads the variable.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1" or "WORLD_SIZE" in os.environ:
        return
    with suppress(psutil.Error):
        launcher = psutil.Process(os.getppid())
        command = launcher.cmdline()
        asked = asked_for(command, "__num_cpu_threads_per_process") is not None
        asked = asked or "OMP_NUM_THREADS" in launcher.environ()
        if any("accelerate" in word for word in command) and not asked:
            del os.environ["OMP_NUM_THREADS"]


def _in_use(port: str) -> bool:
    """Tell whether another job meets at this port: torchrun then has to find a free one."""
    with socket.socket() as probe:
        return not port.isdigit() or probe.connect_ex(("localhost", int(port))) == 0


def asked_for(command: Sequence[str], flag: str = "__num_processes") -> int | None:
    """Find a number in the launcher's command line; None where it does not say."""
    for place, word in enumerate(command):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == flag:
            value = value if equals else (command[place + 1] if place + 1 < len(command) else "")
            return int(value) if value.isdigit() else None
    return None


def _end_with_launcher() -> None:
    """Ask for SIGTERM when the launcher that started this process is gone: Linux alone can; nobody
    else is followed.
    """
    is_rank = "TORCHELASTIC_RUN_ID" in os.environ
    if sys.platform != "linux" or not (is_rank or "ACCELERATE_MIXED_PRECISION" in os.environ):
        return
    parent = os.getppid()
    with suppress(psutil.Error):
        if not is_rank and not any(
            "accelerate" in word for word in psutil.Process(parent).cmdline()
        ):
            # these variables were set by hand: the parent is a shell, which may end before its job
            return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # outlives execv
    if is_rank and not _is_python(os.getppid()):
        raise DataError("the launcher of this rank has ended")


def _is_python(process: int) -> bool:
    with suppress(OSError):  # gone, or of somebody else
        return "python" in os.path.basename(os.readlink(f"/proc/{process}/exe"))
    return False


@contextmanager
def one_line_where_a_rank_is_lost(remedy: str) -> Iterator[None]:
    """Turn the errors of a collective whose other side is gone into one line that ends with
    `remedy`.
    """
    from torch.distributed import DistError

    try:
        yield
    except RuntimeError as error:
        if isinstance(error, DistError) or "gloo/transport" in str(error):
            reason = re.sub(r"\[/\S+\] ", "", one_line(error)).partition(". ")[0]
            if "connectFullMesh" in reason:
                raise DataError(
                    f"ranks cannot reach each other ({reason}); machines must reach each other on "
                    f"all ports: name the network interface that does with GLOO_SOCKET_IFNAME, "
                    f"such as eth0"
                ) from error
            raise DataError(
                f"another rank has ended or does not answer ({reason}); {remedy}"
            ) from error
        raise


@contextmanager
def one_line_where_memory_ends(remedy: str) -> Iterator[None]:
    """Turn a lack of memory, of a GPU or of the machine, into one line that ends with `remedy`."""
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(
            error, torch.OutOfMemoryError | MemoryError
        ) or "can't allocate memory" in str(error):
            told = re.sub(r"^\[enforce fail .*?\. ", "", one_line(error)).partition(". ")[0]
            raise DataError(f"out of memory ({told}); {remedy}") from error
        raise


def check_world(num_processes: int) -> None:
    """Refuse to run as many separate processes what was launched as one job."""
    sizes = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    launched = int(next((os.environ[name] for name in sizes if name in os.environ), "1"))
    if launched != num_processes:
        raise DataError(
            f"{launched} processes were launched, but each sees {num_processes}: on a CPU set "
            "ACCELERATE_USE_CPU=true, on GPUs launch no more processes than there are GPUs"
        )
