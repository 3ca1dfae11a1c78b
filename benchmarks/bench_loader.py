"""Images/s, CPU time, time to the first batch and memory of the loader, beside peers that read the
same shards.

    python benchmarks/bench_loader.py data/voc --threads 1,2,4 --out
    benchmarks/results/loader-voc.md

Every measurement has a fresh process to itself; the roads take turns within each round, and ratios
are formed round by round. Linux alone (it reads /proc). Peers with data of their own:
bench_peers.py.
"""

import argparse
from pathlib import Path

from note import circumstances, tell
from reading import Reading
from rounds import TIMED, cost_table, ratio_table, run_rounds

from shards.index import open_split

# the name on the command line: the road
PEERS = {"torchvision": "sliced", "webdataset": "webdataset"}
PACKAGES = (
    "torch",
    "torchvision",
    "webdataset",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "numba",
    "numpy",
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="packed dataset, such as data/voc")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=224, help="side of the crops in pixels")
    parser.add_argument("--global-batch-size", type=int, default=64)
    parser.add_argument(
        "--threads", default="1,2,4", help="loader threads to try, separated by commas"
    )
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--scale", type=float, nargs=2, default=(0.08, 1.0), help="share of the area a crop takes"
    )
    parser.add_argument("--peer", choices=(*PEERS, "all", "none"), default="all")
    parser.add_argument("--peer-workers", type=int, default=2, help="worker processes of a peer")
    parser.add_argument("--out", default="", help="also write the note here")
    return parser.parse_args()


def readings(args: argparse.Namespace, num_classes: int) -> list[Reading]:
    """List what is measured in each round."""
    peers = {"all": tuple(PEERS), "none": ()}.get(args.peer, (args.peer,))
    roads = [("tarmac", int(threads)) for threads in args.threads.split(",")]
    roads += [(PEERS[peer], args.peer_workers) for peer in peers]
    settings = {
        "size": args.size,
        "global_batch_size": args.global_batch_size,
        "scale": tuple(args.scale),
        "epochs": args.epochs,
    }
    folder = str(Path(args.data) / args.split)
    return [Reading(road, folder, workers, num_classes, **settings) for road, workers in roads]


def main() -> None:
    """Measure and tell."""
    args = parse()
    index = open_split(args.data, args.split)
    lines = circumstances(PACKAGES)
    results = run_rounds(readings(args, index.num_classes), args.rounds)
    width, height = (index.samples[side].mean() for side in ("width", "height"))
    settings = (
        f"- data: {Path(args.data).name}/{args.split}, {index.num_samples} JPEGs, on average "
        f"{width:.0f} x "
        f"{height:.0f} pixels, {index.samples['length'].mean() / 1000:.1f} kB, in "
        f"{len(index.shards)} shard(s)\n"
        f"- settings: size {args.size}, global batch size {args.global_batch_size}, crop scale "
        f"{args.scale[0]} to "
        f"{args.scale[1]}; n = {args.rounds} rounds of {args.epochs} epoch(s); median "
        f"(lowest..highest) over rounds"
    )
    text = ["# The loader alone", "", *lines, settings, "", cost_table(results), ""]
    compared = ratio_table(results)
    text += ["Per-round ratios:", "", compared, ""] if compared else []
    tell("\n".join([*text, TIMED]), args.out)


if __name__ == "__main__":
    main()
