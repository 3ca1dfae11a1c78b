"""What a split's folder says of itself is believed as far as it can be: a finding, not a traceback,
where it cannot.
"""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from preprocess.packing.pool import Pool
from preprocess.packing.resume import entries_as_json
from preprocess.verifying.packed_folder import Written, read_written
from preprocess.verifying.repair import repair_split
from preprocess.verifying.verification import verify_split
from shards.disk.format import shard_name
from shards.index import DatasetIndex
from tests.described import listed, make_unfinished, write_listed
from tests.preprocess.verifying.test_repair import digests


@pytest.fixture(scope="module")
def pool():
    pool = Pool(1)
    yield pool
    pool.close()


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_renamed_folder_is_told_and_not_taken_apart(packed, tmp_path, pool, unfinished):
    root = Path(shutil.copytree(packed, tmp_path / "training"))
    if unfinished:
        make_unfinished(root)
    else:
        assert DatasetIndex.open(root).num_samples == 70
    before = digests(root)
    findings = verify_split(root, pool).findings
    lines = [finding.line() for finding in findings]
    assert (
        f"{root}: is split train under another name; rename the folder back; until then --repair"
        in lines[0]
    )
    assert len(lines) == 1 + unfinished
    (root / "train-000001.idx").unlink()
    del before["train-000001.idx"]
    findings = verify_split(root, pool).findings
    assert any("train-000001.idx: is missing" in finding.line() for finding in findings)
    assert not list(repair_split(root, findings))
    assert digests(root) == before
    root = root.rename(tmp_path / "train")
    list(repair_split(root, verify_split(root, pool).findings))
    assert [finding.what for finding in verify_split(root, pool).findings] == [
        "packing was not finished"
    ] * unfinished


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pixel_sum", ["1", "2", "3"]),
        ("pixel_sum", [1, 2]),
        ("pixel_sum", [1, 2, 10**400]),
        ("pixel_sum_squares", [1, None, 3]),
        ("num_pixels", 0),
        ("rejected", [3]),
        ("rejected", [{}]),
        ("first_record", 3),
    ],
)
@pytest.mark.parametrize("all_of_them", [False, True])
def test_entries_that_cannot_be_are_a_finding(packed, tmp_path, pool, field, value, all_of_them):
    root = Path(shutil.copytree(packed, tmp_path / "train"))
    described = listed(root)
    for entry in described["shards"] if all_of_them else described["shards"][1:2]:
        entry[field] = value
    write_listed(root, described)
    (finding, *_) = verify_split(root, pool).findings
    assert "index.json: cannot be read (" in finding.line()


def test_an_index_without_shards_is_a_finding(packed, tmp_path, pool):
    root = Path(shutil.copytree(packed, tmp_path / "train"))
    write_listed(root, {**listed(root), "shards": [], "num_samples": 0})
    (finding, *_) = verify_split(root, pool).findings
    assert "index.json: cannot be read (its shards hold no sample)" in finding.line()


def test_the_folder_of_ten_thousand_shards(packed):
    """Each of its files is looked up among the shards: as a list this took minutes."""
    entry = read_written(packed).entries[0]
    names = [shard_name("train", number) for number in range(10_000)]
    written = Written("train", entries=tuple(replace(entry, name=name) for name in names))
    files = [file for name in names for file in (name, name.replace(".tar", ".idx"))]
    assert not any(map(written.is_surplus, files))
    assert written.is_surplus("train-010000.tar")
    assert written.is_surplus("train-010000.idx")
    assert not written.is_surplus("val-010000.tar")
    # one is sent to a worker with each shard: it does not hold all of them
    shards = entries_as_json(written.entries)
    listing = replace(written, described={"class_names": ["cat"], "shards": shards})
    assert len(pickle.dumps(listing.bare())) < 1000
