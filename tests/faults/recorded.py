"""Train as `python -m train` does, and write down the loss of every step: `-m tests.faults.recorded
FILE STOP ARGS`.

Each rank writes its share of a step's loss and the global count of known labels as a line of
FILE.RANK. After STOP steps (0: never) the first rank gets the SIGTERM that a cluster would send.
TARMAC_FAULTS_PAUSE is so many seconds after each step, for who wants to interrupt the run.
"""

import json
import os
import signal
import sys
import time

import torch

from shards.pipeline.batch import Batch
from train.__main__ import main
from train.optimise.step import Step
from train.run.launch import spread

_take = Step.__call__


class Recorder:
    """Takes a step and writes its loss down."""

    def __init__(self, path: str, stop_after: int) -> None:
        self.rank = os.environ.get("RANK", "0")
        self.path, self.stop_after, self.num_steps = f"{path}.{self.rank}", stop_after, 0

    def take(self, step: Step, batch: Batch, *where: int) -> torch.Tensor:
        sums = _take(step, batch, *where)
        with open(self.path, "a") as file:
            file.write(json.dumps([float(sums.flatten()[0]), batch.num_known]) + "\n")
        self.num_steps += 1
        time.sleep(float(os.environ.get("TARMAC_FAULTS_PAUSE", "0")))
        if self.num_steps == self.stop_after and self.rank == "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return sums


if __name__ == "__main__":
    spread("tests.faults.recorded")
    recorder = Recorder(sys.argv[1], int(sys.argv[2]))
    Step.__call__ = lambda step, batch, *where: recorder.take(step, batch, *where)
    del sys.argv[1:3]
    main()
