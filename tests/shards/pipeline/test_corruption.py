"""What a reader meets of a damaged dataset: at opening or at the sample, named, and never a process
that just dies.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shards.dataset import ShardDataset
from shards.errors import SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from tests.conftest import pack

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "train"))


def read_all(index: DatasetIndex) -> None:
    for batch in Loader(index, global_batch_size=8, size=32, train=False):
        del batch


def test_a_shard_cut_short_while_it_is_mapped(copy):
    """To touch what is gone would be a SIGBUS: the test would not survive it."""
    dataset = ShardDataset(copy)
    dataset[40]
    os.truncate(copy / "train-000002.tar", 12 * 4096)
    for row in range(32, 48):
        end = int(dataset.index.samples["offset"][row][0] + dataset.index.samples["length"][row][0])
        if end <= 12 * 4096:
            dataset[row]
            continue
        with pytest.raises(
            SampleError,
            match=rf"train-000002\.tar: sample {dataset.index.key(row)}: bytes .* are beyond",
        ):
            dataset[row]
    with pytest.raises(
        SampleError,
        match=r"train-000002\.tar: sample .*: the shard has 49,152 bytes, the index says .*; run the same",
    ):
        read_all(dataset.index)
    assert DatasetIndex.open(copy).num_samples == 70  # which looks at no shard


def test_a_crash_says_where(tmp_path):
    """Between the look at the size and the last byte there is a moment left, and disks fail: not
    without a word.
    """
    script = f"""
import mmap, os
from shards.commandline import run
def main():
    with open({str(tmp_path / "file")!r}, "w+b") as file:
        file.truncate(1 << 20)
        mapped = mmap.mmap(file.fileno(), 0)
        file.truncate(0)
        mapped[1 << 19]
run(main)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode < 0
    assert "Fatal Python error: Bus error" in done.stderr


@pytest.fixture
def equal_shards(records, tmp_path):
    """Two shards of the same size whose samples differ: archives are filled up to multiples of
    10,240 bytes.
    """
    small = [records[number] for number in (2, 5, 10, 13)]
    pack(small, tmp_path / "equal" / "train", shard_samples=2)
    index = DatasetIndex.open(tmp_path / "equal" / "train")
    assert index.shards[0].num_bytes == index.shards[1].num_bytes
    return index


def test_two_shards_exchanged_are_noticed_when_they_are_first_looked_into(equal_shards):
    one, two = (equal_shards.shard_path(number) for number in (0, 1))
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b), two.write_bytes(a)
    index = DatasetIndex.open(equal_shards.root)  # sizes are right
    with pytest.raises(
        SampleError,
        match=r"train-000000\.tar: sample 2%2E14: the shard has no 2%2E14\.jpg .*not the one",
    ):
        read_all(index)


def test_a_shard_of_another_packing_is_noticed_by_its_last_sample(equal_shards):
    """The same names at the front, others behind."""
    path = equal_shards.shard_path(0)
    data = bytearray(path.read_bytes())
    at = int(equal_shards.samples["offset"][1][0]) - 512
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(SampleError, match=r"the shard has no 5%2E35\.jpg"):
        read_all(DatasetIndex.open(equal_shards.root))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("offset", (1 << 64) - 9, "are beyond the"),
        ("width", 0, "not a JPEG of the 0 x"),
        ("offset", 0, "not a JPEG"),
        ("length", (1 << 32) - 1, "are beyond the"),
        ("length", 0, "not a JPEG"),
        ("shard", 7, "rows.npy names shard 7 of 5"),
        ("width", 65535, "not a JPEG of the 65535 x"),
    ],
)
def test_a_row_that_cannot_be(copy, field, value, says):
    samples = np.load(copy / "rows.npy")
    samples[field][37] = value
    np.save(copy / "rows.npy", samples)
    with pytest.raises(
        SampleError, match=rf"sample 37%2E259: .*{says}.*; run the same preprocess\.shard"
    ):
        read_all(DatasetIndex.open(copy))


def test_a_shard_that_vanishes_between_opening_and_reading(copy):
    index = DatasetIndex.open(copy)
    (copy / "train-000003.tar").unlink()
    with pytest.raises(
        SampleError,
        match=r"train-000003\.tar: sample .*: the shard cannot be opened \(No such file",
    ):
        read_all(index)


def test_a_member_that_claims_more_pixels_than_memory(copy):
    """Index, row and header agree on 60,000 x 60,000: 10.8 GB, which no packer of ours writes."""
    samples = np.load(copy / "rows.npy")
    samples["width"][37] = samples["height"][37] = 60000
    np.save(copy / "rows.npy", samples)
    row = samples[37]
    path = copy / f"train-{int(row['shard']):06d}.tar"
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0", int(row["offset"][0]))
    data[at + 5 : at + 9] = (60000).to_bytes(2, "big") * 2
    path.write_bytes(data)
    with pytest.raises(SampleError, match="60000 x 60000 is more than 100,000,000 pixels"):
        read_all(DatasetIndex.open(copy))
    with pytest.raises(SampleError, match="60000 x 60000 is more than 100,000,000 pixels"):
        ShardDataset(copy)[37]
