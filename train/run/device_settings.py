"""How CUDA computes what a run asks of it, set once a process."""

from dataclasses import replace

import torch

from shards.errors import DataError
from train.run.precision import Chosen

FIRST_WITH_TF32 = (8, 0)  # Ampere


def set_up_device(device: torch.device, tf32: bool) -> None:
    """Let cuDNN try its algorithms, as batches keep one shape, and compute fp32 as asked. Raises
    DataError where there is no TF32.
    """
    if tf32 and not _has_tf32(device):
        what = "this GPU" if device.type == "cuda" else f"the {device.type.upper()}"
        raise DataError(f"tf32 is set, but {what} has no TF32: leave out --tf32")
    _compute_fp32(tf32)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def compute_as_run(chosen: Chosen, device: torch.device, tf32: bool) -> Chosen:
    """Compute fp32 as a run did, in TF32 if `tf32` and as far as this device has it; say so in the
    precision that is returned.
    """
    in_tf32 = tf32 and chosen.precision == "no" and _has_tf32(device)
    _compute_fp32(in_tf32)
    return replace(chosen, why="TF32, as the run") if in_tf32 else chosen


def _compute_fp32(tf32: bool) -> None:
    """Multiply fp32 exactly, or in TF32, which torch takes for convolutions by itself."""
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FIRST_WITH_TF32
