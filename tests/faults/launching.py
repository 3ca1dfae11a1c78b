"""How the experiments pack and train: the smallest network without batch norm, on as many ranks as
asked for.
"""

import socket
from pathlib import Path

from preprocess.sources.digits import write_digits
from tests.faults.processes import Job

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


def free_port() -> int:
    """Find a port that is free now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


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
