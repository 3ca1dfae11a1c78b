"""Batches from a split that is on a device as a whole: decoded once, then gathered and augmented
there.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from shards.augment.crops import random_resized_crops
from shards.augment.pad_crop import draw_holes, draw_windows
from shards.augment.torch_ops import cut_out_tensors, pad_crop, resized_crops
from shards.choices import OnBadSample
from shards.errors import DataError, SampleError, one_line
from shards.index import DatasetIndex
from shards.pipeline.bad_samples import Skipped, restoring
from shards.pipeline.batch import Batch, copied
from shards.pipeline.batch_maker import BatchMaker
from shards.pipeline.shared_memory import check_room
from shards.pipeline.view import View
from shards.remote.future import Course, uses_in_order
from shards.sampler import Plan

_CHUNK_BYTES = 1 << 24  # decoded on the host before they cross


class DeviceMaker(BatchMaker):
    """Make the batches of one rank on its device; per batch only sample numbers and boxes cross.

    The whole split is there as uint8 [N, h, w, C]: the finished views (h = num_crops * size), or,
    to take random-resized crops from, images squeezed into squares of `side` pixels. Boxes are
    drawn as without the cache, in the pixels of the packed images. Every rank decodes the split for
    itself.

    Work is queued on the stream that was current where `prepare` was called, so who iterates there
    needs no waiting.
    """

    def __init__(
        self,
        index: DatasetIndex,
        plan: Plan,
        view: View,
        device: torch.device,
        side: int,
        num_threads: int,
        on_bad_sample: OnBadSample,
    ) -> None:
        super().__init__(index, plan, view, on_bad_sample=on_bad_sample)
        self.device = device
        self._num_threads = num_threads
        self._stream: torch.cuda.Stream | None = None
        shape = (view.num_crops * view.size, view.size) if view.is_fixed else (side, side)
        # made under it, the images could not be written by threads, which are not
        with torch.inference_mode(False):
            held = _reserve(index, (index.num_samples, *shape, self.num_channels), device)
            self._images, self._labels, self._known = held
        self._is_filled = False
        self._bad: dict[int, Skipped] = {}

    def warm_up(self) -> None:
        """Decode the whole split: that is what the first batch would wait for."""
        self.prepare()

    def prepare(self, epoch: int = 0, step: int = 0) -> None:
        """Decode the whole split onto the device, once, and note the stream that batches are for."""
        if not self._is_filled:
            self._fill_device()
            self._is_filled = True
        if self.device.type == "cuda":
            self._stream = torch.cuda.current_stream(self.device)

    def make(self, epoch: int, step: int) -> Batch:
        """Gather and augment this rank's part of a global batch: all tensors are on the device."""
        ids, valid = self._padded(epoch, step)
        num_known = self._num_known(ids[valid], epoch, step)
        valid, num_known, skipped = self._without(ids, valid, num_known, self._bad)
        seen = self._seen(ids, epoch, step)
        with self._on_stream():
            numbers = self._there(ids)
            is_valid = self._there(valid)
            return Batch(
                images=self._view_of(
                    numbers if seen is ids else self._there(seen), seen, epoch
                ).permute(0, 3, 1, 2),
                labels=self._labels[numbers].float(),
                known=self._known[numbers] & is_valid[:, None],
                valid=is_valid,
                ids=torch.where(is_valid, numbers, -1),
                num_known=num_known,
                skipped=skipped,
                num_known_is_local=self._counts_own,
            )

    def _seen(self, ids: np.ndarray, epoch: int, step: int) -> np.ndarray:
        """Put good samples in the place of bad ones, as padding does."""
        if not self._bad:
            return ids
        bad = list(self._bad)
        for some in (ids, self.plan.spare_ids(epoch, step)):
            good = some[~np.isin(some, bad)]
            if len(good):
                return np.where(np.isin(ids, bad), np.resize(good, len(ids)), ids)
        last = self._bad[int(ids[0])].line()
        raise SampleError(
            f"no sample of this batch can be read, the last: {last}; {restoring(self.index)}"
        )

    def _view_of(self, numbers: torch.Tensor, ids: np.ndarray, epoch: int) -> torch.Tensor:
        """Give uint8 [num_crops * B, size, size, C]; for training augmented."""
        view = self.view
        seed = self.plan.seed
        if not view.train:
            stills = self._images[numbers].view(len(ids), view.num_crops, view.size, view.size, -1)
            return stills.transpose(0, 1).flatten(0, 1)
        if view.augment == "pad":
            windows = draw_windows(ids, view.pad, seed, epoch, view.flip)
            images = pad_crop(self._images, numbers, self._there(windows))
        else:
            rows = self.index.samples[ids]
            boxes, mirrored = random_resized_crops(
                ids, rows["width"], rows["height"], seed, epoch, view.scale, view.flip
            )
            sizes = np.stack([rows["width"], rows["height"]] * 2, axis=1)
            scaled = self._there(boxes * (self._images.shape[1] / sizes))
            images = resized_crops(self._images, numbers, scaled, self._there(mirrored), view.size)
        if view.cutout:
            holes = self._there(draw_holes(ids, view.size, view.cutout, seed, epoch))
            images = cut_out_tensors(images, holes, view.cutout, self._there(self._colour))
        return images

    def _fill_device(self) -> None:
        num_samples = self.index.num_samples
        shape = tuple(self._images.shape[1:])
        at_once = max(1, _CHUNK_BYTES // int(np.prod(shape)))
        uses = uses_in_order(self.index.shard_sizes, at_once)
        self._follow(Course(lambda epoch: uses[: 0 if epoch else None], num_samples))
        # one bar a machine
        quiet = None if self.plan.world.rank % self.plan.world.num_local == 0 else True
        bar = tqdm(
            total=num_samples,
            desc=f"decode {self.index.split}",
            unit="img",
            leave=False,
            disable=quiet,
        )

        def decode(start: int) -> int:
            rows = self.index.samples[start : start + at_once]
            pixels = np.zeros((len(rows), *shape), np.uint8)
            decoder = self._decoder()
            watch = self.watch()
            with self._turn(0, start // at_once):
                for number, (out, row) in enumerate(zip(pixels, rows, strict=True), start):
                    with watch.over(number, row):
                        self._still_into(out, decoder, row)
            self._bad.update(watch.bad)
            self._images[start : start + len(rows)] = torch.from_numpy(pixels)
            return len(rows)

        with bar, ThreadPoolExecutor(self._num_threads) as pool:
            try:
                for num in pool.map(decode, range(0, num_samples, at_once)):
                    bar.update(num)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if self.device.type == "cuda":
            # the threads' copies, before another stream reads them
            torch.cuda.synchronize(self.device)

    def _there(self, values: np.ndarray) -> torch.Tensor:
        return copied(torch.from_numpy(values), self.device)

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield


def device_of(device: Any) -> torch.device:
    """Turn what a user gave into a device. Raises DataError."""
    if device is None:
        raise DataError(
            "cache is device, but no device is given: give one, such as Loader(device='cuda')"
        )
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"device is {device!r}: not one of torch's ({one_line(error)[:100]}); give cuda or cpu"
        ) from error


def _reserve(
    index: DatasetIndex, shape: tuple[int, ...], device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Make room for the images of a split, and bring its labels and what is known. Raises DataError
    without the room.

    A GPU is asked for the memory itself, not whether it has it: torch may keep enough that nothing
    uses any more.
    """
    remedy = "give a smaller size or cache_short_side, or cache ram or none"
    try:
        if device.type == "cpu":  # where the system would promise more than there is
            check_room(
                int(np.prod(shape, dtype=np.int64)) + 2 * index.num_samples * index.num_classes
            )
        images = torch.empty(shape, dtype=torch.uint8, device=device)
        return images, *(
            torch.from_numpy(values).to(device) for values in (index.labels(), index.known())
        )
    except (DataError, RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise DataError(
            f"{index.root}: cache device cannot hold {index.num_samples:,} images on {device}: "
            f"{one_line(error)[:200]}; {remedy}"
        ) from error
