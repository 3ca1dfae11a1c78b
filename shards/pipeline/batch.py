"""The batch that the loader yields, and its copy to a device."""

from dataclasses import dataclass, replace

import torch

from shards.pipeline.bad_samples import Skipped


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
    """

    images: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor
    valid: torch.Tensor
    ids: torch.Tensor
    num_known: int
    skipped: tuple[Skipped, ...] = ()
    num_known_is_local: bool = False

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
