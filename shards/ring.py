"""Memory of batches: allocated once, lent out, reused when nobody looks at it any more."""

import math
import weakref
from collections import deque

import numpy as np
import torch

from shards.errors import DataError


class _Lease(np.ndarray):
    """A view of a slot for one batch. Torch keeps it alive as long as any tensor shares its storage."""


class Ring:
    """Slots for `images` uint8 [B, H, W, C].

    Invariant: a slot is either free, or being filled by the thread that took it, or lent out; a lent slot becomes free
    when the last tensor over it is gone, so a kept batch is never overwritten. Slots are made as they are first
    needed: as many as there are batches in flight and in the consumer's hands at the same time.
    """

    def __init__(self, shape: tuple[int, int, int, int], pinned: bool) -> None:
        self._shape = shape
        self._pinned = pinned
        self._free: deque[np.ndarray] = deque()
        self.num_slots = 0

    def take(self) -> np.ndarray:
        """Take a free slot, or a new one."""
        try:
            return self._free.popleft()
        except IndexError:
            try:
                slot = torch.empty(self._shape, dtype=torch.uint8, pin_memory=self._pinned).numpy()
            except (RuntimeError, MemoryError) as error:
                batch, size, *_ = self._shape
                raise DataError(
                    f"no memory for one more batch of {batch} images of {size} pixels "
                    f"({math.prod(self._shape) / 1e9:.1f} GB): give a smaller size or batch size"
                ) from error
            self.num_slots += 1
            return slot

    def give_back(self, slot: np.ndarray) -> None:
        """Return a slot that was never lent."""
        self._free.append(slot)

    def lend(self, slot: np.ndarray) -> torch.Tensor:
        """Make the slot's tensor, uint8 [B, C, H, W] in channels_last memory; its end frees the slot."""
        lease = slot.view(_Lease)
        weakref.finalize(lease, self._free.append, slot).atexit = False
        return torch.from_numpy(lease).permute(0, 3, 1, 2)
