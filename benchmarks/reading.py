"""What one measurement reads, and how: passed as JSON to a process of its own."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

SPLIT = "train"  # of the photographs that all peers read
STORED = "stored_bytes.txt"  # beside data whose files are longer than what they hold
MEASURE = Path(__file__).with_name("measure_loader.py")


@dataclass(frozen=True)
class Reading:
    """A road is a module of roads/, sometimes with a variant after a space: `ffcv jpg`.

    `data` is what the road reads: the split of a packed dataset for tarmac, what a peer's own
    `prepare` wrote for the others. `workers` counts threads of tarmac, FFCV and DALI, processes of
    the others; `scale` is of the crops.
    """

    road: str
    data: str
    workers: int
    num_classes: int
    python: str = sys.executable
    size: int = 224
    global_batch_size: int = 64
    scale: tuple[float, float] = (0.08, 1.0)
    epochs: int = 3  # timed ones, at least
    seconds: float = 0.0  # timed, at least
    setting: str = ""  # only named in tables

    @property
    def module(self) -> str:
        return self.road.partition(" ")[0]

    @property
    def variant(self) -> str:
        return self.road.partition(" ")[2]

    @property
    def name(self) -> str:
        threads = self.module in ("tarmac", "ffcv", "dali")
        unit = (
            ("thread" if threads else "process")
            if self.workers == 1
            else ("threads" if threads else "processes")
        )
        return f"{self.road}, {self.workers} {unit}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Reading":
        fields = json.loads(text)
        return cls(**{**fields, "scale": tuple(fields["scale"])})
