"""A small packed digits set and a way to run the product's commands as a user does."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from preprocess.images.geometry import Band, ImageOptions
from preprocess.packing.pack import pack_split
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import Pool
from preprocess.record import Record
from preprocess.sources.digits import write_digits
from tests.conftest import jpeg
from tests.faults.launching import on_ranks, run_on_ranks

ROOT = Path(__file__).parents[2]
# A network without batch norm and with dropout; one torch thread, so that two ranks and one add up
# alike.
SMALL = [
    "--model",
    "test_convnext",
    "--size",
    "32",
    "--precision",
    "no",
    "--no-tensorboard",
    "--drop-rate",
    "0.1",
]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
    }


def command(*args: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m train` or `python -m eval` to its end, in a process with torch imported."""
    return run_on_ranks(1, *args)


def ranks(num_ranks: int, *args: str) -> subprocess.CompletedProcess[str]:
    """The same on several ranks, as a cluster's launcher would start them."""
    return run_on_ranks(num_ranks, *args)


def fresh(*args: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` to its end, from its very start."""
    return subprocess.run(
        [sys.executable, "-m", *args],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def launch(num_processes: int, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `accelerate launch --cpu -m ...` on several processes."""
    return fresh(*on_ranks(num_processes), *args)


def succeed(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """200 training and 90 validation images, packed by the command line."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "source", num_train=200, num_val=90, size=48)
    args = [
        "--source",
        "voc",
        "--root",
        str(folder / "source"),
        "--out",
        str(folder / "data"),
        "--workers",
        "1",
    ]
    succeed(fresh("preprocess.shard", *args, "--shard-samples", "64"))
    return folder / "data"


@pytest.fixture(scope="session")
def train_args(digits) -> Sequence[str]:
    """Arguments of a short run in fp32."""
    return ["train", "--data", str(digits), *SMALL, "--epochs", "3", "--global-batch-size", "16"]


@pytest.fixture(scope="session")
def whole_run(train_args, tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    succeed(fresh(*train_args, "--out", str(out)))
    return out


def pack_here(
    root: Path, records: list[Record], split: str, class_names: Sequence[str], **options
) -> None:
    """Pack records that carry their images, in their order."""
    settings = {
        "order": "source",
        "shard_bytes": 10**9,
        "shard_samples": 64,
        "max_rejects": 0,
        "image": ImageOptions(),
        **options,
    }
    pool = Pool(1)
    try:
        pack_split(
            Job(split, tuple(class_names), records, command="test", **settings), root / split, pool
        )
    finally:
        pool.close()


@pytest.fixture(scope="session")
def shades(tmp_path_factory) -> Path:
    """Pictures of three shades, one label each: 100 to train on, 45 to validate."""
    folder = tmp_path_factory.mktemp("shades")
    rng = np.random.default_rng(5)
    for split, num in (("train", 100), ("val", 45)):
        records = []
        for number in range(num):
            shade = int(rng.integers(3))
            # shades overlap: not all can be told apart
            tint = rng.normal(np.eye(3)[shade] * 40 + 100, 25)
            pixels = np.clip(rng.normal(tint, 45, (40, 40, 3)), 0, 255).astype(np.uint8)
            data = jpeg(Image.fromarray(pixels), quality=90)
            records.append(
                Record(f"{split}-{number}", folder, "made here", (shade,), (), data=data)
            )
        pack_here(folder / "data", records, split, ("red", "green", "blue"), task="multiclass")
    return folder / "data"


@pytest.fixture(scope="session")
def four_bands(tmp_path_factory) -> Path:
    """Noise in four bands; `leaf` is what is bright in infrared, `brick` in red: 96 to train on, 48
    to validate.
    """
    folder = tmp_path_factory.mktemp("bands")
    bands = tuple(
        Band(name, place, 0, 255) for place, name in enumerate(("red", "green", "blue", "nir"))
    )
    rng = np.random.default_rng(6)
    for split, num in (("train", 96), ("val", 48)):
        records = []
        for number in range(num):
            brick, leaf = rng.random(2) < 0.5
            pixels = rng.normal(
                np.array([100 + 50 * brick, 100, 100, 100 + 50 * leaf]), 40, (36, 36, 4)
            )
            file = io.BytesIO()
            pixels = np.clip(pixels, 0, 255).astype(np.uint8)
            tifffile.imwrite(file, pixels, photometric="minisblack", planarconfig="contig")
            labels = tuple(int(label) for label in np.flatnonzero([brick, leaf]))
            records.append(
                Record(
                    f"{split}-{number}",
                    folder / "x.tif",
                    "made here",
                    labels,
                    (),
                    data=file.getvalue(),
                )
            )
        pack_here(
            folder / "data", records, split, ("brick", "leaf"), image=ImageOptions(bands=bands)
        )
    return folder / "data"
