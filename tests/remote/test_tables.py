"""Format 2 by address: its tables are checked by what index.json and shards.npy say of them."""

import json
import pickle
import threading

import numpy as np
import pytest

from preprocess.packing.pool import open_pool
from preprocess.verifying.remote_split import verify_remote
from shards.disk.format import (
    CHECKSUM,
    INDEX_NAME,
    KEYS_NAME,
    ROWS_NAME,
    SHARDS_NAME,
    digest,
)
from shards.errors import DataError, FormatError
from shards.index import open_split
from shards.remote import patience
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder
from tests.remote.faulty_server import IMPATIENT, FaultyServer
from tests.remote.test_reading import NEAR, batches

pytestmark = pytest.mark.usefixtures("hasty")
TABLES = (SHARDS_NAME, ROWS_NAME, KEYS_NAME)


@pytest.mark.parametrize("order", ["global", NEAR])
def test_batches_are_those_from_the_folder(dataset, server, tmp_path, order):
    far = open_split(server.url, "train", str(tmp_path / "cache"))
    near = open_split(dataset, "train")
    assert batches(far, 2, order=order) == batches(near, 2, order=order)
    assert all(count == 1 for count in server.wholes.values())
    assert len(server.asked) == 3 + len(near.shards)


def test_three_requests_open_it_and_keys_are_fetched_when_asked_for(dataset, server, tmp_path):
    far = open_split(server.url, "train", str(tmp_path / "cache"))
    assert server.asked == {f"train/{name}": 1 for name in (INDEX_NAME, SHARDS_NAME, ROWS_NAME)}
    near = open_split(dataset, "train")
    found = []
    threads = [threading.Thread(target=lambda: found.append(far.keys().tolist())) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [near.keys().tolist()] * 3
    assert far.key(7) == near.key(7)
    assert server.asked[f"train/{KEYS_NAME}"] == 1


def test_it_opens_again_with_one_request_and_unpickles_with_none(dataset, server, tmp_path):
    index = open_split(server.url, "train", str(tmp_path / "cache"))
    asked = server.asked.total()
    again = pickle.loads(pickle.dumps(index))
    assert np.array_equal(again.samples, index.samples)
    assert server.asked.total() == asked
    open_split(server.url, "train", str(tmp_path / "cache"))
    assert server.asked.total() == asked + 1


def test_a_process_that_is_stopped_in_the_middle_of_a_table_is_named(
    dataset, server, tmp_path, monkeypatch
):
    """It keeps the lock: who opened the split waited without end, and said nothing."""
    described = json.loads((dataset / "train" / INDEX_NAME).read_bytes())["tables"][SHARDS_NAME]
    folder = CacheFolder(tmp_path / "cache")
    part = folder.begin(described["sha256"], described["bytes"], lambda _: None, 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(patience, "PATIENCE", IMPATIENT)
        says = rf"{described['sha256']}.*fetches it and brings nothing"
        with pytest.raises(DataError, match=says):
            open_split(server.url, "train", str(tmp_path / "cache"))
    part.close()
    assert open_split(server.url, "train", str(tmp_path / "cache")).num_samples == 70


@pytest.mark.parametrize("table", TABLES)
def test_a_bit_that_flips_once_is_found(dataset, tmp_path, table):
    class Once(FaultyServer):
        def draw(self, name):
            return "flipped" if self.asked[name] == 1 and name.endswith(table) else ""

    near = open_split(dataset, "train")
    for seed in range(5):
        with Once(dataset, seed=seed) as server:
            index = open_split(server.url, "train", str(tmp_path / f"cache{seed}"))
            assert np.array_equal(index.samples, near.samples)
            assert index.keys().tolist() == near.keys().tolist()
            assert list(index.shards) == list(near.shards)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_is_another_is_one_line(dataset, server, tmp_path, table):
    path = dataset / "train" / table
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"^{server.url}/train/{table}: its bytes are not those"):
        open_split(server.url, "train", str(tmp_path / "cache")).keys()
    path.write_bytes(data + bytes(10))
    with pytest.raises(FormatError, match=rf"^{server.url}/train/{table}: is longer"):
        open_split(server.url, "train", str(tmp_path / "cache")).keys()


HOSTILE = {
    "samples": lambda d: d.update(num_samples=2**63),
    "negative": lambda d: d.update(num_samples=-1),
    "shards": lambda d: d.update(num_shards="5"),
    "keys": lambda d: d.update(key_bytes=10**9),
    "10 GB": lambda d: d["tables"][ROWS_NAME].update(bytes=10 * 10**9),
    "no bytes": lambda d: d["tables"][ROWS_NAME].update(bytes=None),
    "no tables": lambda d: d.pop("tables"),
    "sha is a path": lambda d: d["tables"][SHARDS_NAME].update(sha256="../" * 20 + "abcd"),
    "no classes": lambda d: d.pop("class_names"),
    "members": lambda d: d["image"].update(members=["exe"]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_index_is_refused_before_a_table_is_fetched(dataset, server, tmp_path, what):
    path = dataset / "train" / INDEX_NAME
    described = json.loads(path.read_bytes())
    HOSTILE[what](described)
    described.pop(CHECKSUM, None)
    described[CHECKSUM] = digest(described)
    path.write_text(json.dumps(described))
    with pytest.raises(FormatError) as caught:
        open_split(server.url, "train", str(tmp_path / "cache"))
    assert str(caught.value).startswith(f"{server.url}/train/{INDEX_NAME}: ")
    assert server.asked.total() == 1


def test_a_split_whose_name_leads_elsewhere_is_refused(dataset, server, tmp_path):
    path = dataset / "train" / INDEX_NAME
    described = json.loads(path.read_bytes())
    described["split"] = "../../train"
    described.pop(CHECKSUM)
    described[CHECKSUM] = digest(described)
    path.write_text(json.dumps(described))
    with pytest.raises(FormatError, match="is no name of a folder"):
        open_split(server.url, "train", str(tmp_path / "cache"))


def test_it_is_verified_by_address(dataset, server, tmp_path):
    (dataset / "train" / "train-000001.idx").unlink()
    with open_pool(1) as pool:
        found = verify_remote(Address.parse(f"{server.url}/train"), pool, str(tmp_path / "cache"))
    assert [finding.file for finding in found.findings] == ["train-000001.idx"]
