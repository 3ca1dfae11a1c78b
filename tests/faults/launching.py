"""How the experiments pack and train: the smallest network without batch norm, on as many ranks as
asked for.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

from preprocess.sources.digits import write_digits
from tests import warm
from tests.faults.processes import ROOT, Job

# A network without batch norm: what a rank's own part of a batch looks like as a whole then changes
# no sample's loss.
SMALL = [
    "--model",
    "test_convnext",
    "--size",
    "32",
    "--precision",
    "no",
    "--no-tensorboard",
    "--num-threads",
    "2",
]


def pack_digits(folder: Path, num_train: int, num_val: int, per_shard: int = 10) -> Path:
    """Pack small digits; return the dataset's folder."""
    write_digits(folder / "source", num_train=num_train, num_val=num_val, size=40)
    args = [
        "--source",
        "voc",
        "--root",
        str(folder / "source"),
        "--out",
        str(folder / "data"),
        "--workers",
        "1",
    ]
    Job(folder, "preprocess.shard", *args, "--shard-samples", str(per_shard)).finish()
    return folder / "data"


_reserved: list[socket.socket] = []


def free_port() -> int:
    """Find a port, and on Linux keep it: while this process lives, the system chooses it for nobody
    else. Whoever names it may listen there, as SO_REUSEADDR is set here and by every server.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("", 0))
    port = int(kept.getsockname()[1])
    if sys.platform == "linux":  # elsewhere the address would be in use
        _reserved.append(kept)
    else:
        kept.close()
    return port


def on_ranks(num_ranks: int, port: int | None = None) -> list[str]:
    """Spell the launch of several ranks on the CPU, without the module and its arguments."""
    if num_ranks == 1:
        return []
    flags = [
        "--cpu",
        "--num_processes",
        str(num_ranks),
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    flags += ["--dynamo_backend", "no", "--main_process_port", str(port or free_port()), "-m"]
    return ["accelerate.commands.launch", *flags]


def run_on_ranks(num_ranks: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m WORDS` on so many ranks of the CPU, without a launcher: each is a process that
    finds its place in its variables.
    """
    alike = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    if num_ranks == 1:
        return warm.run_ranks(words, [{**os.environ, **alike}])
    alike |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    alike |= {"WORLD_SIZE": str(num_ranks), "LOCAL_WORLD_SIZE": str(num_ranks)}
    alike |= {"ACCELERATE_USE_CPU": "true"}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_ranks)]
    return warm.run_ranks(words, [{**os.environ, **alike, **place} for place in places])
