"""`preprocess.verify` by address: what it finds in the folder, it finds there."""

import pytest

from preprocess import verify
from preprocess.packing.pool import open_pool
from preprocess.verifying.remote_split import verify_remote
from preprocess.verifying.verification import verify_split
from shards.errors import DataError
from shards.remote.address import Address

pytestmark = pytest.mark.usefixtures("hasty")


def test_an_intact_set_is_intact_by_address(server, tmp_path, capsys):
    verify.main([server.url, "--cache-dir", str(tmp_path / "cache"), "--workers", "1"])
    assert f"{server.url}/train: 70 samples in 5 shards" in capsys.readouterr().out


def test_findings_are_those_of_the_folder(server, dataset, tmp_path):
    split = dataset / "train"
    (split / "train-000001.idx").unlink()
    (split / "train-000003.idx").write_bytes(b"v1.2 0\n")
    with open_pool(1) as pool:
        near = verify_split(split, pool)
        far = verify_remote(Address.parse(f"{server.url}/train"), pool, str(tmp_path / "cache"))
    assert len(near.findings) == 2
    lines = [finding.line() for finding in near.findings]
    there = [finding.line() for finding in far.findings]
    assert there == [line.replace(str(dataset), server.url) for line in lines]


def test_a_damaged_shard_is_found(server, dataset, tmp_path, capsys):
    path = dataset / "train" / "train-000002.tar"
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    argv = [f"{server.url}/train", "--cache-dir", str(tmp_path / "cache"), "--workers", "1"]
    with pytest.raises(SystemExit) as ended:
        verify.main([*argv, "--cache-gb", "0.01"])
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert f"{server.url}/train/train-000002.tar: is not the object that index.json lists" in out
    assert f"{server.url}/train/train-000002.tar: is missing" in out
    assert "1 finding" in out


@pytest.mark.parametrize(
    ("path", "flags", "says"),
    [
        ("", ["--repair"], "not done by address"),
        ("/nothing", [], "has no split train or val or test"),
    ],
)
def test_what_cannot_be_done_by_address_is_one_line(server, tmp_path, path, flags, says):
    with pytest.raises(DataError, match=says):
        verify.main([server.url + path, *flags, "--cache-dir", str(tmp_path / "cache")])
