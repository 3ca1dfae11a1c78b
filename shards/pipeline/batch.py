"""The batch that the loader yields, and its copy to a device."""

from dataclasses import dataclass, field, replace

import torch

from shards.pipeline.bad_samples import Skipped
from shards.pipeline.block import Block
from shards.pipeline.position import Place


@dataclass(frozen=True, eq=False)
class Batch:
    """B = local batch size, K = classes.

    images     uint8 [B, C, size, size], channels_last memory, RGB, then further bands; of five
               crops [5 B, ...], first all centres
    labels     float32 [B, K], 0 or 1
    known      bool [B, K], False where the annotation says to ignore the class, and on padding
    valid      bool [B], False on the padding of a short batch: its pixels repeat other samples
    ids        int64 [B], row in the index; -1 on padding
    num_known  int, the valid, known labels of the *global* batch: what a loss summed over ranks
               is divided by
    num_known_is_local
               whether `num_known` is of this rank's part alone, which ranks have to add up: with
               the order near, on several ranks, of a split with ignored labels
    skipped    what `on_bad_sample="skip"` left out of this rank's part: it is not valid, its
               pixels repeat another sample; `num_known` is less by this rank's part alone, which
               ranks that differ have to add up
    block      the pinned memory that all tensors cross to a GPU in, by one copy; None elsewhere
    place      which batch of its loader's run this is; None of a batch that no loader made
    """

    images: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor
    valid: torch.Tensor
    ids: torch.Tensor
    num_known: int
    skipped: tuple[Skipped, ...] = ()
    num_known_is_local: bool = False
    block: Block | None = field(default=None, repr=False)
    place: Place | None = field(default=None, repr=False)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors by name."""
        return {name: value for name, value in vars(self).items() if torch.is_tensor(value)}

    def to(self, device: torch.device | str | int) -> "Batch":
        """Copy the tensors to a device; to CUDA the host does not wait for those whose memory is
        pinned, which cross all together.
        """
        others = self.tensors()
        images = others.pop("images")
        where = torch.device(device)
        if where.type == "cuda" and self.block is not None:
            sent = self.block.sent(images, others, where)
            if sent is not None:
                there, views = sent
                return replace(self, images=there, block=None, **views)  # type: ignore[arg-type]
        each = {name: copied(value, device) for name, value in self.tensors().items()}
        block = self.block if where.type == "cpu" else None
        return replace(self, block=block, **each)  # type: ignore[arg-type] # by name


def copied(value: torch.Tensor, device: torch.device | str | int) -> torch.Tensor:
    """Copy a tensor to a device. The host waits for the copy, unless it goes to CUDA.

    There torch keeps pinned memory until it has been read, and CUDA has what is not pinned copied
    aside first. On other devices (MPS, XPU), and on the way back to the host, nobody does: what is
    read or written too early is wrong.
    """
    return value.to(device, non_blocking=torch.device(device).type == "cuda")
