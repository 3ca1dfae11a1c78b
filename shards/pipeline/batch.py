"""What the loader hands out, and how it reaches a device."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import torch

from shards.pipeline.bad_samples import Skipped


class Batch(dict[str, Any]):
    """A batch as a mapping, its entries also attributes. B = local batch size, K = classes.

    images     uint8 [B, C, size, size], channels_last memory, RGB, then further bands; of five crops [5 B, ...], first
               all centres
    labels     float32 [B, K], 0 or 1
    known      bool [B, K], False where the annotation says to ignore the class, and on padding
    valid      bool [B], False on the padding of a short batch: its pixels repeat samples of the same batch
    ids        int64 [B], row in the index; -1 on padding
    num_known  int, the valid, known labels of the *global* batch: what a loss summed over ranks is divided by
    skipped    what `on_bad_sample="skip"` left out of this rank's part: it is not valid, its pixels repeat another
               sample; `num_known` is less by this rank's alone, which ranks that differ have to add up
    """

    images: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor
    valid: torch.Tensor
    ids: torch.Tensor
    num_known: int
    skipped: tuple[Skipped, ...]

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"a batch has {', '.join(self)}, no {name}") from None

    def to(self, device: torch.device | str | int) -> "Batch":
        """Copy the tensors to a device; to CUDA the host does not wait for those whose memory is pinned."""
        return Batch({name: copied(value, device) if torch.is_tensor(value) else value for name, value in self.items()})


def copied(value: torch.Tensor, device: torch.device | str | int) -> torch.Tensor:
    """Copy a tensor to a device. The host waits for the copy, unless it goes to CUDA.

    There torch keeps pinned memory until it has been read, and CUDA has what is not pinned copied aside first. On other
    devices (MPS, XPU), and on the way back to the host, nobody does: what is read or written too early is wrong.
    """
    return value.to(device, non_blocking=torch.device(device).type == "cuda")


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on `device`; on CUDA the next one crosses on a side stream while the current one is used.

    A batch that was made there is handed on as it is.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch if device.type == "cpu" else batch.to(device)
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    stream = _side_stream(index)
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        if batch.images.device == stream.device:
            yield batch
            continue
        with torch.cuda.stream(stream):
            moved, event = batch.to(device), torch.cuda.Event()
            event.record(stream)
        del batch  # torch keeps its pinned memory until it has been read
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = (moved, event)
    if waiting is not None:
        yield _arrived(*waiting)


@cache
def _side_stream(index: int) -> torch.cuda.Stream:
    """Give the stream that batches cross on to a device, one for good.

    Torch keeps freed memory for the stream that it was used on: with a stream for each pass over a split, each would
    reserve memory for its batches again.
    """
    return torch.cuda.Stream(index)


def _arrived(moved: Batch, event: torch.cuda.Event) -> Batch:
    # The host waits for the copy: that keeps it one batch ahead of the bus, and so bounds what is pinned.
    event.synchronize()
    for value in moved.values():
        if torch.is_tensor(value):
            value.record_stream(torch.cuda.current_stream(value.device))  # its own device need not be the current
    return moved
