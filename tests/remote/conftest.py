"""A dataset of small photographs, packed, behind a server on loopback; and short deadlines."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any

import fsspec
import pytest
from fsspec.config import conf

from benchmarks.object_server import ObjectServer
from shards.remote import patience
from tests.remote.faulty_server import HASTY

SECRET = "planted-secret-4711"


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
    """Deadlines of hundredths of seconds."""
    monkeypatch.setattr(patience, "PATIENCE", HASTY)
    return HASTY


@pytest.fixture(scope="session")
def bucket_server():
    """Moto's server in a process of its own."""
    pytest.importorskip("s3fs", reason="no s3fs: pip install 'tarmac-vision[remote]'")
    pytest.importorskip("moto.server", reason="no moto[server]: pip install -e '.[dev]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(argv, stdout=quiet, stderr=quiet) as server:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
        server.terminate()


def empty_bucket(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a bucket, and put credentials where fsspec looks for them."""
    settings = {"endpoint_url": url, "key": "AKIAPLANTED", "secret": SECRET}
    monkeypatch.setitem(conf, "s3", settings)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = fsspec.filesystem("s3", **settings, skip_instance_cache=True)
    system.mkdir("bucket")
    return system
