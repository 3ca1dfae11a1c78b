"""The training command: exact resume, several processes, what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
import yaml

from shards.errors import DataError
from tests.train.conftest import (
    ROOT,
    command,
    environment,
    fresh,
    launch,
    ranks,
    succeed,
)
from tests.train.here import command_here
from train.run import checkpoint
from train.run.folder import read_metrics

pytestmark = pytest.mark.slow


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / which / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def start(*args: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", *args], env=environment(), cwd=ROOT, **pipes)


def interrupted_in_the_middle(run: Path, kill: signal.Signals, *args: str) -> tuple[int, str]:
    """Start a command that trains into `run`, and send a signal inside the second epoch of three:
    (status, what it printed).
    """
    process = start("tests.train.halting", str(run), *args)
    met = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert met.si_code == os.CLD_STOPPED, f"ended too early: {process.stdout.read()}"
    process.send_signal(kill)
    process.send_signal(signal.SIGCONT)
    printed = process.communicate(timeout=300)[0]
    return process.returncode, printed


def test_a_run_folder_holds_what_repeats_the_run(whole_run):
    metrics = read_metrics(whole_run)
    assert [line["epoch"] for line in metrics] == [1, 2, 3]
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    for name in (
        "train_loss",
        "val_loss",
        "val_mAP",
        "images_per_second",
        "step_ms",
        "peak_memory_mb",
    ):
        assert metrics[0][name] > 0
    assert metrics[0]["data_wait"] >= 0  # a share, rounded
    best = checkpoint.read(whole_run / "best")
    assert best.meta.progress.best.value == max(line["val_mAP"] for line in metrics)
    assert best.meta.progress.epoch == best.meta.progress.best.epoch
    config = yaml.safe_load((whole_run / "config.yaml").read_text())
    assert config["model"] == "test_convnext"
    assert (
        not list(whole_run.glob("*.tmp"))
        + list(whole_run.glob("*.new"))
        + list(whole_run.glob("*.old"))
    )


def test_the_resolved_config_repeats_the_run_bit_for_bit(whole_run, tmp_path):
    again = tmp_path / "again"
    succeed(command("train", "--config", str(whole_run / "config.yaml"), "--out", str(again)))
    assert same(weights(whole_run), weights(again))
    assert same(weights(whole_run, "best"), weights(again, "best"))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_killed_run_resumes_to_the_same_bits(kill, whole_run, train_args, tmp_path):
    run = tmp_path / "killed"
    args = [*train_args, "--out", str(run), "--save-every-steps", "2"]
    status, output = interrupted_in_the_middle(run, kill, *args)
    if kill == signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert status == (75 if kill == signal.SIGUSR1 else 130)
        assert "--resume" in output
        assert "Traceback" not in output
    assert checkpoint.read(run / "last").meta.progress.epoch == 1
    output = succeed(command(*args, "--resume"))
    assert "resuming" in output
    assert same(weights(whole_run), weights(run))
    for name in ("train_loss", "val_loss", "val_mAP"):
        assert [line[name] for line in read_metrics(run)] == [
            line[name] for line in read_metrics(whole_run)
        ]


def test_a_signal_to_one_rank_ends_all_with_the_status_that_asks_to_go_on(train_args, tmp_path):
    """As of a batch system that requeues; torchrun's own status says only that ranks have failed."""
    run = tmp_path / "run"
    args = [*train_args, "--out", str(run), "--epochs", "50"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        process = start(*torchrun, *args)
    while not checkpoint.exists(run / "last"):
        time.sleep(0.05)
        assert process.poll() is None, process.stdout.read()
    (second,) = (
        rank for rank in psutil.Process(process.pid).children() if rank.environ().get("RANK") == "1"
    )
    second.send_signal(signal.SIGUSR1)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1
    assert "go on with the same command and --resume" in output
    statuses = set(re.findall(r"exitcode *: (-?\d+)", output))
    assert "75" in statuses
    assert statuses <= {"75", "-15"}  # torchrun ends who is still leaving when the first has left


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_two_processes_see_the_same_batches_and_losses(whole_run, train_args, cache, tmp_path):
    # Dropout draws differ between ranks by design: without it the two runs are the same
    # computation.
    args = [*train_args, "--drop-rate", "0", "--cache", cache]
    succeed(command(*args, "--out", str(tmp_path / "one")))
    started = launch if cache == "none" else ranks  # as a user does, and without the launcher
    output = succeed(started(2, *args, "--out", str(tmp_path / "two")))
    assert "on 2 processes" in output
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(one) == len(two) == 3
    for name in ("train_loss", "val_loss", "val_mAP"):
        np.testing.assert_allclose([x[name] for x in one], [x[name] for x in two], rtol=1e-3)


def test_evaluation_finds_what_training_reported(whole_run, tmp_path):
    output = succeed(
        fresh(
            "eval", "--ckpt", str(whole_run / "best"), "--out", str(tmp_path), "--classes", "dark-1"
        )
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    best = checkpoint.read(whole_run / "best").meta.progress.best.value
    assert metrics["mAP"] == pytest.approx(best, abs=1e-12)
    assert f"{best:.4f}" in output
    page = (tmp_path / "report.html").read_text()
    assert "dark-1" in page
    assert "test_convnext" in page


def test_accumulation_changes_nothing_but_memory(train_args, tmp_path, capsys):
    args = [*train_args, "--drop-rate", "0", "--epochs", "1"]
    for parts in ("1", "4"):
        assert (
            command_here(capsys, *args, "--accumulate", parts, "--out", str(tmp_path / parts))[0]
            == 0
        )
    once, four_times = weights(tmp_path / "1"), weights(tmp_path / "4")
    for name in once:
        torch.testing.assert_close(once[name], four_times[name], rtol=1e-3, atol=1e-4)


def test_a_killed_bf16_run_with_averaged_weights_resumes_to_the_same_bits(train_args, tmp_path):
    args = [
        *train_args,
        "--ema-decay",
        "0.9",
        "--precision",
        "bf16",
        "--optimizer",
        "adamw",
        "--clip-norm",
        "1",
    ]
    succeed(command(*args, "--out", str(tmp_path / "whole")))
    run = tmp_path / "killed"
    more = ["--out", str(run), "--save-every-steps", "2"]
    interrupted_in_the_middle(run, signal.SIGKILL, *args, *more)
    succeed(command(*args, "--out", str(run), "--resume"))
    assert same(weights(run), weights(tmp_path / "whole"))
    averages = [
        safetensors.torch.load_file(path / "last/ema.safetensors")
        for path in (run, tmp_path / "whole")
    ]
    assert same(*averages)
    assert not same(averages[0], weights(run))
    output = succeed(command("eval", "--ckpt", str(run / "best"), "--out", str(tmp_path / "eval")))
    assert f"mAP {checkpoint.read(run / 'best').meta.progress.best.value:.4f}" in output


def test_a_second_run_moves_the_first_aside(train_args, tmp_path, capsys):
    out = tmp_path / "run"
    for _ in range(2):
        status, output, _ = command_here(capsys, *train_args, "--epochs", "1", "--out", str(out))
        assert status == 0
    assert "moved to" in output
    assert checkpoint.exists(tmp_path / "run.1/last")
    assert checkpoint.exists(out / "last")


def test_a_finished_run_resumed_says_so_and_changes_nothing(whole_run, train_args, capsys):
    before = (whole_run / "last/model.safetensors").read_bytes()
    status, output, _ = command_here(capsys, *train_args, "--out", str(whole_run), "--resume")
    assert status == 0
    assert "best: epoch" in output
    assert (whole_run / "last/model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--data", "nowhere"], "nowhere: no split 'train' here"),
        (["--model", "resnet19"], "did you mean resnet18"),
        (["--weights", "nowhere.pth"], "nowhere.pth: no such weights file"),
        (["--lr", "-1"], "lr is -1.0: give a number above 0"),
        (["--lr", "much"], "much"),
        (["--precision", "fp16"], "precision 'fp16' does not work here (it needs a GPU)"),
        (["--learning-rate", "1"], "--learning-rate"),
        (["--lr", "1e9"], "the loss is"),
    ],
)
def test_a_mistake_gets_one_line(extra, says, train_args, tmp_path, capsys):
    status, _, told = command_here(capsys, *train_args, "--out", str(tmp_path / "run"), *extra)
    assert status == 2
    lines = [line for line in told.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ")
    assert says in lines[-1]


def test_a_mistake_ends_the_process_without_a_traceback(train_args, tmp_path):
    result = fresh(*train_args, "--out", str(tmp_path / "run"), "--lr", "-1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: lr is -1.0: give a number above 0"
    assert "Traceback" not in result.stderr


def test_resuming_with_other_options_is_refused(whole_run, train_args, capsys):
    args = [*train_args, "--out", str(whole_run), "--resume", "--lr", "0.5", "--seed", "8"]
    status, _, told = command_here(capsys, *args)
    assert status == 2
    assert "was trained with lr " in told
    assert ", now 0.5, seed " in told
    assert f"options, which --config {whole_run / 'config.yaml'} holds, or give" in told


def test_resuming_a_finished_run_says_that_it_is(whole_run, train_args, capsys):
    status, out, told = command_here(capsys, *train_args, "--out", str(whole_run), "--resume")
    assert status == 0
    assert f"resuming {whole_run}: all of its 3 epochs are done\n" in out + told


def test_resuming_as_another_recipe_is_a_line_that_fits(whole_run, train_args, capsys):
    args = [*train_args[:3], "--out", str(whole_run), "--resume", "--config", "voc-mobilenet"]
    status, _, told = command_here(capsys, *args)
    assert status == 2
    line = told.splitlines()[-1]
    assert line.count(", now ") == 4
    assert " more: resume with the same options" in line


def test_a_file_of_a_checkpoint_is_answered_by_its_folder(whole_run):
    with pytest.raises(DataError, match=r"no checkpoint here; give .*/best$"):
        checkpoint.read(whole_run / "best" / "model.safetensors")
