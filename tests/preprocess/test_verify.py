"""Every kind of damage is found and named; repair and the same packing again restore the same
bytes.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preprocess.packing.pool import Pool
from preprocess.verifying.repair import repair_split
from preprocess.verifying.verification import find_splits, verify_split
from shards.disk.format import digest
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import pack
from tests.described import listed, make_unfinished, write_listed
from tests.preprocess.verifying.test_repair import broken, digests

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pool():
    pool = Pool(1)
    yield pool
    pool.close()


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "train"))


@pytest.fixture
def copy_1(packed_1, tmp_path):
    return Path(shutil.copytree(packed_1, tmp_path / "train"))


def lines(root, pool) -> list[str]:
    return [finding.line() for finding in verify_split(root, pool).findings]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def edit_index(root: Path, checksum: bool = False, **values) -> None:
    """Change index.json; with `checksum` as somebody would who knows of its checksum."""
    described = json.loads((root / "index.json").read_text()) | values
    if checksum:
        del described["checksum"]
        described["checksum"] = digest(described)
    (root / "index.json").write_text(json.dumps(described, indent=1))


def change_sum(root: Path) -> None:
    """Change a sum of pixels, which no shard betrays."""
    described = listed(root)
    described["shards"][1]["pixel_sum"][0] += 1
    write_listed(root, described, checksum=False)


def edit_rows(root: Path, name: str, field: str, row: int, value) -> None:
    rows = np.load(root / name)
    (rows[field] if field else rows)[row] = value
    np.save(root / name, rows)


def swap(root: Path) -> None:
    """Exchange two shards of the same size: the smaller one is filled up with zeros, as archives
    are.
    """
    one, two = root / "train-000001.tar", root / "train-000003.tar"
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b), two.write_bytes(a)


def climb(root: Path) -> None:
    path = root / "train-000002.tar"
    data = bytearray(path.read_bytes())
    name = b"../../../etc/passwd.jpg"
    data[: len(name)] = name
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)


def of_row(index: DatasetIndex, row: int) -> tuple[str, int]:
    return index.shards[index.samples["shard"][row]].name, int(index.samples["offset"][row][0])


# name -> (what is done to the folder, what must be said, whether a shard has to be packed again)
DAMAGE = {
    "a flipped byte in an image": (
        lambda root, name, at: flip(root / name, at + 300),
        [
            r"train-000002\.tar: its checksum is wrong; --repair moves the shard out of the way; then run the same"
        ],
        True,
    ),
    "a broken image": (
        lambda root, name, at: write_at(root / name, at + 10, bytes(80)),
        [
            r"train-000002\.tar: its checksum",
            r"train-000002\.tar: sample 37%2E259: jpg: not a JPEG of the 17 x 15 pixels",
        ],
        True,
    ),
    "a flipped byte in a header": (
        lambda root, name, at: flip(root / name, at - 500),
        [
            r"train-000002\.tar: its checksum is wrong",
            r"train-000002\.tar: holds 5 samples, index\.json says 16",
        ],
        True,
    ),
    "a shard cut short": (
        lambda root, name, at: os.truncate(root / name, at + 100),
        [r"train-000002\.tar: has [0-9,]+ bytes, index\.json says", r"train-000002\.tar: "],
        True,
    ),
    "a shard gone": (
        lambda root, name, at: (root / name).unlink(),
        [r"train-000002\.tar: is missing"],
        True,
    ),
    "a shard emptied": (
        lambda root, name, at: os.truncate(root / name, 0),
        [r"train-000002\.tar: has 0 bytes"],
        True,
    ),
    "two shards swapped": (
        lambda root, *_: swap(root),
        [r"train-000001\.tar: (has|its checksum)", r"train-000003\.tar: (has|its checksum)"],
        True,
    ),
    "a member that climbs out": (
        lambda root, *_: climb(root),
        [r"train-000002\.tar: member '\.\./\.\./\.\./etc/passwd\.jpg' is part of no sample"],
        True,
    ),
    "an .idx gone": (
        lambda root, *_: (root / "train-000001.idx").unlink(),
        [r"train-000001\.idx: is missing"],
        False,
    ),
    "an .idx flipped": (
        lambda root, *_: flip(root / "train-000001.idx", 9),
        [r"train-000001\.idx: is not"],
        False,
    ),
    "an index of another class order": (
        lambda root, *_: edit_index(
            root, class_names=[f"class-{n}" for n in (1, 0, *range(2, 11))]
        ),
        [r"index\.json: its checksum is wrong"],
        True,
    ),
    "an index with another sum of pixels": (
        lambda root, *_: change_sum(root),
        [r"index\.json: (its checksum is wrong|cannot be read \(entries\.json)"],
        True,
    ),
    "no JSON": (
        lambda root, *_: os.truncate(root / "index.json", 900),
        [r"index\.json: cannot be read"],
        True,
    ),
    "no index": (lambda root, *_: (root / "index.json").unlink(), ["there is no index.json"], True),
    "leftovers": (
        lambda root, *_: [
            (root / name).write_text("left")
            for name in (
                "train-000009.tar",
                "train-000001.tar.tmp",
                "packing.json",
                "rejected.jsonl",
            )
        ],
        [
            "train-000009.tar: index.json does not list it",
            "tar.tmp: half-written",
            "packing.json: is beside",
            "reject",
        ],
        False,
    ),
}

OF_VERSION_1 = {
    "other statistics": (
        lambda root, *_: edit_index(root, statistics={"mean": [0.5] * 3, "std": [1.0] * 3}),
        [r"index\.json: statistics are not those of its shards; --repair rewrites it"],
        False,
    ),
    "samples.npy gone": (
        lambda root, *_: (root / "samples.npy").unlink(),
        [r"samples\.npy: cannot be read"],
        False,
    ),
    "samples.npy cut short": (
        lambda root, *_: os.truncate(root / "samples.npy", 700),
        [r"samples\.npy: cannot be read"],
        False,
    ),
    "samples.npy of another length": (
        lambda root, *_: np.save(root / "samples.npy", np.load(root / "samples.npy")[:-1]),
        [r"samples\.npy: \(69,\) rows of .*; --repair rewrites it from the shards"],
        False,
    ),
    "an offset beyond the shard": (
        lambda root, *_: edit_rows(root, "samples.npy", "offset", 40, 1 << 40),
        [r"samples\.npy: sample 40%2E280: offset is 1099511627776, the tar says \d+"],
        False,
    ),
    "other labels": (
        lambda root, *_: edit_rows(root, "samples.npy", "labels", 3, [255, 224]),
        [r"samples\.npy: sample 3%2E21: labels is \[255, 224\], the tar says"],
        False,
    ),
    "another key": (
        lambda root, *_: edit_rows(root, "samples.npy", "key", 69, b"x"),
        ["sample 69%2E483: key is x, the"],
        False,
    ),
    "another count": (
        lambda root, *_: edit_index(root, num_samples=71, checksum=True),
        [r"index\.json: num_samples are not those of its shards"],
        True,
    ),
}
OF_VERSION_2 = {
    "other statistics": (
        lambda root, *_: edit_index(root, True, statistics={"mean": [0.5] * 3, "std": [1.0] * 3}),
        [r"index\.json: statistics are not those of its shards; --repair rewrites it"],
        False,
    ),
    "other statistics under the old checksum": (
        lambda root, *_: edit_index(root, statistics={"mean": [0.5] * 3, "std": [1.0] * 3}),
        [r"index\.json: its checksum is wrong"],
        True,
    ),
    "rows.npy gone": (
        lambda root, *_: (root / "rows.npy").unlink(),
        [r"rows\.npy: cannot be opened"],
        False,
    ),
    "rows.npy cut short": (
        lambda root, *_: os.truncate(root / "rows.npy", 700),
        [r"rows\.npy: has 700 bytes, index\.json says"],
        False,
    ),
    "an offset beyond the shard": (
        lambda root, *_: edit_rows(root, "rows.npy", "offset", 40, 1 << 40),
        [r"rows\.npy: sample 40%2E280: offset is 1099511627776, the tar says \d+"],
        False,
    ),
    "other labels": (
        lambda root, *_: edit_rows(root, "rows.npy", "labels", 3, [255, 224]),
        [r"rows\.npy: sample 3%2E21: labels is \[255, 224\], the tar says"],
        False,
    ),
    "another CRC": (
        lambda root, *_: edit_rows(root, "rows.npy", "crc", 3, 7),
        [r"rows\.npy: sample 3%2E21: its CRC is not that of its image; --repair"],
        False,
    ),
    "another key": (
        lambda root, *_: edit_rows(root, "keys.npy", "", 69, b"x"),
        ["sample 69%2E483: key is x, the"],
        False,
    ),
    "other digests": (
        lambda root, *_: edit_index(root, contents={"keys": "0" * 16}, checksum=True),
        [r"index\.json: contents are not those of its shards; --repair rewrites it"],
        False,
    ),
    "another number of shards": (
        lambda root, *_: edit_index(root, num_shards=6, checksum=True),
        [r"shards\.npy: \(5,\) of .*, index\.json says 6"],
        False,
    ),
}


def write_at(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("name", [*DAMAGE, *OF_VERSION_2])
def test_damage_is_named_and_mended_to_the_same_bytes(name, records, packed, index, copy, pool):
    damage = {**DAMAGE, **OF_VERSION_2}[name]
    is_mended(damage, name, records, (packed, packed), index, copy, pool)


@pytest.mark.parametrize("name", [*DAMAGE, *OF_VERSION_1])
def test_damage_of_version_1_too(name, records, packed, packed_1, index, copy_1, pool):
    """What has to be packed again makes it a split of version 2."""
    damage = {**DAMAGE, **OF_VERSION_1}[name]
    is_mended(damage, name, records, (packed_1, packed), index, copy_1, pool)


def is_mended(damage, name, records, packed, index, copy, pool):
    """Harm a copy of packed[0]; where it has to be packed again it becomes packed[1]."""
    harm, says, again = damage
    before = sum(path.stat().st_size for path in copy.iterdir())
    harm(copy, *of_row(index, 37))
    left = sum(path.stat().st_size for path in copy.iterdir())
    findings = verify_split(copy, pool).findings
    told = [finding.line() for finding in findings]
    for pattern in says:
        assert any(re.search(pattern, line) for line in told), told
    assert list(repair_split(copy, findings))
    assert sum(path.stat().st_size for path in copy.rglob("*") if path.is_file()) >= left, (
        "a user's bytes are kept"
    )
    if again:
        assert lines(copy, pool) or not (copy / "index.json").exists()
        packing = pack(records, copy)
        assert packing.num_kept >= 3 or re.search("index|JSON|count|statistics", name)
    shutil.rmtree(copy / "damaged", ignore_errors=True)
    assert digests(copy) == digests(packed[again])
    assert lines(copy, pool) == []
    if packed[0] == packed[again]:
        assert before == sum(path.stat().st_size for path in copy.iterdir())


def command(*args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "preprocess.verify", *args]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command_tells_by_its_status(copy, tmp_path):
    intact = command(str(tmp_path), "--workers", "2")
    assert (intact.returncode, intact.stderr) == (0, "")
    assert f"{copy}: 70 samples in 5 shards, 0.5 MB: all intact" in intact.stdout
    (copy / "train-000004.idx").unlink()
    found = command(str(copy), "--repair", "--json", str(tmp_path / "found.json"))
    assert (found.returncode, found.stderr) == (1, "")
    assert "5 shards, 0.5 MB: 1 finding\n" in found.stdout
    assert f"{copy}/train-000004.idx: rewritten from the shards" in found.stdout
    (finding,) = json.loads((tmp_path / "found.json").read_text())
    assert (finding["file"], finding["mend"]) == ("train-000004.idx", "rewrite")
    assert command(str(copy)).returncode == 0
    for mistake in ("nowhere", str(tmp_path / "found.json"), str(ROOT / "docs")):
        result = command(mistake)
        assert result.returncode == 2
        assert re.fullmatch(r"error: .*; give a packed dataset such as data/voc\n", result.stderr)


def test_an_unfinished_split_is_checked_as_far_as_it_is(records, copy, packed, pool):
    make_unfinished(copy)
    (unfinished,) = lines(copy, pool)
    assert "packing was not finished; run the same preprocess.shard command again" in unfinished
    flip(copy / "train-000001.tar", 3000)
    findings = verify_split(copy, pool).findings
    assert "its checksum is wrong" in findings[1].line()
    list(repair_split(copy, findings))
    assert pack(records, copy).num_kept == 4
    shutil.rmtree(copy / "damaged")
    assert digests(copy) == digests(packed)


def test_another_version_is_told_and_left_alone(copy, pool):
    edit_index(copy, version=3)
    before = digests(copy)
    (finding,) = verify_split(copy, pool).findings
    assert (
        "index.json: format version 3, this code reads 1 and 2; use the release that wrote it"
        in finding.line()
    )
    assert not list(repair_split(copy, [finding]))
    assert digests(copy) == before


def test_a_second_repair_overwrites_nothing_of_the_first(records, copy, pool):
    for _ in range(2):
        flip(copy / "train-000000.tar", 600)
        list(repair_split(copy, verify_split(copy, pool).findings))
        pack(records, copy)
    kept = {path.name for path in (copy / "damaged").iterdir()}
    assert {"train-000000.tar", "train-000000.tar.1", "index.json", "index.json.1"} <= kept
    assert lines(copy, pool) == []


def test_a_shard_that_was_packed_damaged_is_found_behind_its_checksum(copy, index, pool):
    """The checksum only tells that the bytes are those that were written."""
    name, at = of_row(index, 20)
    write_at(copy / name, at + 20, bytes(60))
    described = listed(copy)
    described["shards"][1]["sha256"] = hashlib.sha256((copy / name).read_bytes()).hexdigest()
    write_listed(copy, described)
    (line, *rest) = lines(copy, pool)
    assert re.search(r"train-000001\.tar: sample 20%2E140: jpg: (damaged|not a) JPEG", line)
    assert all("shards.npy" in other or "its CRC is not" in other for other in rest), rest


def test_findings_in_a_shard_are_counted_past_a_few(copy, pool):
    rows = np.load(copy / "rows.npy")
    rows["width"] += 1
    np.save(copy / "rows.npy", rows)
    told = lines(copy, pool)
    assert len(told) == 70 + 5  # and CRCs of each shard
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("preprocess.verifying.verification.MAX_SHOWN", 4)
        told = lines(copy, pool)
    assert len(told) == 5 * (5 + 1)
    assert "rows.npy: and 12 more samples are wrong" in told[4]


def test_splits_are_found_also_where_the_index_is_gone(copy, tmp_path):
    (copy / "index.json").unlink()
    (tmp_path / "val").mkdir()
    assert find_splits(tmp_path) == [copy]
    assert find_splits(copy) == [copy]
    with pytest.raises(DataError, match="holds no packed split"):
        find_splits(tmp_path / "val")


def test_rejected_images_are_listed_where_the_index_lists_them(records, tmp_path, pool):
    pack(broken(records, (3, 33), tmp_path), tmp_path / "train", max_rejects=2)
    assert lines(tmp_path / "train", pool) == []
    before = digests(tmp_path / "train")
    (tmp_path / "train" / "rejected.jsonl").write_text("{}")
    findings = verify_split(tmp_path / "train", pool).findings
    assert "rejected.jsonl: does not list what index.json lists as rejected" in findings[0].line()
    list(repair_split(tmp_path / "train", findings))
    shutil.rmtree(tmp_path / "train" / "damaged")
    assert digests(tmp_path / "train") == before
