"""Tables of version 2 that are not what index.json describes: refused in one line, nothing read."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shards.disk.format import digest
from shards.errors import FormatError
from shards.index import DatasetIndex


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "train"))


def edit(root: Path, **values) -> None:
    """Change index.json as somebody would who knows of its checksum; None takes an entry out."""
    described = json.loads((root / "index.json").read_text()) | values
    del described["checksum"]
    described = {name: value for name, value in described.items() if value is not None}
    described["checksum"] = digest(described)
    (root / "index.json").write_text(json.dumps(described))


def retold(root: Path, name: str) -> None:
    """Let index.json have the size and hash of a table as it is now."""
    tables = json.loads((root / "index.json").read_text())["tables"]
    data = (root / name).read_bytes()
    tables[name]["bytes"] = len(data)
    if "sha256" in tables[name]:
        tables[name]["sha256"] = hashlib.sha256(data).hexdigest()
    edit(root, tables=tables)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"split": "../train"}, "is no name of a folder"),
        ({"split": "a/b"}, "is no name of a folder"),
        ({"split": "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 123}, "is no name of a folder"),
        ({"split": 3}, "no valid"),
        ({"num_shards": 4}, r"shards\.npy: \(5,\)"),
        ({"num_samples": 71}, "its shards hold 70 samples, index.json says 71"),
        ({"num_samples": 2**70}, "its shards hold 70 samples"),
        ({"class_names": ["one"]}, r"rows\.npy: \(70,\)"),
        ({"key_bytes": 3}, r"keys\.npy: \(70,\)"),
        ({"key_bytes": "7, (1000000,)"}, "index.json"),
        ({"key_bytes": -1}, "index.json"),
        ({"tables": {}}, "no valid 'shards.npy' entry"),
        ({"tables": None}, "no valid 'tables' entry"),
        ({"image": {"members": ["exe"]}}, "are not of a kind read here"),
    ],
)
def test_an_index_that_does_not_fit_its_tables(copy, values, says):
    edit(copy, **values)
    with pytest.raises(FormatError, match=says):
        DatasetIndex.open(copy)


def test_an_index_with_a_wrong_checksum(copy):
    path = copy / "index.json"
    path.write_text(path.read_text().replace('"num_rejected": 0', '"num_rejected": 2'))
    with pytest.raises(FormatError, match="its checksum is wrong"):
        DatasetIndex.open(copy)


def test_a_table_of_shards_is_hashed(copy):
    table = np.load(copy / "shards.npy")
    table["sha256"][0, 0] ^= 1
    np.save(copy / "shards.npy", table)
    with pytest.raises(FormatError, match=r"shards\.npy: its checksum is wrong"):
        DatasetIndex.open(copy)


def test_a_huge_table_is_refused_by_its_size(copy):
    """10 GB of nothing: neither mapped nor hashed."""
    with open(copy / "shards.npy", "r+b") as file:
        file.truncate(10_000_000_000)
    with pytest.raises(FormatError, match=r"shards\.npy: has 10,000,000,000 bytes"):
        DatasetIndex.open(copy)


def test_counts_that_overflow_are_refused(copy):
    table = np.load(copy / "shards.npy")
    table["num_samples"] = 2**32 - 1
    np.save(copy / "shards.npy", table)
    retold(copy, "shards.npy")
    with pytest.raises(FormatError, match="its shards hold 21,474,836,475 samples"):
        DatasetIndex.open(copy)


@pytest.mark.parametrize("name", ["shards.npy", "rows.npy", "keys.npy"])
def test_an_array_of_objects_is_not_unpickled(copy, name):
    np.save(copy / name, np.array([{}] * 70, object), allow_pickle=True)
    retold(copy, name)
    with pytest.raises(FormatError, match="cannot be read"):
        DatasetIndex.open(copy)


def test_a_key_that_is_not_ascii(copy):
    keys = np.load(copy / "keys.npy")
    keys[3] = b"t\xff"
    np.save(copy / "keys.npy", keys)
    index = DatasetIndex.open(copy)
    assert index.key(3) == "t\\xff"
    with pytest.raises(FormatError, match=r"keys\.npy: a key is not ASCII"):
        index.keys()
