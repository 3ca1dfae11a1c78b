"""Kill a training on two ranks, whole or in part, at random moments; start it again; compare with
an undisturbed one.

Victims are all processes at once, the launcher, the agent that torchrun is, one rank, the other.
Whatever is not killed must end by itself. Weights, their average and every metric must be those of
the undisturbed run, bit for bit.
"""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.faults.launching import SMALL, free_port, on_ranks, pack_digits
from tests.faults.processes import Job, leftovers, parent_of
from tests.faults.report import Options, Row, run
from train.run import checkpoint
from train.run.folder import read_metrics

VICTIMS = ("launcher", "all", "rank 0", "agent", "rank 1")
TRAINS = "on 2 processes"  # the line that tells that all is set up
LOST = "another rank has ended or does not answer"


class TwoRanks:
    """One run on two ranks, that may be started again and again by the same command."""

    def __init__(self, folder: Path, data: Path, out: Path, *flags: str) -> None:
        self.folder, self.out = folder, out
        args = [
            "--data",
            str(data),
            *SMALL,
            "--epochs",
            "8",
            "--global-batch-size",
            "8",
            "--save-every-steps",
            "2",
        ]
        args += ["--ema-decay", "0.9", "--drop-rate", "0.2", *flags]
        self.command = ["train", *args, "--out", str(out), "--resume"]
        self.port = free_port()

    def start(self) -> Job:
        return Job(self.folder, *on_ranks(2, self.port), *self.command)

    def start_without_launcher(self) -> list[Job]:
        """Start the two ranks as a cluster's own launcher would: by environment variables."""
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.port),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
        }
        shared |= {"ACCELERATE_USE_CPU": "true"}
        return [
            Job(self.folder, *self.command, RANK=rank, LOCAL_RANK=rank, **shared) for rank in "01"
        ]

    def result(self) -> dict[str, object]:
        """All that must not depend on how often the run was killed."""
        names = (
            "last/model.safetensors",
            "last/ema.safetensors",
            "best/model.safetensors",
            "best/ema.safetensors",
        )
        files = {name: (self.out / name).read_bytes() for name in names}
        kept = ("epoch", "train_loss", "val_loss", "val_mAP", "lr")
        return {
            **files,
            "metrics": [[line[name] for name in kept] for line in read_metrics(self.out)],
        }


def victims(job: Job, name: str) -> list[psutil.Process]:
    """Find the processes that a victim's name means, now."""
    if name.startswith("rank"):
        return job.members(RANK=name.removeprefix("rank "))
    members = job.members()
    launcher = [process for process in members if process.pid == job.process.pid]
    if name == "agent":
        return [process for process in members if parent_of(process) == job.process.pid]
    return launcher if name == "launcher" else members


def at_random_moments(options: Options, data: Path, cache: str) -> Row:
    """Kill each victim in turn and go on; where the run is through, compare it and begin again.

    A victim that was not there yet, or had ended, is tried again.
    """
    row = Row(f"training on 2 ranks, cache {cache}: SIGKILL")
    rng, folder = random.Random(f"{options.seed} {cache}"), options.folder / cache
    shared = set(os.listdir("/dev/shm"))
    undisturbed = TwoRanks(folder, data, folder / "whole", "--cache", cache)
    job = undisturbed.start()
    job.wait_for(TRAINS)
    setup = time.monotonic() - job.started
    job.finish()
    training, expected = time.monotonic() - job.started - setup, undisturbed.result()
    killed = TwoRanks(folder, data, folder / "killed", "--cache", cache)
    num_moments, num_finished, slowest, told = options.moments(20, len(VICTIMS)), 0, 0.0, 0
    moment, num_starts = 0, 0
    while moment < num_moments:
        job, victim = killed.start(), VICTIMS[(moment + options.seed) % len(VICTIMS)]
        num_starts += 1
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, setup))
        else:
            job.wait_for(TRAINS)
            time.sleep(rng.uniform(0, training))
        found = victims(job, victim)
        job.kill(found)
        at = time.monotonic()
        row.lost += [f"moment {moment}, {victim} killed: {line}" for line in job.end()]
        slowest, told = max(slowest, time.monotonic() - at), told + (LOST in job.output)
        row.check(
            is_whole(folder / "killed"), f"moment {moment}, {victim} killed: no whole checkpoint"
        )
        if job.process.returncode == 0:
            row.check(
                killed.result() == expected, f"moment {moment}: another result than undisturbed"
            )
            shutil.rmtree(folder / "killed")
            num_finished += 1
        moment += bool(found)
    killed.start().finish()
    row.check(killed.result() == expected, "another result than undisturbed")
    row.lost += leftovers(folder / "tmp", shared)
    strange = [path.name for path in folder.glob("killed*") if path.name != "killed"]
    strange += [
        path.name
        for path in (folder / "killed").iterdir()
        if path.suffix in (".new", ".old", ".tmp")
    ]
    row.check(not strange, f"left behind: {strange}")
    row.tried = f"{num_moments} kills ({', '.join(VICTIMS[:num_moments])}) in {num_starts} starts, "
    row.tried += f"{num_finished + 1} runs finished, all gone within {slowest:.0f} s, {told} told"
    return row


def is_whole(run_folder: Path) -> bool:
    """Tell whether `last` and `best`, where they exist, can be read to the end."""
    for path in (run_folder / "last", run_folder / "best"):
        if checkpoint.exists(path):
            opened = checkpoint.read(path)
            opened.weights(), opened.trainer()
            if opened.has_average:
                opened.weights(averaged=True)
    return True


def a_rank_without_launcher(options: Options, data: Path) -> Row:
    """Kill one of two ranks that nobody watches over: the other one must find out and say so."""
    row, folder = Row("a rank of two, no launcher: SIGKILL"), options.folder / "alone"
    rng, num_moments, slowest = random.Random(options.seed), options.moments(6, 2), 0.0
    for moment in range(num_moments):
        ranks = TwoRanks(
            folder, data, folder / str(moment), "--epochs", "100000"
        ).start_without_launcher()
        ranks[0].wait_for("epoch ")
        time.sleep(rng.uniform(0, 1))
        victim, other = ranks if moment % 2 else ranks[::-1]
        victim.kill(victim.members())
        at = time.monotonic()
        lost = [*victim.end(), *other.end()]
        row.lost += [f"moment {moment}: {line}" for line in lost]
        slowest = max(slowest, time.monotonic() - at)
        row.check(
            LOST in other.output,
            f"moment {moment}: the other rank did not say why it ended: {other.output[-300:]}",
        )
        row.check(
            other.process.returncode == 2,
            f"moment {moment}: the other rank left with {other.process.returncode}: "
            f"{other.output[-300:]}",
        )
    row.tried = f"{num_moments} moments, the other ended within {slowest:.1f} s"
    return row


def experiments(options: Options) -> Iterator[Row]:
    data = pack_digits(options.folder, num_train=48, num_val=24)
    yield a_rank_without_launcher(options, data)
    for cache in ("none", "ram") if not options.quick else ("ram",):
        yield at_random_moments(options, data, cache)


if __name__ == "__main__":
    run(experiments, __doc__ or "")
