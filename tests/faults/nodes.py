"""Train and evaluate on two and three machines of two ranks, by address; kill one, ask one to end,
and go on with others.

The machines are network namespaces (tests.faults.machines). Losses must be those of one process
from the folder, predictions the same bytes, and the server must be asked for each shard once a
machine, for a machine's own part alone.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.faults.elastic import FP32, STATEFUL, epoch_losses, global_losses
from tests.faults.launching import SMALL, pack_digits
from tests.faults.machines import (
    INSIDE,
    CountingServer,
    Machines,
    end_all,
    enter_namespace,
    finish,
    kill,
    make_hub,
    terminate,
)
from tests.faults.processes import Job
from tests.faults.report import Options, Row, run
from tests.faults.training import LOST, is_whole
from train.run import checkpoint

NO_NAMESPACE = "nothing: network namespaces need `unshare -rnm` and `ip`"
NUM_TRAIN, NUM_VAL, PER_SHARD, BATCH, EPOCHS = 60, 26, 4, 12, 3
STEPS = NUM_TRAIN // BATCH
GROUPS = 4  # which two machines divide, and three do not
GO_ON = "go on with the same command and --resume"
PAUSE_S = "0.3"  # after each step of a run that is interrupted
WAIT_S = 240


class Part(NamedTuple):
    """A part of a run: on so many machines, until one is killed or asked to end, or to the end."""

    num_machines: int
    how: str = ""
    which: int = 0
    ranks: int = 2  # on each machine


class Nodes:
    """Runs by address on machines, and the one from the folder that they are compared with."""

    def __init__(self, folder: Path, machines: Machines, server: CountingServer) -> None:
        self.folder, self.machines, self.server = folder, machines, server
        flags = [*SMALL, *STATEFUL, "--epochs", str(EPOCHS), "--global-batch-size", str(BATCH)]
        flags += ["--order", "near", "--shuffle-groups", str(GROUPS), "--eval-batch-size", "3"]
        self.flags = [*flags, "--save-every-steps", "2", "--resume"]
        record = folder / "one.losses"
        where = ["--data", str(server.folder), "--out", str(folder / "one")]
        Job(folder, "tests.faults.recorded", str(record), "0", *where, *self.flags).finish()
        self.expected = np.array(global_losses(record, 1))

    def args(self, name: str) -> list[str]:
        """Spell a run by address into folder `name`."""
        args = ["--data", self.server.url, "--cache-dir", str(self.folder / "scratch/cache")]
        return [*args, "--out", str(self.folder / name), *self.flags]

    def start(self, name: str, part: Part, record: Path, **environment: str) -> list[Job]:
        command = ["tests.faults.recorded", str(record), "0", *self.args(name)]
        return self.machines.launch(part.num_machines, *command, ranks=part.ranks, **environment)

    def check(self, row: Row, name: str, first: int, losses: Sequence[float]) -> float:
        """Compare losses of steps from `first` on; return the greatest relative difference."""
        expected = self.expected[first : first + len(losses)]
        row.check(len(expected) == len(losses) > 0, f"{name}: {len(losses)} steps from {first} on")
        difference = float(np.max(np.abs(np.array(losses)[: len(expected)] / expected - 1)))
        row.check(difference <= FP32, f"{name}: a loss differs by {difference:.1e}")
        return difference

    def check_epochs(self, row: Row, name: str) -> None:
        """The metrics that are in the run folder are those of the one process."""
        ours, one = (np.array(epoch_losses(self.folder / each)) for each in (name, "one"))
        row.check(ours.shape == one.shape and np.allclose(ours, one, rtol=FP32), f"{name}: metrics")

    def check_fetched(self, row: Row, split: str, num_machines: int) -> list[int]:
        """Every machine asked once for each shard of its part, and parts meet at their ends alone;
        return how many shards each asked for.
        """
        fetched = [
            Counter(self.server.tars(machine.address, split))
            for machine in self.machines.all[:num_machines]
        ]
        row.check(
            all(set(each.values()) == {1} for each in fetched),
            f"{split}: asked more than once: {fetched}",
        )
        for machine, whole in zip(self.machines.all, fetched, strict=False):
            early = set(self.server.early(machine.address, split))
            row.check(early <= whole.keys(), f"{split}: images of another's part: {early}")
        num_shards = len(list((self.server.folder / split).glob("*.tar")))
        together = set().union(*fetched)
        row.check(len(together) == num_shards, f"{split}: {len(together)} of {num_shards} shards")
        num_shared = sum(map(len, fetched)) - num_shards
        row.check(num_shared <= num_machines - 1, f"{split}: {num_shared} shards on several")
        return [len(each) for each in fetched]


def undisturbed(nodes: Nodes) -> Row:
    """Two machines: the losses, and what each has fetched in three epochs of training."""
    row = Row("training on 2 machines by address")
    record = nodes.folder / "two.losses"
    finish(nodes.start("two", Part(2), record))
    difference = nodes.check(row, "two", 0, global_losses(record, 4))
    row.check(len(global_losses(record, 4)) == EPOCHS * STEPS, "not all steps")
    nodes.check_epochs(row, "two")
    train = nodes.check_fetched(row, "train", 2)
    val = nodes.check_fetched(row, "val", 2)
    row.tried = f"{EPOCHS} epochs, difference {difference:.1e}; shards fetched {train}, val {val}"
    return row


def evaluated(nodes: Nodes) -> Row:
    """Predictions to the bit; no machine fetches the other's part, not even for the report."""
    row = Row("evaluation on 2 machines by address")
    ckpt = ["--ckpt", str(nodes.folder / "one/last"), "--local-batch-size", "3"]
    where = ["--data", nodes.server.url, "--cache-dir", str(nodes.folder / "scratch/eval")]
    nodes.server.fetched.clear()
    nodes.server.ranges.clear()
    Job(nodes.folder, "eval", *ckpt, "--out", str(nodes.folder / "eval-1")).finish()
    out = ["--out", str(nodes.folder / "eval-2")]
    finish(nodes.machines.launch(2, "eval", *ckpt, *where, *out))
    for name in ("predictions.npz", "per_class.csv"):
        one, two = ((nodes.folder / f"eval-{each}" / name).read_bytes() for each in (1, 2))
        row.check(one == two, f"{name}: other bytes")
    num_pictures = [
        (nodes.folder / f"eval-{each}/report.html").read_text().count("data:image/webp")
        for each in (1, 2)
    ]
    row.check(num_pictures[0] == num_pictures[1] > 0, f"{num_pictures} pictures in the reports")
    fetched = nodes.check_fetched(row, "val", 2)
    row.tried = f"bytes of predictions.npz, per_class.csv; shards fetched {fetched}"
    return row


def interrupted(nodes: Nodes, name: str, parts: Sequence[Part], rng: random.Random) -> Row:
    """One run in parts, on other machines each."""
    steps = " then ".join(f"{part.num_machines} {part.how}".strip() for part in parts)
    row = Row(f"training on machines: {steps}")
    differences = []
    for number, part in enumerate(parts):
        first = _progress(nodes.folder / name)
        record = nodes.folder / f"{name}.{number}.losses"
        pause = PAUSE_S if part.how else "0"
        jobs = nodes.start(name, part, record, TARMAC_FAULTS_PAUSE=pause)
        if part.how:
            _wait_for_steps(Path(f"{record}.0"), jobs, STEPS // 2 + rng.randrange(3))
            (kill if part.how == "killed" else terminate)(jobs[part.which])
        row.lost += [f"part {number}: {line}" for line in end_all(jobs)]
        output = "".join(job.output for job in jobs)
        if not part.how:
            row.check(not any(job.process.returncode for job in jobs), f"failed: {output[-1500:]}")
        if part.how == "killed" and part.num_machines > 1:
            row.check(LOST in output, f"part {number}: nobody says who is lost: {output[-900:]}")
        losses = global_losses(record, part.ranks * part.num_machines, part.how != "killed")
        if part.how == "asked to end":
            row.check(GO_ON in output, f"part {number}: {output[-900:]}")
            done = _progress(nodes.folder / name)
            row.check(done == first + len(losses), f"`last` is of step {done}")
        row.check(is_whole(nodes.folder / name), f"part {number}: no whole checkpoint")
        differences.append(nodes.check(row, f"part {number}", first, losses))
    nodes.check_epochs(row, name)
    left = [path for machine in nodes.machines.all for path in machine.folder.glob("tmp/tarmac-*")]
    row.check(not left, f"left behind: {left}")
    row.tried = f"greatest difference of a step {max(differences):.1e}"
    return row


def run_folder_of_its_own(nodes: Nodes) -> Row:
    """Each machine has another disk where the run folder should be."""
    row = Row("a run folder that machines do not share")
    jobs = nodes.machines.launch(2, "train", *nodes.args("private/run"), ranks=1)
    row.lost += end_all(jobs)
    for job in jobs:
        lines = [line for line in job.output.splitlines() if "error: " in line]
        row.check(any("is not shared" in line for line in lines), f"it says {job.output[-900:]}")
        row.check(job.process.returncode != 0, "status 0")
    left = [path for machine in nodes.machines.all for path in machine.folder.glob("private/*")]
    row.check(not left, f"left behind: {left}")
    row.tried = "one line on each machine; nothing left behind"
    return row


def _progress(run_folder: Path) -> int:
    """Count the steps that are behind a run's last checkpoint."""
    if not checkpoint.exists(run_folder / "last"):
        return 0
    progress = checkpoint.read(run_folder / "last").meta.progress
    return progress.epoch * STEPS + progress.step


def _wait_for_steps(record: Path, jobs: Sequence[Job], num_steps: int) -> None:
    ends = time.monotonic() + WAIT_S
    while not record.exists() or len(record.read_text().splitlines()) < num_steps:
        if time.monotonic() > ends or any(job.process.poll() is not None for job in jobs):
            raise RuntimeError("no steps:\n" + "".join(job.output for job in jobs))
        time.sleep(0.02)


def experiments(options: Options) -> Iterator[Row]:
    if INSIDE not in os.environ:
        yield Row("training on several machines", NO_NAMESPACE)
        return
    rng = random.Random(options.seed)
    data = pack_digits(options.folder, NUM_TRAIN, NUM_VAL, PER_SHARD)
    make_hub()
    with CountingServer(data) as server, Machines(options.folder, 3) as machines:
        nodes = Nodes(options.folder, machines, server)
        yield undisturbed(nodes)
        yield evaluated(nodes)
        killed = Part(2, "killed", 1)
        ranks = 1 if options.quick else 2
        chain = [killed, Part(3, "asked to end", 2, ranks), Part(1)]
        yield interrupted(nodes, "chain", chain, rng)
        yield run_folder_of_its_own(nodes)
        if not options.quick:
            yield interrupted(nodes, "first", [Part(2, "killed", 0), Part(1)], rng)
            yield interrupted(nodes, "three", [killed, Part(3)], rng)
            asked = [Part(2, "asked to end", 0), Part(3, "asked to end", 1), Part(2)]
            yield interrupted(nodes, "asked", asked, rng)


if __name__ == "__main__":
    if INSIDE not in os.environ:
        enter_namespace("tests.faults.nodes", "-rnm")
    run(experiments, __doc__ or "")
