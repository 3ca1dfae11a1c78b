"""Precision auto on this machine and on a lesser one, which oneDNN and ATen can be told to be."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shards.errors import DataError
from shards.host.machine import num_cores
from tests.conftest import jpeg, photograph
from tests.train.conftest import ROOT, command, environment, succeed
from tests.train.here import command_here, cpu, train_here
from train.config import TrainConfig
from train.run import precision
from train.run.precision import (
    Chosen,
    bf16_instructions,
    check_precision,
    choose_precision,
    precision_line,
    precision_of_run,
)
from train.run.ranks import settle_precision

CPU = torch.device("cpu")
LESSER_CPU = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
HERE = choose_precision(CPU)
FIRST_RANK = """
import os
if os.environ["RANK"] == "1":  # a machine without bf16
    os.environ.update(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
import torch
from train.run.precision import choose_precision
from train.config import TrainConfig
from train.run.ranks import settle_precision, join_for_training, leave_ranks
config, why = settle_precision(TrainConfig(tensorboard=False))
own = choose_precision(torch.device("cpu")).precision
mixed = join_for_training(config)._accelerator.mixed_precision
line = " ".join([os.environ["RANK"], own, config.precision, mixed])
os.write(1, f"{line}\\n".encode())  # in one piece: the ranks share a pipe
leave_ranks()
"""


@pytest.fixture
def lesser_cpu(monkeypatch):
    """Commands that are run from here find no instructions for bf16."""
    for name, value in LESSER_CPU.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def bf16_run(shades, tmp_path_factory):
    """A run of two epochs, of which one is done, in bf16."""
    run = tmp_path_factory.mktemp("bf16") / "run"
    train_here(shades, run, precision="bf16", epochs=1)
    return run


@pytest.mark.slow
def test_a_cpu_without_instructions_computes_in_fp32(lesser_cpu):
    script = (
        "import torch; from train.run.precision import choose_precision; "
        "print(choose_precision(torch.device('cpu')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.strip() == repr(
        Chosen("no", "fp32, as this CPU has no instructions for bf16")
    )


def test_a_cpu_takes_bf16_only_if_it_names_its_instructions():
    assert (HERE.precision == "bf16") == bool(bf16_instructions())
    if Path("/proc/cpuinfo").exists() and "bf16" not in Path("/proc/cpuinfo").read_text():
        assert HERE.precision == "no"


@pytest.mark.parametrize(
    ("measured", "expected"),
    [([1.6], "AVX512_BF16"), ([7.0, 4.0, 1.6], "AVX512_BF16"), ([7.0, 4.0, 3.0], "")],
)
def test_other_processes_do_not_make_instructions_look_like_emulation(
    measured, expected, monkeypatch
):
    """Three tries of a millisecond each may all be interrupted on a busy machine."""
    left = iter(measured)
    monkeypatch.setattr(precision, "_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "bf16_slowdown", lambda: next(left))
    assert bf16_instructions() == expected
    assert not [*left]


def test_a_gpu_without_bf16_computes_in_fp16(monkeypatch):
    gpu = torch.device("cuda")
    for has_it, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, has_it=has_it: has_it
        )
        assert choose_precision(gpu).precision == expected
        assert precision_of_run("bf16", gpu).precision == expected
        assert precision_of_run("fp16", gpu) == Chosen("fp16", "")


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16", "auto"])
def test_a_runs_precision_is_kept_where_the_machine_has_it(precision):
    chosen = precision_of_run(precision, CPU)
    if precision == "no" or (precision == "bf16" and bf16_instructions()):
        assert chosen == Chosen(precision, "")
    else:
        assert chosen.precision == HERE.precision
        assert ("not the run's" in chosen.why) == (precision != "auto")


def test_fp16_on_a_cpu_is_refused_with_the_remedy():
    with pytest.raises(DataError, match=r"'fp16' does not work here \(it needs a GPU\); do that"):
        check_precision("fp16", CPU, "do that")


def test_the_configuration_keeps_what_was_chosen(shades, tmp_path, capsys):
    train_here(shades, tmp_path / "run", precision="auto")
    first = capsys.readouterr().out.splitlines()[0]
    precision = f"precision {HERE.precision} (auto: {HERE.why})"
    threads = f"{num_cores()} loader thread{'s' if num_cores() > 1 else ''}"
    assert first == f"test_convnext on 1 process, cpu, {precision}, {threads}"
    for path in (tmp_path / "run" / "config.yaml", tmp_path / "run" / "best" / "config.yaml"):
        config = TrainConfig.from_yaml(path)
        assert config.precision == HERE.precision
        assert config.num_threads == 0  # as many as there are cores wherever it goes on


def test_auto_is_the_default_of_the_command_and_of_every_recipe():
    assert TrainConfig().precision == "auto"
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert TrainConfig.from_yaml(recipe).precision == "auto"


def test_what_is_resumed_keeps_its_precision(bf16_run, shades, tmp_path, capsys):
    shutil.copytree(bf16_run, tmp_path / "run")
    train_here(shades, tmp_path / "run", precision="auto", resume=True)
    assert "precision bf16 (as before)" in capsys.readouterr().out
    with pytest.raises(DataError, match="was trained with precision 'bf16', now 'no'"):
        train_here(shades, tmp_path / "run", precision="no", resume=True)


def test_a_run_of_fp16_cannot_go_on_on_a_cpu(bf16_run, shades, tmp_path):
    shutil.copytree(bf16_run, tmp_path / "run")
    path = tmp_path / "run" / "last" / "config.yaml"
    path.write_text(path.read_text().replace("precision: bf16", "precision: fp16"))
    with pytest.raises(
        DataError, match=r"'fp16' does not work here .*; resume where there is one, or give another"
    ):
        train_here(shades, tmp_path / "run", precision="auto", resume=True)


def test_a_lesser_machine_resumes_and_evaluates_what_a_greater_one_began(
    bf16_run, shades, tmp_path, lesser_cpu
):
    run = tmp_path / "run"
    shutil.copytree(bf16_run, run)
    args = [
        "train",
        "--data",
        str(shades),
        "--model",
        "test_convnext",
        "--size",
        "32",
        "--epochs",
        "1",
        "--resume",
    ]
    plain = tmp_path / "plain.yaml"
    plain.write_text("model: test_convnext\n")  # all else as train_here has it
    told = succeed(
        command(
            *args,
            "--global-batch-size",
            "16",
            "--no-tensorboard",
            "--out",
            str(run),
            "--config",
            str(plain),
        )
    )
    assert "precision bf16 (as before)" in told
    assert "precision bf16 is emulated by this CPU: a small convolution takes " in told
    result = command("eval", "--ckpt", str(run / "best"), "--num-images", "1")
    succeed(result)
    says = "not the run's bf16: fp32, as this CPU has no instructions for bf16"
    assert f"precision no ({says})" in result.stderr
    metrics = json.loads((run / "eval-val" / "metrics.json").read_text())
    assert metrics["prediction"]["precision"] == f"no ({says})"


def test_predictions_on_a_lesser_machine(bf16_run, tmp_path, lesser_cpu):
    (tmp_path / "picture.jpg").write_bytes(jpeg(photograph(40, 40)))
    result = command(
        "eval.predict", "--ckpt", str(bf16_run / "best"), str(tmp_path / "picture.jpg")
    )
    succeed(result)
    assert "precision no (not the run's bf16" in result.stderr
    slow = command(
        "eval.predict",
        "--ckpt",
        str(bf16_run / "best"),
        "--precision",
        "bf16",
        str(tmp_path / "picture.jpg"),
    )
    succeed(slow)
    assert "precision bf16 is emulated by this CPU" in slow.stderr


def test_nothing_is_said_of_what_is_as_asked_for():
    assert precision_line(Chosen("no", ""), CPU) == ""
    assert (precision_line(Chosen("bf16", ""), CPU) == "") == bool(bf16_instructions())


@pytest.mark.slow
def test_the_first_rank_chooses_for_all(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(FIRST_RANK)
    args = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--standalone",
        str(script),
    ]
    env = {**environment(), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(args, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = sorted(line.split() for line in done.stdout.splitlines())
    assert told == [["0", *[HERE.precision] * 3], ["1", "no", *[HERE.precision] * 2]]


def test_a_sweep_keeps_one_precision_for_all_its_runs(shades, tmp_path, capsys):
    args = [
        "train",
        "--data",
        str(shades),
        "--out",
        str(tmp_path / "sweep"),
        "--no-tensorboard",
        "--epochs",
        "1",
    ]
    args += ["--model", "test_convnext", "--size", "32", "--sweep", "lr=0.001,0.002"]
    assert command_here(capsys, *args)[0] == 0
    (tmp_path / "sweep" / "sweep.yaml").write_text(
        (tmp_path / "sweep" / "sweep.yaml")
        .read_text()
        .replace(f"precision: {HERE.precision}", "precision: bf16")
    )
    for name in ("sweep.yaml", "lr=0.001/config.yaml", "lr=0.002/config.yaml"):
        expected = "bf16" if name == "sweep.yaml" else HERE.precision
        assert TrainConfig.from_yaml(tmp_path / "sweep" / name).precision == expected
    with cpu():  # begun in bf16: what resumes it takes that
        kept = TrainConfig.from_yaml(tmp_path / "sweep" / "sweep.yaml")
        assert settle_precision(TrainConfig(resume=True), kept)[0].precision == "bf16"


def test_an_explicit_precision_is_left_as_it_is():
    config = TrainConfig(precision="bf16")
    assert settle_precision(config, TrainConfig(precision="no")) == (config, "")


def test_the_measurement_leaves_random_generators_as_they_are():
    before = torch.get_rng_state()
    bf16_instructions()
    assert torch.equal(before, torch.get_rng_state())
