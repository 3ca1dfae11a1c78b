"""What this machine offers."""

import contextlib
import os
import socket

# which machine of a job this is: set by torchrun (and accelerate launch), and by Slurm
NODE_NUMBERS = ("GROUP_RANK", "SLURM_NODEID")


def machine_name() -> str:
    """Name this machine among those of a job: by its host name, and its number where the launcher
    gives one, as machines may have one name, and containers of one machine too.
    """
    numbers = [os.environ[name] for name in NODE_NUMBERS if name in os.environ]
    return " ".join([socket.gethostname(), *numbers[:1]])


def num_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
