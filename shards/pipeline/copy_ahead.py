"""Batches on their way to a device: one copy ahead of their use."""

from collections.abc import Iterable, Iterator
from functools import cache

import torch

from shards.pipeline.batch import Batch
from shards.pipeline.position import Place


class OnDevice(Iterator[Batch]):
    """Batches on `device`; on CUDA the next one crosses on a side stream while the current one is
    used.

    A batch that was made there is handed on as it is. Nothing is kept of a batch that was handed
    out: its buffer is free as soon as the consumer lets it go. (A generator would hold its last
    batch while it waits for the next one.)
    """

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self._batches = iter(batches)
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = _side_stream(
                torch.cuda.current_device() if device.index is None else device.index
            )
        self._ahead: tuple[Batch, torch.cuda.Event] | None = None
        self._before: torch.cuda.Event | None = None  # of the batch that was handed out last
        self._place: Place | None = None  # of the same
        self._error: Exception | None = None  # that came in the place of the next batch

    def __next__(self) -> Batch:
        if self._stream is None:
            batch = next(self._batches)
            return batch if self._device.type == "cpu" else batch.to(self._device)
        if self._ahead is None:
            batch = self._first()
            if batch.images.device == self._stream.device:
                return batch
            self._ahead = self._sent(batch, self._stream)
            del batch  # torch keeps its pinned memory until it has been read
        arriving, arrived = self._ahead
        following = self._following()
        if self._before is not None and not self._before.query():
            # The host is two copies ahead of the bus: waiting bounds the memory that is pinned.
            self._before.synchronize()
        self._before = arrived
        self._ahead = None if following is None else self._sent(following, self._stream)
        _use_after(arriving, arrived)
        self._place = arriving.place
        if self._place is not None:
            self._place.hand_out()  # the loader was asked for one more
        return arriving

    def _first(self) -> Batch:
        """Take a batch where none is on its way."""
        if self._error is not None:
            error = self._error
            self._error = None
            raise error
        try:
            return next(self._batches)
        except StopIteration:
            if self._place is not None:
                self._place.end_epoch()
            raise

    def _following(self) -> Batch | None:
        """Take the next batch while one is on its way; an error waits for its turn."""
        try:
            return next(self._batches, None)
        except Exception as error:
            self._error = error
            return None

    def _sent(self, batch: Batch, stream: torch.cuda.Stream) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            moved = batch.to(self._device)
            event = torch.cuda.Event()
            event.record(stream)
        return moved, event


@cache
def _side_stream(index: int) -> torch.cuda.Stream:
    """Give the stream that batches cross on to a device, one for good.

    Torch keeps freed memory for the stream that it was used on: with a stream for each pass over a
    split, each would reserve memory for its batches again.
    """
    return torch.cuda.Stream(index)


def _use_after(moved: Batch, arrived: torch.cuda.Event) -> None:
    """Let the device wait for the copy before it goes on, and torch know who uses its memory."""
    # their own device need not be the current
    stream = torch.cuda.current_stream(moved.images.device)
    stream.wait_event(arrived)
    for value in moved.tensors().values():
        value.record_stream(stream)
