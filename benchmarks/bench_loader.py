"""Images/s, CPU time, time to the first batch and memory of the loader, beside peers that read the same shards.

    python benchmarks/bench_loader.py data/voc --threads 1,2,4 --out benchmarks/results/loader-voc.md

Every measurement has a fresh process to itself; the roads take turns within each round, and ratios are formed
round by round. Linux alone (it reads /proc).
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from measure_loader import Reading
from note import circumstances, ratios, spread, table, tell
from tqdm import tqdm

from shards.index import open_split

PEERS = ("torchvision", "webdataset")
PACKAGES = ("torch", "torchvision", "webdataset", "pillow", "simplejpeg", "opencv-python-headless", "numba", "numpy")
TIMED = (
    "The timed region of images/s and CPU time: whole epochs in one process, from asking for the first batch to having "
    "the last, after one warm-up epoch (files in the page cache); batches are dropped as they come. First batch: from "
    "opening index and loader in a process that has just imported its modules. Memory: peak PSS of the process and its "
    "workers over one more epoch, sampled every 20 ms, above the PSS of the same process idle after its imports (torch "
    'among them); "own" leaves out pages of mapped files, which are the system\'s page cache and can be taken back. '
    "All roads: random-resized crop, mirror, uint8, float32 label vectors."
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="packed dataset, such as data/voc")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=224, help="side of the crops in pixels")
    parser.add_argument("--global-batch-size", type=int, default=64)
    parser.add_argument("--threads", default="1,2,4", help="loader threads to try, separated by commas")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, nargs=2, default=(0.08, 1.0), help="share of the area a crop takes")
    parser.add_argument("--peer", choices=(*PEERS, "all", "none"), default="all")
    parser.add_argument("--peer-workers", type=int, default=2, help="worker processes of a peer")
    parser.add_argument("--out", default="", help="also write the note here")
    return parser.parse_args()


def readings(args: argparse.Namespace) -> list[Reading]:
    """List what is measured in each round."""
    peers = {"all": PEERS, "none": ()}.get(args.peer, (args.peer,))
    roads = [("tarmac", int(threads)) for threads in args.threads.split(",")]
    roads += [(peer, args.peer_workers) for peer in peers]
    folder = str(Path(args.data) / args.split)
    settings = (folder, args.size, args.global_batch_size, tuple(args.scale), args.epochs)
    return [Reading(road, workers, *settings) for road, workers in roads]


def run(reading: Reading) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, str(Path(__file__).with_name("measure_loader.py"))]
    done = subprocess.run(
        [*command, json.dumps(dataclasses.asdict(reading))], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_rounds(every: list[Reading], rounds: int) -> dict[Reading, list[dict[str, float]]]:
    """Measure all roads in turns; the first to go changes from round to round."""
    results: dict[Reading, list[dict[str, float]]] = {reading: [] for reading in every}
    with tqdm(total=(rounds + 1) * len(every), unit="run", disable=None) as bar:
        for reading in every:  # thrown away: fills the page cache and numba's cache of compiled code
            run(dataclasses.replace(reading, epochs=1))
            bar.update()
        for number in range(rounds):
            first = number % len(every)
            for reading in every[first:] + every[:first]:
                results[reading].append(run(reading))
                bar.update()
    return results


def cost_table(results: dict[Reading, list[dict[str, float]]]) -> str:
    """Lay out what every road does and costs."""
    columns = ("images_per_second", "cpu_us", "first_batch_ms", "pss_mb", "own_mb")
    header = ("road", "images/s", "CPU us/image", "first batch ms", "peak memory MB", "own memory MB")
    rows = [
        (reading.name, *(spread([one[column] for one in measured]) for column in columns))
        for reading, measured in results.items()
    ]
    return table(header, rows)


def ratio_table(results: dict[Reading, list[dict[str, float]]]) -> str:
    """Lay out images/s and CPU time of each tarmac reading over those of each peer."""
    rows = []
    for ours, measured in results.items():
        for peer, measured_peer in results.items():
            if ours.road != "tarmac" or peer.road == "tarmac":
                continue
            both = [
                ratios([one[column] for one in measured], [one[column] for one in measured_peer])
                for column in ("images_per_second", "cpu_us")
            ]
            rows.append((ours.name, peer.name, *(spread(values, 2) for values in both)))
    return table(("tarmac", "over", "images/s, ratio", "CPU time, ratio"), rows) if rows else ""


def main() -> None:
    """Measure and tell."""
    args = parse()
    index = open_split(args.data, args.split)
    every = readings(args)
    lines = circumstances(PACKAGES)
    results = run_rounds(every, args.rounds)
    width, height = (index.samples[side].mean() for side in ("width", "height"))
    settings = (
        f"- data: {Path(args.data).name}/{args.split}, {index.num_samples} JPEGs, on average {width:.0f} x "
        f"{height:.0f} pixels, {index.samples['length'].mean() / 1000:.1f} kB, in {len(index.shards)} shard(s)\n"
        f"- settings: size {args.size}, global batch size {args.global_batch_size}, crop scale {args.scale[0]} to "
        f"{args.scale[1]}; n = {args.rounds} rounds of {args.epochs} epoch(s); median (lowest..highest) over rounds"
    )
    text = ["# The loader alone", "", *lines, settings, "", cost_table(results), ""]
    compared = ratio_table(results)
    text += ["Per-round ratios:", "", compared, ""] if compared else []
    tell("\n".join([*text, TIMED]), args.out)


if __name__ == "__main__":
    main()
