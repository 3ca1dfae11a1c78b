"""How long a consumer waits for the first batch of an epoch, beside later ones: each loader by
itself, and with what is read next made ahead (`Loader.then`).

    python benchmarks/bench_epochs.py data/voc --out benchmarks/results/epochs.md

Training and validation take turns, as in a run. The consumer takes batches as they come, or is one
that takes `--pace` times as long for each as the loader, as a GPU would. Both ways take turns
within each round.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from note import circumstances, num_cores, ratios, spread, table, tell
from tqdm import tqdm

from shards.index import open_split
from shards.loader import Loader

PACKAGES = ("torch", "numba", "simplejpeg", "opencv-python-headless", "numpy")
TIMED = (
    "Waits are the medians of a round: from asking for a batch to having it. Of an epoch's first "
    "batch the wait includes the start of the iteration; the very first epoch is left out. CPU "
    "time is of the process, for the same epochs either way."
)


@dataclass
class Waits:
    """Seconds that a consumer has waited for first and for later batches, and what it took."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def loaders(args: argparse.Namespace, follow: bool) -> list[Loader]:
    """Open both splits as a run does."""
    found = [
        Loader(
            open_split(args.data, split),
            args.global_batch_size,
            args.size,
            train=split == "train",
            num_threads=args.threads,
        )
        for split in ("train", "val")
    ]
    if follow:
        found[0].then(found[1])
        found[1].then(found[0])
    return found


def read_epoch(loader: Loader, step_s: float, waits: Waits) -> None:
    """Read an epoch, and take `step_s` for each batch."""
    asked = time.perf_counter()
    is_first = True
    for batch in loader:
        (waits.first if is_first else waits.later).append(time.perf_counter() - asked)
        is_first = False
        del batch
        time.sleep(step_s)
        asked = time.perf_counter()


def measure(both: Sequence[Loader], epochs: int, step_s: float) -> Waits:
    """Read both splits in turns, `epochs` times."""
    waits = Waits()
    cpu = time.process_time()
    started = time.perf_counter()
    for _ in range(epochs):
        for loader in both:
            read_epoch(loader, step_s, waits)
    waits.seconds = time.perf_counter() - started
    waits.cpu_seconds = time.process_time() - cpu
    return waits


def row(name: str, plain: Sequence[Waits], ahead: Sequence[Waits]) -> list[str]:
    """Lay out what came of one consumer."""

    def median_ms(of: Sequence[Waits], which: str) -> list[float]:
        return [1e3 * statistics.median(getattr(one, which)) for one in of]

    cells = [name]
    for of in (plain, ahead):
        cells += [
            spread(median_ms(of, which), digits) for which, digits in (("first", 1), ("later", 1))
        ]
    for which in ("seconds", "cpu_seconds"):
        values = [[getattr(one, which) for one in of] for of in (ahead, plain)]
        cells.append(spread(ratios(*values), 3))
    return cells


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="packed dataset with the splits train and val")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--global-batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--epochs", type=int, default=2, help="of each split in a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pace", type=float, default=1.5, help="of the slower consumer")
    parser.add_argument("--out", default="", help="also write the note here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ways = [loaders(args, follow) for follow in (False, True)]
    warm = [measure(both, 1, 0.0) for both in ways]
    num_steps = sum(map(len, ways[0]))
    step_s = args.pace * min(one.seconds for one in warm) / num_steps
    paces = {"as they come": 0.0, f"{1e3 * step_s:.0f} ms a batch": step_s}
    found: dict[str, list[list[Waits]]] = {name: [[], []] for name in paces}
    for _ in tqdm(range(args.rounds), unit="round", disable=None):
        for name, pace in paces.items():
            for way, both in enumerate(ways):
                found[name][way].append(measure(both, args.epochs, pace))
    header = ["consumer", "first wait, ms", "later", "ahead: first wait, ms", "later"]
    header += ["seconds, ahead / not", "CPU time, ahead / not"]
    lines = [
        *circumstances(PACKAGES),
        f"- data: {Path(args.data).name}, {num_steps} batches of {args.global_batch_size} at "
        f"{args.size} pixels in an epoch of training and one of validation; {args.threads} "
        f"threads; {args.rounds} rounds of {args.epochs} epochs; median (lowest..highest)",
    ]
    rows = [row(name, *each) for name, each in found.items()]
    tell("\n".join(["# Between epochs", "", *lines, "", table(header, rows), "", TIMED]), args.out)


if __name__ == "__main__":
    main()
