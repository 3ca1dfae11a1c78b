"""The batch that the loader yields, and its copy to a device."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch

from shards.pipeline.bad_samples import Skipped


@dataclass(frozen=True, eq=False)
class Batch:
    """B = local batch size, K = classes.

    images     uint8 [B, C, size, size], channels_last memory, RGB, then further bands; of five
    crops [5 B, ...], first
               all centres
    labels     float32 [B, K], 0 or 1
    known      bool [B, K], False where the annotation says to ignore the class, and on padding
    valid      bool [B], False on the padding of a short batch: its pixels repeat samples of the
    same batch ids        int64 [B], row in the index; -1 on padding num_known  int, the valid,
    known labels of the *global* batch: what a loss summed over ranks is divided by skipped    what
    `on_bad_sample="skip"` left out of this rank's part: it is not valid, its pixels repeat another
               sample; `num_known` is less by this rank's alone, which ranks that differ have to add
               up
    """

    images: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor
    valid: torch.Tensor
    ids: torch.Tensor
    num_known: int
    skipped: tuple[Skipped, ...] = ()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors by name."""
        return {name: value for name, value in vars(self).items() if torch.is_tensor(value)}

    def to(self, device: torch.device | str | int) -> "Batch":
        """Copy the tensors to a device; to CUDA the host does not wait for those whose memory is
        pinned.
        """
        there = {name: copied(value, device) for name, value in self.tensors().items()}
        return replace(self, **there)  # type: ignore[arg-type] # by name, each of its own field


def copied(value: torch.Tensor, device: torch.device | str | int) -> torch.Tensor:
    """Copy a tensor to a device. The host waits for the copy, unless it goes to CUDA.

    There torch keeps pinned memory until it has been read, and CUDA has what is not pinned copied
    aside first. On other devices (MPS, XPU), and on the way back to the host, nobody does: what is
    read or written too early is wrong.
    """
    return value.to(device, non_blocking=torch.device(device).type == "cuda")


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

    def __next__(self) -> Batch:
        if self._stream is None:
            batch = next(self._batches)
            return batch if self._device.type == "cpu" else batch.to(self._device)
        if self._ahead is None:
            batch = next(self._batches)
            if batch.images.device == self._stream.device:
                return batch
            self._ahead = self._sent(batch, self._stream)
            del batch  # torch keeps its pinned memory until it has been read
        arriving = self._ahead
        following = next(self._batches, None)
        self._ahead = None if following is None else self._sent(following, self._stream)
        return _arrived(*arriving)

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


def _arrived(moved: Batch, event: torch.cuda.Event) -> Batch:
    # The host waits for the copy: that keeps it one batch ahead of the bus, and so bounds what is
    # pinned.
    event.synchronize()
    for value in moved.tensors().values():
        # its own device need not be the current
        value.record_stream(torch.cuda.current_stream(value.device))
    return moved
