"""Validate metric inputs and process the score matrix in blocks of classes, to bound memory."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

# Of the classes of a matrix one in eight is worked on at a time, by all threads together: that
# takes up to 40 bytes a score in work, so 5 a score of the matrix, and as much again that malloc
# holds back.
SHARE_AT_ONCE = 8
# a block up to this size costs more in calls than in memory: it may be more than its share
SMALL_SCORES = 1 << 14
BLOCK_SCORES = 1 << 21  # no block is larger, unless a single class is
# On a GPU calls cost more than memory: all of 800,000 samples of 20 classes are one block, at some
# 100 bytes a score.
DEVICE_SCORES = 1 << 24
BAR_AFTER_S = 2.0
# in a matrix up to this size threads would wait for Python more than they work
THREADED_SCORES = 1 << 18


def checked(scores: Tensor, labels: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three as [N, K] with N >= 1 and `known` bool, or raise ValueError for shapes that
    do not fit, and for anything but tensors.

    `known` None means all, as a view of one element. No samples become one that is not known.
    """
    check_tensors(scores=scores, labels=labels)
    if known is not None:
        check_tensors(known=known)
    if scores.dtype == torch.bool or scores.is_complex():
        raise ValueError(
            f"scores must be real numbers, got {scores.dtype}: scores come first, then labels"
        )
    if scores.ndim != 2:
        raise ValueError(
            f"scores must be [N, K] (samples x classes), got shape {tuple(scores.shape)}"
        )
    for name, tensor in (("labels", labels), ("known", known)):
        if tensor is not None and tensor.shape != scores.shape:
            shapes = f"{tuple(scores.shape)}, got {tuple(tensor.shape)}"
            raise ValueError(f"{name} must have the shape of scores, {shapes}")
    shape = (max(1, scores.shape[0]), scores.shape[1])
    if scores.shape[0] == 0:
        nothing = scores.new_zeros(shape)
        return nothing, nothing, nothing.bool()
    if known is None:
        known = torch.ones((1, 1), dtype=torch.bool, device=scores.device).expand(shape)
    return scores, labels, known.bool()


def check_tensors(**given: Any) -> None:
    """Refuse what is no tensor, such as a numpy array. Raises ValueError."""
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} must be a tensor, got {type(value).__name__}: torch.as_tensor({name}) "
                f"makes one"
            )


def over_classes(
    function: Callable[..., Tensor], scores: Tensor, *others: Tensor, bar: str = ""
) -> Tensor:
    """Concatenate `function(scores [k, N], *others [k, M])` of all blocks of k classes, as [K,
    ...].

    `scores` [N, K] and `others`, each [M, K], reach the function transposed and contiguous: along a
    stride sorting takes 3 times as long. On a CPU threads take the blocks, as many as torch would
    use inside an operator; while they run its operators use one thread each, in the whole process.
    Results must not depend on what else is in a block. `bar` names a progress bar, for a terminal
    and what takes more than a few seconds.
    """
    num_samples, num_classes = scores.shape
    num_threads, step = _threads_and_classes(num_samples, num_classes, scores.device)
    parts = [
        slice(first, min(first + step, num_classes))
        for first in range(0, max(1, num_classes), step)
    ]

    @torch.no_grad()  # in the thread that runs it
    def block(part: slice) -> Tensor:
        return function(*(matrix[:, part].T.contiguous() for matrix in (scores, *others)))

    num_threads = min(num_threads, len(parts))
    if num_threads == 1:
        return torch.cat(list(_shown(map(block, parts), len(parts), bar)))
    with _serial_operators(), ThreadPoolExecutor(num_threads) as pool:
        return torch.cat(list(_shown(pool.map(block, parts), len(parts), bar)))


def _threads_and_classes(
    num_samples: int, num_classes: int, device: torch.device
) -> tuple[int, int]:
    """Tell how many threads take blocks, and of how many classes each block is."""
    if device.type != "cpu":
        return 1, max(1, DEVICE_SCORES // max(1, num_samples))
    at_once = max(1, num_classes // SHARE_AT_ONCE, SMALL_SCORES // max(1, num_samples))
    is_small = num_samples * num_classes <= THREADED_SCORES
    num_threads = 1 if is_small else min(torch.get_num_threads(), at_once)
    return num_threads, max(1, min(at_once // num_threads, BLOCK_SCORES // max(1, num_samples)))


def _shown(blocks: Iterable[Tensor], num_blocks: int, bar: str) -> Iterable[Tensor]:
    if not bar:
        return blocks
    return tqdm(blocks, bar, num_blocks, unit="block", disable=None, leave=False, delay=BAR_AFTER_S)


@contextmanager
def _serial_operators() -> Iterator[None]:
    """Let torch's operators use one thread each: threads of this package share the cores out by
    blocks.

    Threads inside an operator wait for each other at its end, some thirty times a block; beside
    another busy process that costs up to 20 times the work itself.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
