"""Make any batch of any epoch: a pure function of (epoch, step), callable from several threads."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from shards.batch import Batch
from shards.crops import centre_crops, random_resized_crops
from shards.decode import Decoder, resize_box_into, resize_into
from shards.errors import SampleError
from shards.fivecrop import NUM_CROPS, five_crops_into
from shards.index import DatasetIndex
from shards.reader import ShardReader
from shards.resident import Resident, bounded
from shards.ring import Ring
from shards.sampler import Plan


@dataclass(frozen=True)
class View:
    """What is seen of each image, `size` pixels across.

    In training a random-resized crop, in evaluation the centre, or with `five_crops` the centre and the four corners.
    """

    size: int
    train: bool
    scale: tuple[float, float]
    crop_share: float
    five_crops: bool = False

    @property
    def num_crops(self) -> int:
        return NUM_CROPS if self.five_crops else 1


class BatchMaker:
    """Make the batches of one rank. With `resident` images are decoded once, and cropped from there."""

    decoder_class = Decoder

    def __init__(self, index: DatasetIndex, plan: Plan, view: View, resident: Resident | None = None) -> None:
        self.index, self.plan, self.view, self.resident = index, plan, view, resident
        self._reader = ShardReader(index)
        shape = (view.num_crops * plan.local_batch_size, view.size, view.size, 3)
        self.ring = Ring(shape, pinned=torch.cuda.is_available())
        self._local = threading.local()

    def make(self, epoch: int, step: int) -> Batch:
        """Decode this rank's part of a global batch."""
        global_ids = self.plan.global_ids(epoch, step)
        part = self.plan.local_part(len(global_ids))
        num_valid, num_slots = part.stop - part.start, self.plan.local_batch_size
        # Padding repeats samples of the same global batch, so that batch statistics see photographs, not zeros.
        ids = np.resize(global_ids[part] if num_valid else global_ids, num_slots)
        valid = np.arange(num_slots) < num_valid
        known = self.index.known(ids)
        known[~valid] = False
        slot = self.ring.take()
        try:
            self._fill(slot, ids, epoch)
        except BaseException:
            self.ring.give_back(slot)
            raise
        return Batch(
            images=self.ring.lend(slot),
            labels=torch.from_numpy(self.index.labels(ids).astype(np.float32)),
            known=torch.from_numpy(known),
            valid=torch.from_numpy(valid),
            ids=torch.from_numpy(np.where(valid, ids, -1)),
            num_known=int(self.index.known(global_ids).sum()),
        )

    def read(self, row: np.void) -> np.ndarray:
        """View the JPEG of one sample: uint8 [length]."""
        return self._reader.member(row, 0)

    def _fill(self, slot: np.ndarray, ids: np.ndarray, epoch: int) -> None:
        if not hasattr(self._local, "decoder"):
            self._local.decoder = self.decoder_class()
        decoder: Decoder = self._local.decoder
        rows, view = self.index.samples[ids], self.view
        widths, heights = rows["width"], rows["height"]
        if view.train:
            if self.resident is not None:
                widths, heights = self.resident.widths[ids], self.resident.heights[ids]
            boxes, flips = random_resized_crops(ids, widths, heights, self.plan.seed, epoch, view.scale)
        else:
            boxes, flips = centre_crops(widths, heights, view.size, view.crop_share), np.zeros(len(ids), bool)
        places = zip(ids.tolist(), boxes.tolist(), flips.tolist(), strict=True)
        outs = slot.reshape(view.num_crops, len(ids), *slot.shape[1:]).swapaxes(0, 1) if view.five_crops else slot
        for row, out, (number, box, flip) in zip(rows, outs, places, strict=True):
            try:
                self._show(out, decoder, row, number, box, flip)
            except SampleError as error:
                shard = self.index.shard_path(int(row["shard"]))
                raise SampleError(
                    f"{shard}: sample {row['key'].decode()}: {error}; "
                    "run the same preprocess.shard command again to restore the shard"
                ) from error

    def _show(self, out: np.ndarray, decoder: Decoder, row: np.void, number: int, box: list[Any], flip: bool) -> None:
        """Write what is seen of one image to `out`, uint8 [size, size, 3], or [5, size, size, 3] of five crops."""
        width, height, resident = int(row["width"]), int(row["height"]), self.resident

        def view_into(pixels: np.ndarray) -> None:
            if self.view.five_crops:
                crops = pixels.reshape(out.shape)
                five_crops_into(crops, decoder, self.read(row), width, height, self.view.crop_share)
            else:
                resize_box_into(pixels, decoder, self.read(row), width, height, box)

        def whole_into(pixels: np.ndarray) -> None:
            whole = decoder.box(self.read(row), width, height, (0, 0, width, height))
            resize_into(pixels, whole, False)

        if self.view.train and resident is None:
            decoder.crop_into(out, self.read(row), width, height, box, flip)
        elif self.view.train and resident is not None:
            x, y, w, h = box
            resize_into(out, resident.image(number, whole_into)[y : y + h, x : x + w], flip)
        elif resident is None:
            view_into(out)
        else:
            out[:] = resident.image(number, view_into).reshape(out.shape)


def make_resident(index: DatasetIndex, view: View, short_side: int, num_sharers: int) -> Resident:
    """Make room for decoded images: of a short side of at most `short_side` in training, finished views otherwise."""
    widths, heights = index.samples["width"], index.samples["height"]
    if view.train:
        widths, heights = bounded(widths, heights, short_side)
    else:
        widths = np.full(index.num_samples, view.size)
        heights = view.num_crops * widths
    checksums = "".join(shard.sha256 for shard in index.shards)
    return Resident(widths, heights, f"{index.root} {view} {checksums}", num_sharers)
