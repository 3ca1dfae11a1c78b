"""Damaged and odd index files, lists, annotations and names: each function tries one case and says
how it ended.
"""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from preprocess.packing.keys import MAX_KEY_CHARS, sample_key
from preprocess.record import Record
from preprocess.sources.voc import VOC
from preprocess.verifying.packed_folder import read_written
from shards.dataset import ShardDataset
from shards.disk.format import CHECKSUM, TABLE_NAMES, digest
from shards.errors import DataError, FormatError, SampleError
from shards.index import DatasetIndex
from tests.conftest import jpeg, pack, photograph
from tests.faults.mutation import mutated
from tests.version_1 import as_version_1

CHARACTERS = "aZ0_-. %~/\\äß語\u202e\t'\"\x00\n"


def _folder() -> Path:
    """Make a folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="tarmac-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def split(version: int) -> Path:
    """A split of four samples; its index and tables are exchanged for each case."""
    root = _folder() / "train"
    records = []
    for number in range(4):
        path = root.parent / f"{number}.jpg"
        path.write_bytes(jpeg(photograph(40, 30, number)))
        records.append(Record(f"s{number}", path, path.name, (number,), ()))
    pack(records, root, shard_samples=2)
    return as_version_1(root) if version == 1 else root


@cache
def whole(name: str, version: int) -> bytes:
    return (split(version) / name).read_bytes()


def _opened(name: str, data: bytes, version: int) -> str:
    """Open the split with another file in it, and read all of what it says is there."""
    root = split(version)
    path = root / name
    path.write_bytes(data)
    try:
        read_written(root)  # what verify reads: tells, never raises
        index = DatasetIndex.open(root)
        dataset = ShardDataset(index)
        index.keys(), index.labels(), index.known()
        for number in range(index.num_samples):
            dataset[number]
    except FormatError:
        return "refused at opening"
    except SampleError:
        return "refused at the sample"
    finally:
        path.write_bytes(whole(name, version))
    return "read"


def index_json(rng: np.random.Generator) -> str:
    """Open a split whose index.json has other values or bytes, and often a checksum of these."""
    version = int(rng.integers(1, 3))
    if rng.random() < 0.4:
        return _opened("index.json", mutated(rng, whole("index.json", version), 4000), version)
    described = json.loads(whole("index.json", version))
    odd = [None, -1, 0, 1 << 70, 1.5, "", "../x", [], {}, [1], ["a"], True, "x" * 300, {"a": 1}]
    place = described
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = odd[int(rng.integers(len(odd)))]
        if rng.random() < 0.7:
            described.pop(CHECKSUM, None)
            described[CHECKSUM] = digest(described)
        return _opened("index.json", json.dumps(described).encode(), version)


def samples_npy(rng: np.random.Generator) -> str:
    """Open a split of version 1 whose samples.npy has another header or other rows."""
    return _opened("samples.npy", mutated(rng, whole("samples.npy", 1), 500), 1)


def tables(rng: np.random.Generator) -> str:
    """Open a split one of whose tables has another header or other rows."""
    name = TABLE_NAMES[int(rng.integers(len(TABLE_NAMES)))]
    return _opened(name, mutated(rng, whole(name, 2), 500), 2)


@cache
def voc() -> Path:
    root = _folder()
    for name in ("JPEGImages", "ImageSets/Main", "Annotations"):
        (root / name).mkdir(parents=True)
    for name in ("a", "b c", "ü.x", "n" * 200):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(b"")
    return root


def voc_lists(rng: np.random.Generator) -> str:
    """Read lists with any line ends, blanks, tabs, doubles and names."""
    names = ["a", "n" * 200, "ü.x", "b c", "..", "a/b", "\ufeffa", "a" * 300, ""]
    ends, gaps = ["\n", "\r\n", "\r", "\n\n", " \n", "\t\n"], [" ", "\t", "  ", ""]

    def pick(values: list[str]) -> str:
        return values[int(rng.integers(len(values)))]

    ids = [pick(names if rng.random() < 0.3 else names[:3]) for _ in range(rng.integers(0, 4))]
    main = voc() / "ImageSets" / "Main"
    (main / "val.txt").write_bytes(
        "".join(name + pick(ends) for name in ids).encode(errors="surrogatepass")
    )
    text = "".join(
        name + pick(gaps) + pick(["1", "0", "-1", "-1", "2", ""]) + pick(ends) for name in ids
    )
    (main / "cat_val.txt").write_bytes(
        mutated(rng, text.encode() + b"\n", 50) if rng.random() < 0.3 else text.encode()
    )
    return _records()


def voc_xml(rng: np.random.Generator) -> str:
    """Read annotations, damaged ones and those that would expand or fetch something."""
    hostile = [
        '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
        '<?xml version="1.0" encoding="utf-16"?>',
        "",
        "",
    ]
    text = hostile[int(rng.integers(len(hostile)))] + (
        "<annotation><object><name>cat</name><difficult>0</difficult></object>"
        "<object><name>&#x64;og</name></object></annotation>"
    )
    data = text.encode("utf-16" if rng.random() < 0.1 else "utf-8")
    main = voc() / "ImageSets" / "Main"
    (main / "val.txt").write_text("a\n")
    (main / "cat_val.txt").unlink(missing_ok=True)
    (voc() / "Annotations" / "a.xml").write_bytes(mutated(rng, data, 300))
    return _records()


def _records() -> str:
    try:
        records = VOC(voc()).records("val")
    except DataError as error:
        if "\n" in str(error):
            raise AssertionError("a message of several lines") from error
        return "refused"
    root = (voc() / "JPEGImages").resolve()
    assert all(record.path.resolve().parent == root for record in records), (
        "a path out of the folder"
    )
    return "read"


def keys(rng: np.random.Generator) -> str:
    """Make keys of any names: short, safe, and different for different names."""
    length = int(rng.choice([1, 2, 5, 40, 64, 65, 300]))
    name = "".join(CHARACTERS[i] for i in rng.integers(0, len(CHARACTERS), length))
    at = int(rng.integers(length))
    other = name[:at] + ("b" if name[at] != "b" else "c") + name[at + 1 :]
    key = sample_key(name)
    assert 0 < len(key) <= MAX_KEY_CHARS
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-%~")
    assert key != sample_key(other)
    return "hashed" if "~" in key else "escaped" if "%" in key else "as it is"
