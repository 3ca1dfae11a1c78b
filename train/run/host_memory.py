"""Memory that a process has freed on the CPU: kept for its next step, instead of given back."""

import ctypes

import torch

# parameters of mallopt, from malloc.h of glibc
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_LARGEST = 2**31 - 1  # an int


def keep_freed_memory(device: torch.device) -> bool:
    """Let a process that computes on the CPU keep large blocks that it has freed; tell whether it
    does.

    The tensors of a step are as large as those of the one before. glibc takes blocks of megabytes
    from the system one by one and gives each back when it is freed, so that all of its pages fault
    again: a tenth to a third of a step's CPU time. Kept, they add up to a fifth to the peak memory
    of training, up to a quarter to that of evaluation (docs/log.md). With another C library, or
    another device, nothing is changed.
    """
    if device.type != "cpu":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS and musl; Windows
        return False
    return all(mallopt(parameter, _LARGEST) for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
