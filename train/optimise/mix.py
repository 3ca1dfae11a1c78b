"""Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019): each sample is mixed with its neighbour
in the global batch.

Samples 2i and 2i + 1 of a global batch are a pair: both are mixed with the share that the pair
draws, each with the other. What a pair draws is a function of (seed, epoch, step, i) alone, and a
pair is on one rank where local batches are even: so any number of ranks and any `accumulate` train
on the same mixtures. A sample without a neighbour, as the last of a short batch may be, stays as it
is: padding is mixed into nothing.

A label counts with the share of the two images in which it is known, and is the mean of what is
known. The weights of a pair add up to its number of known labels, so that a batch's loss is divided
by what it would be without mixing.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from shards.errors import DataError, count_of
from shards.pipeline.batch import Batch
from shards.pipeline.block import copied_together
from shards.sampler import Plan
from train.config import TrainConfig


@dataclass(frozen=True)
class Draws:
    """What P pairs draw: the share of a sample itself, float64 [P], and the box (left, top, right,
    bottom) that it has from the other, int64 [P, 4]; an empty box where all pixels are mixed.
    """

    shares: np.ndarray
    boxes: np.ndarray


def draw(
    key: tuple[int, int, int], num_pairs: int, mixup: float, cutmix: float, size: int
) -> Draws:
    """Draw for the first pairs of a global batch; `key` is (seed, epoch, step), `mixup` and
    `cutmix` are alphas.

    Shares are Beta(alpha, alpha); where both alphas are given each pair takes either with the same
    probability, as timm does. Boxes are of images of `size` pixels, with their middle anywhere; the
    share is what they leave.
    """
    which, of_mixup, of_cutmix, middle = (
        np.random.default_rng((*key, stream)) for stream in range(4)
    )
    cuts = which.random(num_pairs) < 0.5 if mixup and cutmix else np.full(num_pairs, bool(cutmix))
    shares = of_mixup.beta(mixup, mixup, num_pairs) if mixup else np.ones(num_pairs)
    if not cutmix:
        return Draws(shares, np.zeros((num_pairs, 4), np.int64))
    side = (size * np.sqrt(1 - of_cutmix.beta(cutmix, cutmix, num_pairs))).astype(np.int64)[:, None]
    low = middle.integers(0, size, (num_pairs, 2)) - side // 2
    boxes = np.concatenate([low, low + side], axis=1).clip(0, size)
    boxes[~cuts] = 0
    left = 1 - (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / size**2
    return Draws(np.where(cuts, left, shares), boxes)


class Mix:
    """Mix the batches of one rank, on their device. Raises DataError where a pair would be on two
    ranks.
    """

    def __init__(self, config: TrainConfig, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        if plan.local_batch_size % 2:
            ranks = plan.world.num_ranks
            raise DataError(
                f"global_batch_size is {plan.global_batch_size} on "
                f"{count_of(ranks, 'rank')}, {count_of(plan.local_batch_size, 'sample')} each: "
                "mixup and "
                f"cutmix pair them; choose a multiple of {2 * ranks}"
            )

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return the mixed batch: images float32 from 0 to 255, labels soft, `known` float32
        weights from 0 to 1.
        """
        size = batch.images.shape[-1]
        device = batch.images.device
        config = self._config
        num_pairs = len(batch.images) // 2
        mine = slice(self._plan.world.rank * num_pairs, (self._plan.world.rank + 1) * num_pairs)
        drawn = draw((config.seed, epoch, step), mine.stop, config.mixup, config.cutmix, size)
        paired = batch.valid.view(num_pairs, 2).all(1, keepdim=True)
        arrays = {"shares": drawn.shares[mine].astype(np.float32), "boxes": drawn.boxes[mine]}
        there = copied_together(arrays, device)
        boxes = there["boxes"]
        shares = torch.where(paired, there["shares"][:, None], 1.0)
        pixels = _pixel_shares(shares, boxes, size)
        pixels = torch.where(paired[..., None], pixels, 1.0)
        shares, pixels = (values.repeat_interleave(2, dim=0) for values in (shares, pixels))
        other = torch.arange(2 * num_pairs, device=device) ^ 1
        own_images = batch.images.float()
        own_known = batch.known.float() * shares
        other_known = batch.known[other] * (1 - shares)
        known = own_known + other_known
        labels = (own_known * batch.labels + other_known * batch.labels[other]) / known.where(
            known > 0, 1.0
        )
        # exact where the share is 0 or 1
        images = torch.lerp(own_images[other], own_images, pixels[:, None])
        images = images.contiguous(memory_format=torch.channels_last)
        return replace(batch, images=images, labels=labels, known=known)


def _pixel_shares(shares: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Spread shares [P, 1] over pixels [P, size, size]; where there is a box it is 0 inside and 1
    outside.
    """
    places = torch.arange(size, device=boxes.device)
    left, top, right, bottom = boxes.T[:, :, None]
    across = (places >= left) & (places < right)
    down = (places >= top) & (places < bottom)
    inside = down[:, :, None] & across[:, None, :]
    cuts = (right > left) & (bottom > top)
    return torch.where(cuts[..., None], (~inside).float(), shares[..., None])
