"""A split by its address: few requests, and nothing believed that an index says."""

import json
import os
import pickle

import numpy as np
import pytest

from benchmarks.object_server import ObjectServer
from shards.disk.format import CHECKSUM, INDEX_NAME, SAMPLES_NAME, digest
from shards.errors import DataError, FormatError
from shards.index import DatasetIndex, open_split
from shards.remote.cache_folder import MARKER
from tests.remote.faulty_server import FaultyServer
from tests.version_1 import as_version_1

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def dataset(dataset):
    """The dataset in version 1: tests/remote/test_tables.py is about version 2."""
    as_version_1(dataset / "train")
    return dataset


def files_of(cache) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != MARKER)


def rewrite(split, change) -> None:
    """Change index.json, and its checksum with it."""
    path = split / INDEX_NAME
    described = json.loads(path.read_bytes())
    change(described)
    described.pop(CHECKSUM, None)
    described[CHECKSUM] = digest(described)
    path.write_text(json.dumps(described))


def test_a_split_by_address_is_the_same_as_from_its_folder(server, dataset, tmp_path):
    near = open_split(dataset, "train")
    far = open_split(server.url, "train", str(tmp_path / "cache"))
    assert str(far.root) == f"{server.url}/train"
    assert np.array_equal(far.samples, near.samples)
    for name in ("split", "task", "class_names", "shards", "members", "statistics", "settings"):
        assert getattr(far, name) == getattr(near, name)
    assert far.is_remote
    assert not near.is_remote


def test_three_requests_open_a_split_and_one_opens_it_again(server, tmp_path):
    cache = str(tmp_path / "cache")
    open_split(server.url, "train", cache)
    assert server.asked == {f"train/{INDEX_NAME}": 1, f"train/{SAMPLES_NAME}": 2}
    open_split(server.url, "train", cache)
    assert server.asked == {f"train/{INDEX_NAME}": 2, f"train/{SAMPLES_NAME}": 2}


def test_a_disk_without_room_is_one_line_with_what_helps(server, tmp_path, disk_of):
    cache = tmp_path / "cache"
    disk_of(10**13, 9 * 10**8)
    with pytest.raises(DataError) as refused:
        open_split(server.url, "train", str(cache))
    assert str(refused.value).endswith(
        f"the cache {cache} has room for 0 GB; free some of its disk or choose another --cache-dir"
    )
    disk_of(10**13, 2 * 10**9)
    open_split(server.url, "train", str(cache))


def test_a_pickled_index_opens_without_a_request(server, tmp_path):
    index = DatasetIndex.open(f"{server.url}/train", str(tmp_path / "cache"))
    data = pickle.dumps(index)
    asked = server.asked.total()
    again = pickle.loads(data)
    assert server.asked.total() == asked
    assert np.array_equal(again.samples, index.samples)
    again.open_shard(1).close()
    assert server.asked.total() == asked + 1


def test_the_default_cache_is_where_caches_are(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    open_split(server.url, "train")
    assert MARKER in os.listdir(tmp_path / "caches" / "tarmac")


@pytest.mark.parametrize(
    ("address", "split", "says"),
    [
        ("", "test", r"no split 'test' here; it has train"),
        ("/train", "val", r"train: is one split; give the address of the whole dataset, http"),
        ("/nothing", "val", r"no split 'val' here; check the address"),
        ("", "../x", r"an empty part, \. or \.\."),
    ],
)
def test_a_split_that_is_not_there_is_one_line(server, tmp_path, address, split, says):
    with pytest.raises(DataError, match=says):
        open_split(server.url + address, split, str(tmp_path / "cache"))


HOSTILE = {
    "climbs": lambda d: d["shards"][0].update(name="../../precious"),
    "absolute": lambda d: d["shards"][0].update(name="/etc/passwd"),
    "a folder": lambda d: d["shards"][0].update(name="a/b.tar"),
    "a query": lambda d: d["shards"][0].update(name="a.tar?x"),
    "a fragment": lambda d: d["shards"][0].update(name="a.tar#x"),
    "control": lambda d: d["shards"][0].update(name="a\r\nb.tar"),
    "long": lambda d: d["shards"][0].update(name="a" * 300),
    "no name": lambda d: d["shards"][0].update(name=7),
    "dot": lambda d: d["shards"][0].update(name=".."),
    "twice": lambda d: d["shards"][1].update(name=d["shards"][0]["name"]),
    "sha is a path": lambda d: d["shards"][0].update(sha256="../" * 20 + "abcd"),
    "sha is short": lambda d: d["shards"][0].update(sha256="ab"),
    "sha is no text": lambda d: d["shards"][0].update(sha256=None),
    "negative bytes": lambda d: d["shards"][0].update(bytes=-1),
    "bytes overflow": lambda d: d["shards"][0].update(bytes=2**64),
    "bytes true": lambda d: d["shards"][0].update(bytes=True),
    "bytes float": lambda d: d["shards"][0].update(bytes=1e300),
    "samples overflow": lambda d: d["shards"][0].update(num_samples=2**63),
    "more samples than bytes": lambda d: d["shards"][0].update(num_samples=10**6),
    "sum": lambda d: d.update(num_samples=71),
    "sum of text": lambda d: d.update(num_samples="70"),
    "no shards": lambda d: d.pop("shards"),
    "shards are a text": lambda d: d.update(shards="abc"),
    "no classes": lambda d: d.pop("class_names"),
    "members": lambda d: d["image"].update(members=["exe"]),
    "version": lambda d: d.update(version=99),
    "format": lambda d: d.update(format="other"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_index_is_refused_before_anything_of_it_is_fetched(
    server, dataset, tmp_path, what
):
    rewrite(dataset / "train", HOSTILE[what])
    with pytest.raises(FormatError) as caught:
        open_split(server.url, "train", str(tmp_path / "cache"))
    assert str(caught.value).startswith(f"{server.url}/train/{INDEX_NAME}: ")
    assert server.asked.total() == 1
    assert len(files_of(tmp_path / "cache")) <= 1  # the index itself


def test_an_index_whose_checksum_is_wrong_is_refused(server, dataset, tmp_path):
    path = dataset / "train" / INDEX_NAME
    path.write_text(path.read_text().replace('"class-1"', '"class-X"'))
    with pytest.raises(FormatError, match="its checksum is wrong"):
        open_split(server.url, "train", str(tmp_path / "cache"))


def test_a_table_that_is_longer_than_its_rows_is_refused_before_it_is_written(dataset, tmp_path):
    class Claiming(FaultyServer):
        def draw(self, name):
            return "claim" if name.endswith(SAMPLES_NAME) else ""

    with Claiming(dataset) as server:

        def claim(self, name, data):
            self.send_response(200)
            self.send_header("Content-Length", str(10 * 10**9))
            self.end_headers()
            self.wfile.write(bytes(1 << 20))

        server.RequestHandlerClass._claim = claim
        with pytest.raises(FormatError, match="is longer than the rows"):
            open_split(server.url, "train", str(tmp_path / "cache"))
    sizes = [path.stat().st_size for path in (tmp_path / "cache").iterdir()]
    assert max(sizes) < 100_000


def test_a_table_that_does_not_end_is_given_up(dataset, tmp_path):
    with FaultyServer(dataset, always="stretched") as server:
        server.only = SAMPLES_NAME
        (dataset / "train" / SAMPLES_NAME).write_bytes(bytes(1 << 20))
        with pytest.raises(FormatError, match="is longer than the rows"):
            open_split(server.url, "train", str(tmp_path / "cache"))


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"x" * 500, b"PK\x03\x04"])
def test_a_table_that_is_none_is_one_line(server, dataset, tmp_path, data):
    (dataset / "train" / SAMPLES_NAME).write_bytes(data)
    with pytest.raises(FormatError, match=rf"^{server.url}/train/{SAMPLES_NAME}: "):
        open_split(server.url, "train", str(tmp_path / "cache"))


def test_a_bit_that_flips_in_the_table_is_found(dataset, tmp_path):
    class Once(FaultyServer):
        def draw(self, name):
            return "flipped" if self.asked[name] == 1 and name.endswith(SAMPLES_NAME) else ""

    with Once(dataset) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert np.array_equal(index.samples, open_split(dataset, "train").samples)
        assert server.asked[f"train/{SAMPLES_NAME}"] == 3


def test_a_table_that_differs_each_time_is_one_line(dataset, tmp_path):
    with FaultyServer(dataset, always="flipped") as server:
        server.only = SAMPLES_NAME
        with pytest.raises(DataError, match="or others each time it is read"):
            open_split(server.url, "train", str(tmp_path / "cache"))


def test_an_index_that_does_not_end_is_refused(dataset, tmp_path, monkeypatch):
    from shards.remote import opening

    monkeypatch.setattr(opening, "MAX_INDEX_BYTES", 1000)
    with (
        ObjectServer(dataset) as server,
        pytest.raises(FormatError, match="has more than 1,000 bytes"),
    ):
        open_split(server.url, "train", str(tmp_path / "cache"))


def test_the_dataset_as_its_own_cache_is_refused(server, dataset):
    before = sorted(os.listdir(dataset / "train"))
    for path in (dataset, dataset / "train"):
        with pytest.raises(DataError, match="is not empty and no cache of Tarmac's"):
            open_split(server.url, "train", str(path))
    assert sorted(os.listdir(dataset / "train")) == before
