"""How CUDA computes what a run asks of it, set once a process."""

import torch

from shards.errors import DataError

FIRST_WITH_TF32 = (8, 0)  # Ampere


def set_up_device(device: torch.device, tf32: bool) -> None:
    """Let cuDNN try its algorithms, as batches keep one shape, and compute fp32 as asked: exactly,
    or in TF32, which torch takes for convolutions by itself. Raises DataError where there is none.
    """
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= FIRST_WITH_TF32
    if tf32 and not has_tf32:
        what = "this GPU" if device.type == "cuda" else f"the {device.type.upper()}"
        raise DataError(f"tf32 is set, but {what} has no TF32: leave out --tf32")
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
