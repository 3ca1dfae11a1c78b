"""The rows that an experiment prints, `experiment | tried | lost`, and its command line."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Row:
    """What one experiment tried, and everything that was lost; the aim is nothing."""

    experiment: str
    tried: str = ""
    lost: list[str] = field(default_factory=list)

    def check(self, holds: bool, otherwise: str) -> None:
        """Count as lost what does not hold."""
        if not holds:
            self.lost.append(otherwise)

    def __str__(self) -> str:
        return f"{self.experiment:<44} | {self.tried:<64} | {'; '.join(self.lost) or 'nothing'}"


@dataclass(frozen=True)
class Options:
    """How much to try. `folder` is a scratch folder of this experiment."""

    quick: bool
    seed: int
    folder: Path

    def moments(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def run(experiments: Callable[[Options], Iterator[Row]], doc: str) -> None:
    """Run a script's experiments, print a row for each, leave with status 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument(
        "--quick", action="store_true", help="a few moments of each, to see that it works"
    )
    parser.add_argument("--seed", type=int, default=0, help="which moments")
    given = parser.parse_args()
    started, num_lost = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for row in experiments(Options(given.quick, given.seed, Path(folder))):
            print(row, flush=True)
            num_lost += len(row.lost)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    raise SystemExit(num_lost > 0)
