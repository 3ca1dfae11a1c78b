"""Augmentation of whole batches where they are: compiled on the CPU, on a device in torch."""

from dataclasses import replace

import numpy as np
import torch

from shards.augment.pad_crop import erase_boxes, mean_colour
from shards.augment.pixel_ops import change_pixels
from shards.augment.sample_changes import BatchAugmentation, Changes, draw_changes
from shards.augment.tensor_ops import DeviceChanges
from shards.index import DatasetIndex
from shards.pipeline.batch import Batch
from shards.pipeline.block import copied_together
from shards.sampler import Plan


class Augmenter:
    """Move, recolour and erase pixels of training batches, of the samples that a plan says.

    What happens to a sample is a pure function of (seed, epoch, sample): the same on any number of
    ranks, after a resumption, and on any processor. The host knows the samples of a step from the
    plan, so it never waits for the ids that are on the device.
    """

    def __init__(self, options: BatchAugmentation, plan: Plan, index: DatasetIndex) -> None:
        self._options = options
        self._plan = plan
        # of what is erased
        no_colour = np.zeros(index.num_channels, np.uint8)
        self._colour = mean_colour(index) if options.erasing else no_colour

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return the augmented batch; its images may be changed in place."""
        ids = self._plan.local_ids(epoch, step)
        return replace(batch, images=self.augmented(batch.images, ids, epoch))

    def augmented(self, images: torch.Tensor, ids: np.ndarray, epoch: int) -> torch.Tensor:
        """Augment images uint8 [B, C, H, W] of samples `ids`, perhaps in place: in channels_last
        memory.
        """
        pixels = images.permute(0, 2, 3, 1).contiguous()
        height, width = pixels.shape[1:3]
        changes = draw_changes(self._options, ids, self._plan.seed, epoch, height, width)
        colour = self._colour[: pixels.shape[3]]
        if pixels.device.type == "cpu":
            change_on_cpu(pixels.numpy(), changes, colour)
        else:
            there = DeviceChanges(changes, colour, height, width)
            pixels = there.apply(pixels, copied_together(there.arrays, pixels.device))
        return pixels.permute(0, 3, 1, 2)


def change_on_cpu(pixels: np.ndarray, changes: Changes, colour: np.ndarray) -> None:
    """Change images uint8 [B, H, W, C] in place; boxes are filled with a colour uint8 [C]."""
    change_pixels(pixels, changes.maps, changes.codes, changes.amounts)
    erase_boxes(pixels, changes.boxes, colour)
