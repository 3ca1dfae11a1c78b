"""A bucket, by moto's server on loopback; and file systems of fsspec that misbehave."""

import time
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from fsspec.config import conf

from shards.errors import DataError
from shards.index import open_split
from shards.remote import fsspec_store
from shards.remote.address import Address
from shards.remote.transfer import open_store
from tests.remote.conftest import SECRET, empty_bucket
from tests.remote.faulty_server import HASTY, IMPATIENT
from tests.remote.test_reading import batches
from tests.remote.test_transfer import BODY, fetch

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def bucket(bucket_server, dataset, monkeypatch):
    """The dataset in a bucket; credentials are where fsspec looks for them."""
    system = empty_bucket(bucket_server, monkeypatch)
    system.put(str(dataset / "train"), "bucket/voc/train", recursive=True)
    yield system
    system.rm("bucket", recursive=True)


def test_batches_from_a_bucket_are_those_from_the_folder(bucket, dataset, tmp_path):
    far = open_split("s3://bucket/voc", "train", str(tmp_path / "cache"))
    assert batches(far) == batches(open_split(dataset, "train"))
    stored = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    assert SECRET.encode() not in stored


def test_what_a_bucket_does_not_have_is_one_line(bucket, tmp_path, dataset):
    with pytest.raises(DataError, match=r"^s3://bucket/voc: no split 'val' here; it has train"):
        open_split("s3://bucket/voc", "val", str(tmp_path / "cache"))
    index = open_split("s3://bucket/voc", "train", str(tmp_path / "cache"))
    bucket.rm("bucket/voc/train/train-000002.tar")
    with pytest.raises(DataError, match=r"^s3://bucket/voc/train/train-000002.tar: is not there"):
        index.open_shard(2)
    bucket.pipe_file("bucket/voc/train/train-000001.tar", b"other" * 1000)
    with pytest.raises(DataError, match=r"train-000001.tar: is not the object that index.json"):
        index.open_shard(1)


@pytest.mark.slow
def test_a_bucket_that_is_not_there_takes_no_longer_than_our_own_tries(monkeypatch):
    pytest.importorskip("s3fs", reason="no s3fs: pip install 'tarmac-vision[remote]'")
    settings = {"endpoint_url": "http://127.0.0.1:9", "key": "AKIAPLANTED", "secret": SECRET}
    monkeypatch.setitem(conf, "s3", settings)
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        fetch("s3://bucket/voc", "index.json", num_bytes=None)
    assert str(caught.value).startswith("s3://bucket/voc/index.json: the request failed")
    assert SECRET not in str(caught.value)
    assert "AKIA" not in str(caught.value)
    assert time.monotonic() - started < 60  # s3fs alone: minutes


class AnsweredError(OSError):
    """An error with the answer of a server, as file systems raise them."""

    def __init__(self, text="", **named):
        super().__init__(text)
        vars(self).update(named)


# A range that starts at an object's end, as it is said for s3 and gs, by aiohttp, for az and for hf.
BEYOND = {
    "boto": AnsweredError(response={"Error": {"Code": "InvalidRange"}}),
    "gcs": AnsweredError(code=416),
    "aiohttp": AnsweredError(status=416),
    "azure": AnsweredError(status_code=416),
    "httpx": AnsweredError(response=SimpleNamespace(status_code=416)),
    "text": AnsweredError("416 Client Error: Requested Range Not Satisfiable for url: https://h/a"),
}


class Misbehaving(fsspec.AbstractFileSystem):
    """Does one thing wrong, which its address names."""

    protocol = "misbehaving"
    cachable = False
    calls = 0

    def cat_file(self, path, start=None, end=None, **kwargs):
        kind = path.strip("/").split("/")[0]
        type(self).calls += 1
        if kind == "hangs":
            time.sleep(20)
        if kind == "secret":
            raise OSError(f"GET https://host/a?X-Amz-Signature={SECRET} failed")
        if kind == "whole":
            return BODY
        if kind in BEYOND and start >= len(BODY):
            raise BEYOND[kind]
        if kind == "flaky-416" and self.calls % 3:
            raise OSError(f"connection to {path} was reset")
        if kind == "missing":
            raise FileNotFoundError(path)
        if kind == "short":
            return BODY[start:end][:1000]
        if kind == "flaky" and self.calls % 3:
            raise TimeoutError(SECRET)
        if kind == "denied":
            raise PermissionError(SECRET)
        if kind == "folder":
            raise IsADirectoryError(SECRET)
        return BODY[start:end]


@pytest.fixture
def misbehaving(monkeypatch):
    fsspec.register_implementation("misbehaving", Misbehaving, clobber=True)
    monkeypatch.setattr(fsspec_store, "BLOCK_BYTES", 100_000)


@pytest.mark.usefixtures("misbehaving")
@pytest.mark.parametrize("kind", ["good", "flaky", "flaky-416", "short"])
def test_what_passes_gives_the_right_bytes(kind, monkeypatch):
    monkeypatch.setattr(fsspec_store.patience, "PATIENCE", _many(fsspec_store.patience.PATIENCE))
    assert fetch(f"misbehaving://{kind}") == BODY


@pytest.mark.usefixtures("misbehaving")
@pytest.mark.parametrize("kind", BEYOND)
def test_an_object_of_unknown_length_ends_where_a_range_is_refused(kind):
    """Its length is a multiple of the block here: the last range asked for has nothing."""
    assert fetch(f"misbehaving://{kind}", num_bytes=None) == BODY


@pytest.mark.usefixtures("misbehaving")
@pytest.mark.parametrize("num_bytes", [None, len(BODY)])
@pytest.mark.parametrize(
    ("folder", "name"), [("voc", "train-000416.tar"), ("run-416", "index.json")]
)
def test_a_name_with_the_number_of_that_answer_is_a_name(folder, name, num_bytes):
    """It was taken for the answer: the object ended there, at whatever error."""
    with pytest.raises(DataError, match=f"{folder}/{name}: is not there"):
        fetch(f"misbehaving://missing/{folder}", name, num_bytes)


def _many(limits):
    return limits._replace(attempts=400, longest_pause_s=0.001, min_bytes_per_s=200_000)


@pytest.mark.slow
@pytest.mark.usefixtures("misbehaving")
@pytest.mark.parametrize(
    ("kind", "limits", "says"),
    [
        ("hangs", IMPATIENT, "the server does not answer in time, 5 times"),
        ("secret", HASTY, r"the request failed \(OSError\), 5 times"),
        ("whole", HASTY, "another range"),
        ("denied", HASTY, "access is refused"),
        ("folder", HASTY, "is a folder, not an object"),
        ("missing", HASTY, "is not there"),
    ],
)
def test_what_stays_is_one_line_without_secrets(kind, limits, says, monkeypatch):
    limits = limits._replace(min_bytes_per_s=10**6)
    monkeypatch.setattr(fsspec_store.patience, "PATIENCE", limits)
    with pytest.raises(DataError, match=rf"^misbehaving://{kind}/a.tar: .*{says}") as caught:
        fetch(f"misbehaving://{kind}")
    assert SECRET not in str(caught.value)


def test_a_store_after_a_fork_connects_again(dataset):
    store = open_store(Address.parse((dataset / "train").as_uri()))
    before = store._system
    store._process = -1
    with store.get("index.json", 0, None) as reply:
        assert b"".join(reply.chunks) == (dataset / "train" / "index.json").read_bytes()
    assert store._process > 0
    assert store._system is not None
    assert before is not None


def test_a_mapped_table_of_a_file_address_is_the_same(dataset, tmp_path):
    far = open_split(dataset.as_uri(), "train", str(tmp_path / "cache"))
    assert np.array_equal(far.samples, open_split(dataset, "train").samples)
