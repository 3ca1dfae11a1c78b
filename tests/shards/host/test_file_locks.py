"""A lock that was given back is free, though a process that was forked meanwhile has its file open."""

import fcntl

from preprocess.packing.lock import alone_in
from shards.pipeline import shared_memory
from train.run.folder import RunFolder


def test_of_a_packer(tmp_path, idle):
    with alone_in(tmp_path):
        idle()
    with alone_in(tmp_path):
        pass


def test_of_a_run(tmp_path, idle):
    folder = RunFolder(tmp_path)
    folder.lock()
    idle()
    folder.unlock()
    RunFolder(tmp_path).lock()


def test_of_shared_memory(tmp_path, idle):
    with shared_memory._locked(tmp_path / "notice") as file:
        file.write("of one")
        idle()
    with open(tmp_path / "notice") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert again.read() == "of one"
