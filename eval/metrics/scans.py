"""Running sums along the rows of a matrix, and what they say of its runs of ties.

A GPU scans a row of a matrix with one block of threads, so that of 20 classes 20 of its many
processors work; and sorts it row by row. There all rows are taken as one line, which every
processor works on, and what came before a row is taken off again: the same integers.
"""

import torch
from torch import Tensor


def running_sum(values: Tensor) -> Tensor:
    """Sum whole numbers or truths [k, N] along each row, int32 [k, N]; no row may pass 2**31."""
    if values.device.type == "cpu":
        return values.cumsum(1, dtype=torch.int32)
    return line_sum(values)


def gained_since_run_before(counts: Tensor, is_last: Tensor) -> Tensor:
    """Return by how much rising `counts` [k, N] have risen since the run of ties before; 0 inside
    a run, of which `is_last`, bool [k, N], marks the end.
    """
    if counts.device.type == "cpu":
        ends = counts * is_last
        before = ends.cummax(1).values
        ends[:, 1:] -= before[:, :-1]
        return ends.clamp_(min=0)
    return line_gained(counts, is_last)


def ends_of_runs(is_last: Tensor) -> Tensor:
    """Find the place in its row at which the run of each place ends, int64 [k, N]."""
    num_places = is_last.shape[1]
    places = torch.arange(num_places, device=is_last.device)
    if is_last.device.type == "cpu":
        return places.masked_fill(~is_last, num_places).flip(1).cummin(1).values.flip(1)
    return line_ends(is_last)


def line_sum(values: Tensor) -> Tensor:
    """Compute `running_sum` by one scan over all rows."""
    total = values.reshape(-1).cumsum(0, dtype=torch.int64).view(values.shape)
    before = torch.nn.functional.pad(total[:-1, -1], (1, 0))
    return (total - before[:, None]).int()


def line_gained(counts: Tensor, is_last: Tensor) -> Tensor:
    """Compute `gained_since_run_before` by one scan over all rows."""
    run = _runs(is_last)
    reached = _at_ends(counts, is_last, run)
    # the run before, but for the first of a row
    before = torch.nn.functional.pad(reached, (1, 0))[run].masked_fill_(run == run[:, :1], 0)
    return (counts - before).masked_fill_(~is_last, 0)


def line_ends(is_last: Tensor) -> Tensor:
    """Compute `ends_of_runs` by one scan over all rows."""
    run = _runs(is_last)
    places = torch.arange(is_last.shape[1], device=is_last.device).expand(is_last.shape)
    return _at_ends(places, is_last, run)[run]


def _runs(is_last: Tensor) -> Tensor:
    """Number the runs of ties of all rows in one line, int64 [k, N]; the last place ends one."""
    return is_last.reshape(-1).cumsum(0, dtype=torch.int64).view(is_last.shape) - is_last.long()


def _at_ends(values: Tensor, is_last: Tensor, run: Tensor) -> Tensor:
    """Take from values [k, N] what is at the end of each run, [k N] by the run's number."""
    num = values.numel()
    found = values.new_zeros(num + 1)  # the last one takes what is no end
    found.scatter_(0, run.masked_fill(~is_last, num).reshape(-1), values.reshape(-1))
    return found[:num]
