"""What several rooms of the tests share: synthetic photographs, packed, and where the real ones
are.
"""

import io
import multiprocessing
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.packing.pack import Packing, pack_split
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import Pool
from preprocess.record import Record
from shards.index import DatasetIndex
from tests.building import Installed, build_both
from tests.version_1 import as_version_1

if "PYTEST_XDIST_WORKER" in os.environ:  # beside other workers further threads of torch only cost
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a test imports torch

# Who asks for one of these trains, opens pages, reads real photographs, or works in an environment
# of its own.
SLOW_FIXTURES = {
    *(
        "animals",
        "bf16_run",
        "digits",
        "four_bands",
        "shades",
        "whole_run",
        "whole_sweep",
        "without_positives",
    ),
    *("browser", "cifar10_root", "planet_root", "voc2012_root", "distributions", "installed"),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "no Chromium to open pages with"
CLASSES = tuple(f"class-{number}" for number in range(11))
SIZES = [(97, 61), (64, 64), (1, 1), (33, 200), (160, 120), (17, 15), (240, 48), (128, 129)]


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Make something with edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(1, height // 6), max(1, width // 6), 3), dtype=np.uint8)
    image = np.asarray(
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    ).astype(int)
    return Image.fromarray(
        np.clip(image + rng.integers(-20, 20, image.shape), 0, 255).astype(np.uint8)
    )


def jpeg(image: Image.Image, **options) -> bytes:
    """Encode with Pillow."""
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def write_photographs(folder: Path, num: int) -> list[Record]:
    """Write JPEGs of odd sizes and every subsampling, with labels and ignored labels, into a
    folder.
    """
    rng = np.random.default_rng(1)
    records = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num):
        path = folder / f"photo {number:03d}.jpg"
        size = SIZES[number % len(SIZES)]
        path.write_bytes(jpeg(photograph(*size, number), quality=85, subsampling=number % 3))
        states = rng.choice(3, len(CLASSES), p=[0.7, 0.2, 0.1])
        labels, ignored = (tuple(np.flatnonzero(states == state).tolist()) for state in (1, 2))
        records.append(Record(f"{number}.{number * 7}", path, path.name, labels, ignored))
    return records


def write_imagefolder(root: Path, num: int) -> None:
    """Write a folder of JPEGs for each of two classes."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(num):
            (root / name / f"{number}.jpg").write_bytes(jpeg(photograph(48, 40, number)))


def pack(records: list[Record], root: Path, workers: int = 1, **options) -> Packing:
    """Pack records, in their order, as split `train` into shards of 16 samples."""
    settings = {
        "shard_bytes": 10**9,
        "shard_samples": 16,
        "max_rejects": 0,
        "image": ImageOptions(),
        "order": "source",
        **options,
    }
    pool = Pool(workers)
    try:
        return pack_split(Job("train", CLASSES, records, command="test", **settings), root, pool)
    finally:
        pool.close()


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> list[Record]:
    """70 photographs on disk."""
    return write_photographs(tmp_path_factory.mktemp("photographs"), 70)


@pytest.fixture(scope="session")
def packed(records, tmp_path_factory) -> Path:
    """The 70 photographs packed into 5 shards; read-only by agreement."""
    root = tmp_path_factory.mktemp("packed") / "train"
    pack(records, root)
    return root


@pytest.fixture(scope="session")
def packed_1(packed, tmp_path_factory) -> Path:
    """The same as a release before format 2 packed them; read-only by agreement."""
    return as_version_1(shutil.copytree(packed, tmp_path_factory.mktemp("packed_1") / "train"))


@pytest.fixture(scope="session")
def index(packed) -> DatasetIndex:
    return DatasetIndex.open(packed)


@pytest.fixture(scope="session")
def index_1(packed_1) -> DatasetIndex:
    return DatasetIndex.open(packed_1)


def real_data(*parts: str) -> Path:
    """Find a folder of TARMAC_TEST_DATA, or of shared/data beside the repository; skip the test
    without it.
    """
    given = os.environ.get("TARMAC_TEST_DATA")
    root = (Path(given) if given else Path(__file__).parents[2] / "shared" / "data").joinpath(
        *parts
    )
    if not root.is_dir():
        pytest.skip(
            f"no real photographs at {root}; set TARMAC_TEST_DATA to the folder that holds "
            f"{parts[0]}"
        )
    return root


@pytest.fixture(scope="session")
def voc2012_root() -> Path:
    """Real photographs."""
    return real_data("VOCdevkit", "VOC2012")


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    """Real small images."""
    return real_data("cifar-10-batches-py")


@pytest.fixture(scope="session")
def planet_root() -> Path:
    """The competition's list and three of its TIFFs."""
    return real_data("planet")


class Distributions(NamedTuple):
    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Distributions:
    """What would be published, built of the files that git has."""
    return Distributions(*build_both(tmp_path_factory.mktemp("distributions")))


@pytest.fixture(scope="session")
def installed(distributions, tmp_path_factory) -> Installed:
    """An environment with the wheel."""
    return Installed.make(tmp_path_factory.mktemp("installed"), distributions.wheel)


@pytest.fixture(scope="session")
def browser():
    """One for all tests: a second one in the same process would not start."""
    sync_api = pytest.importorskip("playwright.sync_api", reason=NO_BROWSER)
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip(NO_BROWSER)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def pytest_configure(config):
    """Let Hypothesis try the same cases in every run, however slow the machine: a case that fails
    is found where it was written, not by chance. `--hypothesis-profile=default` draws others.
    """
    try:
        from hypothesis import HealthCheck, settings
    except ImportError:  # tests on a GPU need none
        return
    same = {"derandomize": True, "deadline": None, "database": None}
    settings.register_profile("same", **same, suppress_health_check=[HealthCheck.too_slow])
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)  # before any fixture
def pytest_runtest_setup():
    """Begin each test with the same random numbers, whatever this process has run before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items):
    """Mark as slow whatever needs a fixture that is; the rest is marked by hand."""
    for item in items:
        if not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


# so that this is said last, after every other reason for a skip
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Name the tests that need a browser where there is none, and say how to get one."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    left_out = Counter(
        report.nodeid.partition("[")[0] for report in skipped if NO_BROWSER in str(report.longrepr)
    )
    if left_out:
        terminalreporter.section("left out: tests that open pages in Chromium", yellow=True)
        for name, num in sorted(left_out.items()):
            terminalreporter.line(f"{name} ({num})" if num > 1 else name)
        terminalreporter.line(
            f"{left_out.total()} tests were left out. They need one of {', '.join(BROWSERS)} on "
            "the PATH, such as from `apt-get install chromium`, and playwright from `pip install "
            "-e '.[dev]'`."
        )


@pytest.fixture
def idle():
    """Start a child that has all that is open here at that moment, and does nothing."""
    fork = multiprocessing.get_context("fork")
    ends = fork.Event()
    jobs = []

    def start():
        jobs.append(fork.Process(target=ends.wait, args=(600,)))
        jobs[0].start()

    yield start
    ends.set()
    jobs[0].join()
