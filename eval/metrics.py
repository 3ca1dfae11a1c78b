"""Average precision and tail accuracy of every class at once, on the device where the scores are.

N = samples, K = classes, T = thresholds. Nothing here waits for the device: no value is read back and no
shape depends on one, so a GPU may still be computing the scores when these functions return. Classes are
taken in blocks (see `eval.order`), which bounds the memory; samples and classes are never looped over.
"""

import torch
from torch import Tensor

from eval.order import check_shapes, class_blocks, class_rows, known_or_all, sortable

NAN = float("nan")


def average_precision(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the average precision of each class, float64 [K]; NaN where a class has no known positive.

    AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores in falling order, as
    `sklearn.metrics.average_precision_score` defines it: tied scores are one threshold.

    Args:
        scores: [N, K], any real dtype, strides and scale (only the order counts); infinities are ordinary
            scores. A known NaN makes the AP of its class NaN.
        labels: [N, K], positive where > 0.
        known: bool [N, K]; False leaves the entry out altogether. None: everything is known.
    """
    check_shapes(scores, labels, known)
    if scores.shape[0] == 0:
        return torch.full((scores.shape[1],), NAN, dtype=torch.float64, device=scores.device)
    known = known_or_all(scores, known)
    blocks = [
        _block_average_precision(class_rows(scores, part), class_rows(labels, part) > 0, class_rows(known, part))
        for part in class_blocks(*scores.shape)
    ]
    return torch.cat(blocks) if blocks else torch.empty(0, dtype=torch.float64, device=scores.device)


def _block_average_precision(scores: Tensor, positive: Tensor, known: Tensor) -> Tensor:
    """AP [k] of a block [k, N]. Unknown entries stay in the sorted row but count as nothing."""
    is_last, positive_sorted, known_sorted = _sort_descending(scores, positive & known, known)
    true_positives = positive_sorted.cumsum(1, dtype=torch.int32)  # int32: 18 times faster than int64 on a CPU
    predicted = known_sorted.cumsum(1, dtype=torch.int32)
    # True positives up to the end of the previous run of ties, at every place.
    before = torch.where(is_last, true_positives, 0).cummax(1).values.roll(1, dims=1)
    before[:, 0] = 0
    precision = true_positives.double() / predicted.clamp(min=1)
    gained = torch.where(is_last, true_positives - before, 0)
    ap = (precision * gained).sum(1) / true_positives[:, -1]  # 0 / 0 = NaN without positives
    return ap.masked_fill((scores.isnan() & known).any(1), NAN)


def _sort_descending(scores: Tensor, positive: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort rows [k, N] by falling score; return (last of its run of ties, positive, known), bool [k, N] each.

    The two flags ride in the low bits of the sort key where it has room (not for float64 and integers): that
    spares two random gathers over the whole block, and order within a tie does not matter.
    """
    order = sortable(scores)
    if order.dtype == torch.int32:
        key = (order.long() << 2) | (positive.long() << 1) | known.long()
        key = key.sort(dim=1, descending=True).values
        order, positive, known = key >> 2, (key & 2).bool(), (key & 1).bool()
    else:
        order, places = order.sort(dim=1, descending=True)
        positive, known = positive.gather(1, places), known.gather(1, places)
    is_last = torch.ones_like(positive)
    torch.ne(order[:, 1:], order[:, :-1], out=is_last[:, :-1])
    return is_last, positive, known


def tail_accuracy(scores: Tensor, labels: Tensor, thresholds: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the tail accuracy of each class at each threshold, float64 [T, K].

    Tailacc(t) = sum_i I[f(x_i) = y_i] I[f(x_i) > t] / sum_i I[f(x_i) > t]. A sample above a t that is at or
    above the classification threshold is predicted positive, so this is the share of truly positive samples
    among the known ones that score above t. NaN where none does, at a NaN threshold, and all through a class
    with a known NaN score.

    Args:
        scores: [N, K], any real dtype.
        labels: [N, K], positive where > 0.
        thresholds: [T] for all classes, or [T, K], in any order, none below the classification threshold.
        known: bool [N, K]; False leaves the entry out. None: everything is known.
    """
    check_shapes(scores, labels, known)
    num_samples, num_classes = scores.shape
    if thresholds.ndim not in (1, 2) or (thresholds.ndim == 2 and thresholds.shape[1] != num_classes):
        raise ValueError(f"thresholds must be [T] or [T, K={num_classes}], got shape {tuple(thresholds.shape)}")
    if thresholds.ndim == 1:
        thresholds = thresholds[:, None].expand(-1, num_classes)
    known = known_or_all(scores, known)
    blocks = [
        _block_tail_accuracy(
            class_rows(scores, part),
            class_rows(labels, part) > 0,
            class_rows(thresholds, part),
            class_rows(known, part),
        )
        for part in class_blocks(num_samples, num_classes)
    ]
    if not blocks:
        return torch.empty(thresholds.shape, dtype=torch.float64, device=scores.device)
    return torch.cat(blocks).T.contiguous()


def _block_tail_accuracy(scores: Tensor, positive: Tensor, thresholds: Tensor, known: Tensor) -> Tensor:
    """Tail accuracy [k, T] of a block: scores [k, N], thresholds [k, T]. N log T, nothing of size T x N."""
    dtype = torch.promote_types(scores.dtype, thresholds.dtype)  # compared as the wider of the two, exactly
    dtype = dtype if dtype in (torch.float32, torch.float64) else torch.float64
    # Nothing scores above +inf, which is what a NaN threshold shall say.
    limits = thresholds.to(dtype).nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=float("-inf"))
    limits, places = limits.sort(dim=1)
    # A sample is above exactly the first `num_below` of the sorted thresholds.
    num_below = torch.searchsorted(limits.contiguous(), scores.to(dtype).contiguous())
    counted = known & ~scores.isnan()
    above = _count_above(num_below, counted, limits.shape[1])
    correct = _count_above(num_below, counted & positive, limits.shape[1])
    values = torch.empty_like(above).scatter_(1, places, correct / above)
    return values.masked_fill((scores.isnan() & known).any(1, keepdim=True), NAN)


def _count_above(num_below: Tensor, counted: Tensor, num_thresholds: int) -> Tensor:
    """Count, as float64 [k, T], the `counted` samples [k, N] above each of T rising thresholds."""
    bins = torch.zeros((num_below.shape[0], num_thresholds + 1), dtype=torch.int64, device=num_below.device)
    bins.scatter_add_(1, num_below, counted.long())
    return bins.flip(1).cumsum(1).flip(1)[:, 1:].double()


def tail_thresholds(scores: Tensor, known: Tensor | None = None, num: int = 20, start: float = 0.5) -> Tensor:
    """Return `num` thresholds for the tail accuracy of each class, float64 [num, K].

    They are evenly spaced from `start`, the classification threshold, up to but without the highest known
    score of the class, so that at least one sample is above each. A class whose highest score does not exceed
    `start`, or is not finite, gets NaN.
    """
    check_shapes(scores, None, known)
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    if scores.shape[0] == 0:
        return torch.full((num, scores.shape[1]), NAN, dtype=torch.float64, device=scores.device)
    known = known_or_all(scores, known)
    floats = scores if scores.is_floating_point() else scores.to(torch.float64)
    highest = floats.masked_fill(~known, float("-inf")).amax(0).to(torch.float64)
    highest = highest.masked_fill(~((highest > start) & highest.isfinite()), NAN)
    steps = torch.arange(num, dtype=torch.float64, device=scores.device)[:, None] / num
    # Rounding may reach a highest score that is only a few ulps above `start`: stay one ulp below it.
    below = torch.nextafter(highest, torch.full_like(highest, start))
    return torch.minimum(start + steps * (highest - start), below)
