"""Let roads take turns, each measurement in a fresh process, and lay out what came of it."""

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence

from note import ratios, spread, table
from reading import MEASURE, Reading
from tqdm import tqdm

Results = dict[Reading, list[dict[str, float]]]
COLUMNS = {
    "images_per_second": "images/s",
    "cpu_us": "CPU us/image",
    "first_batch_ms": "first batch ms",
    "pss_mb": "peak memory MB",
    "own_mb": "own memory MB",
}

TIMED = (
    "The timed region of images/s and CPU time: whole epochs in one process, from asking for the "
    "first batch to having the last, after one warm-up epoch (files in the page cache); batches "
    "are dropped as they come; CPU time is of the process and its workers. First batch: from "
    "opening a road whose modules are imported; FFCV compiles then. Memory: peak PSS of the "
    "process and its workers over one more epoch, sampled every 20 ms, above the PSS of the "
    'same process when it had imported torch and nothing else; "own" leaves out pages of mapped files, which are the '
    "system's page cache and can be taken back. All roads: random-resized crop, mirror, uint8 [B, "
    "3, H, W], no normalisation, float32 label vectors."
)


def run(reading: Reading) -> dict[str, float]:
    """Measure in a fresh process, with the Python of the road's environment."""
    done = subprocess.run(
        [reading.python, str(MEASURE), reading.to_json()], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{reading.name} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_rounds(every: Sequence[Reading], rounds: int) -> Results:
    """Measure all roads in turns; the first to go changes from round to round."""
    results: Results = {reading: [] for reading in every}
    with tqdm(total=(rounds + 1) * len(every), unit="run", disable=None) as bar:
        # thrown away: fills the page cache and numba's cache of compiled code
        for reading in every:
            run(dataclasses.replace(reading, epochs=1, seconds=0.0))
            bar.update()
        for number in range(rounds):
            first = number % len(every)
            for reading in (*every[first:], *every[:first]):
                results[reading].append(run(reading))
                bar.update()
    check_sameness(results)
    return results


def check_sameness(results: Results) -> None:
    """Raise RuntimeError where two roads of a setting deliver another number of images or labels
    per epoch.
    """
    seen: dict[str, tuple[Reading, tuple[float, float]]] = {}
    for reading, measured in results.items():
        for one in measured:
            counts = one["images"], one["labels"]
            other, expected = seen.setdefault(reading.setting, (reading, counts))
            if counts != expected:
                raise RuntimeError(
                    f"{reading.name}: {counts} images and labels, {other.name}: {expected}"
                )


def column(measured: Sequence[dict[str, float]], name: str) -> list[float]:
    """Take one figure out of every round."""
    return [one[name] for one in measured]


def cost_table(results: Results, more: Mapping[str, Mapping[Reading, str]] | None = None) -> str:
    """Lay out what every road does and costs; `more` columns go to the right."""
    more = more or {}
    rows = []
    for reading, measured in results.items():
        costs = [spread(column(measured, name)) for name in COLUMNS]
        rows.append((reading.name, *costs, *(cells[reading] for cells in more.values())))
    return table(("road", *COLUMNS.values(), *more), rows)


def ratio_table(results: Results) -> str:
    """Lay out images/s and CPU time of each tarmac reading over those of each peer; empty where
    there is no pair.
    """
    rows = []
    for ours, measured in results.items():
        for peer, measured_peer in results.items():
            if ours.road != "tarmac" or peer.road == "tarmac":
                continue
            both = [
                ratios(column(measured, name), column(measured_peer, name))
                for name in ("images_per_second", "cpu_us")
            ]
            rows.append((ours.name, peer.name, *(spread(values, 2) for values in both)))
    return table(("tarmac", "over", "images/s, ratio", "CPU time, ratio"), rows) if rows else ""
