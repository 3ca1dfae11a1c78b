"""`python -m preprocess.shard` as a user runs it: what a kill leaves running, mistakes in its
input, help.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preprocess.packing.pieces import FIRST_RECORDS
from preprocess.shard import ShardConfig, main
from preprocess.sources import digits
from preprocess.sources.digits import write_digits
from shards.commandline import run
from tests.conftest import write_photographs
from tests.preprocess import waiting

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small VOC folder."""
    root = tmp_path_factory.mktemp("voc")
    write_digits(root, num_train=120, num_val=30, size=64)
    return root


def arguments(source: Path, out: Path, *more: str) -> list[str]:
    return [
        "--source",
        "voc",
        "--root",
        str(source),
        "--out",
        str(out),
        "--shard-samples",
        "16",
        *more,
    ]


def start(*args: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "preprocess.shard", *args]
    return subprocess.Popen(
        command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def command(monkeypatch, capsys, *args: str) -> tuple[int, str, str]:
    """Run the command inside this process: (exit status, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["preprocess.shard", *args])
    status = 0
    try:
        run(main)
    except SystemExit as error:
        status = int(error.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_no_process_outlives_a_killed_packing(tmp_path):
    """It is killed while each of three workers reads an image and would do so for ever."""
    photos = [record.path for record in write_photographs(tmp_path / "photos", 3 * FIRST_RECORDS)][
        ::FIRST_RECORDS
    ]
    waiting.hold(*photos)
    args = [
        "--source",
        waiting.NAME,
        "--root",
        str(tmp_path / "photos"),
        "--out",
        str(tmp_path / "out"),
    ]
    process = start(*args, "--workers", "3", "--order", "source")
    waiting.wait_until_reached(process, *photos)
    children = _descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()  # not communicate: an orphan would keep the pipe open
    assert len(children) >= 3
    deadline = time.monotonic() + 60
    while (alive := [pid for pid in children if _is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive == []
    process.communicate()


def _descendants(pid: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except (OSError, IndexError):
            continue
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--shard-mb", ".nan"), "--shard-mb is nan"),
        (("--shard-mb", ".inf"), "--shard-mb is inf"),
        (("--shard-samples", "-1"), "--shard-samples is -1"),
        (("--max-rejects", "-1"), "--max-rejects is -1"),
        (("--quality", "many"), "quality"),
        (("--quality", "50", "--encoding", "png"), "--quality 50 is of JPEGs"),
        (("--shard-mb", "5"), "--shard-mb and --shard-samples both say how large a shard is"),
        (("--task-index", "3"), "--num-tasks 8 and --task-index 0 to 7 go together"),
        (("--num-tasks", "3"), "--num-tasks 8 and --task-index 0 to 7 go together"),
        (("--num-tasks", "2", "--task-index", "2"), "--task-index is 2: give 0 to 1"),
        (("--num-tasks", "2", "--task-index", "1", "--finalize"), "leave --num-tasks"),
        (("--finalize", "--engine", "ray"), "leave --num-tasks, --task-index and --engine out"),
        (("--address", "head:6379"), "--address head:6379 is of --engine ray; give it too"),
        (("--engine", "spark"), "engine"),
        (("--order", "random"), "order"),
        (("--difficult", "maybe"), "difficult"),
        (("--splits", "trian"), "split 'trian' is not in"),
    ],
)
def test_mistakes(source, tmp_path, monkeypatch, capsys, more, expected):
    status, told, errors = command(monkeypatch, capsys, *arguments(source, tmp_path / "out", *more))
    assert status == 2
    assert told == ""
    assert errors.startswith("error: ")
    assert expected in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_ray_a_line_says_how_to_install_it(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    args = arguments(source, tmp_path / "out", "--engine", "ray", "--workers", "1")
    status, _, errors = command(monkeypatch, capsys, *args)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: --engine ray needs Ray (")
    assert "pip install 'tarmac-vision[ray]'" in errors
    assert not (tmp_path / "out").exists()


def test_eight_tasks_and_their_finish_write_what_one_command_does(
    source, tmp_path, monkeypatch, capsys
):
    def packed_by(name, *more):
        args = arguments(source, tmp_path / name, "--workers", "1", *more)
        status, told, errors = command(monkeypatch, capsys, *args)
        assert status == 0, errors
        return told

    packed_by("whole")
    for index in (5, 2, 7, 0, 1, 6, 3, 4):
        told = packed_by("tasks", "--num-tasks", "8", "--task-index", f"{index}")
        assert f"task {index} of 8: " in told
        assert not list(tmp_path.glob("tasks/*/index.json"))
    assert "8 shards" in packed_by("tasks", "--finalize")
    whole, tasks = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("whole", "tasks")
    )
    assert whole == tasks
    assert (
        b"task"
        not in (tmp_path / "whole/train/index.json").read_bytes().split(b'"command"')[1][:300]
    )


def test_out_is_the_folder_one_is_in(source, tmp_path, monkeypatch, capsys):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path / "set")
    monkeypatch.setattr(digits.write_digits, "__defaults__", (6, 3, 48, 0))
    status, _, errors = command(monkeypatch, capsys, "--out", ".", "--workers", "1")
    assert status == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set-source"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["train", "val"]
    status, _, errors = command(monkeypatch, capsys, "--out", "/")
    assert (status, errors) == (2, "error: --out / has no name of its own; give a folder in it\n")


def test_sources_that_do_not_fit_together(source, tmp_path, monkeypatch, capsys):
    root = Path(shutil.copytree(source, tmp_path / "source"))
    image = min((root / "JPEGImages").iterdir())
    kept = image.read_bytes()
    image.unlink()
    status, _, errors = command(
        monkeypatch, capsys, *arguments(root, tmp_path / "out", "--workers", "1")
    )
    assert (status, errors.count("\n")) == (2, 1), errors
    assert image.stem in errors
    image.write_bytes(kept[: len(kept) // 3])
    for split in ("train", "val"):
        status, _, errors = command(
            monkeypatch,
            capsys,
            *arguments(root, tmp_path / "out", "--workers", "1", "--splits", split),
        )
        if status:
            assert (status, errors.count("error:")) == (2, 1)
            assert "--max-rejects is 0" in errors
            break
    else:
        pytest.fail("a truncated image went in")
    for path in (root / "ImageSets" / "Main").glob("*val.txt"):
        path.write_text("")
    status, _, errors = command(
        monkeypatch,
        capsys,
        *arguments(root, tmp_path / "empty", "--workers", "1", "--splits", "val"),
    )
    assert (status, errors.count("\n")) == (2, 1), errors
    assert "val" in errors


def test_help_names_every_option(monkeypatch, capsys):
    status, told, _ = command(monkeypatch, capsys, "--help")
    assert status == 0
    for name in ("--short-side", "--max-rejects", "--difficult", "--shard-mb"):
        assert name in told


def test_the_recorded_command_names_no_folder_and_no_worker_count():
    config = ShardConfig(source="voc", root="/a/b/VOC2012", out="/c/d", workers=7, short_side=256)
    assert (
        config.command()
        == "python -m preprocess.shard --source voc --root VOC2012 --short-side 256"
    )
