"""A worker that is killed or hangs surfaces with its cause, and nothing hangs with it."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from preprocess.images.outcome import Packed
from preprocess.packing.pool import Pool
from preprocess.record import MAX_BYTES, Record
from shards.errors import DataError
from tests.conftest import pack
from tests.preprocess.hanging import Failing, Hanging, Killing, pack_images

ROOT = Path(__file__).parents[3]


def as_a(kind: type[Record], record: Record, **more: Any) -> Record:
    return kind(
        **{field.name: getattr(record, field.name) for field in dataclasses.fields(record)}, **more
    )


@pytest.mark.timeout(300)
def test_a_killed_worker_is_told_and_the_rest_is_kept(records, tmp_path):
    changed = [*records[:40], as_a(Killing, records[40], after=tmp_path / "train"), *records[41:]]
    with pytest.raises(DataError, match=r"a worker process was killed.*run the same command again"):
        pack(changed, tmp_path / "train", workers=2)
    assert not list((tmp_path / "train").glob("*.tar.tmp"))
    assert pack(records, tmp_path / "train").num_kept >= 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_read_that_hangs_ends_with_the_name_of_the_image(records, workers):
    pool = Pool(workers, read_timeout_s=3)
    try:
        with pytest.raises(DataError, match=r"photo 003\.jpg: reading it has not ended for 3 s"):
            list(pack_images(pool, [*records[:3], as_a(Hanging, records[3])]))
    finally:
        pool.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (AttributeError, AttributeError, "by the record"),
        (ValueError, ValueError, "by the record"),
        (
            MemoryError,
            DataError,
            r"photo 003\.jpg: no memory is left for this image; .*fewer --workers",
        ),
    ],
)
def test_whatever_reading_raises_is_told_at_once(records, workers, error, raised, says):
    pool = Pool(workers, read_timeout_s=10_000)  # waiting for it would outlast the test
    try:
        with pytest.raises(raised, match=says):
            list(pack_images(pool, [*records[:3], as_a(Failing, records[3], error=error)]))
    finally:
        pool.close()


def no_memory(data: bytes) -> Packed:
    raise MemoryError


def test_lack_of_memory_while_packing_names_the_image(records):
    with pytest.raises(DataError, match=r"photo 000\.jpg: no memory is left for this image"):
        list(Pool(1).images(no_memory, records[:1]))


def test_what_is_no_regular_file_is_refused_at_the_door(records, tmp_path):
    """Opening a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "pipe.jpg")
    device, huge = tmp_path / "zero.jpg", tmp_path / "huge.jpg"
    device.symlink_to("/dev/zero")
    with open(huge, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    odd = [
        dataclasses.replace(records[0], path=path)
        for path in (tmp_path / "pipe.jpg", device, huge, tmp_path)
    ]
    pool = Pool(1, read_timeout_s=5)
    reasons = list(pack_images(pool, odd))
    assert [str(reason).partition("(")[2] for reason in reasons[:2]] == ["not a regular file)"] * 2
    assert "bytes, more than" in str(reasons[2])
    assert "not a regular file" in str(reasons[3])


@pytest.mark.slow
@pytest.mark.parametrize(("short_side", "compiled"), [(0, "0 1 0 1"), (64, "1 0 1 0")])
def test_workers_start_with_the_code_that_they_need(short_side, compiled):
    """In a process of its own: the fork server is one for all pools."""
    script = f"from tests.preprocess.compiled_here import main; main({short_side})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == compiled


@pytest.mark.slow
def test_kept_code_is_loaded_without_what_compiling_needs():
    """Numba's registries and SciPy's linear algebra: a third of a second for each start."""
    script = "import sys, preprocess.images.preload_kept; print('numba.np.linalg' in sys.modules)"
    starts = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
        for _ in range(2)  # the first may compile
    ]
    assert starts[1].stdout.strip() == "False", starts[1].stderr
