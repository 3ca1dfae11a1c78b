"""Integers that sort as scores do: what average precision and rankings both stand on."""

from collections.abc import Iterator

import torch
from torch import Tensor

# A block of classes holds at most this many scores (one class at the least), which bounds the extra
# memory of the metrics to about 60 bytes a score in the block, 130 MB, whatever the number of classes.
BLOCK_SCORES = 1 << 21


def class_blocks(num_samples: int, num_classes: int) -> Iterator[slice]:
    """Yield slices of classes that together hold about `BLOCK_SCORES` scores each."""
    step = max(1, BLOCK_SCORES // max(1, num_samples))
    for first in range(0, num_classes, step):
        yield slice(first, min(first + step, num_classes))


def class_rows(matrix: Tensor, part: slice) -> Tensor:
    """Copy a block of classes of [N, K] to contiguous rows [k, N]: along a stride, sorting takes 3x."""
    return matrix[:, part].T.contiguous()


def sortable(scores: Tensor) -> Tensor:
    """Map scores, any shape and real dtype, to integers of the same order: equal for equal scores only.

    A positive IEEE float's bits sort as an integer; of a negative one the other bits are flipped. -0 becomes
    +0 first, since the two are equal, and every NaN becomes one value above +inf. int32 comes back for floats
    of at most 32 bits (float16 and bfloat16 fit exactly), else int64: there integer scores above 2**53 tie.
    Neither extreme of the integer dtype is ever taken, so they can mean "before" and "after everything".
    """
    wide = scores.dtype == torch.float64 or not scores.is_floating_point()
    floats = scores.to(torch.float64 if wide else torch.float32) + 0.0
    bits = floats.masked_fill(floats.isnan(), float("nan")).view(torch.int64 if wide else torch.int32)
    return bits ^ ((bits >> (63 if wide else 31)) & torch.iinfo(bits.dtype).max)


def check_shapes(scores: Tensor, labels: Tensor | None, known: Tensor | None) -> None:
    """Raise ValueError unless `scores` is [N, K] and what else is given has its shape."""
    if scores.ndim != 2:
        raise ValueError(f"scores must be [N, K] (samples x classes), got shape {tuple(scores.shape)}")
    for name, tensor in (("labels", labels), ("known", known)):
        if tensor is not None and tensor.shape != scores.shape:
            shapes = f"{tuple(scores.shape)}, got {tuple(tensor.shape)}"
            raise ValueError(f"{name} must have the shape of scores, {shapes}")


def known_or_all(scores: Tensor, known: Tensor | None) -> Tensor:
    """Return `known` as bool [N, K]; all True, as a view of one element, where it is None."""
    if known is None:
        return torch.ones((1, 1), dtype=torch.bool, device=scores.device).expand(scores.shape)
    return known.bool()
