"""What a training step costs on a GPU, in each way of taking it.

    python benchmarks/gpu_step.py data/voc --model resnet18 --out benchmarks/results/step-gpu.md

Steps are taken on one batch that is on the device. On a GPU a step that waits for the device ends
the benchmark. Without one it is rehearsed on the CPU: its figures mean nothing then.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bench_train import in_turns, run_folder
from note import circumstances, ratios, spread, table, tell

from train.config import TrainConfig
from train.loop import Session

PACKAGES = ("torch", "timm", "accelerate")
PLAIN = "bf16"
WAYS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "fp16": {"precision": "fp16"},
    "fp32": {"precision": "no"},
    "fp32, TF32": {"precision": "no", "tf32": True},
    "bf16, averaged": {"ema_decay": 0.999},
    "bf16, recomputed": {"grad_checkpointing": True},
    "bf16, compiled": {"compile": True},
}
REHEARSED = (PLAIN, "bf16, averaged", "bf16, recomputed")
TIMED = (
    "The timed region: optimiser steps on a batch that is on the device, the device waited for "
    "before the first and after the last of a round; one round of each is not counted."
)


class Taken:
    """One way of taking steps, with a session of its own."""

    def __init__(self, config: TrainConfig) -> None:
        self.session = Session(config)
        self._batch = next(iter(self.session.train_loader)).to(self.session.device)
        self._on_cuda = self.session.device.type == "cuda"
        self.session.begin()
        self._take(3)  # cuDNN tries its algorithms, and torch.compile compiles

    def images_per_second(self, num_steps: int) -> float:
        """Time so many steps."""
        self._wait()
        started = time.perf_counter()
        with self._no_wait():
            self._take(num_steps)
        self._wait()
        return num_steps * len(self._batch.images) / (time.perf_counter() - started)

    def _take(self, num_steps: int) -> None:
        session = self.session
        session.model.train()
        for number in range(num_steps):
            session.step(self._batch, 0, number)
            if session.ema is not None:
                session.ema.update(number)

    @contextmanager
    def _no_wait(self) -> Iterator[None]:
        """Let torch raise where the host waits for a device."""
        if not self._on_cuda:
            yield
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def _wait(self) -> None:
        if self._on_cuda:
            torch.cuda.synchronize(self.session.device)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="packed dataset, such as data/voc")
    parser.add_argument("--model", default="resnet18", help="name of a timm model")
    parser.add_argument("--global-batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=50, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="", help="also write the note here")
    return parser.parse_args()


def taken(args: argparse.Namespace, folder: str, way: str) -> Taken:
    """Set one way up."""
    common = {"precision": "bf16", "lr": 0.001, "momentum": 0.9, "optimizer": "sgd"}
    config = TrainConfig(
        data=args.data,
        out=str(Path(folder) / way.replace(", ", "-")),
        model=args.model,
        size=args.size,
        global_batch_size=args.global_batch_size,
        tensorboard=False,
        **{**common, **WAYS[way]},
    )
    return Taken(config)


def main() -> None:
    """Measure and tell."""
    args = parse()
    on_cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_cuda else "CPU: a rehearsal"
    lines = circumstances(PACKAGES, name)
    with run_folder() as folder:
        ways = {way: taken(args, folder, way) for way in (WAYS if on_cuda else REHEARSED)}
        turns = {
            way: lambda one=one: one.images_per_second(args.steps) for way, one in ways.items()
        }
        found = in_turns(turns, args.rounds)
        for one in ways.values():
            one.session.saving.close()
            one.session.folder.unlock()
    rows = [
        (way, spread(found[way], 1), spread(ratios(found[way], found[PLAIN]), 2)) for way in found
    ]
    settings = (
        f"- settings: {args.model}, size {args.size}, global batch size {args.global_batch_size}, "
        f"n = {args.rounds} rounds of {args.steps} steps; median (lowest..highest)"
    )
    measured = table(("step", "images/s", f"over {PLAIN}"), rows)
    note = ["# Steps on a GPU", "", *lines, settings, "", measured, "", TIMED]
    tell("\n".join(note), args.out)


if __name__ == "__main__":
    main()
