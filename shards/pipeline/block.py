"""One copy a batch: its tensors cross to a device in one piece of memory."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

ALIGNED = 64  # bytes: where a tensor begins, which suits every type and every vectorised kernel


class Block:
    """The pinned memory of one batch: its images first, then room for its other tensors.

    Those have memory of their own and are copied into the room when the batch crosses to a device:
    whoever keeps the labels of all batches does not keep their images, on neither side. The room
    is used once. A second crossing copies each tensor by itself: the first may still be reading.
    """

    def __init__(self, memory: torch.Tensor, num_image_bytes: int) -> None:
        self._memory = memory  # uint8 [n]
        self._first = _aligned(num_image_bytes)
        self._unused = [True]

    def sent(
        self, images: torch.Tensor, others: Mapping[str, torch.Tensor], device: torch.device
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]] | None:
        """Copy images and what belongs to them to a CUDA device; the host does not wait.

        None where they have to be copied one by one: the room is used, the images are in other
        memory, or the others do not fit.
        """
        memory = self._memory
        places = _places(others.values(), self._first)
        end = places[-1].stop
        plain = all(one.device.type == "cpu" and not one.requires_grad for one in others.values())
        if not plain or not self._holds(images) or end > len(memory):
            return None
        try:
            self._unused.pop()  # which only one thread can
        except IndexError:
            return None
        for one, room in zip(others.values(), _cut(memory, others.values(), places), strict=True):
            room.copy_(one)
        there = memory[:end].to(device, non_blocking=True)
        # A copy on the device, of some kB: else whoever keeps ids would keep images.
        small = there[self._first :].clone()
        places = _places(others.values())
        views = dict(zip(others, _cut(small, others.values(), places), strict=True))
        return there.as_strided(images.size(), images.stride(), images.storage_offset()), views

    def _holds(self, images: torch.Tensor) -> bool:
        """Tell whether images are in this memory, of which a user may have replaced them."""
        if images.device.type != "cpu" or images.dtype != torch.uint8:
            return False
        return images.untyped_storage().data_ptr() == self._memory.untyped_storage().data_ptr()


def num_room_bytes(batch_size: int, num_classes: int) -> int:
    """Count the bytes that `sent` needs beside the images, for labels, known, valid and ids."""
    sizes = (4 * batch_size * num_classes, batch_size * num_classes, batch_size, 8 * batch_size)
    return sum(map(_aligned, sizes))


def copied_together(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, torch.Tensor]:
    """Copy small arrays to a device, by one copy; to CUDA the host does not wait for it."""
    here = {name: torch.from_numpy(values) for name, values in arrays.items()}
    if device.type == "cpu":
        return here
    places = _places(here.values())
    on_cuda = device.type == "cuda"
    memory = torch.empty(places[-1].stop, dtype=torch.uint8, pin_memory=on_cuda)
    for one, room in zip(here.values(), _cut(memory, here.values(), places), strict=True):
        room.copy_(one)
    there = memory.to(device, non_blocking=on_cuda)
    return dict(zip(here, _cut(there, here.values(), places), strict=True))


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNED) * ALIGNED


def _places(tensors: Iterable[torch.Tensor], first: int = 0) -> list[slice]:
    """Find bytes for each of some tensors, one behind the other."""
    found = []
    for one in tensors:
        end = first + one.numel() * one.element_size()
        found.append(slice(first, end))
        first = _aligned(end)
    return found


def _cut(
    memory: torch.Tensor, tensors: Iterable[torch.Tensor], places: Iterable[slice]
) -> list[torch.Tensor]:
    """View bytes as tensors of the shapes and types of others."""
    return [
        memory[place].view(one.dtype).view(one.shape)
        for one, place in zip(tensors, places, strict=True)
    ]
