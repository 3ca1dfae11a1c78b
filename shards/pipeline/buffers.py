"""Memory of batches: lent out, and reused when nobody looks at it any more."""

import math
import weakref
from collections import deque

import numpy as np
import torch

from shards.errors import DataError, count_of
from shards.pipeline.block import ALIGNED, Block


class _Lease(np.ndarray):
    """A view of a slot for one batch. Torch keeps it alive as long as any tensor shares its
    storage.
    """


class Ring:
    """Slots for `images` uint8 [B, H, W, C] of at most `shape`: smaller ones take the front of a
    slot, so that batches of any size share the same memory.

    Invariant: a slot is either free, or being filled by the thread that took it, or lent out; a
    lent slot becomes free when the last tensor over it is gone, so a kept batch is never
    overwritten. Slots are made as they are first
    needed: as many as there are batches in flight and in the consumer's hands at the same time.
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self._shape = shape
        self._free: deque[torch.Tensor] = deque()
        self.num_slots = 0

    def take(self) -> torch.Tensor:
        """Take a free slot, or a new one."""
        try:
            return self._free.popleft()
        except IndexError:
            slot = _new_memory(self._shape, math.prod(self._shape)).view(self._shape)
            self.num_slots += 1
            return slot

    def give_back(self, slot: torch.Tensor) -> None:
        """Return a slot that was never lent."""
        self._free.append(slot)

    def lend(self, slot: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Make the tensor of the slot's `images`, uint8 [B, C, H, W] in channels_last memory; its
        end frees the slot.
        """
        lease = images.numpy().view(_Lease)
        weakref.finalize(lease, self._free.append, slot).atexit = False
        return torch.from_numpy(lease).permute(0, 3, 1, 2)

    def block(self, images: torch.Tensor) -> Block | None:
        """Give the memory that a slot's images cross to a GPU in, with room for what belongs to it."""
        return None


class PinnedRing(Ring):
    """Slots that a GPU reads: each is a block of torch's own pinned memory, and torch reuses it.

    The last tensor over a slot may be gone while the device has yet to read it: after
    `images.to("cuda", non_blocking=True)` the host goes on at once. Torch notes which streams copy
    from its pinned blocks and hands none out before they are done. It knows a block by its storage,
    so the slot itself is lent, not a view by way of NumPy. Behind the images a block has room of
    `num_beside` bytes.
    """

    def __init__(self, shape: tuple[int, int, int, int], num_beside: int = 0) -> None:
        super().__init__(shape)
        self._num_beside = num_beside

    def take(self) -> torch.Tensor:
        """Take a block that no stream reads any more, or a new one; torch rounds its size up to a
        power of two.
        """
        num_bytes = math.prod(self._shape)
        memory = _new_memory(self._shape, num_bytes + ALIGNED + self._num_beside, pinned=True)
        return memory[:num_bytes].view(self._shape)

    def give_back(self, slot: torch.Tensor) -> None:
        """Leave the slot to torch, which has it when the last reference is gone."""

    def lend(self, slot: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Turn the slot's `images` into uint8 [B, C, H, W] in channels_last memory."""
        return images.permute(0, 3, 1, 2)

    def block(self, images: torch.Tensor) -> Block:
        """Give all of the memory that a slot's images are the front of."""
        storage = images.untyped_storage()
        return Block(images.new_empty(0).set_(storage), images.numel())


def front_of(slot: torch.Tensor, size: int) -> torch.Tensor:
    """View the front of a slot as images of `size` pixels: uint8 [B, size, size, C]."""
    shape = (len(slot), size, size, slot.shape[3])
    return slot.view(-1)[: math.prod(shape)].view(shape)


def _new_memory(
    shape: tuple[int, int, int, int], num_bytes: int, pinned: bool = False
) -> torch.Tensor:
    """Make memory, uint8 [num_bytes], for a batch of images of some shape."""
    try:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned)
    except (RuntimeError, MemoryError) as error:
        batch, size, *_ = shape
        raise DataError(
            f"no memory for one more batch of {count_of(batch, 'image')} of "
            f"{count_of(size, 'pixel')} "
            f"({num_bytes / 1e9:.1f} GB): give a smaller size or batch size"
        ) from error
