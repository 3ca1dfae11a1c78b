"""Packing straight to a bucket: the bytes of the folder, index.json last, and whatever stops it,
the same command goes on without packing a finished shard again.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

from preprocess import shard
from preprocess.images.geometry import ImageOptions
from preprocess.packing import split_by_address
from preprocess.packing.commanded import pack_as_asked, packing_folder
from preprocess.packing.destination import destination
from preprocess.packing.local_engine import LocalEngine
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import open_pool
from preprocess.verifying.remote_split import verify_remote
from shards.errors import DataError, FormatError
from shards.index import open_split
from shards.remote.address import Address
from shards.remote.object_folder import ObjectFolder
from tests.building import ROOT, run
from tests.conftest import CLASSES, write_imagefolder
from tests.preprocess.verifying.test_repair import broken
from tests.remote.conftest import SECRET, empty_bucket
from tests.remote.test_reading import batches
from tests.version_1 import as_version_1

OUT = Address.parse("memory://voc")


def job(records, **options) -> Job:
    settings = {"shard_samples": 16, "max_rejects": 0, **options}
    return Job(
        split="train",
        class_names=CLASSES,
        records=records,
        image=ImageOptions(),
        shard_bytes=10**9,
        command="test",
        order="source",
        **settings,
    )


def pack_to(out: Address, asked: Job, engine: Any = None, task=None, finish: bool = False) -> str:
    with open_pool(1) as pool, packing_folder(out, "train") as root:
        kind = engine or LocalEngine
        return pack_as_asked(asked, out, root, pool, kind(pool), task, finish)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def objects(out: Address = OUT) -> dict[str, bytes]:
    """Return all that is at an address, by its path below the split."""
    system, path = fsspec.core.url_to_fs(f"{out}/train")
    system.invalidate_cache()
    found = system.find(path)
    return {name.partition("voc/train/")[2]: system.cat_file(name) for name in sorted(found)}


@pytest.fixture(autouse=True)
def _empty():
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """The names of the objects that were put, in order."""
    names: list[str] = []
    put = ObjectFolder.put

    def noted(self, path, name):
        put(self, path, name)
        names.append(f"{self.root.name}/{name}")

    monkeypatch.setattr(ObjectFolder, "put", noted)
    return names


@pytest.fixture
def bucket(bucket_server, monkeypatch):
    system = empty_bucket(bucket_server, monkeypatch)
    yield Address.parse("s3://bucket/voc")
    system.rm("bucket", recursive=True)


def test_a_bucket_holds_the_bytes_of_the_folder(records, packed, bucket, sent, tmp_path):
    line = pack_to(bucket, job(records))
    assert line.startswith("s3://bucket/voc/train: 70 samples in 5 shards")
    assert objects(bucket) == content(packed)
    assert sent[0] == "train/packing.json"
    assert sent[-1] == "train/index.json"
    far = open_split(str(bucket), "train", str(tmp_path / "cache"))
    assert batches(far) == batches(open_split(packed.parent, "train"))
    with open_pool(1) as pool:
        assert verify_remote(bucket / "train", pool, str(tmp_path / "cache")).findings == []
    assert not any(SECRET.encode() in data for data in objects(bucket).values())


class Dying(LocalEngine):
    """Ends after two shards, as a kill does."""

    def pack(self, settings, tasks, advance):
        yield from super().pack(settings, [next(tasks), next(tasks)], advance)
        raise KeyboardInterrupt


def test_a_killed_packing_goes_on_in_the_bucket(records, packed, bucket, sent, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        pack_to(bucket, job(records), Dying)
    with pytest.raises(FormatError, match="no split 'train' here"):
        open_split(str(bucket), "train", str(tmp_path / "cache"))
    before = [name for name in sent if name.endswith(".tar")]
    assert sorted(before) == ["train/train-000000.tar", "train/train-000001.tar"]  # two go at once
    line = pack_to(bucket, job(records))
    assert "3 written, 2 kept" in line
    after = [name for name in sent if name.endswith(".tar")]
    assert sorted(after) == sorted(set(after))
    assert objects(bucket) == content(packed)


def test_tasks_and_their_finish(records, packed, sent):
    for index in (2, 0, 1):
        line = pack_to(OUT, job(records), task=(index, 3))
        if index != 1:
            with pytest.raises(DataError, match=r"of 5 shards are not there, such as train-0"):
                pack_to(OUT, job(records), finish=True)
    assert "all shards are there: the same command with --finalize writes the index" in line
    assert "train/index.json" not in sent
    pack_to(OUT, job(records), finish=True)
    assert objects() == content(packed)
    assert len([name for name in sent if name.endswith(".tar")]) == 5


def test_nothing_new_puts_nothing(records, packed, sent):
    pack_to(OUT, job(records))
    del sent[:]
    assert "0 written, 5 kept" in pack_to(OUT, job(records))
    assert sent == []
    assert objects() == content(packed)


class Stopped(BaseException):
    """A kill."""


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["", "train-000003.tar"])
def test_stopped_at_any_request_it_goes_on(records, packed, monkeypatch, lost, tmp_path):
    """Before the first, second, ... request: what is there is whole or not read, and the same
    command finishes it. Of a finished set that lost a shard this one alone is made again.
    """
    patiently = ObjectFolder._patiently
    system = fsspec.filesystem("memory")
    for stop_at in range(200):
        system.store.clear()
        if lost:
            pack_to(OUT, job(records))
            system.rm(f"/voc/train/{lost}")
        left = iter(range(stop_at))

        def request(self, work, num_bytes, where, left=left):
            if next(left, None) is None:
                raise Stopped
            return patiently(self, work, num_bytes, where)

        monkeypatch.setattr(split_by_address, "UPLOADS", 1)
        monkeypatch.setattr(ObjectFolder, "_patiently", request)
        try:
            pack_to(OUT, job(records))
            was_stopped = False
        except Stopped:
            was_stopped = True
        monkeypatch.setattr(ObjectFolder, "_patiently", patiently)
        if "index.json" in objects() and not (lost and lost not in objects()):
            cache = str(tmp_path / f"cache-{stop_at}")
            assert batches(open_split(str(OUT), "train", cache))
        finished = {
            name for name in objects() if name.startswith("packing/train") and "json" in name
        }
        line = pack_to(OUT, job(records))
        written = int(line.partition(" written")[0].rpartition(" ")[2])
        assert written <= (1 if lost else 5 - len(finished))
        assert objects() == content(packed), stop_at
        if not was_stopped:
            break
    assert stop_at > (10 if lost else 30)


def test_a_half_sent_shard_is_not_taken_for_whole(records, packed):
    with pytest.raises(KeyboardInterrupt):
        pack_to(OUT, job(records), Dying)
    system = fsspec.filesystem("memory")
    whole = system.cat_file("/voc/train/train-000001.tar")
    system.pipe_file("/voc/train/train-000001.tar", whole[:-10_240])
    system.pipe_file("/voc/train/train-000002.tar", whole)  # of which nothing is written down
    assert "4 written, 1 kept" in pack_to(OUT, job(records))
    assert objects() == content(packed)


def test_rows_that_are_lost_are_read_from_the_shard(records, packed):
    with pytest.raises(KeyboardInterrupt):
        pack_to(OUT, job(records), Dying)
    fsspec.filesystem("memory").rm("/voc/train/packing/train-000000.npy")
    assert "3 written, 2 kept" in pack_to(OUT, job(records))
    assert objects() == content(packed)


def test_a_changed_photograph_is_packed_again(records, packed, tmp_path):
    pack_to(OUT, job(records))
    changed = [*records[:20], *records[21:], records[20]]
    with pytest.raises(DataError, match=r"^memory://voc/train: holds another dataset"):
        pack_to(OUT, job(changed))
    later = tmp_path / "later.jpg"
    shutil.copy(records[20].path, later)
    in_an_hour = os.stat(later).st_mtime + 3600
    os.utime(later, (in_an_hour, in_an_hour))
    replaced = [*records]
    replaced[20] = type(records[20])(
        records[20].name, later, records[20].source, records[20].labels, records[20].ignored
    )
    assert "1 written, 4 kept" in pack_to(OUT, job(replaced))
    assert objects() == content(packed)


def test_what_could_not_be_packed_is_listed_there(records, tmp_path):
    """And the message says where."""
    with pytest.raises(DataError) as caught:
        pack_to(OUT, job(broken(records, (3, 33), tmp_path)))
    assert "see memory://voc/train/rejected.jsonl;" in str(caught.value)
    assert "tarmac-pack-" not in str(caught.value)
    assert len(objects()["rejected.jsonl"].splitlines()) == 2
    assert "index.json" not in objects()
    pack_to(OUT, job(records))
    assert "rejected.jsonl" not in objects()


def test_what_else_is_there_is_refused_and_left_alone(records, packed):
    system = fsspec.filesystem("memory")
    system.pipe_file("/voc/train/holiday.jpg", b"mine")
    with pytest.raises(DataError, match=r"^memory://voc/train: holds files .* such as holiday"):
        pack_to(OUT, job(records))
    assert objects() == {"holiday.jpg": b"mine"}
    system.rm("/voc", recursive=True)
    old = as_version_1(shutil.copytree(packed, packed.parent / "old"))
    for path in old.iterdir():
        system.put_file(str(path), f"/voc/train/{path.name}")
    before = objects()
    with pytest.raises(DataError, match="is of format version 1, which is not gone on with"):
        pack_to(OUT, job(records))
    assert objects() == before
    shutil.rmtree(old)


def test_a_bucket_that_is_not_there_is_one_line(records, bucket):
    with pytest.raises(DataError, match=r"^s3://nobody/voc/train/packing\.json: is not there"):
        pack_to(Address.parse("s3://nobody/voc"), job(records))


class Full(fsspec.AbstractFileSystem):
    """Takes nothing, and shows what it should not."""

    protocol = "full"

    def ls(self, path, detail=True, **kwargs):
        return []

    def makedirs(self, path, exist_ok=False):
        pass

    def put_file(self, lpath, rpath, **kwargs):
        raise OSError(f"PUT https://host/{rpath}?X-Amz-Signature={SECRET} failed")


@pytest.mark.usefixtures("hasty")
def test_a_server_that_takes_nothing_is_one_line_without_secrets(records):
    fsspec.register_implementation("full", Full, clobber=True)
    with pytest.raises(DataError) as caught:
        pack_to(Address.parse("full://host/voc"), job(records))
    assert str(caught.value).startswith("full://host/voc/train/packing.json: the request failed")
    assert SECRET not in str(caught.value)


def test_disk_is_given_back(records, monkeypatch):
    """What waits here are the shards that are being sent, not the set."""
    seen = []
    send = split_by_address.SplitByAddress.send_shard

    def noted(self, finished):
        send(self, finished)
        seen.append(os.stat(self.root / finished.entry.name))

    monkeypatch.setattr(split_by_address.SplitByAddress, "send_shard", noted)
    pack_to(OUT, job(records))
    assert len(seen) == 5
    assert all(each.st_size > 0 == each.st_blocks for each in seen)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://host/voc", "nothing can be written by https://; give the address of a bucket"),
        (f"s3://key:{SECRET}@bucket/voc", "holds a user name or a password"),
        (f"s3://bucket/voc?X-Amz-Signature={SECRET}", "has a query"),
        ("file://host/voc", "give the folder itself, or file:// and its full path"),
        ("s3://", "names no host or bucket"),
    ],
)
def test_addresses_that_cannot_be_written_to(text, says):
    with pytest.raises(DataError, match=says) as caught:
        destination(text)
    assert SECRET not in str(caught.value)


def test_an_address_of_a_file_is_its_folder(tmp_path):
    assert destination(f"file://{tmp_path}/voc") == tmp_path / "voc"


def command(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["preprocess.shard", *words])
    status = 0
    try:
        shard.run(shard.main)
    except SystemExit as end:
        status = int(end.code or 0)
    return status, *capsys.readouterr()


def test_the_command(tmp_path, monkeypatch, capsys):
    for split in ("train", "val"):
        write_imagefolder(tmp_path / "source" / split, 5)
    args = ["--source", "imagefolder", "--root", str(tmp_path / "source"), "--workers", "1"]
    folder = ["--out", str(tmp_path / "out")]
    assert command(monkeypatch, capsys, *args, *folder)[0] == 0
    status, told, errors = command(monkeypatch, capsys, *args, "--out", str(OUT))
    assert status == 0, errors
    assert "memory://voc/train: 10 samples in 1 shard" in told
    assert "  cat  5 positives" in told
    assert "training needs" not in told
    for split in ("train", "val"):
        system = fsspec.filesystem("memory")
        paths = system.find(f"/voc/{split}")
        there = {path.rpartition("/")[2]: system.cat_file(path) for path in paths}
        assert there == content(tmp_path / "out" / split)
    for more, says in (
        (["--append"], "--append reads in the shards which images they hold"),
        (["--engine", "ray"], "--engine ray writes to a folder that its nodes share"),
    ):
        status, _, errors = command(monkeypatch, capsys, *args, "--out", str(OUT), *more)
        assert (status, errors.count("\n")) == (2, 1)
        assert says in errors


def test_splits_of_other_classes_are_refused(tmp_path, monkeypatch, capsys, records):
    pack_to(OUT, job(records))
    write_imagefolder(tmp_path / "source" / "val", 2)
    args = ["--source", "imagefolder", "--root", str(tmp_path / "source"), "--splits", "val"]
    status, _, errors = command(monkeypatch, capsys, *args, "--out", str(OUT))
    assert (status, errors.count("\n")) == (2, 1)
    assert "memory://voc/train: has 11 classes and task multilabel, this source 2 and" in errors


@pytest.mark.slow
def test_a_killed_command_goes_on_with_credentials_of_the_environment(
    bucket, bucket_server, tmp_path
):
    """SIGKILL, by the system's own way to end a process; nothing of it is left to clear up."""
    for split in ("train", "val"):
        write_imagefolder(tmp_path / "source" / split, 40 if split == "train" else 2)
    args = ["--source", "imagefolder", "--root", str(tmp_path / "source"), "--shard-samples", "2"]
    line = [sys.executable, "-m", "preprocess.shard", *args, "--workers", "1"]
    client = {"endpoint_url": bucket_server}
    secrets = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED", "AWS_SECRET_ACCESS_KEY": SECRET}
    variables = {"FSSPEC_S3_CLIENT_KWARGS": json.dumps(client), "PYTHONPATH": str(ROOT), **secrets}
    assert run([*line, "--out", str(tmp_path / "out")], tmp_path, variables).returncode == 0
    system, _ = fsspec.core.url_to_fs("s3://bucket")
    log = (tmp_path / "log").open("wb")
    killed = subprocess.Popen(
        [*line, "--out", str(bucket)],
        env={**os.environ, **variables},
        cwd=tmp_path,
        stdout=log,
        stderr=log,
    )
    while len(tars(system)) < 3 and killed.poll() is None:
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    before = tars(system)
    done = run([*line, "--out", str(bucket)], tmp_path, variables)
    assert done.returncode == 0, done.stderr
    kept = int(done.stdout.partition(" kept")[0].rpartition(" ")[2])
    assert kept >= len(before) - 2  # of two that were on their way the record may not be there
    after = tars(system)
    assert sum(after[name] == when for name, when in before.items()) >= kept
    assert objects(bucket) == content(tmp_path / "out" / "train")
    told = done.stdout + done.stderr + (tmp_path / "log").read_text()
    assert SECRET not in told
    assert "AKIA" not in told


def tars(system: Any) -> dict[str, Any]:
    """Return when each shard was put."""
    system.invalidate_cache()
    try:
        found = system.ls("bucket/voc/train", detail=True)
    except FileNotFoundError:
        return {}
    return {each["name"]: each["LastModified"] for each in found if each["name"].endswith(".tar")}
