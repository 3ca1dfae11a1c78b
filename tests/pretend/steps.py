"""What a training step asks of the device: `python -m tests.pretend.steps WHAT DATA FOLDER
[ROUNDS]`.

WHAT is `step`, the optimiser's step of a ResNet-18 on a batch that is on the device; `loop`, the
trainer's own, with its loader; or `ddp`, the same by one of several ranks that torchrun has
started, over gloo. Kernels compute nothing here, so no loss means anything; that weights are finite
is not asked.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState

from tests.pretend.counters import WAITS, counting
from tests.pretend.stopping import StopAfter
from train.config import TrainConfig
from train.loop import Session
from train.run import saving

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


def per_step(call: Callable[[int], None], num: int = 8) -> dict[str, float]:
    """Count, for one of `num` steps beyond the first two, launches, copies and waits."""
    call(2)
    with counting() as few:
        call(num)
    with counting() as many:
        call(2 * num)
    return {name: (many[name] - few[name]) / num for name in few} | {
        "waits": sum(many[name] - few[name] for name in WAITS) / num
    }


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
    return {
        name: in_loop(configured(data, out / name, **options)) for name, options in ways.items()
    }


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
    saving.check_weights = lambda *_: None
    found = {"step": by_step, "loop": by_loop, "ddp": by_ranks}[what](data, out)
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
