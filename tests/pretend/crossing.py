"""What a batch costs on its way to a pretended device, and whether it arrives: `python -m
tests.pretend.crossing SPLIT FOLDER`.

A copy takes as long as the kernels before it, and the host runs ahead.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from eval.prediction.pictures import PictureBatches
from eval.prediction.tta import Look
from shards.errors import SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice
from tests.pretend.batches import HERE, loader
from tests.pretend.counters import counting, slow_kernels

STEP_MS = 5.0
FIRST_BAD = 4


def behind_a_step(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Let the device be busy before each batch crosses."""
    weights = torch.zeros(4, device=HERE)
    for batch in batches:
        weights.add_(1)
        yield batch
        del batch


def by_hand(index: DatasetIndex) -> Iterator[Batch]:
    return (batch.to(HERE) for batch in behind_a_step(loader(index)))


def by_name(index: DatasetIndex) -> Iterator[Batch]:
    return (batch.to("cuda") for batch in behind_a_step(loader(index)))


def by_trainer(index: DatasetIndex) -> Iterator[Batch]:
    return behind_a_step(OnDevice(loader(index), HERE))


def twice(index: DatasetIndex) -> Iterator[Batch]:
    """Cross a second time, with other labels, while the first may still be on its way."""
    for batch in behind_a_step(loader(index)):
        first = batch.to(HERE)
        batch.labels.neg_()
        second = batch.to(HERE)
        assert torch.equal(second.labels.cpu(), batch.labels)
        yield replace(first, ids=second.ids)


def relabelled(index: DatasetIndex) -> Iterator[Batch]:
    """Cross with labels that the loader did not make, and labels that were changed in place."""
    for batch in behind_a_step(loader(index)):
        mine = replace(batch, labels=batch.labels - 1, valid=~batch.valid)
        mine.known.logical_not_()
        there = mine.to(HERE)
        torch.cuda.synchronize(HERE)
        yield Batch(
            images=there.images,
            labels=there.labels.cpu() + 1,
            known=~there.known.cpu(),
            valid=~there.valid.cpu(),
            ids=there.ids,
            num_known=there.num_known,
        )


def cut(index: DatasetIndex) -> Iterator[Batch]:
    """Cross with some of the images, and with images of one's own: put together again."""
    for batch in behind_a_step(loader(index)):
        front = replace(batch, images=batch.images[:2]).to(HERE)
        own = replace(batch, images=batch.images[2:].clone()).to(HERE)
        torch.cuda.synchronize(HERE)
        images = torch.cat([front.images.cpu(), own.images.cpu()])
        yield replace(own, images=images)


WAYS: tuple[Callable[[DatasetIndex], Iterator[Batch]], ...] = (
    by_hand,
    by_name,
    by_trainer,
    twice,
    relabelled,
    cut,
)


def num_wrong_tensors(batches: Iterable[Batch], truth: Iterable[Batch]) -> int:
    """Keep all of an epoch, and compare it once the device is done."""
    with slow_kernels(STEP_MS):
        found = [batch.tensors() for batch in batches]
    torch.cuda.synchronize(HERE)
    return sum(
        one[name].dtype != value.dtype
        or one[name].stride() != value.stride()
        or not torch.equal(one[name].cpu(), value)
        for one, expected in zip(found, truth, strict=True)
        for name, value in expected.tensors().items()
    )


def num_copies(batches: Iterable[Batch], num: int) -> float:
    """Count the copies to the device for each of `num` batches; they are read, but not kept."""
    with counting() as risen:
        for batch in batches:
            del batch
    return risen["to_device"] / num


def resident(index: DatasetIndex, **options: object) -> dict[str, float]:
    """Keep the split on the device: how many copies fill it, how many are waited for, how many a
    batch needs then.
    """
    ours = loader(index, cache="device", device=HERE, **options)
    with counting() as risen:
        ours.warm_up()
    return {
        "filled_by": risen["to_device"],
        "pageable_waits": risen["pageable_waits"],
        "a_batch": num_copies(OnDevice(ours, HERE), len(ours)),
    }


def pictures(folder: Path, five_crops: bool) -> tuple[int, float]:
    """Bring pictures outside any shard to the device, one of them unreadable: how many tensors are
    wrong, and how many copies a batch takes.
    """
    numbers = np.random.default_rng(0)
    paths = [folder / f"{number}.raw" for number in range(7)]
    for path in paths:
        path.write_bytes(numbers.bytes(40 * 40 * 3))
    paths[3].write_bytes(b"")

    def decode(data: bytes, accept_damaged: bool) -> np.ndarray:
        if not data:
            raise SampleError("is empty")
        return np.frombuffer(data, np.uint8).reshape(40, 40, 3)

    look = Look(32, five_crops)
    made = PictureBatches(paths, 6, 3, 2, decode)
    wrong = num_wrong_tensors(
        OnDevice(behind_a_step(made.batches(look, pinned=True)), HERE), made.batches(look)
    )
    return wrong, num_copies(OnDevice(made.batches(look, pinned=True), HERE), len(made))


def kept_ids(index: DatasetIndex) -> dict[str, float]:
    """Keep ids and labels of a pass, on the device and on the host: how many batches of images are
    kept with them, in bytes of the device, and how many blocks of pinned memory.
    """
    ours = loader(index)
    num_bytes = next(iter(ours)).images.numel()
    before = torch.cuda.memory_allocated(HERE)
    on_device = [(batch.ids, batch.labels) for batch in OnDevice(loader(index), HERE)]
    torch.cuda.synchronize(HERE)
    held = (torch.cuda.memory_allocated(HERE) - before) / num_bytes
    torch._C._host_emptyCache()
    with counting() as risen:
        on_host = [(batch.ids, batch.labels) for batch in loader(index)]
    assert len(on_host) == len(on_device) == len(ours)
    return {"held": held, "pinned_blocks": risen["pinned_blocks"]}


def places(batches: Iterable[Batch], ours: Loader) -> list[tuple[int, int]]:
    """Tell what the loader's state says at each batch, and at the end of an epoch."""
    found = []
    for batch in batches:
        del batch
        state = ours.state_dict()
        found.append((state["epoch"], state["step"]))
    state = ours.state_dict()
    return [*found, (state["epoch"], state["step"])]


def states(index: DatasetIndex) -> dict[str, list[list[tuple[int, int]]]]:
    """States of two epochs, of one that is left, and of the one that is begun again: plainly, and
    with a batch on its way to the device.
    """
    found = {}
    for name, wrap in (("plain", iter), ("ahead", lambda ours: OnDevice(ours, HERE))):
        ours = loader(index)
        seen = [places(wrap(ours), ours) for _ in range(2)]
        left = (batch for _, batch in zip(range(3), wrap(ours), strict=False))
        seen += [places(left, ours), places(wrap(ours), ours)]
        last = (batch for _, batch in zip(range(len(ours)), wrap(ours), strict=False))
        seen += [places(last, ours), places(wrap(ours), ours)]
        found[name] = seen
    return found


def going_on(index: DatasetIndex) -> list[bool]:
    """Load a state that was taken in the middle, with a batch on its way: is what follows next?"""
    ours = loader(index)
    batches = OnDevice(ours, HERE)
    for _ in range(4):
        next(batches)
    resumed = loader(index)
    resumed.load_state_dict(ours.state_dict())
    both = zip(batches, OnDevice(resumed, HERE), strict=True)
    torch.cuda.synchronize(HERE)
    return [torch.equal(a.ids.cpu(), b.ids.cpu()) for a, b in both]


def before_an_error(index: DatasetIndex) -> tuple[int, str, int]:
    """Count the batches that come before one that cannot be made; its error; what the state says."""
    ours = loader(index)
    make = ours.maker.make

    def broken(epoch: int, step: int) -> Batch:
        if step == FIRST_BAD:
            raise SampleError("cannot be read")
        return make(epoch, step)

    ours.maker.make = broken
    num = 0
    try:
        for _ in OnDevice(ours, HERE):
            num += 1
    except SampleError as error:
        return num, str(error), ours.state_dict()["step"]
    return num, "", -1


def main() -> None:
    index = DatasetIndex.open(sys.argv[1])
    truth = list(loader(index, device="cpu"))
    found = {
        "wrong": {way.__name__: num_wrong_tensors(way(index), truth) for way in WAYS},
        "copies": {
            way.__name__: num_copies(way(index), len(truth)) for way in (by_hand, by_trainer, twice)
        },
        "resident": {
            augment: resident(index, augment=augment, **more)
            for augment, more in (("crop", {}), ("pad", {"cutout": 8}))
        },
        "pictures": [pictures(Path(sys.argv[2]), five_crops) for five_crops in (False, True)],
        "kept": kept_ids(index),
        "states": states(index),
        "going_on": going_on(index),
        "error": before_an_error(index),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
