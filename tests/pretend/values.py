"""Train and evaluate on the CPU and on a pretended device: `python -m tests.pretend.values WHAT
DATA FOLDER`.

WHAT is `train`, `resume` or `eval`. What is printed, as JSON, maps each way to the pair of results.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import timm.optim
import torch
from accelerate.state import AcceleratorState

from eval import evaluation
from eval.__main__ import main as evaluate_command
from shards.choices import TestTimeName
from tests.pretend.stopping import StopAfter
from tests.pretend.tensors import Pretend, install
from train import loop
from train.config import TrainConfig
from train.loop import Session
from train.run import checkpoint

TRAININGS: dict[str, dict[str, Any]] = {
    "ema and clipping": {"ema_decay": 0.9, "clip_norm": 1.0},
    "mixup, accumulated": {"mixup": 0.2, "cutmix": 1.0, "accumulate": 2},
    "cache device": {"cache": "device"},
    "every operation": {"trivial_augment": True, "dihedral": True, "erasing": 0.5},
    "colour jitter": {"color_jitter": 0.4, "hue_jitter": 0.1, "cache": "device", "augment": "pad"},
    "cache device, whole images": {"cache": "device", "augment": "pad", "cutout": 8},
}


def on_both(call: Callable[[str], Any]) -> list[Any]:
    """Call with `cpu`, then with `cuda` on the pretended device."""
    found = []
    for device in ("cpu", "cuda"):
        os.environ["ACCELERATE_USE_CPU"] = "true" if device == "cpu" else "false"
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.manual_seed(0)
        with Pretend() if device == "cuda" else nullcontext():
            found.append(call(device))
    return found


def configured(data: Path, out: Path, **options: Any) -> TrainConfig:
    small = {
        "model": "test_resnet",
        "size": 32,
        "epochs": 1,
        "global_batch_size": 32,
        "tensorboard": False,
    }
    # by themselves both follow the device
    alike = {"precision": "no", "memory_format": "contiguous"}
    return TrainConfig(
        data=str(data),
        out=str(out),
        **{**small, **alike, "optimizer": "adamw", "lr": 1e-3, **options},
    )


def trained(config: TrainConfig, device: str) -> dict[str, Any]:
    """Train, and give the metrics and weights that are left, as numbers that JSON keeps to the last
    bit.
    """
    assert loop.train(config)
    out = Path(config.out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = checkpoint.read(out / "last")
    sums = {
        name: float(value.double().abs().sum())
        for name, value in last.weights(last.has_average).items()
    }
    return {
        "metrics": [[line[key] for key in ("train_loss", "val_loss", "val_mAP")] for line in lines],
        "sums": sums,
    }


def stopped(config: TrainConfig, num_steps: int) -> None:
    """Train so many steps and stop, as a SIGTERM would have it."""
    session = Session(config)
    progress, _ = session.train_epoch(session.begin(), StopAfter(num_steps))
    session.saving.save(progress, {})
    session.saving.finish()
    session.folder.unlock()


def train(data: Path, folder: Path) -> dict[str, Any]:
    return {
        way: on_both(
            lambda device, way=way: trained(
                configured(data, folder / device / way, **TRAININGS[way]), device
            )
        )
        for way in TRAININGS
    }


def resume(data: Path, folder: Path) -> dict[str, Any]:
    """A run that nobody disturbed on the CPU, and one that stopped and went on where it pretends."""
    options: dict[str, Any] = {"epochs": 2, "drop_rate": 0.2, "ema_decay": 0.9, "resume": True}

    def call(device: str) -> dict[str, Any]:
        config = configured(data, folder / "resumed" / device, **options)
        if device == "cuda":
            stopped(config, 2)  # of three steps an epoch
            AcceleratorState._reset_state(reset_partial_state=True)
        return trained(config, device)

    return {"resumed": on_both(call)}


def evaluate(data: Path, folder: Path) -> dict[str, Any]:
    """Evaluate the checkpoint of a training in every way: scores and metrics, in numbers."""
    on_both(lambda device: device == "cpu" and trained(configured(data, folder / "run"), device))
    evaluation.render_report = lambda *_, **__: ""
    evaluation.draw_figures = lambda *_: ({}, {})
    evaluation.grids = lambda *_: {}

    def call(device: str, tta: str) -> dict[str, Any]:
        out = folder / f"{device}-{tta}"
        given = [
            "--ckpt",
            str(folder / "run" / "best"),
            "--data",
            str(data),
            "--tta",
            tta,
            "--out",
            str(out),
        ]
        sys.argv = ["eval", *given]
        evaluate_command()
        metrics = json.loads((out / "metrics.json").read_text())
        return {
            "scores": np.load(out / "predictions.npz")["scores"].tolist(),
            "metrics": without_circumstances(metrics),
        }

    return {
        tta: on_both(lambda device, tta=tta: call(device, tta)) for tta in get_args(TestTimeName)
    }


def without_circumstances(metrics: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says how and when it was measured."""
    return {name: value for name, value in metrics.items() if not isinstance(value, str)}


def main() -> None:
    what, data, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    # as on the device: its sums are others, to rounding
    timm.optim.create_optimizer_v2 = partial(timm.optim.create_optimizer_v2, fused=True)
    install()
    print(json.dumps({"train": train, "resume": resume, "eval": evaluate}[what](data, folder)))


if __name__ == "__main__":
    main()
