"""Which share of a set is fetched again in later epochs, for caches of several sizes and rules.

    python benchmarks/bench_cache.py

The rule of shards.remote (what is needed last goes, by the known order) is the code itself, over
objects in memory and a cache on this disk; LRU, FIFO and the bound 1 - c are computed beside it. The
order is the near one, of one machine: all of its groups.
"""

import argparse
import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from shards.disk.tables import Shard
from shards.errors import DataError
from shards.order.near_order import NearOrder
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder
from shards.remote.fetch_ahead import FollowedShards
from shards.remote.future import Course
from shards.remote.patience import Reply

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
UNIT = 8  # bytes of a sample here


class MemoryStore:
    """Objects that are made when they are read; counts them."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.num_fetched = 0

    @contextmanager
    def get(
        self, name: str, start: int, num_bytes: int | None, stop: int | None = None
    ) -> Iterator[Reply]:
        self.num_fetched += 1
        data = self.contents[name][:stop]
        yield Reply(start, len(data), iter([data[start:]]))


class Stepped(FollowedShards):
    """Fetches when it is told to, not in threads: the same each time."""

    def start(self) -> None:
        pass


class Run:
    """Epochs over shards of some numbers of samples, `UNIT` bytes each, in the near order."""

    def __init__(self, sizes: np.ndarray, groups: int, window: int, seed: int = 0) -> None:
        self.sizes = sizes
        batch = 4 * groups
        self.num_steps = -(-int(sizes.sum()) // batch)
        self._groups = np.arange(groups)
        self._order = NearOrder(sizes, batch, groups, window, seed)

    def uses(self, epoch: int) -> np.ndarray:
        return self._order.uses(epoch, self._groups)

    def fetched(self, share: float, epochs: int, folder: Path) -> list[float]:
        """Run epochs with a cache of `share` of the set; tell which share each epoch fetched."""
        contents = {
            f"{number}.tar": number.to_bytes(UNIT, "little") * int(size)
            for number, size in enumerate(self.sizes)
        }
        shards = [
            Shard(name, len(data), 1, hashlib.sha256(data).hexdigest())
            for name, data in contents.items()
        ]
        total = sum(shard.num_bytes for shard in shards)
        store = MemoryStore(contents)
        cache = CacheFolder(folder, max(share * total, 1) / 1e9)
        ahead = Stepped(Address.parse("memory://set"), store, cache, shards)
        ahead.follow(Course(self.uses, self.num_steps), is_first=False)
        out = []
        for epoch in range(epochs):
            before = store.num_fetched
            self._epoch(ahead, epoch)
            out.append((store.num_fetched - before) / len(shards))
        return out

    def _epoch(self, ahead: Stepped, epoch: int) -> None:
        uses = self.uses(epoch)
        opened = {}
        for step in np.unique(np.concatenate([uses[:, 0], uses[:, 1] + 1])).tolist():
            if step >= self.num_steps:
                break
            for number in uses[uses[:, 1] < step, 2].tolist():
                if number in opened and not (uses[uses[:, 2] == number, 1] >= step).any():
                    opened.pop(number).close()
            with ahead.turn(epoch, step):
                for number in uses[uses[:, 0] == step, 2].tolist():
                    opened[number] = ahead.open(number)
                while ahead.fetch_one():
                    pass
        for file in opened.values():
            file.close()

    def of_rule(self, rule: str, share: float, epochs: int) -> float:
        """Tell which share LRU or FIFO fetch in later epochs; what is open is not removed."""
        cache: OrderedDict[int, int] = OrderedDict()  # shard -> last step of its use
        room = share * self.sizes.sum()
        misses = 0
        for epoch in range(epochs):
            for first, last, number in self.uses(epoch).tolist():
                now = epoch * self.num_steps + first
                until = epoch * self.num_steps + last
                if number in cache:
                    cache[number] = max(cache[number], until)
                    if rule == "lru":
                        cache.move_to_end(number)
                    continue
                misses += epoch > 1
                used = sum(self.sizes[each] for each in cache)
                for each in [each for each in cache if cache[each] < now]:
                    if used + self.sizes[number] <= room:
                        break
                    used -= self.sizes[each]
                    del cache[each]
                cache[number] = until
        return misses / len(self.sizes) / (epochs - 2)


def table(args: argparse.Namespace) -> str:
    """Measure all rules."""
    rng = np.random.default_rng(0)
    rows = [
        "| shards, open at once | rule | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |",
        "| --- " * (2 + len(SHARES)) + "|",
    ]
    for label, groups, window, sizes in (
        ("equal", args.groups, 1, np.full(args.shards, 200)),
        ("+-30%", args.groups, 1, rng.integers(140, 261, args.shards)),
        ("equal", args.groups, 2, np.full(args.shards, 200)),
    ):
        run = Run(sizes, groups, window)
        what = f"{args.shards} {label}, {groups * window}"
        by_plan = []
        for share in SHARES:
            with tempfile.TemporaryDirectory(dir=args.folder or None) as folder:
                try:
                    fetched = run.fetched(share, args.epochs, Path(folder) / "cache")
                    by_plan.append(float(np.mean(fetched[2:])))
                except DataError:  # less than what is open at once
                    by_plan.append(float("nan"))
        rows.append(_row(what, "no rule can do better: 1 - c", [1 - share for share in SHARES]))
        rows.append(_row(what, "shards.remote", by_plan))
        for rule in ("lru", "fifo"):
            shares = [run.of_rule(rule, share, args.epochs) for share in SHARES]
            rows.append(_row(what, rule.upper(), shares))
    return "\n".join(rows)


def _row(what: str, rule: str, shares: list[float]) -> str:
    return f"| {what} | {rule} | " + " | ".join(f"{100 * share:.0f}" for share in shares) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=512)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--folder", default="", help="where the caches are made")
    args = parser.parse_args()
    print("percent of the set fetched in each later epoch, by the size of the cache")
    print(table(args))


if __name__ == "__main__":
    main()
