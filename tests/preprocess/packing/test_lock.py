"""Two packers on one folder: the second is sent away before it touches anything, and the lock ends
with the work.
"""

import os
import shutil

import pytest

from preprocess.packing.lock import alone_in
from preprocess.packing.pool import Pool
from preprocess.verify import main as verify
from shards.errors import DataError
from tests.conftest import pack
from tests.preprocess.verifying.test_repair import broken, digests

pytest.importorskip("fcntl")
BUSY = "another process packs into it: wait for it, or choose another --out"


def test_a_second_packer_touches_nothing_of_the_firsts(records, packed, tmp_path):
    copy = shutil.copytree(packed, tmp_path / "train")
    (copy / "train-000002.tar").unlink()
    (copy / "train-000002.tar.tmp").write_text("the first is writing this")
    before = digests(copy)
    with alone_in(copy):
        with pytest.raises(DataError, match=f"train: {BUSY}"):
            pack(records, copy)
        with pytest.raises(DataError, match=BUSY):
            verify([str(copy), "--repair", "--workers", "1"])
        with pytest.raises(SystemExit):  # looking is free
            verify([str(copy), "--workers", "1"])
        assert digests(copy) == before
    pack(records, copy)
    assert digests(copy) == digests(packed)


def test_the_folder_is_free_again_after_an_error_too(records, tmp_path):
    with pytest.raises(DataError, match="rejected"):
        pack(broken(records, (3,), tmp_path), tmp_path / "train")
    with alone_in(tmp_path / "train"):
        assert not (tmp_path / "train/index.json").exists()


def test_workers_started_meanwhile_do_not_hold_it(tmp_path):
    pool = Pool(2)
    try:
        with alone_in(tmp_path):
            assert list(pool.run(os.path.basename, ["a/b"] * 4)) == ["b"] * 4
        assert any(worker.process.is_alive() for worker in pool.started)
        with alone_in(tmp_path):
            pass
    finally:
        pool.close()


def test_a_file_system_without_locks_is_packed_to_all_the_same(
    records, packed, tmp_path, monkeypatch
):
    def refuses(*_):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("preprocess.packing.lock.fcntl.flock", refuses)
    pack(records, tmp_path / "train")
    assert digests(tmp_path / "train") == digests(packed)
