"""Training and evaluation where there is a GPU: `pytest -m gpu`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.conftest import ROOT, environment
from train.run import checkpoint
from train.run.folder import read_metrics

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def on_gpu(*args: str, status: int = 0) -> str:
    env = {**environment(), "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}
    result = subprocess.run(
        [sys.executable, "-m", *args],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_trains_resumes_and_evaluates(precision, train_args, tmp_path):
    run = tmp_path / "run"
    args = [*train_args, "--precision", precision, "--ema-decay", "0.9", "--out", str(run)]
    on_gpu(*args)
    metrics = read_metrics(run)
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    assert metrics[-1]["peak_memory_mb"] > 0
    scaler = checkpoint.read(run / "last").trainer()["scaler"]
    assert (scaler is not None) == (precision == "fp16")
    assert "best: epoch" in on_gpu(*args, "--resume")
    best = checkpoint.read(run / "best").meta.progress.best.value
    on_gpu("eval", "--ckpt", str(run / "best"), "--out", str(tmp_path / "eval"))
    found = json.loads((tmp_path / "eval" / "metrics.json").read_text())["mAP"]
    # cuDNN may take another algorithm: two scores may change places
    assert found == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_stopped_run_goes_on_with_its_scaler(precision, train_args, tmp_path):
    """Stopped in the middle of the second epoch: the loss curve of the whole run, the scaler where
    it stood.
    """
    steps, losses, scalers = 13, [], []
    args = [
        *train_args[1:],
        "--precision",
        precision,
        "--ema-decay",
        "0.9",
        "--drop-rate",
        "0",
        "--resume",
    ]
    for name, stops in (("whole", [0]), ("stopped", [steps + 6, 0])):
        record = tmp_path / f"{name}.losses"
        for stop in stops:
            on_gpu(
                "tests.faults.recorded",
                str(record),
                str(stop),
                *args,
                "--out",
                str(tmp_path / name),
                status=130 if stop else 0,
            )
        losses.append(
            [json.loads(line)[0] for line in Path(f"{record}.0").read_text().splitlines()]
        )
        scalers.append(checkpoint.read(tmp_path / name / "last").trainer()["scaler"])
    assert len(losses[0]) == len(losses[1]) == 3 * steps
    np.testing.assert_allclose(losses[0], losses[1], rtol=5e-2)
    # a gradient at the edge of fp16's range may overflow in one of two runs alone
    if precision == "fp16":
        assert scalers[0].keys() == scalers[1].keys()
        assert scalers[0]["scale"] / scalers[1]["scale"] in (0.5, 1, 2)
    assert [scaler is None for scaler in scalers] == [precision == "bf16"] * 2


@pytest.mark.parametrize("more", [["--compile"], ["--grad-checkpointing"], ["--sync-bn"]])
def test_ways_of_a_step(more, train_args, tmp_path):
    """Each trains, and what it leaves is resumed without it where that may differ."""
    run = tmp_path / "run"
    small = ["--model", "test_resnet", "--precision", "bf16", "--ema-decay", "0.9"]
    args = [*train_args, *small, "--drop-rate", "0", "--out", str(run)]
    on_gpu(*args, *more)
    metrics = read_metrics(run)
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    weights = checkpoint.read(run / "last").weights()
    assert not any("_orig_mod" in name for name in weights)
    assert "best: epoch" in on_gpu(*args, "--resume", *(more if more == ["--sync-bn"] else ()))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_moves_from_the_cpu_to_the_gpu_and_back(optimizer, train_args, tmp_path):
    record = tmp_path / "losses"
    run = ["--optimizer", optimizer, "--resume", "--out", str(tmp_path / "run")]
    for stop, use_cpu in ((10, "true"), (10, "false"), (0, "true")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_USE_CPU", use_cpu)
            on_gpu(
                "tests.faults.recorded",
                str(record),
                str(stop),
                *train_args[1:],
                *run,
                status=130 if stop else 0,
            )
    losses = [json.loads(line)[0] for line in Path(f"{record}.0").read_text().splitlines()]
    assert len(losses) == 39
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_a_step_waits_for_nothing(digits, tmp_path):
    """Torch raises where the host waits: counted on the pretended runtime, here on a device."""
    script = STEPS.format(data=str(digits), out=str(tmp_path / "run"))
    (tmp_path / "steps.py").write_text(script)
    result = subprocess.run(
        [sys.executable, str(tmp_path / "steps.py")],
        env={**environment(), "CUDA_VISIBLE_DEVICES": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr


STEPS = """
import torch
from train.config import TrainConfig
from train.loop import Session

config = TrainConfig(data={data!r}, out={out!r}, model="test_resnet", size=32, precision="fp16",
                     tensorboard=False, ema_decay=0.9, mixup=0.2, clip_norm=1.0)
session = Session(config)
batch = next(iter(session.train_loader)).to(session.device)
for step in range(8):
    torch.cuda.set_sync_debug_mode("error" if step > 2 else "default")
    session.step(batch, 0, step)
    session.ema.update(step)
"""
