"""What the launcher's variables ask for beside the configuration is refused, or changes nothing."""

import os
import socket
import subprocess
import sys

import pytest
import safetensors.torch

from shards.errors import DataError
from tests.faults.launching import free_port
from tests.train.conftest import ROOT, environment, succeed
from tests.train.here import command_here, evaluate_here, train_here
from train.run.launch import check_world
from train.run.variables import check_variables

LAUNCH = ("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
SGD = {"optimizer": "sgd", "lr": 0.2, "schedule": "constant", "precision": "no", "augment": "pad"}


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("ACCELERATE_MIXED_PRECISION", "fp16", "give --precision fp16, or"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "--mixed_precision no"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "give --accumulate 4"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto", "give --accumulate N"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "--dynamo_backend no"),
        ("ACCELERATE_USE_FSDP", "true", "leave out --use_fsdp"),
        ("ACCELERATE_USE_DEEPSPEED", "True", "leave out --use_deepspeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "leave out --use_megatron_lm"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "leave out --use_parallelism_config"),
        ("ACCELERATE_TORCH_DEVICE", "meta", "CUDA_VISIBLE_DEVICES"),
        ("ACCELERATE_USE_CPU", "perhaps", "set it to true or false"),
        ("ACCELERATE_DEBUG_MODE", "x", "set it to true or false"),
    ],
)
def test_what_asks_for_another_run_is_refused(variable, value, remedy, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(DataError, match=f"^{variable} is") as told:
        check_variables("bf16", accumulate=2)
    assert remedy in str(told.value)


def test_what_asks_for_the_same_run_or_for_nothing_is_not(monkeypatch):
    for variable, value in {
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_USE_FSDP": "false",
        "ACCELERATE_USE_CPU": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    check_variables("bf16", accumulate=2)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "9")
    check_variables("bf16")  # an evaluation accumulates nothing


def test_a_run_and_its_evaluation_leave_with_one_line(digits, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    data = ("train", "--data", str(digits), "--out", str(tmp_path / "run"))
    status, _, error = command_here(capsys, *data, "--config", str(ROOT / "recipes/digits.yaml"))
    assert status == 2
    assert error.startswith(
        "error: ACCELERATE_GRADIENT_ACCUMULATION_STEPS is 4, but accumulate is 1"
    )
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_accumulating_by_the_option_is_not_divided_by_the_variable_again(
    digits, tmp_path, monkeypatch
):
    """Accelerate's backward divides by the variable: the learning rate would be another one."""
    plain = train_here(digits, tmp_path / "plain", **SGD, accumulate=2)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    monkeypatch.setenv("TORCH_BLAS_PREFER_CUBLASLT", "0")
    same = train_here(digits, tmp_path / "same", **SGD, accumulate=2)
    one, two = (
        safetensors.torch.load_file(f"{config.out}/last/model.safetensors")
        for config in (plain, same)
    )
    assert all(one[name].equal(two[name]) for name in one)
    metrics, _ = evaluate_here(tmp_path / "same", tmp_path / "evaluated")
    assert metrics["prediction"]["TORCH_BLAS_PREFER_CUBLASLT"] == "0"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(DataError, match="ACCELERATE_MIXED_PRECISION is bf16, but precision is no"):
        evaluate_here(tmp_path / "same", tmp_path / "not evaluated")


def test_a_numeric_variable_is_in_the_first_line(digits, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    train_here(digits, tmp_path / "run")
    assert "NVIDIA_TF32_OVERRIDE=1\n" in capsys.readouterr().out.replace(", ONE", "\nONE")


def test_processes_that_mpirun_started_are_one_job_or_none(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(DataError, match="2 processes were launched, but each sees 1"):
        check_world(1)
    monkeypatch.setenv("WORLD_SIZE", "4")  # torchrun on each of two nodes
    check_world(4)


def launch(*flags: str, by: tuple[str, ...] = LAUNCH) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", *by, *flags]
    env = {name: value for name, value in environment().items() if name != "MASTER_PORT"}
    return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: NO_WRAP
  fsdp_state_dict_type: FULL_STATE_DICT
machine_rank: 0
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""


def test_fsdp_by_a_config_file_is_refused_on_all_ranks(digits, tmp_path):
    config = tmp_path / "fsdp2.yaml"
    config.write_text(FSDP)
    run = ["--data", str(digits), "--out", str(tmp_path / "run"), "--precision", "no"]
    # `--cpu` beside the file would launch ranks without FSDP
    flags = ["--config_file", str(config), "--main_process_port", str(free_port())]
    done = launch(*flags, "-m", "train", *run, by=LAUNCH[:1])
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert 1 <= len(lines) <= 2
    assert "ACCELERATE_USE_FSDP is true: only data-parallel runs are supported" in lines[0]
    assert "less memory is needed with --precision bf16" in lines[0]
    assert not os.path.exists(tmp_path / "run")


def test_two_ranks_meet_though_the_port_is_taken(digits, tmp_path):
    run = ["--data", str(digits), "--out", str(tmp_path / "run"), "--model", "test_convnext"]
    run += ["--size", "32", "--epochs", "1", "--precision", "no", "--no-tensorboard"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        out = succeed(
            launch("--main_process_port", port, "--mixed_precision", "no", "-m", "train", *run)
        )
    assert "test_convnext on 2 processes" in out


def test_what_accelerate_launch_passes_is_seen(digits, tmp_path):
    run = ["--data", str(digits), "--out", str(tmp_path / "run"), "--precision", "no"]
    done = launch("--num_processes", "1", "--mixed_precision", "bf16", "-m", "train", *run)
    assert (
        "error: ACCELERATE_MIXED_PRECISION is bf16, but precision is no: give --precision bf16"
        in done.stderr
    )
    assert not os.path.exists(tmp_path / "run")
