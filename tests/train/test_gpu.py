"""Training and evaluation where there is a GPU: `pytest -m gpu`."""

import os
import subprocess
import sys

import pytest
import torch

from tests.train.conftest import ROOT, environment
from train import checkpoint
from train.run import read_metrics

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def on_gpu(*args: str) -> str:
    env = {**environment(), "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}
    result = subprocess.run(
        [sys.executable, "-m", *args], env=env, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
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
    assert f"mAP {best:.4f}" in on_gpu("eval", "--ckpt", str(run / "best"), "--out", str(tmp_path / "eval"))
