"""Hostile and odd input, many thousands of cases: `python -m tests.faults.fuzz` prints what was
tried.

Every target takes a generator and tries one case; what it returns is counted, and whatever it
raises is a bug. Cases are pure functions of target, seed and number.
"""

import argparse
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np

from tests.faults.hostile_files import index_json, keys, samples_npy, tables, voc_lists, voc_xml
from tests.faults.hostile_images import decoder, packer, png, retiler, splicer

# and its share of the cases
TARGETS: dict[str, tuple[Callable[[np.random.Generator], str], float]] = {
    "tile splicer": (splicer, 0.2),
    "tile decoder": (decoder, 0.2),
    "retile, progressive": (retiler, 0.1),
    "packing": (packer, 0.05),
    "PNG members": (png, 0.05),
    "index.json": (index_json, 0.08),
    "samples.npy": (samples_npy, 0.08),
    "tables": (tables, 0.08),
    "VOC lists": (voc_lists, 0.08),
    "VOC XML": (voc_xml, 0.06),
    "keys of names": (keys, 0.1),
}


def fuzz(target: str, num_cases: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Try cases of one target: how they ended, and those that are bugs."""
    try_one, ends, bugs = TARGETS[target][0], Counter[str](), []
    for number in range(num_cases):
        rng = np.random.default_rng([zlib.crc32(target.encode()), seed, number])
        try:
            ends[try_one(rng)] += 1
        except Exception as error:
            bugs.append(f"seed {seed}, case {number}: {error!r}")
    return ends, bugs


def main() -> None:
    """Print a row for each target, `target | tried | lost`; leave with status 1 where there was a
    bug.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the cases")
    parser.add_argument("--seed", type=int, default=0, help="which cases")
    parser.add_argument(
        "--cases", type=int, default=100_000, help="how many, of all targets together"
    )
    given = parser.parse_args()
    lost = False
    for target, (_, share) in TARGETS.items():
        num_cases = int(given.cases * share / (50 if given.quick else 1))
        ends, bugs = fuzz(target, num_cases, given.seed)
        told = ", ".join(f"{number:,} {end}" for end, number in ends.most_common())
        print(
            f"fuzz: {target} | {num_cases:,} cases: {told} | {'; '.join(bugs[:3]) or 'nothing'}",
            flush=True,
        )
        lost |= bool(bugs)
    raise SystemExit(lost)


if __name__ == "__main__":
    main()
