"""Make any batch of any epoch: a pure function of (epoch, step), callable from several threads."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from shards.augment.crops import centre_crops, random_resized_crops
from shards.augment.pad_crop import cut_out, draw_holes, draw_windows, mean_colour, pad_crop_into
from shards.choices import OnBadSample
from shards.decode.decoder import Decoder, channels_of, resize_box_into, resize_into
from shards.decode.five_crop import five_crops_into
from shards.errors import DataError, SampleError, count_of
from shards.index import DatasetIndex
from shards.pipeline.bad_samples import Skipped, Watch, restoring
from shards.pipeline.batch import Batch
from shards.pipeline.block import num_room_bytes
from shards.pipeline.buffers import PinnedRing, Ring, front_of
from shards.pipeline.decoded_cache import Resident
from shards.pipeline.fetching import Fetching
from shards.pipeline.reader import ShardReader
from shards.pipeline.view import View
from shards.remote.early_images import EarlyImages
from shards.sampler import EMPTY, Plan, SamePlan


class BatchMaker:
    """Make the batches of one rank. With `resident` images are decoded once, and cropped from
    there.

    `pinned` is for batches that a GPU fetches: such memory costs the process a CUDA context.
    `size_at` says the size of an epoch where it is not the view's, and never a larger one: threads
    may make batches of two epochs at the same time.
    """

    decoder_class = Decoder
    in_one_thread = False  # batches are made by several, each a whole one

    def __init__(
        self,
        index: DatasetIndex,
        plan: Plan,
        view: View,
        resident: Resident | None = None,
        on_bad_sample: OnBadSample = "stop",
        pinned: bool = False,
        size_at: Callable[[int], int] | None = None,
    ) -> None:
        self.index = index
        self.plan = plan
        self.view = view
        self._size_at = size_at
        self.resident = resident
        self.on_bad_sample = on_bad_sample
        self.num_members = index.num_members(view.bands)
        self.num_channels = 2 + self.num_members
        self._reader = ShardReader(index)
        self.fetching = Fetching(index, plan, self.num_members, resident is not None)
        shape = (view.num_crops * plan.local_batch_size, view.size, view.size, self.num_channels)
        beside = num_room_bytes(plan.local_batch_size, index.num_classes)
        self.ring = PinnedRing(shape, beside) if pinned else Ring(shape)
        self._local = threading.local()
        has_ignored = any(index.statistics.get("ignored", [True]))
        self._counts_own = not plan.reads_all and has_ignored
        self._colour = (
            mean_colour(index)[: self.num_channels] if view.cutout else np.empty(0, np.uint8)
        )

    def warm_up(self) -> None:
        """Compile, or load, what the first batch would wait for, on two samples."""
        ids = self._padded(0, 0)[0][:2]
        with contextlib.suppress(SampleError):  # a bad sample is reported when its turn comes
            BatchMaker(self.index, SamePlan.of(ids), self.view).make(0, 0)

    def view_at(self, epoch: int) -> View:
        """Say what is seen of each image in an epoch."""
        if self._size_at is None:
            return self.view
        view = replace(self.view, size=self._size_at(epoch))
        if view.size > self.view.size:
            raise DataError(
                f"size_at says {count_of(view.size, 'pixel')} in epoch {epoch}: give a view of "
                "the largest "
                f"size, not of {self.view.size}"
            )
        return view

    def prepare(self, epoch: int = 0, step: int = 0) -> None:
        """Do what has to be done once before the first batch, which is `step` of `epoch`."""
        self.fetching.follow((epoch, step))

    def make(self, epoch: int, step: int) -> Batch:
        """Decode this rank's part of a global batch."""
        with self.fetching.turn(epoch, step):
            return self._make(epoch, step)

    def _make(self, epoch: int, step: int) -> Batch:
        ids, valid = self._padded(epoch, step)
        num_known = self._num_known(ids[valid], epoch, step)
        kept = self.resident
        missing = ids if kept is None else kept.missing(ids)
        self._local.early = self.fetching.early_images(missing, epoch, step)
        slot = self.ring.take()
        try:
            images = front_of(slot, self.view_at(epoch).size)
            pixels = images.numpy()
            bad = self._fill(pixels, ids, epoch)
            if bad:
                self._fill_in(pixels, np.isin(ids, list(bad)), epoch, step)
        except BaseException:
            self.ring.give_back(slot)
            raise
        valid, num_known, skipped = self._without(ids, valid, num_known, bad)
        known = self.index.known(ids)
        known[~valid] = False
        return Batch(
            images=self.ring.lend(slot, images),
            labels=torch.from_numpy(self.index.labels(ids).astype(np.float32)),
            known=torch.from_numpy(known),
            valid=torch.from_numpy(valid),
            ids=torch.from_numpy(np.where(valid, ids, -1)),
            num_known=num_known,
            skipped=skipped,
            num_known_is_local=self._counts_own,
            block=self.ring.block(images),
        )

    def watch(self) -> Watch:
        """Return the bad-sample handler of this thread."""
        if not hasattr(self._local, "watch"):
            self._local.watch = Watch(self.index, self.on_bad_sample == "skip")
        watch: Watch = self._local.watch
        return watch

    def _without(
        self, ids: np.ndarray, valid: np.ndarray, num_known: int, bad: Mapping[int, Skipped]
    ) -> tuple[np.ndarray, int, tuple[Skipped, ...]]:
        """Take bad samples out of this rank's part of a batch: what is valid, what is known of it,
        what is skipped.
        """
        is_bad = valid & np.isin(ids, list(bad))
        num_known -= int(self.index.known(ids[is_bad]).sum())
        return valid & ~is_bad, num_known, tuple(bad[number] for number in ids[is_bad].tolist())

    def _fill_in(self, slot: np.ndarray, is_bad: np.ndarray, epoch: int, step: int) -> None:
        """Repeat good samples where there are bad ones, as padding does."""
        if not is_bad.all():
            views = slot.reshape(self.view.num_crops, len(is_bad), *slot.shape[1:])
            views[:, is_bad] = views[:, np.resize(np.flatnonzero(~is_bad), is_bad.sum())]
            return
        bad: Mapping[int, Skipped] = {}
        for number in self.plan.spare_ids(epoch, step).tolist():
            bad = self._fill(slot, np.full(len(is_bad), number), epoch)
            if not bad:
                return
        last = next(iter(bad.values())).line()
        raise SampleError(
            f"no sample of this batch can be read, the last: {last}; {restoring(self.index)}"
        )

    def _padded(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Tell this rank's samples int64 [B] of a global batch, and which are valid.

        Padding repeats samples of the same batch, or as the order allows, so that batch statistics
        see photographs, not zeros.
        """
        ids = self.plan.local_ids(epoch, step)
        valid = ids != EMPTY
        repeated = ids[valid] if valid.any() else self.plan.spare_ids(epoch, step)
        ids[~valid] = np.resize(repeated, np.count_nonzero(~valid))
        return ids, valid

    def _num_known(self, own: np.ndarray, epoch: int, step: int) -> int:
        """Count the known labels of a global batch; of this rank's part where `_counts_own`.

        Where the order lets ranks read their own shards alone, other ranks' rows are not looked at:
        they may be on other machines.
        """
        if self.plan.reads_all:
            return int(self.index.known(self.plan.global_ids(epoch, step)).sum())
        if self._counts_own:
            return int(self.index.known(own).sum())
        return self.plan.num_in(step) * self.index.num_classes

    def read(self, row: np.void) -> list[np.ndarray]:
        """View the image members of one sample that are looked at: uint8 [length] each."""
        early: EarlyImages = getattr(self._local, "early", {})
        if not early:
            return [self._reader.member(row, member) for member in range(self.num_members)]
        places = [(int(row["shard"]), int(offset)) for offset in row["offset"]]
        return [
            early[place] if place in early else self._reader.member(row, member)
            for member, place in enumerate(places[: self.num_members])
        ]

    def _fill(self, slot: np.ndarray, ids: np.ndarray, epoch: int) -> dict[int, Skipped]:
        """Write this rank's images; return, by id, those that were skipped, whose pixels are
        anything.
        """
        watch = self.watch()
        watch.bad = {}
        decoder = self._decoder()
        rows = self.index.samples[ids]
        view = self.view
        if self.resident is not None:
            for number in self.resident.missing(ids).tolist():
                with watch.over(number, self.index.samples[number]):
                    self._still_into(
                        self.resident.image(number), decoder, self.index.samples[number]
                    )
                    self.resident.keep(number)
        if not view.train:
            self._fill_views(slot, decoder, ids, rows)
        elif view.augment == "pad":
            self._fill_windows(slot, decoder, ids, rows, epoch)
        else:
            self._fill_random(slot, decoder, ids, rows, epoch)
        if view.train and view.cutout:
            cut_out(
                slot,
                draw_holes(ids, slot.shape[1], view.cutout, self.plan.seed, epoch),
                view.cutout,
                self._colour,
            )
        return watch.bad

    def _decoder(self) -> Decoder:
        """Give this thread's decoder."""
        if not hasattr(self._local, "decoder"):
            self._local.decoder = self.decoder_class()
        decoder: Decoder = self._local.decoder
        return decoder

    def _fill_random(
        self, slot: np.ndarray, decoder: Decoder, ids: np.ndarray, rows: np.ndarray, epoch: int
    ) -> None:
        kept = self.resident
        widths, heights = (
            (rows["width"], rows["height"])
            if kept is None
            else (kept.widths[ids], kept.heights[ids])
        )
        boxes, flips = random_resized_crops(
            ids, widths, heights, self.plan.seed, epoch, self.view.scale, self.view.flip
        )
        if kept is not None:
            for out, pixels, flip in zip(slot, kept.crops(ids, boxes), flips.tolist(), strict=True):
                resize_into(out, pixels, flip)
            return
        watch = self.watch()
        for out, number, row, box, flip in zip(
            slot, ids.tolist(), rows, boxes.tolist(), flips.tolist(), strict=True
        ):
            with watch.over(number, row):
                decoder.crop_bands_into(
                    out, self.read(row), int(row["width"]), int(row["height"]), box, flip
                )

    def _fill_windows(
        self, slot: np.ndarray, decoder: Decoder, ids: np.ndarray, rows: np.ndarray, epoch: int
    ) -> None:
        windows = draw_windows(ids, self.view.pad, self.plan.seed, epoch, self.view.flip)
        if self.resident is not None:
            pad_crop_into(slot, self.resident.stack(), ids, windows)
            return
        if getattr(self._local, "whole", slot[:0]).shape != slot.shape:
            self._local.whole = np.empty_like(slot)
        self._fill_views(self._local.whole, decoder, ids, rows)
        pad_crop_into(slot, self._local.whole, np.arange(len(ids)), windows)

    def _fill_views(
        self, slot: np.ndarray, decoder: Decoder, ids: np.ndarray, rows: np.ndarray
    ) -> None:
        views = slot.reshape(self.view.num_crops, len(ids), *slot.shape[1:]).swapaxes(0, 1)
        if self.resident is not None:
            views[:] = self.resident.stack()[ids].reshape(views.shape)
            return
        boxes = centre_crops(rows["width"], rows["height"], slot.shape[1], self.view.share_seen)
        watch = self.watch()
        for out, number, row, box in zip(views, ids.tolist(), rows, boxes, strict=True):
            with watch.over(number, row):
                self._view_into(out, decoder, row, box)

    def _still_into(self, out: np.ndarray, decoder: Decoder, row: np.void) -> None:
        """Decode what is kept of an image: the one view that is needed of it, or all of it, to crop
        from.

        `out` is uint8 [num_crops * size, size, C], or [h, w, C] of the size to keep.
        """
        if self.view.is_fixed:
            size = self.view.size
            share = self.view.share_seen
            (box,) = centre_crops(row["width"].reshape(1), row["height"].reshape(1), size, share)
            self._view_into(out.reshape(self.view.num_crops, size, size, -1), decoder, row, box)
        else:
            width = int(row["width"])
            height = int(row["height"])
            resize_into(
                out, decoder.bands(self.read(row), width, height, (0, 0, width, height)), False
            )

    def _view_into(self, out: np.ndarray, decoder: Decoder, row: np.void, box: np.ndarray) -> None:
        """Write what evaluation sees of one image: uint8 [1 or 5, size, size, C]. `box` is the
        single view's.
        """
        members = self.read(row)
        width = int(row["width"])
        height = int(row["height"])
        for part, data in zip(channels_of(out, len(members)), members, strict=True):
            if self.view.five_crops:
                five_crops_into(part, decoder, data, width, height, self.view.share_seen)
            else:
                resize_box_into(part[0], decoder, data, width, height, box.tolist())
