"""What the loader hands out, and how it reaches a device."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from shards.watch import Skipped


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

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors to a device, asynchronously where their memory is pinned."""
        return Batch(
            {
                name: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
                for name, value in self.items()
            }
        )


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on `device`; on CUDA the next one crosses on a side stream while the current one is used.

    A batch that was made there is handed on as it is.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch if device.type == "cpu" else batch.to(device)
        return
    stream = torch.cuda.Stream(device)
    waiting: tuple[Batch, Batch, torch.cuda.Event] | None = None
    for batch in batches:
        if batch.images.device.type == "cuda" and device.index in (None, batch.images.device.index):
            yield batch
            continue
        with torch.cuda.stream(stream):
            moved, event = batch.to(device), torch.cuda.Event()
            event.record(stream)
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = (batch, moved, event)
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(host: Batch, moved: Batch, event: torch.cuda.Event) -> Batch:
    # `host` is held until its copy is done: only then may its pinned slot be filled again.
    event.synchronize()
    current = torch.cuda.current_stream()
    for value in moved.values():
        if torch.is_tensor(value):
            value.record_stream(current)
    return moved
