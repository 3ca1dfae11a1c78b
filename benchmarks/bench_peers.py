"""Tarmac beside its peers on the same photographs, each with data, environment and settings of its
own.

    python benchmarks/bench_peers.py --root VOCdevkit/VOC2012 --work /tmp/peers --out
    benchmarks/results/peers.md

Two settings: `originals`, the photographs as they are, and `short256`, their short side made 256
pixels, quality 90. Environments and data are made under --work by the first run and kept. In each
round every road has a fresh process to itself; the roads take turns, and ratios are formed round by
round. Run it on a quiet machine. Linux alone.

This process imports nothing large, because pages of libraries that it shared with a road would
count half there.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from environments import NEEDED, python_of, system, versions
from note import circumstances, num_cores, spread, tell
from reading import SPLIT, STORED, Reading
from rounds import TIMED, Results, column, cost_table, ratio_table, run_rounds

from shards.errors import DataError

HERE = Path(__file__).parent
SETTINGS = ("originals", "short256")
ROADS = {  # and the settings of each; raw pixels of originals would take 0.5 MB an image
    "tarmac": SETTINGS,
    "ffcv jpg": SETTINGS,
    "ffcv bytes": ("originals",),
    "ffcv raw": ("short256",),
    "webdataset": SETTINGS,
    "dali": SETTINGS,
    "streaming": SETTINGS,
    "litdata": SETTINGS,
    "folder pillow": SETTINGS,
    "folder decode_jpeg": SETTINGS,
}
READ_PHOTOGRAPHS = ("folder", "dali")  # as they are: nothing to prepare
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
ABOUT = {
    "tarmac": "packed by preprocess.shard from the same JPEGs, coefficients kept; its Loader",
    "ffcv jpg": "JPEGs as RGBImageField(write_mode='jpg') encodes them anew (OpenCV, quality 90), os_cache, RANDOM "
    "order, compiled decoder, crop (area filter) and flip; stored without the padding of its pages",
    "ffcv bytes": "the same with the original JPEG bytes, by a field of our own: FFCV has none that keeps them",
    "ffcv raw": "the same with the pixels stored as they are",
    "webdataset": "tar shards of 250 JPEGs, shuffle(1000), Pillow, torchvision transforms, batched in the workers",
    "dali": "CPU pipeline: readers.file with a shuffle buffer of 1000, decoders.image_random_crop, resize (linear, "
    "antialiased, its default), flip, DALIGenericIterator",
    "streaming": "MosaicML Streaming: MDS with the JPEG bytes, shuffle, Pillow, torchvision transforms, DataLoader",
    "litdata": "optimize()d chunks with the JPEG bytes, its own decoding (torchvision), transforms.v2 on uint8 tensors",
    "folder pillow": "ImageFolder's loader with vectors for labels: Pillow, torchvision transforms, DataLoader",
    "folder decode_jpeg": "torchvision.io.decode_jpeg, transforms.v2 on uint8 tensors (antialiased), DataLoader",
}
CROPS = (
    "PSNR: one random-resized crop (scale 0.08 to 1) of each of 300 JPEGs as tarmac packed them, "
    "against Pillow's decoding, cut and antialiased bilinear resize of the same bytes and box. "
    "FFCV: its compiled imdecode and resize_crop on the same bytes and boxes, as its "
    "RandomResizedCropRGBImageDecoder calls them."
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=NEEDED, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="VOC folder, such as VOCdevkit/VOC2012")
    parser.add_argument(
        "--work", default="/tmp/peers", help="environments and data are made here, once"
    )
    parser.add_argument(
        "--roads", default=",".join(ROADS), help="roads to measure, separated by commas"
    )
    parser.add_argument(
        "--settings", default=",".join(SETTINGS), help="settings to measure, separated by commas"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, default=3, help="timed epochs per measurement, at least"
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="timed seconds per measurement, at least"
    )
    parser.add_argument(
        "--workers", type=int, default=num_cores(), help="threads or worker processes of a road"
    )
    parser.add_argument("--out", default="", help="also write the note here")
    args = parser.parse_args()
    args.root, args.work = Path(args.root).resolve(), Path(args.work).resolve()
    args.roads, args.settings = args.roads.split(","), args.settings.split(",")
    for given, known in ((args.roads, ROADS), (args.settings, SETTINGS)):
        for name in set(given) - set(known):
            parser.error(f"{name!r} is unknown; choose from {', '.join(known)}")
    if not (args.root / "ImageSets" / "Main" / f"{SPLIT}.txt").exists():
        parser.error(
            f"--root {args.root} has no ImageSets/Main/{SPLIT}.txt; give the folder of VOC2012"
        )
    return args


def photographs(args: argparse.Namespace, setting: str) -> Path:
    """Return the VOC folder that all roads of a setting read, made if need be."""
    if setting == "originals":
        return args.root
    root = args.work / setting / "photographs"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, str(HERE / "shrink.py"), str(args.root), str(root)], check=True
        )
    return root


def prepared(args: argparse.Namespace, setting: str) -> list[Reading]:
    """Make what the roads of a setting need where it is not there yet, and say what each is to
    read.
    """
    root = photographs(args, setting)
    num_classes = len(list((root / "ImageSets" / "Main").glob(f"*_{SPLIT}.txt")))
    readings = []
    for road in (road for road in args.roads if setting in ROADS[road]):
        module = road.partition(" ")[0]
        python, data = python_of(module, args.work / "environments"), root
        if module not in READ_PHOTOGRAPHS:
            data = args.work / setting / road.replace(" ", "-")
        if not data.exists():
            data.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                [python, str(HERE / "prepare.py"), road, str(root), str(data)], check=True
            )
        limits = {"epochs": args.epochs, "seconds": args.seconds}
        readings.append(
            Reading(road, str(data), args.workers, num_classes, python, setting=setting, **limits)
        )
    return readings


def stored_kb(reading: Reading, num_images: float) -> str:
    """Tell how many kB per photograph a road wrote; empty where it reads the photographs as they
    are.
    """
    if reading.module in READ_PHOTOGRAPHS:
        return ""
    told = Path(reading.data) / STORED
    files = [path for path in Path(reading.data).rglob("*") if path.is_file()]
    num_bytes = (
        int(told.read_text()) if told.exists() else sum(path.stat().st_size for path in files)
    )
    return f"{num_bytes / num_images / 1000:.0f}"


def crop_quality(packed: str, ffcv: str) -> str:
    """Lay out how near crops come to an antialiased filter."""
    command = [sys.executable, str(HERE / "quality.py"), f"{packed}/{SPLIT}", "--ffcv-python", ffcv]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def setting_text(results: Results, ffcv: str) -> list[str]:
    """Lay out one setting."""
    num_images = column(next(iter(results.values())), "images")[0]
    stored = {reading: stored_kb(reading, num_images) for reading in results}
    text = [f"## {next(iter(results)).setting}, {num_images:.0f} photographs", ""]
    text += [
        cost_table(results, {"stored kB/image": stored}),
        "",
        "Per-round ratios:",
        "",
        ratio_table(results),
        "",
    ]
    packed = [reading.data for reading in results if reading.road == "tarmac"]
    return text + [line for data in packed for line in (crop_quality(data, ffcv), "")]


def main() -> None:
    """Set up, measure and tell."""
    args = parse()
    try:
        every = [reading for setting in args.settings for reading in prepared(args, setting)]
    except DataError as error:
        print(f"bench_peers: {error}", file=sys.stderr)
        sys.exit(2)
    modules = list(dict.fromkeys(reading.module for reading in every))
    lines = [
        *circumstances(PACKAGES),
        *versions(modules, args.work / "environments"),
        f"- system: {system()}",
    ]
    results = run_rounds(every, args.rounds)
    ffcv = next((reading.python for reading in every if reading.module == "ffcv"), "")
    text = ["# Tarmac beside its peers", "", *lines]
    text.append(
        f"- settings: size {every[0].size}, batch size {every[0].global_batch_size}, crop scale "
        f"0.08 to 1, ratio "
        f"3/4 to 4/3, mirror; n = {args.rounds} rounds, each of at least {args.epochs} timed "
        f"epochs and "
        f"{args.seconds:g} s; median (lowest..highest) over rounds, ratios formed round by round\n"
    )
    for setting in args.settings:
        part = {
            reading: measured for reading, measured in results.items() if reading.setting == setting
        }
        text += setting_text(part, ffcv) if part else []
    idle = spread([one["idle_mb"] for measured in results.values() for one in measured])
    batch_mb = every[0].global_batch_size * 3 * every[0].size ** 2 / 1e6
    text += [
        "## What was measured",
        "",
        TIMED,
        "",
        f"Idle: {idle} MB. One batch of images: {batch_mb:.1f} MB.",
        "",
    ]
    text += [
        CROPS,
        "",
        *(f"- {road}: {about}" for road, about in ABOUT.items() if road in args.roads),
    ]
    tell("\n".join(text), args.out)


if __name__ == "__main__":
    main()
