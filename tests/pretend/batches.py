"""How batches reach a device that is busy: `python -m tests.pretend.batches SPLIT` on two pretended
devices.

Every way of copying is one that a user's loop may take. A step is one kernel of 20 ms; launching it
takes no time, so the host runs ahead of the device, and what is copied is read long after the host
has asked for it.
"""

import gc
import json
import sys
from collections.abc import Callable, Iterator

import torch

from shards.errors import DataError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice
from tests.loading import load
from tests.pretend.counters import counting, slow_kernels

NUM, STEP_MS = 12, 20.0
HERE, OTHER = torch.device("cuda:0"), torch.device("cuda:1")
CUT = slice(2, None)


def loader(index: DatasetIndex, **options: object) -> Loader:
    return load(
        index, **{"global_batch_size": 5, "size": 96, "seed": 0, "num_threads": 2, **options}
    )


def images_alone(batch: Batch) -> torch.Tensor:
    return batch.images.to(HERE, non_blocking=True)


def whole_batch(batch: Batch) -> torch.Tensor:
    return batch.to(HERE).images


def by_name(batch: Batch) -> torch.Tensor:
    return batch.to("cuda").images


def part_of_it(batch: Batch) -> torch.Tensor:
    return batch.images[CUT].to(HERE, non_blocking=True)


def into_a_buffer(batch: Batch) -> torch.Tensor:
    return torch.empty_like(batch.images, device=HERE).copy_(batch.images, non_blocking=True)


def on_a_stream(batch: Batch) -> torch.Tensor:
    stream = torch.cuda.Stream(HERE)
    stream.wait_stream(torch.cuda.current_stream(HERE))  # behind the steps, as everything else
    with torch.cuda.stream(stream):
        return batch.images.to(HERE, non_blocking=True)


COPIES: tuple[Callable[[Batch], torch.Tensor], ...] = (
    images_alone,
    whole_batch,
    by_name,
    part_of_it,
    into_a_buffer,
    on_a_stream,
)


def num_wrong(images: Iterator[torch.Tensor], truth: list[torch.Tensor]) -> int:
    """Count the copies that do not hold what was decoded, once the device is done."""
    torch.cuda.synchronize(HERE)
    torch.cuda.synchronize(OTHER)
    return sum(not torch.equal(found.cpu(), one) for found, one in zip(images, truth, strict=True))


def users_loop(
    index: DatasetIndex, copy: Callable[[Batch], torch.Tensor], truth: list[torch.Tensor]
) -> int:
    """Copy each batch behind the step before, drop it, and go on."""
    weights, copies = torch.zeros(4, device=HERE), []
    with slow_kernels(STEP_MS):
        for _, batch in zip(range(NUM), loader(index), strict=False):
            weights.add_(1)
            copies.append(copy(batch))
            del batch
    cut = CUT if copy is part_of_it else slice(None)
    return num_wrong(copies, [one[cut] for one in truth])


def trainers_loop(index: DatasetIndex, device: torch.device, truth: list[torch.Tensor]) -> int:
    """Take batches as the trainer does, on a device that need not be the current one, and keep
    copies of them.
    """
    weights, copies = torch.zeros(4, device=device), []
    with slow_kernels(STEP_MS):
        for _, batch in zip(
            range(NUM), OnDevice(loader(index, device=device), device), strict=False
        ):
            weights.add_(1)
            copies.append(batch.images.clone())
            del batch
    return num_wrong(copies, truth)


def back_again(index: DatasetIndex, truth: list[torch.Tensor]) -> int:
    """Bring batches back to the host and look at them at once."""
    wrong, weights = 0, torch.zeros(4, device=HERE)
    for batch, one in zip(loader(index), truth, strict=False):
        there = batch.to(HERE)
        torch.cuda.synchronize(HERE)
        with slow_kernels(STEP_MS):
            weights.add_(1)
        wrong += not torch.equal(there.to(torch.device("cpu")).images, one)
    return wrong


def kept(index: DatasetIndex, truth: list[torch.Tensor]) -> int:
    """Keep all host batches of a GPU's loader: none is written over."""
    found = [batch.images for _, batch in zip(range(NUM), loader(index), strict=False)]
    assert all(images.is_pinned() for images in found)
    return sum(not torch.equal(images, one) for images, one in zip(found, truth, strict=True))


def reserved(index: DatasetIndex, num_passes: int) -> list[int]:
    """Tell what torch keeps of the device's memory after each pass over a split.

    The device is done with each batch before the next: how far a host runs ahead of it is chance.
    """
    found = []
    for _ in range(num_passes):
        for batch in OnDevice(loader(index), HERE):
            batch.images.float().sum()
            del batch
            torch.cuda.synchronize(HERE)
        found.append(torch.cuda.memory_reserved(HERE))
    return found


def pinned_blocks(index: DatasetIndex, num_passes: int) -> int:
    """Count the blocks of pinned memory that passes of the trainer's kind ask the system for."""
    torch._C._host_emptyCache()
    with counting() as risen:
        reserved(index, num_passes)
    return risen["pinned_blocks"]


def resident(index: DatasetIndex) -> list[str]:
    """Open loaders that keep the split on the device, each of more than half its memory, the last
    beside another.
    """
    said = []
    side = int((0.6 * torch.cuda.mem_get_info(HERE)[1] / index.num_samples / 3) ** 0.5)
    gc.collect()
    for keep in (False, True, True):
        try:
            kept = loader(index, cache="device", device=HERE, cache_short_side=side)
            said.append("ok")
        except DataError as error:
            said.append(str(error))
        if not keep:
            del kept
    return said


def main() -> None:
    index = DatasetIndex.open(sys.argv[1])
    truth = [
        batch.images.clone()
        for _, batch in zip(range(NUM), loader(index, device="cpu"), strict=False)
    ]
    found = {
        "wrong": {copy.__name__: users_loop(index, copy, truth) for copy in COPIES}
        | {
            "trainer": trainers_loop(index, HERE, truth),
            "trainer_elsewhere": trainers_loop(index, OTHER, truth),
        }
        | {"back_again": back_again(index, truth), "kept": kept(index, truth)},
        "reserved": reserved(index, 6),
        "pinned_blocks": pinned_blocks(index, 3),
        "resident": resident(index),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
