"""A dataset of small photographs, packed, behind a server on loopback; and short pauses."""

import os
import shutil
import subprocess
import sys
from typing import Any

import fsspec
import pytest
from fsspec.config import conf

from benchmarks.object_server import ObjectServer
from shards.remote import patience
from tests.remote.faulty_server import HASTY

SECRET = "planted-secret-4711"
# The port is that of a socket that is bound: one that was only free a moment ago may be another's.
MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def dataset(packed, tmp_path):
    """The 70 photographs as splits train and val of a dataset that may be changed."""
    root = tmp_path / "set"
    shutil.copytree(packed, root / "train")
    return root


@pytest.fixture
def server(dataset):
    with ObjectServer(dataset) as serving:
        yield serving


@pytest.fixture
def hasty(monkeypatch):
    """Pauses of hundredths of seconds between tries."""
    monkeypatch.setattr(patience, "PATIENCE", HASTY)
    return HASTY


@pytest.fixture
def disk_of(monkeypatch):
    """Let `statvfs` tell of a disk of a size, with so many bytes free."""
    real = os.statvfs

    def set_size(num_bytes: int, free: int) -> None:
        def statvfs(path) -> os.statvfs_result:
            found = list(real(path))
            found[1:5] = 1000, num_bytes // 1000, free // 1000, free // 1000
            return os.statvfs_result(found)

        monkeypatch.setattr(os, "statvfs", statvfs)

    return set_size


@pytest.fixture(scope="session")
def bucket_server():
    """Moto's server in a process of its own."""
    pytest.importorskip("s3fs", reason="no s3fs: pip install 'tarmac-vision[remote]'")
    pytest.importorskip("moto.server", reason="no moto[server]: pip install -e '.[dev]'")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", MOTO], **pipes) as server:
        port = server.stdout.readline().decode().strip()
        assert port, "moto's server has ended"
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def empty_bucket(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a bucket, and put credentials where fsspec looks for them."""
    settings = {"endpoint_url": url, "key": "AKIAPLANTED", "secret": SECRET}
    monkeypatch.setitem(conf, "s3", settings)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = fsspec.filesystem("s3", **settings, skip_instance_cache=True)
    system.mkdir("bucket")
    return system
