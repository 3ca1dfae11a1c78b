"""Integers that sort as scores do, and the sorting of them: the basis of every metric of this
package.
"""

import numpy as np
import torch
from torch import Tensor

ID_BITS = 31  # of a sample's number
MAX_BITS = 63  # of a number and its sign, with a bit to spare
INTEGERS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}


def sortable(scores: Tensor) -> Tensor:
    """Map scores, any shape and real dtype, to integers of the same order: equal for equal scores
    only.

    A positive IEEE float's bits sort as an integer; of a negative one the other bits are flipped.
    -0 becomes +0 first, since the two are equal, and every NaN becomes one value above +inf. The
    integers are as wide as the floats: int16, int32 or int64. Integer scores go by way of float64,
    so those above 2**53 may tie. Neither extreme of the integer dtype is ever taken, so they can
    mean "before" and "after everything".
    """
    floats = (scores if scores.is_floating_point() else scores.to(torch.float64)) + 0.0
    floats.masked_fill_(floats.isnan(), float("nan"))
    return _flip_negative(floats.view(INTEGERS.get(floats.dtype, torch.int64)))


def score_of(order: Tensor, dtype: torch.dtype) -> Tensor:
    """Map the integers that `sortable` made of scores of `dtype` back to those scores, as float64."""
    floats = dtype if dtype in INTEGERS else torch.float64
    return _flip_negative(order.to(INTEGERS.get(dtype, torch.int64))).view(floats).to(torch.float64)


def _flip_negative(bits: Tensor) -> Tensor:
    info = torch.iinfo(bits.dtype)
    return bits ^ ((bits >> (info.bits - 1)) & info.max)


def sort_rows(keys: Tensor, num_bits: int) -> Tensor:
    """Sort each row of integers [k, N], signed of `num_bits`, in rising order, in place on a CPU:
    keep what is returned.

    There NumPy's vectorised sort takes a tenth (AVX-512) or a sixth (AVX2) of the time of torch's.
    """
    if keys.device.type != "cpu":
        return line_sort(keys, num_bits)[0]
    keys.numpy().sort(axis=1)
    return keys


def argsort_rows(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row of integers [k, N] in rising order: return (sorted, places), equal ones in any
    order.
    """
    if keys.device.type != "cpu":
        values, places = keys.sort(dim=1)
        return values, places
    places = torch.from_numpy(np.argsort(keys.numpy(), axis=1))
    return keys.gather(1, places), places


def argsort_stable(order: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row [k, N] of what `sortable` gives in rising order: int64 (sorted, places), equal
    ones by place.

    The place rides in the low bits of the sort key where there is room: every key differs, and one
    sort gives both.
    """
    num_bits = torch.iinfo(order.dtype).bits
    if order.device.type != "cpu" or num_bits == 64:
        return line_sort(order, num_bits)
    places = torch.arange(order.shape[1])
    keys = sort_rows((order.long() << ID_BITS) | places, num_bits + ID_BITS)
    places = keys & ((1 << ID_BITS) - 1)
    keys >>= ID_BITS
    return keys, places


def line_sort(keys: Tensor, num_bits: int) -> tuple[Tensor, Tensor]:
    """Sort each row of integers [k, N], signed of `num_bits`: int64 (sorted, places), equal ones
    by place.

    All rows are sorted at once, with the row above the bits of the key: a GPU sorts a long row by
    some 40 calls, and so a long line. Where there is no room for the row, each is sorted.
    """
    num_rows, num_places = keys.shape
    if num_bits + num_rows.bit_length() > MAX_BITS:
        values, places = keys.sort(dim=1, stable=True)
        return values.long(), places
    rows = torch.arange(num_rows, device=keys.device)[:, None]
    values, places = (keys + (rows << num_bits)).view(-1).sort(stable=True)
    return (
        values.view(keys.shape) - (rows << num_bits),
        places.view(keys.shape) - rows * num_places,
    )
