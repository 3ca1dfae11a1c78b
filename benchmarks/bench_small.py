"""Images/s of small images that are seen whole: every cache of the loader beside torchvision's
transforms.

    python benchmarks/bench_small.py --out benchmarks/results/small.md
    python benchmarks/bench_small.py --root cifar-10-batches-py

Without --root it makes a set in CIFAR-10's layout. Either is packed by preprocess.shard. The peer
is the usual script: the images as one array in memory, as torchvision.datasets.CIFAR10 holds them,
Pillow transforms (RandomCrop with reflected padding, RandomHorizontalFlip, PILToTensor), a
DataLoader with worker processes. Roads take turns within each round, and ratios are formed round by
round; each road's first epoch, which decodes and compiles, is not timed.
"""

import argparse
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from note import circumstances, ratios, spread, table, tell
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from tqdm import tqdm

from shards.dataset import ShardDataset
from shards.index import DatasetIndex
from shards.loader import Loader, View

PACKAGES = ("torch", "torchvision", "pillow", "opencv-python-headless", "numba", "numpy")
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
SIZE, PAD = 32, 4
PEER = "torchvision, Pillow, DataLoader"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", default="", help="folder cifar-10-batches-py; without it a set is made"
    )
    parser.add_argument("--num-images", type=int, default=50_000, help="training images to make")
    parser.add_argument("--global-batch-size", type=int, default=512)
    parser.add_argument(
        "--workers", type=int, default=2, help="threads of the loader, worker processes of the peer"
    )
    parser.add_argument(
        "--cutout", type=int, default=0, help="side of the square that the loader cuts out"
    )
    parser.add_argument("--device", default="cpu", help="where cache device keeps the images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="timed whole epochs of a road in a round, at least",
    )
    parser.add_argument("--out", default="", help="also write the note here")
    return parser.parse_args()


def write_set(root: Path, num_images: int) -> Path:
    """Write smooth images with noise in the layout of CIFAR-10, a fifth in each training batch."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for name in BATCHES:
        num = num_images // 5
        coarse = (
            rng.integers(30, 226, (num, 3, 8, 8), dtype=np.uint8)
            .repeat(4, axis=2)
            .repeat(4, axis=3)
        )
        images = (coarse + rng.integers(0, 30, coarse.shape, dtype=np.uint8)).reshape(num, -1)
        labels = rng.integers(0, 10, num).tolist()
        (root / name).write_bytes(pickle.dumps({b"labels": labels, b"data": images}, 2))
    return root


def pack(root: Path, out: Path) -> DatasetIndex:
    """Pack the training split as a user does."""
    given = ("--source", "cifar10", "--root", str(root), "--out", str(out), "--splits", "train")
    subprocess.run(
        [sys.executable, "-m", "preprocess.shard", *given], check=True, stdout=subprocess.DEVNULL
    )
    return DatasetIndex.open(out / "train")


class InMemory(Dataset):
    """What torchvision.datasets.CIFAR10 does: an array, a Pillow image of each item, transforms."""

    def __init__(self, index: DatasetIndex) -> None:
        shards = ShardDataset(index)
        self.images = np.stack([shards.image(number) for number in range(len(shards))])
        self.labels = index.labels().argmax(1)
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIZE, PAD, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[number])), int(self.labels[number])


def roads(args: argparse.Namespace, index: DatasetIndex) -> dict[str, Callable[[], int]]:
    """Map each road's name to a function that reads an epoch and counts its images."""
    pad = {
        "view": View(SIZE, augment="pad", pad=PAD, cutout=args.cutout),
        "num_threads": args.workers,
    }
    made: dict[str, Any] = {
        "cache ram": Loader(index, args.global_batch_size, cache="ram", **pad),
        f"cache device ({args.device})": Loader(
            index, args.global_batch_size, cache="device", device=args.device, **pad
        ),
        "cache none": Loader(index, args.global_batch_size, **pad),
        PEER: DataLoader(
            InMemory(index),
            args.global_batch_size,
            shuffle=True,
            num_workers=args.workers,
            persistent_workers=True,
        ),
    }

    def epoch(loader: Any) -> int:
        num = 0
        for batch in loader:
            num += int(batch.valid.sum()) if hasattr(batch, "valid") else len(batch[1])
            del batch
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return num

    return {name: lambda loader=loader: epoch(loader) for name, loader in made.items()}


def measure(
    every: dict[str, Callable[[], int]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Let the roads take turns, the first to go changing from round to round: images/s of each."""
    rates: dict[str, list[float]] = {name: [] for name in every}
    expected = {name: read() for name, read in tqdm(every.items(), "first epochs", disable=None)}
    if len(set(expected.values())) > 1:
        raise RuntimeError(f"the roads deliver different numbers of images: {expected}")
    for number in tqdm(range(rounds), "rounds", disable=None):
        for name in _rotated(list(every), number):
            start, images = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                images += every[name]()
            rates[name].append(images / (time.perf_counter() - start))
    return rates


def _rotated(names: list[str], by: int) -> Iterator[str]:
    at = by % len(names)
    yield from (*names[at:], *names[:at])


def main() -> None:
    """Measure and tell."""
    args = parse()
    torch.set_num_threads(args.workers)
    lines = circumstances(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        root = (
            Path(args.root)
            if args.root
            else write_set(Path(folder) / "cifar-10-batches-py", args.num_images)
        )
        index = pack(root, Path(folder) / "data")
        rates = measure(roads(args, index), args.rounds, args.seconds)
    rows = [
        (name, spread(rate), spread(ratios(rate, rates[PEER]), 1)) for name, rate in rates.items()
    ]
    settings = (
        f"- data: {index.num_samples} {'real' if args.root else 'generated'} images of {SIZE} x "
        f"{SIZE} pixels, PNG\n"
        f"- settings: pad {PAD} (reflected), crop, mirror, cutout {args.cutout}; batches of "
        f"{args.global_batch_size} "
        f"uint8; {args.workers} threads or workers; n = {args.rounds} rounds of whole epochs for "
        f"at least "
        f"{args.seconds:g} s; median (lowest..highest)"
    )
    text = [
        "# Small images",
        "",
        *lines,
        settings,
        "",
        table(("road", "images/s", "over the peer"), rows),
    ]
    tell("\n".join(text), args.out)


if __name__ == "__main__":
    main()
