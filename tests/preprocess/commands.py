"""The packer as a user calls it, inside the test's own process."""

import sys
from pathlib import Path

from preprocess.shard import main
from shards.commandline import run


def shard(monkeypatch, capsys, *args: str) -> tuple[int, str, str]:
    """Run `python -m preprocess.shard` on one worker: (exit status, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["preprocess.shard", "--workers", "1", *args])
    status = 0
    try:
        run(main)
    except SystemExit as error:
        status = int(error.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err


def in_place(root: Path, out: Path) -> list[str]:
    """Arguments that index tars of another writer where they are."""
    return ["--source", "webdataset", "--root", str(root), "--out", str(out), "--in-place"]
