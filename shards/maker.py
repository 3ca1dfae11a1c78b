"""Make any batch of any epoch: a pure function of (epoch, step), callable from several threads."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from shards.batch import Batch
from shards.crops import centre_crops, random_resized_crops
from shards.decode import Decoder, channels_of, resize_box_into, resize_into
from shards.errors import DataError, SampleError
from shards.fivecrop import NUM_CROPS, five_crops_into
from shards.index import DatasetIndex
from shards.reader import ShardReader
from shards.resident import Resident, bounded
from shards.ring import Ring
from shards.sampler import Plan


@dataclass(frozen=True)
class View:
    """What is seen of each image, `size` pixels across.

    In training a random-resized crop, in evaluation the centre, or with `five_crops` the centre and the four corners;
    of all bands or of the first `num_members` members.
    """

    size: int
    train: bool
    scale: tuple[float, float]
    crop_share: float
    five_crops: bool = False
    num_members: int = 1

    @property
    def num_channels(self) -> int:
        return 2 + self.num_members

    @property
    def num_crops(self) -> int:
        return NUM_CROPS if self.five_crops else 1


class BatchMaker:
    """Make the batches of one rank. With `resident` images are decoded once, and cropped from there."""

    decoder_class = Decoder

    def __init__(self, index: DatasetIndex, plan: Plan, view: View, resident: Resident | None = None) -> None:
        self.index, self.plan, self.view, self.resident = index, plan, view, resident
        self._reader = ShardReader(index)
        shape = (view.num_crops * plan.local_batch_size, view.size, view.size, view.num_channels)
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

    def read(self, row: np.void) -> list[np.ndarray]:
        """View the image members of one sample that are looked at: uint8 [length] each."""
        return [self._reader.member(row, member) for member in range(self.view.num_members)]

    def _fill(self, slot: np.ndarray, ids: np.ndarray, epoch: int) -> None:
        if not hasattr(self._local, "decoder"):
            self._local.decoder = self.decoder_class()
        decoder: Decoder = self._local.decoder
        rows = self.index.samples[ids]
        if self.resident is not None:
            for number, row in zip(ids.tolist(), rows, strict=True):
                if not self.resident.has(number):
                    with self._naming(row):
                        self._keep(decoder, row, number)
        if self.view.train:
            self._fill_random(slot, decoder, ids, rows, epoch)
        else:
            self._fill_views(slot, decoder, ids, rows)

    def _fill_random(self, slot: np.ndarray, decoder: Decoder, ids: np.ndarray, rows: np.ndarray, epoch: int) -> None:
        kept = self.resident
        widths, heights = (rows["width"], rows["height"]) if kept is None else (kept.widths[ids], kept.heights[ids])
        boxes, flips = random_resized_crops(ids, widths, heights, self.plan.seed, epoch, self.view.scale)
        if kept is not None:
            for out, pixels, flip in zip(slot, kept.crops(ids, boxes), flips.tolist(), strict=True):
                resize_into(out, pixels, flip)
            return
        for out, row, box, flip in zip(slot, rows, boxes.tolist(), flips.tolist(), strict=True):
            with self._naming(row):
                decoder.crop_bands_into(out, self.read(row), int(row["width"]), int(row["height"]), box, flip)

    def _fill_views(self, slot: np.ndarray, decoder: Decoder, ids: np.ndarray, rows: np.ndarray) -> None:
        views = slot.reshape(self.view.num_crops, len(ids), *slot.shape[1:]).swapaxes(0, 1)
        if self.resident is not None:
            for out, number in zip(views, ids.tolist(), strict=True):
                out[:] = self.resident.image(number).reshape(out.shape)
            return
        boxes = centre_crops(rows["width"], rows["height"], self.view.size, self.view.crop_share)
        for out, row, box in zip(views, rows, boxes, strict=True):
            with self._naming(row):
                self._view_into(out, decoder, row, box)

    def _keep(self, decoder: Decoder, row: np.void, number: int) -> None:
        """Decode an image into memory: whole, to crop from, or the evaluation's view of it."""
        assert self.resident is not None
        pixels = self.resident.image(number)
        if self.view.train:
            width, height = int(row["width"]), int(row["height"])
            resize_into(pixels, decoder.bands(self.read(row), width, height, (0, 0, width, height)), False)
        else:
            size, share = self.view.size, self.view.crop_share
            (box,) = centre_crops(row["width"].reshape(1), row["height"].reshape(1), size, share)
            self._view_into(pixels.reshape(self.view.num_crops, size, size, -1), decoder, row, box)
        self.resident.keep(number)

    def _view_into(self, out: np.ndarray, decoder: Decoder, row: np.void, box: np.ndarray) -> None:
        """Write what evaluation sees of one image: uint8 [1 or 5, size, size, C]. `box` is the single view's."""
        members, width, height = self.read(row), int(row["width"]), int(row["height"])
        for part, data in zip(channels_of(out, len(members)), members, strict=True):
            if self.view.five_crops:
                five_crops_into(part, decoder, data, width, height, self.view.crop_share)
            else:
                resize_box_into(part[0], decoder, data, width, height, box.tolist())

    def _naming(self, row: np.void) -> "_Naming":
        return _Naming(self.index, row)


class _Naming:
    """Adds shard, key and remedy to what is wrong with a sample."""

    def __init__(self, index: DatasetIndex, row: np.void) -> None:
        self._index, self._row = index, row

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, SampleError):
            shard, key = self._index.shard_path(int(self._row["shard"])), self._row["key"].decode()
            raise SampleError(
                f"{shard}: sample {key}: {error}; run the same preprocess.shard command again to restore the shard"
            ) from error


def make_resident(index: DatasetIndex, view: View, short_side: int, num_sharers: int) -> Resident:
    """Make room for decoded images: of a short side of at most `short_side` in training, finished views otherwise."""
    widths, heights = index.samples["width"], index.samples["height"]
    if view.train:
        widths, heights = bounded(widths, heights, short_side)
    else:
        widths = np.full(index.num_samples, view.size)
        heights = view.num_crops * widths
    checksums = "".join(shard.sha256 for shard in index.shards)
    try:
        return Resident(widths, heights, view.num_channels, f"{index.root} {view} {checksums}", num_sharers)
    except DataError as error:
        raise DataError(f"{index.root}: {error}") from error
