"""What a road reads from a server, and how: passed as JSON to a process of its own, which is asked
for epochs by lines on its standard input.

    python benchmarks/far_reading.py '{"road": "streaming", ...}'
    python benchmarks/far_reading.py prepare streaming VOCdevkit/VOC2012 /tmp/far/streaming
"""

import contextlib
import importlib
import itertools
import json
import os
import pickle
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where a road finds its set, and where it keeps what it fetched: `share` of the set at most, 0
    all of it. `num_ranks` processes have a part of each global batch.
    """

    road: str
    url: str  # of a folder on an HTTP server
    bucket: str  # the same by s3://
    cache: str
    set_bytes: int
    share: float = 0.0
    rank: int = 0
    num_ranks: int = 1
    workers: int = 2
    size: int = 128  # 0 decodes nothing
    global_batch_size: int = 64
    port: int = 0  # where ranks find each other

    @property
    def local_batch_size(self) -> int:
        return self.global_batch_size // self.num_ranks

    @property
    def cache_bytes(self) -> int:
        return int(self.share * self.set_bytes)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def _join(place: Place) -> None:
    """Let the ranks find each other, as torchrun does."""
    os.environ.update(
        RANK=str(place.rank),
        LOCAL_RANK=str(place.rank),
        WORLD_SIZE=str(place.num_ranks),
        LOCAL_WORLD_SIZE=str(place.num_ranks),
        NODE_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(place.port),
    )
    import torch

    torch.set_num_threads(1)
    if place.num_ranks > 1:
        torch.distributed.init_process_group("gloo")


def _read(reader: Any, epoch: int, most: int | None) -> dict[str, Any]:
    started = time.perf_counter()
    batches = [list(keys) for keys in itertools.islice(reader.epoch(epoch), most)]
    return {"batches": batches, "seconds": time.perf_counter() - started}


def _serve(place: Place) -> None:
    """Answer lines: `EPOCH`, `EPOCH STEPS FILE` to stop and keep the state, or `load FILE`."""
    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes elsewhere
    os.dup2(2, 1)
    _join(place)
    reader = importlib.import_module(f"far_roads.{place.road}").Reader(place)
    for line in sys.stdin:
        words = line.split()
        found: dict[str, Any] = {}
        try:
            if words[0] == "load":
                reader.load(pickle.loads(Path(words[1]).read_bytes()))
            else:
                most = int(words[1]) if len(words) > 1 else None
                found = _read(reader, int(words[0]), most)
                if most is not None:
                    Path(words[2]).write_bytes(pickle.dumps(reader.state()))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def main() -> None:
    if sys.argv[1] == "prepare":
        road, root, out = sys.argv[2:]
        importlib.import_module(f"far_roads.{road}").prepare(Path(root), Path(out))
        return
    with contextlib.suppress(BrokenPipeError):
        _serve(Place(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
