"""Damage a packed split in every way, again and again: all of it is named, and mended to the same
bytes.

After each damage `preprocess.verify` must name a file that was damaged, `--repair` and the same
packing must restore every byte, and a second look must find nothing.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from preprocess.packing.pool import Pool
from preprocess.verifying.repair import repair_split
from preprocess.verifying.verification import verify_split
from shards.disk.format import ENTRIES_NAME, TABLE_NAMES
from tests.conftest import pack, write_photographs
from tests.faults.packing import content
from tests.faults.report import Options, Row, run

NUM_IMAGES, SHARD_SAMPLES = 24, 6

# does harm to a split; returns the files that it changed
Damage = Callable[[Path, random.Random], set[str]]


def some_file(root: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in root.iterdir() if path.stat().st_size))


def flip_a_bit(root: Path, rng: random.Random) -> set[str]:
    path = some_file(root, rng)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return {path.name}


def overwrite_a_range(root: Path, rng: random.Random) -> set[str]:
    """Zeros, as a lost block leaves them, or anything else."""
    path = some_file(root, rng)
    before = path.read_bytes()
    at, length = rng.randrange(len(before)), rng.randint(1, 5000)
    filling = bytes(length) if rng.random() < 0.5 else rng.randbytes(length)
    after = (before[:at] + filling + before[at + length :])[: len(before)]
    if after == before:  # zeros over zeros
        after = before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :]
    path.write_bytes(after)
    return {path.name}


def cut_short(root: Path, rng: random.Random) -> set[str]:
    path = some_file(root, rng)
    os.truncate(path, rng.randrange(path.stat().st_size))
    return {path.name}


def append(root: Path, rng: random.Random) -> set[str]:
    path = some_file(root, rng)
    with open(path, "ab") as file:
        file.write(rng.randbytes(rng.randint(1, 2000)))
    return {path.name}


def remove(root: Path, rng: random.Random) -> set[str]:
    path = some_file(root, rng)
    path.unlink()
    return {path.name}


def exchange(root: Path, rng: random.Random) -> set[str]:
    """Two files of the same kind change places."""
    one, two = rng.sample(sorted(root.glob(rng.choice(["*.tar", "*.idx"]))), 2)
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)
    return {one.name, two.name} if a != b else set()


DAMAGES: dict[str, Damage] = {
    "a flipped bit": flip_a_bit,
    "a range overwritten": overwrite_a_range,
    "a file cut short": cut_short,
    "a file grown": append,
    "a file gone": remove,
    "two files exchanged": exchange,
}


def _causes(name: str, changed: set[str]) -> set[str]:
    """Name the files one of which must be told of: damage to a tar hides its .idx and its rows,
    that to a table the others, that to the index or to entries.json hides all.
    """
    causes = {name, *({name.replace(".idx", ".tar"), "index.json"} & changed)}
    if ENTRIES_NAME in changed:
        causes.add("index.json")
    if name in TABLE_NAMES:
        causes |= {*TABLE_NAMES, *(other for other in changed if other.endswith(".tar"))}
    return causes


def damaged_and_mended(
    options: Options, kind: str, again: Callable[[Path], object], whole: Path, pool: Pool
) -> Row:
    row, rng = Row(f"corruption: {kind}"), random.Random(f"{options.seed} {kind}")
    intact, root, num_tried = (
        content(whole),
        options.folder / "damaged-split/train",
        options.moments(100, 3),
    )
    for number in range(num_tried):
        shutil.rmtree(root.parent, ignore_errors=True)
        shutil.copytree(whole, root)
        changed = set[str]()
        for _ in range(rng.choice([1, 1, 2])):  # now and then two at once
            changed |= DAMAGES[kind](root, rng)
        changed = {name for name in changed if content(root).get(name) != intact[name]}
        where = f"seed {options.seed}, damage {number} ({', '.join(sorted(changed))})"
        try:
            findings = verify_split(root, pool).findings
            # no name: there is no index
            told = {finding.file or "index.json" for finding in findings}
            missed = [name for name in changed if not told & _causes(name, changed)]
            row.check(not missed, f"{where}: not named: {', '.join(missed)}")
            list(repair_split(root, findings))
            again(root)
            shutil.rmtree(root / "damaged", ignore_errors=True)
            row.check(content(root) == intact, f"{where}: not the same bytes")
            row.check(not verify_split(root, pool).findings, f"{where}: findings are left")
        except Exception as error:
            row.check(False, f"{where}: {error!r}")
    row.tried = f"{num_tried} damages, verified, repaired, packed again"
    return row


def experiments(options: Options) -> Iterator[Row]:
    whole = options.folder / "whole/train"
    records = write_photographs(options.folder / "photographs", NUM_IMAGES)

    def again(root: Path) -> object:
        return pack(records, root, shard_samples=SHARD_SAMPLES)

    again(whole)
    pool = Pool(1)
    try:
        for kind in DAMAGES:
            yield damaged_and_mended(options, kind, again, whole, pool)
    finally:
        pool.close()


if __name__ == "__main__":
    run(experiments, __doc__ or "")
