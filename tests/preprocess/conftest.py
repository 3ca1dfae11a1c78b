"""What the tests of the inspection share: a small dataset with everything wrong that can be."""

import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.inspecting.inspection import inspect
from preprocess.packing.pack import pack_split
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import Pool
from preprocess.record import Record
from tests.conftest import jpeg

HOSTILE = "<script>alert(1)</script>"
NAMES = (
    "cat",
    "dog & <b>",
    HOSTILE,
    "a class with a long name",
    "fox",
    "gnu",
    "hen",
    "ibex",
    "jay",
    "never",
)
SIZES = [(160, 120), (120, 160), (97, 61), (240, 48), (160, 120)]


def scene(seed: int, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize(size)


def pack(root, split, records, class_names=NAMES, **options):
    pool = Pool(1)
    image = ImageOptions(**options)
    command = f"pack --{split} '<i>'"
    job = Job(split, class_names, records, image, 10**9, 30, 0, command, order="source")
    pack_split(job, root / split, pool)
    pool.close()


def write(folder, split, pictures, seed) -> list[Record]:
    """Write pictures with random labels: class 9 never, class 8 never in val, class 0 in about
    half.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    chances = np.array(
        [0.5, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0 if split == "val" else 0.2, 0.0]
    )
    records = []
    for name, picture in pictures.items():
        path = folder / f"{name}.jpg"
        path.write_bytes(jpeg(picture, quality=90))
        shows = rng.random(len(NAMES)) < chances
        ignored = ~shows & (rng.random(len(NAMES)) < 0.1)
        records.append(
            Record(
                name,
                path,
                path.name,
                tuple(np.flatnonzero(shows).tolist()),
                tuple(np.flatnonzero(ignored).tolist()),
            )
        )
    return records


@pytest.fixture(scope="session")
def things(tmp_path_factory):
    """70 + 41 pictures: 4 of val are in train too, one mirrored; one key is in both; one picture is
    flat.
    """
    root = tmp_path_factory.mktemp("inspected") / "things"
    source = root.parent / "source"
    train = {f"t{n}": scene(n, SIZES[n % len(SIZES)]) for n in range(70)}
    val = {f"v{n}": scene(1000 + n, SIZES[n % len(SIZES)]) for n in range(35)}
    val |= {"copy-0": train["t0"].resize((80, 60)), "copy-7": train["t7"], "twin-7": train["t7"]}
    val |= {"copy-9": train["t9"].transpose(Image.Transpose.FLIP_LEFT_RIGHT)}
    val |= {"t3": scene(2000, (64, 64)), "flat": Image.new("RGB", (50, 40), (90, 90, 90))}
    pack(root, "train", write(source / "train", "train", train, 1))
    pack(root, "val", write(source / "val", "val", val, 2))
    return root


@pytest.fixture(scope="session")
def inspection(things):
    return inspect(things, True, 2)


def members(split_root):
    """Read the tars of a split without Tarmac: a list of (description, bytes of the JPEG)."""
    samples = {}
    for path in sorted(split_root.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                stem, _, suffix = member.name.rpartition(".")
                samples.setdefault(stem, {})[suffix] = tar.extractfile(member).read()
    return [(json.loads(sample["json"]), sample["jpg"]) for sample in samples.values()]
