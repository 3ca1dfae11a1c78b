"""Average precision of every class beside scikit-learn and torchmetrics, its memory, and the same
on several ranks.

    pip install -e '.[bench]'
    python benchmarks/bench_metrics.py --out benchmarks/results/metrics.md

The three take turns within each round and ratios are formed round by round, of wall time and of CPU
time: the latter also counts on a machine that others use. Memory is measured in a fresh process
each. Linux alone (it reads /proc).
"""

import argparse
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from note import circumstances, ratios, spread, table, tell
from sklearn.metrics import average_precision_score
from torch import Tensor
from tqdm import tqdm

from eval.distributed import class_sharded, gather_classes
from eval.metrics import average_precision

SIZES = ((5_823, 20), (50_000, 80), (1_000_000, 20))
SHARE_POSITIVE, SHARE_KNOWN = 0.05, 1.0
ROADS = ("tarmac", "scikit-learn", "torchmetrics", "torchmetrics, 1 thread")
DTYPES = ("float32", "float16", "float64")
SHARDED = (200_000, 80)
RANKS = (1, 2, 4)
ROWS_PER_SEED = 1_000


def sample_set(
    num_samples: int, num_classes: int, dtype: str = "float32", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Make scores in [0, 1) and bool labels, [N, K] each, a twentieth of them positive and scoring
    higher.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.empty((num_samples, num_classes)).uniform_(generator=generator) < SHARE_POSITIVE
    scores = torch.empty((num_samples, num_classes)).uniform_(generator=generator)
    return scores.add_(labels, alpha=0.5).div_(1.5).to(getattr(torch, dtype)), labels


def road(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function from scores and labels [N, K] to the AP of each class [K]."""
    if name == "tarmac":
        return average_precision
    if name == "scikit-learn":
        return sklearn_loop
    # optional: the extra `bench`
    from torchmetrics.functional.classification import multilabel_average_precision

    def exact(scores: Tensor, labels: Tensor) -> Tensor:
        """`MultilabelAveragePrecision(thresholds=None)`, without its accumulation and its checks of
        the input.
        """
        classes, num_threads = scores.shape[1], torch.get_num_threads()
        torch.set_num_threads(1 if name.endswith("1 thread") else num_threads)
        ap = multilabel_average_precision(
            scores, labels.long(), classes, average=None, validate_args=False
        )
        torch.set_num_threads(num_threads)
        return ap

    return exact


def sklearn_loop(scores: Tensor, labels: Tensor) -> Tensor:
    """Call scikit-learn once per class."""
    columns = zip(scores.numpy().T, labels.numpy().T, strict=True)
    return torch.tensor([average_precision_score(y, s) for s, y in columns], dtype=torch.float64)


def time_size(
    num_samples: int, num_classes: int, rounds: int
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Time all roads in turns; return rows of times in ms and rows of ratios over tarmac's."""
    scores, labels = sample_set(num_samples, num_classes)
    functions = {name: road(name) for name in ROADS}
    results = {name: function(scores, labels) for name, function in functions.items()}
    for name in ROADS[1:]:
        tolerance = 1e-9 if name == "scikit-learn" else 1e-3  # torchmetrics sums in float32
        worst = (results["tarmac"] - results[name]).abs().max()
        if not worst <= tolerance:
            raise RuntimeError(
                f"{name} gives another AP at {num_samples} x {num_classes}: by up to {worst:.1e}"
            )
    wall: dict[str, list[float]] = {name: [] for name in ROADS}
    cpu: dict[str, list[float]] = {name: [] for name in ROADS}
    for number in range(rounds):
        first = number % len(ROADS)
        for name in (*ROADS[first:], *ROADS[:first]):
            start = time.perf_counter(), time.process_time()
            functions[name](scores, labels)
            wall[name].append(1e3 * (time.perf_counter() - start[0]))
            cpu[name].append(1e3 * (time.process_time() - start[1]))
    size = f"{num_samples:,} x {num_classes}"
    times = [(size, name, spread(wall[name], 1), spread(cpu[name], 1)) for name in ROADS]
    over = [
        (size, name, *(spread(ratios(kind[name], kind["tarmac"]), 1) for kind in (wall, cpu)))
        for name in ROADS[1:]
    ]
    return times, over


def resident_mb(field: str) -> float:
    """Read VmRSS (now) or VmHWM (highest) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def start_watch() -> float:
    """Give freed memory back to the system, reset the high-water mark, return what is resident, MB."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mb("VmRSS")


def measure_memory(name: str, num_samples: int, num_classes: int, dtype: str) -> None:
    """Print, as JSON, the peak extra memory of one call in MB and the size of the scores."""
    function = road(name)
    function(*sample_set(50_000, 4, dtype))  # modules, threads and their stacks
    scores, labels = sample_set(num_samples, num_classes, dtype)
    before = start_watch()
    function(scores, labels)
    extra = resident_mb("VmHWM") - before
    print(json.dumps([extra, scores.nbytes / 2**20]))


def memory_rows() -> list[tuple[str, ...]]:
    """Measure every size, road and dtype in a fresh process."""
    cases = [(*size, name, "float32") for size in SIZES for name in ROADS[:3]]
    cases += [(*SIZES[-1], "tarmac", dtype) for dtype in DTYPES[1:]]
    rows = []
    for num_samples, num_classes, name, dtype in tqdm(cases, "memory", disable=None):
        command = [
            sys.executable,
            __file__,
            "--memory",
            json.dumps([name, num_samples, num_classes, dtype]),
        ]
        cells = []
        for setting in ({}, {"MALLOC_MMAP_THRESHOLD_": "65536"}):
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env={**os.environ, **setting}
            )
            extra, size = json.loads(done.stdout.splitlines()[-1])
            cells += [f"{extra:.1f}", f"{extra / size:.2f}"]
        rows.append((f"{num_samples:,} x {num_classes}", name, dtype, f"{size:.1f}", *cells))
    return rows


def run_rank(place: int, num_ranks: int, folder: str) -> None:
    """Be one of several ranks: make own samples, measure, leave peak memory and a digest of the
    result.
    """
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store{num_ranks}", rank=place, world_size=num_ranks
    )
    num_samples, num_classes = SHARDED
    # the same rows for any number of ranks
    seeds = range(place, num_samples // ROWS_PER_SEED, num_ranks)
    parts = [sample_set(ROWS_PER_SEED, num_classes, seed=seed) for seed in seeds]
    scores, labels = (torch.cat(matrices) for matrices in zip(*parts, strict=True))
    ids = torch.cat([torch.arange(ROWS_PER_SEED) + seed * ROWS_PER_SEED for seed in seeds])
    known = scores != 0.5  # any mask
    del parts
    average_precision(scores[:100], labels[:100])
    before = start_watch()
    dist.barrier()
    start = time.perf_counter()
    shard = class_sharded(scores, labels, known, ids, num_samples)
    ap = gather_classes(average_precision(shard.scores, shard.labels, shard.known), shard)
    seconds = time.perf_counter() - start
    measured = {
        "own": scores.nbytes / 2**20,
        "extra": resident_mb("VmHWM") - before,
        "seconds": seconds,
        "digest": hashlib.sha256(ap.numpy().tobytes()).hexdigest()[:16],
    }
    (Path(folder) / f"{num_ranks}-{place}.json").write_text(json.dumps(measured))
    dist.barrier()
    dist.destroy_process_group()


def rank_rows() -> list[tuple[str, ...]]:
    """Measure on 1, 2 and 4 gloo processes; raise RuntimeError where any result differs in a bit."""
    rows, digests = [], set()
    with tempfile.TemporaryDirectory() as folder:
        for num_ranks in tqdm(RANKS, "ranks", disable=None):
            torch.multiprocessing.spawn(run_rank, (num_ranks, folder), nprocs=num_ranks)
            files = [Path(folder) / f"{num_ranks}-{place}.json" for place in range(num_ranks)]
            ranks = [json.loads(file.read_text()) for file in files]
            digests |= {rank["digest"] for rank in ranks}
            most = {key: max(rank[key] for rank in ranks) for key in ("own", "extra", "seconds")}
            cells = (
                f"{most['own']:.1f}",
                f"{most['extra']:.1f}",
                f"{most['seconds']:.2f}",
                ranks[0]["digest"],
            )
            rows.append((str(num_ranks), *cells))
    if len(digests) != 1:
        raise RuntimeError(f"the ranks disagree: {sorted(digests)}")
    return rows


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of torch, and of tarmac's blocks"
    )
    parser.add_argument(
        "--only", choices=("time", "memory", "ranks"), default="", help="one of the three parts"
    )
    parser.add_argument("--memory", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", default="", help="also write the note here")
    return parser.parse_args()


def main() -> None:
    """Measure and tell."""
    args = parse()
    torch.set_num_threads(args.threads)
    if args.memory:
        measure_memory(*json.loads(args.memory))
        return
    lines = [
        "# Average precision",
        "",
        *circumstances(("torch", "numpy", "scikit-learn", "torchmetrics")),
    ]
    lines += [
        f"- settings: float32 scores, {SHARE_POSITIVE:.0%} positive, {args.threads} threads; n = "
        f"{args.rounds} rounds; median (lowest..highest) over rounds, ratios formed round by round"
    ]
    if args.only in ("", "time"):
        timed = [time_size(*size, args.rounds) for size in tqdm(SIZES, "time", disable=None)]
        times = [row for rows, _ in timed for row in rows]
        over = [row for _, rows in timed for row in rows]
        lines += ["", table(("N x K", "", "wall ms", "CPU ms"), times)]
        lines += ["", table(("N x K", "takes, over tarmac,", "wall time", "CPU time"), over)]
    if args.only in ("", "memory"):
        header = (
            "N x K",
            "",
            "scores",
            "scores MB",
            "peak extra MB",
            "times the scores",
            "returned at once",
            "times",
        )
        lines += ["", table(header, memory_rows())]
    if args.only in ("", "ranks"):
        lines += [
            "",
            f"{SHARDED[0]:,} x {SHARDED[1]} on gloo processes, one thread each, the most of any "
            f"rank; all APs",
        ]
        lines += ["of all ranks are the same to the last bit:", ""]
        lines += [
            table(
                ("ranks", "own scores MB", "peak extra MB", "seconds", "SHA-256 of AP"), rank_rows()
            )
        ]
    lines += [
        "",
        "The timed region: one call from tensors [N, K] in memory to AP [K], after one that is "
        "not counted. scikit-learn is called once per class on column views; torchmetrics is "
        "`multilabel_average_precision(thresholds=None)`, what `MultilabelAveragePrecision` "
        "calls, without its checks. Beside other busy processes torch's operators lose much time "
        "where they share out one operator to threads; torchmetrics stands there with one thread "
        "too.",
        "",
        "Peak extra memory: the process's highest resident set during one call, in a fresh "
        "process after a small call, above what was resident before. `returned at once` is with "
        "malloc giving back every freed tensor (MALLOC_MMAP_THRESHOLD_=65536), so what is asked "
        "for at a time; by default glibc keeps some. On ranks the exchanged shard (scores, "
        "labels, known: 6 bytes a score) is included.",
    ]
    tell("\n".join(lines), args.out)


if __name__ == "__main__":
    main()
