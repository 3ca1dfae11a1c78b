"""What this machine offers."""

import contextlib
import math
import os
import socket
from pathlib import Path

# which machine of a job this is: set by torchrun (and accelerate launch), and by Slurm
NODE_NUMBERS = ("GROUP_RANK", "SLURM_NODEID")


def machine_name() -> str:
    """Name this machine among those of a job: by its host name, and its number where the launcher
    gives one, as machines may have one name, and containers of one machine too.
    """
    numbers = [os.environ[name] for name in NODE_NUMBERS if name in os.environ]
    return " ".join([socket.gethostname(), *numbers[:1]])


def num_cores() -> int:
    """Count the cores that this process may use, by its affinity and its container's limit."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(cores, _cores_of_container())))


def _cores_of_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Tell how many cores' time a container's limit leaves (cgroup, version 2 or 1); infinity
    without one.
    """
    with contextlib.suppress(OSError, ValueError):  # not there, or `max`
        quota, period = map(int, (folder / "cpu.max").read_text().split())
        return quota / period
    with contextlib.suppress(OSError, ValueError):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = (int((folder / "cpu" / name).read_text()) for name in names)
        return quota / period if quota > 0 else math.inf  # -1: no limit
    return math.inf


def cores_per_rank(num_local: int = 1) -> int:
    """Share the cores out among the ranks of this machine, at least one for each.

    There are `num_local` of them, or as many as the launcher says (LOCAL_WORLD_SIZE) if those are
    more.
    """
    launched = os.environ.get("LOCAL_WORLD_SIZE", "")
    ranks = max(1, num_local, int(launched) if launched.isdecimal() else 1)
    return max(1, num_cores() // ranks)


def open_files(wanted: int) -> int:
    """Let this process hold `wanted` files open, as far as the system allows; tell how many it may,
    0 if unknown.
    """
    try:
        import resource
    except ImportError:  # Windows
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return wanted if soft == resource.RLIM_INFINITY else soft
