"""What the packer leaves is format 2: its tables come of what is kept with each shard, and a folder
of an earlier release, finished or not, becomes the same.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from preprocess.images.geometry import ImageOptions
from preprocess.packing.pack import finalize, pack_split, pack_task
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import open_pool
from preprocess.verifying.verification import verify_split
from shards import identity as identities
from shards.disk.format import TABLE_NAMES
from shards.errors import DataError, FormatError
from shards.identity import identity
from shards.index import DatasetIndex
from tests.conftest import CLASSES
from tests.faults.crash import dies_before
from tests.version_1 import as_version_1

READS = ("read_rows", "image_crcs", "checked_crcs")


def job(records, **options) -> Job:
    return Job("train", CLASSES, records, ImageOptions(), 10**9, 16, 0, "test", **options)


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}


@pytest.fixture(scope="module")
def pool():
    with open_pool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory, pool) -> Path:
    """70 photographs in five shards; read-only by agreement."""
    root = tmp_path_factory.mktemp("whole") / "train"
    pack_split(job(records), root, pool)
    return root


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "train"))


@pytest.fixture
def no_tar_is_read(monkeypatch):
    for name in READS:
        monkeypatch.setattr(
            f"preprocess.packing.shard_rows.{name}", lambda *args: pytest.fail(f"{args} is read")
        )


def test_every_row_and_crc_is_right(whole, pool):
    described = json.loads((whole / "index.json").read_text())
    assert described["version"] == 2
    assert "shards" not in described
    assert described["statistics"]["shard_correlation"] >= 0
    assert verify_split(whole, pool).findings == []


def test_a_packing_reads_none_of_its_tars_again(records, whole, tmp_path, pool, no_tar_is_read):
    root = tmp_path / "train"
    for index in (1, 0):
        pack_task(job(records), root, pool, index, 2)
    finalize(job(records), root, pool)
    assert content(root) == content(whole)


def test_nor_of_a_set_that_grows(records, tmp_path, pool, no_tar_is_read):
    root = tmp_path / "train"
    pack_split(job(records[:40]), root, pool)
    pack_split(job(records, append=True), root, pool)
    assert verify_split(root, pool).findings == []


def test_nor_of_those_beside_one_that_is_lost(records, whole, copy, pool, no_tar_is_read):
    (copy / "train-000002.tar").unlink()
    assert pack_split(job(records), copy, pool).num_kept == 4
    assert content(copy) == content(whole)


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_a_damaged_table_is_not_believed(records, whole, copy, pool, name):
    """Rows are then those of the tars; what the tars do not say is packed again."""
    data = bytearray((copy / name).read_bytes())
    data[-5] ^= 1
    (copy / name).write_bytes(data)
    packing = pack_split(job(records), copy, pool)
    assert packing.num_kept == (0 if name == "entries.json" else 5)
    assert content(copy) == content(whole)


def strip_crcs(root: Path) -> None:
    """Leave what an earlier release kept with its finished shards."""
    paths = sorted((root / "packing").glob("*.npy"))
    assert paths
    for path in paths:
        rows = np.load(path)
        old = np.zeros(len(rows), np.dtype(rows.dtype.descr[:-1]))
        for name in old.dtype.names:
            old[name] = rows[name]
        np.save(path, old)


def test_a_packing_that_an_earlier_release_began_goes_on(records, whole, tmp_path, pool):
    root = tmp_path / "train"
    pack_task(job(records), root, pool, 0, 2)
    strip_crcs(root)
    assert pack_split(job(records), root, pool).num_kept == 3
    assert content(root) == content(whole)


def test_one_that_only_lacks_its_finish_too(records, whole, tmp_path, pool):
    root = tmp_path / "train"
    pack_task(job(records), root, pool, 0, 1)
    strip_crcs(root)
    (root / "samples.npy").write_bytes(b"half of it")
    (root / "rows.npy.tmp").write_bytes(b"half of it")
    finalize(job(records), root, pool)
    assert content(root) == content(whole)


def test_no_crc_is_made_of_a_damaged_tar(records, tmp_path, pool):
    """It would make the damage look right."""
    root = tmp_path / "train"
    pack_task(job(records), root, pool, 0, 1)
    strip_crcs(root)
    data = bytearray((root / "train-000003.tar").read_bytes())
    data[2000] ^= 1
    (root / "train-000003.tar").write_bytes(data)
    with pytest.raises(FormatError, match=r"train-000003\.tar: its checksum is wrong; .*--repair"):
        finalize(job(records), root, pool)
    assert not (root / "index.json").exists()


def test_another_dataset_leaves_version_1_as_it_was(records, copy, pool):
    before = content(as_version_1(copy))
    with pytest.raises(DataError, match="holds another dataset"):
        pack_split(job(records[:-1]), copy, pool)
    assert content(copy) == before


def test_a_format_of_the_future_is_refused(records, copy, pool):
    path = copy / "index.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    before = content(copy)
    for options in ({}, {"append": True}):
        with pytest.raises(DataError, match=r"index\.json: format version 3, this code writes 2"):
            pack_split(job(records, **options), copy, pool)
    assert content(copy) == before


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_killed_anywhere_a_set_that_grows_goes_on(records, tmp_path, pool, version):
    """SIGKILL before every file operation of an append, whichever version it begins with."""
    old = tmp_path / "old" / "train"
    pack_split(job(records[:40]), old, pool)
    if version == 1:
        as_version_1(old)
    grown = Path(shutil.copytree(old, tmp_path / "grown" / "train"))
    pack_split(job(records, append=True), grown, pool)
    work = job(records, append=True)
    for operation in range(300):
        root = Path(shutil.copytree(old, tmp_path / str(operation) / "train"))
        was_killed = dies_before(operation, root, lambda root=root: pack_split(work, root, pool))
        pack_split(work, root, pool)
        assert content(root) == content(grown), operation
        assert not (root / "packing").exists()
        shutil.rmtree(root)
        if not was_killed:
            break
    assert operation > 20


def test_a_runs_identity_reads_no_rows(whole, copy, monkeypatch):
    """Of 100 million it took ten seconds; both versions have the same."""
    as_version_1(copy)
    old = identity(DatasetIndex.open(copy))
    monkeypatch.setattr(identities, "content_digests", lambda *_: pytest.fail("rows are read"))
    assert identity(DatasetIndex.open(whole)) == old


def test_digests_that_are_none_are_made(whole, copy):
    """An index.json of the first release of version 2 has none, one of others may have more."""
    expected = identity(DatasetIndex.open(whole))
    index = DatasetIndex.open(copy)
    for contents in (None, {}, [], {"keys": 1}, {**index.contents, "order": "0"}, "x"):
        object.__setattr__(index, "contents", contents)
        assert identity(index) == expected
