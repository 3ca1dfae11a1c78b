"""Train and evaluate in this process: seconds less than a process of its own."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from eval.__main__ import main
from shards.commandline import run
from train.__main__ import main as train_command
from train.config import TrainConfig
from train.loop import train


@contextmanager
def cpu():
    """Accelerate as it is in a fresh process without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        AcceleratorState._reset_state(reset_partial_state=True)
        yield patch
        AcceleratorState._reset_state(reset_partial_state=True)


def train_here(data: Path, out: Path, **options) -> TrainConfig:
    """Train on `data` into `out`, a small network unless told otherwise."""
    small = {
        "model": "test_convnext",
        "size": 32,
        "epochs": 1,
        "global_batch_size": 16,
        "tensorboard": False,
    }
    config = TrainConfig(data=str(data), out=str(out), **{**small, "precision": "no", **options})
    with cpu():
        assert train(config)
    return config


def command_here(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Run `python -m train` with these arguments: (exit status, stdout, stderr)."""
    status = 0
    with cpu() as patch:
        patch.setattr(sys, "argv", list(args))
        try:
            run(train_command)
        except SystemExit as error:
            status = int(error.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err


def evaluate_here(folder: Path, out: Path, *args: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Evaluate the best checkpoint: metrics.json and predictions.npz. The report has tests of its
    own.
    """
    with cpu() as patch:
        patch.setattr(
            sys, "argv", ["eval", "--ckpt", str(folder / "best"), "--out", str(out), *args]
        )
        patch.setattr("eval.evaluation.render_report", lambda *_, **__: "")
        patch.setattr("eval.evaluation.draw_figures", lambda *_: ({}, {}))
        main()
    return json.loads((out / "metrics.json").read_text()), dict(np.load(out / "predictions.npz"))
