"""Small limits of the system: the answer or one line."""

import errno
import os
import re
import resource
import subprocess
import sys

import pytest

from shards.commandline import run
from tests.train.conftest import ROOT, environment

PROC_LIMIT = "can't start new thread"


def pack(animals, out, workers: int, num_files: int) -> subprocess.CompletedProcess[str]:
    args = ["--source", "imagefolder", "--root", str(animals / "source"), "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-m", "preprocess.shard", *args, "--workers", str(workers)],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (num_files, num_files)),
    )  # fmt: skip


def test_workers_that_need_too_many_open_files_are_refused_and_the_named_number_packs(
    animals, tmp_path
):
    done = pack(animals, tmp_path / "data", 8, 32)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data/train/index.json").exists()
    found = re.fullmatch(
        r"error: --workers 8: needs 48 open files.* --workers (\d+)\n", done.stderr
    )
    done = pack(animals, tmp_path / "data", int(found[1]), 32)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "Too many open files; raise the limit"),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "`ulimit -u`"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found"), "set TMPDIR"),
        (MemoryError(), "out of memory; free memory"),
        (RuntimeError(PROC_LIMIT), f"{PROC_LIMIT}; raise the limit of processes"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, told, capsys):
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as leave:
        run(fail)
    assert leave.value.code == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1
