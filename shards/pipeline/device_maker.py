"""Batches from a split that is on a device as a whole: decoded once, then gathered and augmented
there.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from shards.augment.crops import random_resized_crops
from shards.augment.pad_crop import draw_holes, draw_windows
from shards.augment.torch_ops import cut_out_tensors, pad_crop, resized_crops
from shards.choices import OnBadSample
from shards.errors import DataError, SampleError, count_of, one_line
from shards.index import DatasetIndex
from shards.pipeline.bad_samples import Skipped, restoring
from shards.pipeline.batch import Batch
from shards.pipeline.batch_maker import BatchMaker
from shards.pipeline.block import copied_together
from shards.pipeline.shared_memory import check_room
from shards.pipeline.view import View
from shards.sampler import Plan

_CHUNK_BYTES = 1 << 22  # decoded on the host before they cross; torch keeps the pinned memory


class _Chunk(NamedTuple):
    """Neighbouring images, decoded: uint8 [n, h, w, C], and which of them could not be read."""

    start: int
    pixels: torch.Tensor
    bad: dict[int, Skipped]


class DeviceMaker(BatchMaker):
    """Make the batches of one rank on its device; per batch only sample numbers and boxes cross.

    The whole split is there as uint8 [N, h, w, C]: the finished views (h = num_crops * size), or,
    to take random-resized crops from, images squeezed into squares of `side` pixels. Boxes are
    drawn as without the cache, in the pixels of the packed images. Every rank decodes the split for
    itself.

    Work is queued on the stream that was current where `prepare` was called, so who iterates there
    needs no waiting. One thread queues them, in order: it waits for nothing, and several would only
    take turns.
    """

    in_one_thread = True

    def __init__(
        self,
        index: DatasetIndex,
        plan: Plan,
        view: View,
        device: torch.device,
        side: int,
        num_threads: int,
        on_bad_sample: OnBadSample,
        size_at: Callable[[int], int] | None = None,
    ) -> None:
        super().__init__(index, plan, view, on_bad_sample=on_bad_sample, size_at=size_at)
        self.device = device
        self._num_threads = num_threads
        self._stream: torch.cuda.Stream | None = None
        shape = (view.num_crops * view.size, view.size) if view.is_fixed else (side, side)
        # made under it, the images could not be written by threads, which are not
        with torch.inference_mode(False):
            held = _reserve(index, (index.num_samples, *shape, self.num_channels), device)
            self._images, self._labels, self._known = held
            self._colour_there = torch.from_numpy(self._colour).to(device)
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
        arrays = {"ids": ids, "valid": valid, "seen": seen, **self._drawn(seen, epoch)}
        with self._on_stream():
            there = copied_together(arrays, self.device)
            numbers = there["ids"]
            is_valid = there["valid"]
            return Batch(
                images=self._view_of(there, self.view_at(epoch)).permute(0, 3, 1, 2),
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

    def _drawn(self, ids: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        """Draw what training does to each image."""
        view = self.view_at(epoch)
        seed = self.plan.seed
        drawn: dict[str, np.ndarray] = {}
        if not view.train:
            return drawn
        if view.augment == "pad":
            drawn["windows"] = draw_windows(ids, view.pad, seed, epoch, view.flip)
        else:
            rows = self.index.samples[ids]
            boxes, drawn["mirrored"] = random_resized_crops(
                ids, rows["width"], rows["height"], seed, epoch, view.scale, view.flip
            )
            sizes = np.stack([rows["width"], rows["height"]] * 2, axis=1)
            drawn["boxes"] = boxes * (self._images.shape[1] / sizes)
        if view.cutout:
            drawn["holes"] = draw_holes(ids, view.size, view.cutout, seed, epoch)
        return drawn

    def _view_of(self, there: Mapping[str, torch.Tensor], view: View) -> torch.Tensor:
        """Give uint8 [num_crops * B, size, size, C]; for training augmented."""
        numbers = there["seen"]
        if not view.train:
            shape = (len(numbers), view.num_crops, view.size, view.size, -1)
            return self._images[numbers].view(shape).transpose(0, 1).flatten(0, 1)
        if view.augment == "pad":
            images = pad_crop(self._images, numbers, there["windows"])
        else:
            images = resized_crops(
                self._images, numbers, there["boxes"], there["mirrored"], view.size
            )
        if view.cutout:
            images = cut_out_tensors(images, there["holes"], view.cutout, self._colour_there)
        return images

    def _fill_device(self) -> None:
        """Decode with all threads; this one brings what they have decoded, in order, to the device."""
        num_samples = self.index.num_samples
        at_once = max(1, _CHUNK_BYTES // int(np.prod(self._images.shape[1:])))
        self.fetching.follow_all(at_once)
        # one bar a machine
        quiet = None if self.plan.world.is_first_local else True
        bar = tqdm(
            total=num_samples,
            desc=f"decode {self.index.split}",
            unit="img",
            leave=False,
            disable=quiet,
        )
        waiting: deque[Future[_Chunk]] = deque()
        with bar, ThreadPoolExecutor(self._num_threads) as pool:
            try:
                for start in range(0, num_samples, at_once):
                    waiting.append(pool.submit(self._decode, start, at_once))
                    if len(waiting) > self._num_threads + 1:  # which bounds the memory
                        bar.update(self._bring(waiting.popleft().result()))
                while waiting:
                    bar.update(self._bring(waiting.popleft().result()))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if self.device.type == "cuda":
            # these copies, before another stream reads what they bring
            torch.cuda.synchronize(self.device)

    def _decode(self, start: int, at_once: int) -> _Chunk:
        rows = self.index.samples[start : start + at_once]
        shape = (len(rows), *self._images.shape[1:])
        pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        decoder = self._decoder()
        watch = self.watch()
        watch.bad = {}
        with self.fetching.turn(0, start // at_once):
            for number, (out, row) in enumerate(zip(pixels.numpy(), rows, strict=True), start):
                with watch.over(number, row):
                    self._still_into(out, decoder, row)
        return _Chunk(start, pixels, watch.bad)

    def _bring(self, chunk: _Chunk) -> int:
        """Copy decoded images to their place; count them."""
        self._bad.update(chunk.bad)
        num = len(chunk.pixels)
        there = self._images[chunk.start : chunk.start + num]
        there.copy_(chunk.pixels, non_blocking=self.device.type == "cuda")
        return num

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
            f"{index.root}: cache device cannot hold {count_of(index.num_samples, 'image')} on "
            f"{device}: "
            f"{one_line(error)[:200]}; {remedy}"
        ) from error
