"""A dataset of small photographs, packed, behind a server on loopback; and short deadlines."""

import shutil

import pytest

from benchmarks.object_server import ObjectServer
from shards.remote import patience
from tests.remote.faulty_server import HASTY


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
