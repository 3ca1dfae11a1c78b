"""What the golden file of orders and crops holds, computed again."""

import numpy as np

from shards.augment.crops import random_resized_crops
from shards.augment.pad_crop import draw_holes, draw_windows
from shards.order.near_order import NearOrder
from shards.order.permutation import shuffled


def order(num_samples: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return shuffled(np.arange(num_samples), num_samples, seed, epoch).tolist()


def near() -> list:
    """Some batches of the near order: sizes, global batch size, groups, window, seed, epoch, step,
    samples.
    """
    batches = []
    for sizes, *rest, epoch, step in [
        ([5, 0, 3, 9, 1, 4, 7, 2], 8, 4, 1, 0, 0, 0),
        ([5, 0, 3, 9, 1, 4, 7, 2], 8, 4, 1, 0, 3, 3),
        ([5, 0, 3, 9, 1, 4, 7, 2], 7, 3, 2, 2**62 + 1, 1, 2),
        ([10**6] * 5000, 12, 6, 3, 5, 9, 300_000_000),
    ]:
        order = NearOrder(np.array(sizes), *rest)
        shown = sizes if len(sizes) < 10 else len(sizes)
        batches.append([shown, *rest, epoch, step, order.fill(epoch, step, 0, rest[0]).tolist()])
    return batches


def golden() -> dict:
    cases = [(1, 0, 0), (2, 0, 1), (7, 3, 2), (20, 0, 0), (20, 0, 1), (20, 1, 0)]
    big = 5_000_000_000
    ids = np.arange(12)
    boxes, flips = random_resized_crops(ids, np.full(12, 500), np.full(12, 375), 7, 3, (0.08, 1.0))
    views = []
    for width, height, seed, epoch, low in [
        (375, 500, 0, 0, 0.08),
        (1, 1, 3, 1, 0.08),
        (4000, 30, 3, 2, 0.9),
    ]:
        more, mirrored = random_resized_crops(
            ids, np.full(12, width), np.full(12, height), seed, epoch, (low, 1.0)
        )
        views.append([width, height, seed, epoch, low, more.tolist(), mirrored.tolist()])
    return {
        "orders": [[*case, order(*case)] for case in cases],
        "near": near(),
        "far": shuffled(np.array([0, 1, big // 2, big - 1]), big, 5, 9).tolist(),
        "boxes": boxes.tolist(),
        "flips": flips.tolist(),
        "views": views,
        "windows": draw_windows(ids, 4, 7, 3).tolist(),
        "holes": draw_holes(ids, 32, 8, 7, 3).tolist(),
    }
