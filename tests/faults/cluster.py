"""Pack on a Ray cluster of two nodes of this machine and lose a node, tasks, the driver.

The tree must be the one that one process writes, and no finished shard may be made again. Ray's
`Cluster` takes over 127.0.0.1, so all of it runs in a network namespace of its own.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.conftest import write_photographs
from tests.faults import slow_source
from tests.faults.machines import INSIDE, enter_namespace
from tests.faults.processes import Job
from tests.faults.report import Options, Row, run

NO_RAY = "nothing: Ray is not installed"
NO_NAMESPACE = "nothing: a network namespace needs `unshare -rn`"
PER_SHARD = 12
STORE_BYTES = 80 << 20
WAIT_S = 240


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}


def shards(root: Path) -> dict[str, int]:
    """Map the finished shards to the times at which they were written."""
    written = root / "packing"
    return {
        path.name: path.stat().st_mtime_ns
        for path in root.glob("*.tar")
        if not written.exists() or (written / path.name).with_suffix(".json").exists()
    }


def wait_for_shards(job: Job, root: Path, num: int) -> bool:
    """Wait until so many are finished; False if the job ended before."""
    limit = time.monotonic() + WAIT_S
    while not root.is_dir() or len(shards(root)) < num:
        if job.process.poll() is not None or time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


class Packing:
    """The command over one folder of photographs."""

    def __init__(self, folder: Path, num_images: int) -> None:
        self.folder = folder
        self.photos = folder / "photos"
        write_photographs(self.photos, num_images)
        self.num_shards = -(-num_images // PER_SHARD)
        self.start("whole", "--workers", "1").finish()
        self.whole = content(folder / "whole/train")

    def start(self, out: str, *more: str) -> Job:
        args = ["--source", slow_source.NAME, "--root", str(self.photos)]
        args += ["--shard-samples", str(PER_SHARD), "--out", str(self.folder / out), *more]
        return Job(self.folder, "preprocess.shard", *args)

    def root(self, out: str) -> Path:
        return self.folder / out / "train"

    def check(self, row: Row, out: str, before: dict[str, int] | None = None) -> None:
        """The tree is the undisturbed one, and what was finished before was not made again."""
        row.check(content(self.root(out)) == self.whole, f"{out}: another tree")
        after = shards(self.root(out))
        again = [name for name, at in (before or {}).items() if after.get(name) != at]
        row.check(not again, f"{out}: made again: {again}")


def by_all_ways(options: Options, packing: Packing) -> Row:
    """Two workers, eight tasks in any order and one of them twice, a cluster of this machine."""
    row = Row("packing: workers, tasks, Ray: the same tree")
    packing.start("two", "--workers", "2").finish()
    packing.check(row, "two")
    order = random.Random(options.seed).sample(range(8), 8)
    for index in [*order, order[0]]:
        packing.start("tasks", "--num-tasks", "8", "--task-index", str(index)).finish()
    packing.start("tasks", "--finalize").finish()
    packing.check(row, "tasks")
    packing.start("ray", "--engine", "ray", "--workers", "2").finish()
    packing.check(row, "ray")
    one_shard = ("--shard-samples", "100000")  # fewer shards than CPUs: pieces are tasks
    packing.start("one", "--workers", "2", *one_shard).finish()
    packing.start("one-ray", "--engine", "ray", "--workers", "2", *one_shard).finish()
    trees = [content(packing.root(out)) for out in ("one", "one-ray")]
    row.check(trees[0] == trees[1] and len(shards(packing.root("one"))) == 1, "one: another tree")
    row.tried = f"2 workers, 8 tasks, --engine ray; {packing.num_shards} shards, and one"
    return row


def with_a_killed_node(options: Options, packing: Packing, cluster: Any) -> Row:
    row = Row("packing on Ray: one of two nodes killed")
    moments = [2, packing.num_shards // 2, packing.num_shards - 2][: options.moments(3, 1)]
    for moment in moments:
        node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        out = f"node-{moment}"
        job = packing.start(out, "--engine", "ray", "--address", cluster.address)
        row.check(wait_for_shards(job, packing.root(out), moment), f"{out}: nothing to kill")
        before = shards(packing.root(out))
        cluster.remove_node(node, allow_graceful=False)
        job.finish()
        packing.check(row, out, before)
    row.tried = f"after {', '.join(map(str, moments))} of {packing.num_shards} shards"
    return row


def with_a_killed_task(options: Options, packing: Packing, cluster: Any) -> Row:
    """As for lack of memory: once, then always, which ends in one line; then there is room."""
    row = Row("packing on Ray: tasks killed as for lack of memory")
    photos = sorted(packing.photos.glob("*.jpg"))
    ray = ("--engine", "ray", "--address", cluster.address)
    once = photos[5].with_suffix(".dies-once")
    once.touch()
    packing.start("once", *ray).finish()
    row.check(not once.exists(), "nothing was killed")
    packing.check(row, "once")
    always = photos[7].with_suffix(".dies")
    always.touch()
    job = packing.start("always", *ray)
    status = job.process.wait()
    lines = [line for line in job.output.splitlines() if line.startswith("error: ")]
    row.check(status == 2 and len(lines) == 1, f"status {status}: {job.output[-300:]}")
    row.check("lack of memory" in " ".join(lines), f"it says {lines}")
    row.check("Traceback" not in job.output, "a traceback")
    always.unlink()
    before = shards(packing.root("always"))
    packing.start("always", *ray).finish()
    packing.check(row, "always", before)
    row.tried = f"one once; one always: one line, {len(before)} shards kept, then the rest"
    return row


def with_a_killed_driver(options: Options, packing: Packing, cluster: Any) -> Row:
    row = Row("packing on Ray: the driver killed")
    rng = random.Random(options.seed)
    num_moments = options.moments(4, 1)
    num_kept = []
    for moment in range(num_moments):
        out = f"driver-{moment}"
        args = (out, "--engine", "ray", "--address", cluster.address)
        job = packing.start(*args)
        wanted = rng.randint(1, packing.num_shards - 2)
        row.check(wait_for_shards(job, packing.root(out), wanted), f"{out}: nothing to kill")
        job.process.send_signal(signal.SIGKILL)
        job.process.wait()
        time.sleep(3)  # tasks that were under way may still finish a shard
        before = shards(packing.root(out))
        num_kept.append(len(before))
        packing.start(*args).finish()
        packing.check(row, out, before)
    row.tried = f"{num_moments} times, with {', '.join(map(str, num_kept))} shards finished"
    return row


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster whose head is one node; a second one comes and goes."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def experiments(options: Options) -> Iterator[Row]:
    if find_spec("ray") is None:
        yield Row("packing on a cluster", NO_RAY)
        return
    if INSIDE not in os.environ:
        yield Row("packing on a cluster", NO_NAMESPACE)
        return
    packing = Packing(options.folder, options.moments(240, 96))
    yield by_all_ways(options, packing)
    with two_nodes() as cluster:
        killing: list[Callable[..., Row]]
        killing = [with_a_killed_node, with_a_killed_task, with_a_killed_driver]
        for experiment in killing:
            yield experiment(options, packing, cluster)


if __name__ == "__main__":
    if INSIDE not in os.environ and find_spec("ray") is not None:
        quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
        # the machine's memory is not ours
        enter_namespace("tests.faults.cluster", "-rn", RAY_memory_monitor_refresh_ms="0", **quiet)
    run(experiments, __doc__ or "")
