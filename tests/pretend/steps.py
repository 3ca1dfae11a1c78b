"""What a training step asks of the device: `python -m tests.pretend.steps WHAT DATA FOLDER
[ROUNDS]`.

WHAT is `step`, the optimiser's step of a ResNet-18 on a batch that is on the device; `loop`, the
trainer's own, with its loader and its bar; `epoch`, whole epochs with validation and saving; `move`,
a run that goes from the CPU to the device and back; `augment`, what is done to a batch before the
network; or `ddp`, the step by one of several ranks that torchrun has started, over gloo. Kernels
compute nothing here, so no loss means anything; that weights are finite is not asked. The device
keeps up with its host, but not that of `ddp`, whose gloo has threads of its own.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from tqdm import tqdm

from shards.augment.sample_changes import BatchAugmentation
from shards.pipeline.augmenter import Augmenter
from shards.sampler import SamePlan
from tests.pretend.counters import WAITS, counting, keep_up
from tests.pretend.stopping import StopAfter
from train import loop
from train.config import TrainConfig
from train.loop import Session
from train.run import feed, saving
from train.run.device_settings import set_up_device
from train.run.progress import Progress

AUGMENTATIONS = {
    "trivial augment": BatchAugmentation(trivial_augment=True),
    "colour jitter": BatchAugmentation(color_jitter=0.4),
    "colour and hue jitter": BatchAugmentation(color_jitter=0.4, hue_jitter=0.1),
    "dihedral": BatchAugmentation(dihedral=True),
    "erasing": BatchAugmentation(erasing=0.25),
    "all": BatchAugmentation(trivial_augment=True, dihedral=True, erasing=0.25),
}
PRECISIONS = ("no", "bf16", "fp16")


def configured(data: Path, out: Path, **options: Any) -> TrainConfig:
    small = {
        "model": "test_resnet",
        "size": 32,
        "epochs": 1,
        "global_batch_size": 4,
        "tensorboard": False,
    }
    small |= {"precision": "no"}  # auto follows the machine
    return TrainConfig(data=str(data), out=str(out), **{**small, **options})


def set_up(device: torch.device, tf32: bool) -> None:
    """Set the device up as the trainer does, but leave the choice of algorithms to cuDNN: it times
    them by kernels that compute nothing, and finds none.
    """
    set_up_device(device, tf32)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = True


def per_step(call: Callable[[int], None], num: int = 8) -> dict[str, float]:
    """Count, for one of `num` steps beyond the first two, launches, copies and waits."""
    call(2)
    with counting() as few:
        call(num)
    with counting() as many:
        call(2 * num)
    waits = sum(many[name] - few[name] for name in WAITS) / num
    return {name: (many[name] - few[name]) / num for name in few} | {"waits": waits}


def on_one_batch(config: TrainConfig) -> dict[str, float]:
    """Take steps on one batch that is on the device already."""
    session = Session(config)
    batch = next(iter(session.train_loader)).to(session.device)

    def take(num: int) -> None:
        for number in range(num):
            session.step(batch, 0, number)

    return per_step(take)


def by_step(data: Path, out: Path) -> dict[str, Any]:
    """Take steps of a ResNet-18 at 64 pixels."""
    found = {}
    for precision in PRECISIONS:
        AcceleratorState._reset_state(reset_partial_state=True)
        found[precision] = on_one_batch(
            configured(data, out / precision, model="resnet18", size=64, precision=precision)
        )
    return found


def in_loop(config: TrainConfig) -> dict[str, float]:
    """Train the first steps of an epoch, loader and copies included."""
    AcceleratorState._reset_state(reset_partial_state=True)
    session = Session(config)
    progress = session.begin()

    def take(num: int) -> None:
        session.train_loader.set_epoch(0)
        session.train_epoch(progress, StopAfter(num))

    return per_step(take)


def by_loop(data: Path, out: Path) -> dict[str, Any]:
    ways: dict[str, dict[str, Any]] = {
        precision: {"precision": precision} for precision in PRECISIONS
    }
    ways["averaged"] = {"precision": "bf16", "ema_decay": 0.9}
    ways["augmented"] = {"precision": "bf16", "trivial_augment": True, "dihedral": True}
    ways["augmented"] |= {"erasing": 0.5}
    ways["mixed and clipped"] = {"precision": "fp16", "mixup": 0.2, "cutmix": 1, "clip_norm": 1}
    return {
        name: in_loop(configured(data, out / name, **options)) for name, options in ways.items()
    }


def by_augmentation(data: Path, out: Path) -> dict[str, Any]:
    """Augment a batch of 256 images, which has every operation of TrivialAugment in it."""
    session = Session(configured(data, out))
    plan = SamePlan.of(np.arange(256))
    images = torch.zeros((256, 3, 32, 32), dtype=torch.uint8, device=session.device)
    images = images.contiguous(memory_format=torch.channels_last)
    found = {}
    for name, options in AUGMENTATIONS.items():
        augment = Augmenter(options, plan, session.train_index)

        def take(num: int, augment: Augmenter = augment) -> None:
            for _ in range(num):
                augment.augmented(images, plan.ids, 0)

        found[name] = per_step(take)
    return found


def saved(session: Session, progress: Progress, metrics: dict[str, Any]) -> dict[str, int]:
    """Save, and wait until it is on the disk: what that has counted."""
    with counting() as risen:
        saving.Saving.save(session.saving, progress, metrics)
        session.saving.finish()
    return risen


def by_epoch(data: Path, out: Path) -> dict[str, Any]:
    """Train and validate for some epochs: waits of each, in saving and outside of it, and what
    torch keeps of the device's memory.
    """
    session = Session(configured(data, out, epochs=5, precision="fp16", ema_decay=0.9))
    progress, found = session.begin(), {"waits": [], "waits_in_saving": [], "reserved": []}
    in_saving: list[dict[str, int]] = []
    session.saving.save = lambda *state: in_saving.append(saved(session, *state))
    for _ in range(5):
        with counting() as risen:
            progress, cost = session.train_epoch(progress, StopAfter(10**6))
            progress = session.finish_epoch(progress, cost)
        waited, in_it = (sum(each[name] for name in WAITS) for each in (risen, in_saving[-1]))
        found["waits"].append(waited - in_it)
        found["waits_in_saving"].append(in_it)
        found["reserved"].append(torch.cuda.memory_reserved())
    return found


def by_move(data: Path, out: Path) -> dict[str, Any]:
    """Go on with one run on the CPU, on the device, and on the CPU again: how its optimiser computes
    each time, and on what devices its state is.
    """
    found = {}
    for optimizer in ("sgd", "adamw"):
        momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
        config = configured(data, out / optimizer, optimizer=optimizer, resume=True, **momentum)
        for device in ("cpu", "cuda", "cpu again"):
            os.environ["ACCELERATE_USE_CPU"] = str(device != "cuda").lower()
            AcceleratorState._reset_state(reset_partial_state=True)
            session = Session(config)
            progress, _ = session.train_epoch(session.begin(), StopAfter(2))
            session.saving.save(Progress(step=progress.step), {})  # its loss means nothing
            session.saving.finish()
            session.folder.unlock()
            groups = session.optimizer.param_groups
            states = [
                value
                for state in session.optimizer.state.values()
                for value in state.values()
                if torch.is_tensor(value)
            ]
            found[f"{optimizer}, {device}"] = {
                "fused": [bool(group["fused"]) for group in groups],
                "devices": sorted({value.device.type for value in states}),
                "step": progress.step,
            }
    return found


def by_ranks(data: Path, out: Path) -> dict[str, Any]:
    """Be one of several ranks, each on a pretended device of its own, and exchange gradients over
    gloo.
    """
    prepare = PartialState._prepare_backend

    def over_gloo(state: PartialState, *args: Any, **kwargs: Any) -> tuple[str, Any]:
        backend, distributed = prepare(state, *args, **kwargs)
        return ("gloo" if backend == "nccl" else backend), distributed

    PartialState._prepare_backend = over_gloo
    found = on_one_batch(configured(data, out, model="resnet18", size=64, global_batch_size=8))
    return {"device": str(PartialState().device), "rank": PartialState().process_index, **found}


def main() -> None:
    what, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what != "ddp":
        keep_up()
    saving.check_weights = lambda *_: None
    loop.set_up_device = set_up
    feed.tqdm = lambda **options: tqdm(**{**options, "disable": False, "file": io.StringIO()})
    ways = {
        "step": by_step,
        "loop": by_loop,
        "epoch": by_epoch,
        "move": by_move,
        "ddp": by_ranks,
        "augment": by_augmentation,
    }
    found = ways[what](data, out)
    if found.get("rank", 0) == 0:
        print(json.dumps(found), flush=True)
    if what == "ddp":
        Path(f"{out}.{found['rank']}.json").write_text(json.dumps(found))
        torch.distributed.barrier()
        # gloo's threads would wait, at the interpreter's end, for streams that have ended before
        # them
        os._exit(0)


if __name__ == "__main__":
    main()
