"""The same commands write the same bytes in two processes whose sets and dicts of text are in other
orders.
"""

import shutil
import sys
from pathlib import Path

import pytest

from preprocess.sources.digits import write_digits
from tests.building import ROOT, run

SMALL = [
    "--model",
    "test_convnext",
    "--size",
    "32",
    "--precision",
    "no",
    "--no-tensorboard",
    "--epochs",
    "1",
]
COMMANDS = [
    ["preprocess.shard", "--source", "voc", "--root", "source", "--out", "data", "--workers", "2"],
    ["preprocess.inspect", "data", "--out", "inspect"],
    ["train", "--data", "data", "--out", "sweep", "--sweep", "lr=0.01,0.001", *SMALL],
    ["eval", "--ckpt", "sweep/best", "--out", "results"],
]
TIMED = {"metrics.jsonl", "checkpoint.json"}  # both record how fast the run was
PROMISED = {"data/train/index.json", "inspect/inspect.html", "sweep/sweep.html"}
PROMISED |= {"results/metrics.json", "results/report.html", "results/predictions.npz"}


def outputs(folder: Path, source: Path, hash_seed: str) -> dict[str, bytes]:
    """Run every command in a folder of its own, by the same relative paths; return the files that
    they wrote.
    """
    shutil.copytree(source, folder / "source")
    for words in COMMANDS:
        variables = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = run([sys.executable, "-m", *words], folder, variables)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.slow  # eight processes, six of which import torch
@pytest.mark.timeout(1800)
def test_every_command_writes_the_same_bytes_under_another_hash_seed(tmp_path):
    write_digits(tmp_path / "source", num_train=48, num_val=24, size=40)
    first, second = (outputs(tmp_path / seed, tmp_path / "source", seed) for seed in ("1", "2"))
    assert first.keys() == second.keys() >= PROMISED
    assert [name for name in first if first[name] != second[name]] == []
