"""Machine code is found again, never that of other sources, and needs no home folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shards.host import compiled

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = "from shards.order.permutation import shuffled; print(*shuffled(range(6), 1000, 3, 0))"
NOT_KEPT = "compiled code cannot be kept"


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of the package as pip would install it."""
    shutil.copytree(ROOT / "shards", tmp_path / "site/shards", ignore=lambda *_: ["__pycache__"])
    return tmp_path / "site"


def start(tree: Path, **environment: str) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    env |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    argv = [sys.executable, "-c", SCRIPT]
    return subprocess.Popen(
        argv, env=env, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out, error


def kept(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.code")}


def test_code_is_kept_and_an_edit_in_another_file_is_seen(tree):
    """The edited file has the size and the time of the one before; the caller's file is as it was."""
    folder = tree / "shards/host/__pycache__/compiled"
    both = [start(tree), start(tree)]  # at once
    first, second = map(answer, both)
    assert first == second
    assert not first[1]
    files = kept(folder)
    assert len(files) == len(list(folder.iterdir())) > 0
    assert answer(start(tree)) == first
    assert kept(folder) == files  # nothing was compiled again

    hashing = tree / "shards/augment/hashing.py"
    before, status = hashing.read_text(), hashing.stat()
    hashing.write_text(before.replace("np.uint64(30)", "np.uint64(29)"))
    os.utime(hashing, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashing.stat().st_size == status.st_size
    assert answer(start(tree))[0] != first[0]
    checked = kept(folder)
    answer(start(tree, NUMBA_BOUNDSCHECK="1"))
    assert len(kept(folder)) > len(checked)  # code with checks is other code

    hashing.write_text(before)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:100])  # cut short by a power failure
    assert answer(start(tree)) == first


def test_without_a_home_the_folder_for_temporary_files_is_used_if_it_is_private(tree):
    (tree / "shards/host/__pycache__").write_text("no folder: nobody can write here, not even root")
    temporary = tree / "tmp"
    temporary.mkdir()
    homeless = {"HOME": os.devnull, "XDG_CACHE_HOME": "", "TMPDIR": str(temporary)}
    first, error = answer(start(tree, **homeless))
    assert not error
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    files = kept(folder)
    assert answer(start(tree, **homeless)) == (first, "")
    assert kept(folder) == files

    folder.chmod(0o777)  # anybody may have put code there
    strange, error = answer(start(tree, **homeless))
    assert strange == first
    assert error.count(NOT_KEPT) == error.count("\n") == 1
    assert kept(folder) == files
    answer(start(tree, **homeless, NUMBA_CACHE_DIR=str(tree / "given")))
    assert kept(tree / "given/tarmac")


def test_what_a_stranger_may_write_to_is_not_private(tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir(mode=0o700)
    assert compiled._is_private(folder)
    (tmp_path / "link").symlink_to(folder)
    assert not compiled._is_private(tmp_path / "link")
    tmp_path.chmod(0o777)  # the folder can be exchanged for another one
    assert not compiled._is_private(folder)
    tmp_path.chmod(0o1777)
    assert compiled._is_private(folder)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not compiled._is_private(folder)


def test_files_of_earlier_releases_are_bounded(tmp_path):
    for number in range(40):
        (tmp_path / f"a.f-{number:02d}.code").write_bytes(b"")
        os.utime(tmp_path / f"a.f-{number:02d}.code", (number, number))
    (tmp_path / "a.f_more-1.code").write_bytes(b"")
    compiled._remove_oldest(tmp_path, "a.f")
    left = sorted(kept(tmp_path))
    assert left[0] == "a.f-24.code"
    assert len(left) == compiled.MAX_KEPT + 1


def test_another_process_may_remove_them_at_the_same_time(tmp_path, monkeypatch):
    """What it removes between the listing and the look at its time is no reason to complain."""
    for number in range(compiled.MAX_KEPT + 4):
        (tmp_path / f"a.f-{number:02d}.code").write_bytes(b"")
    look = os.path.getmtime

    def removed_before(path: Path) -> float:
        if path.name == "a.f-07.code":
            path.unlink()
        return look(path)

    monkeypatch.setattr(os.path, "getmtime", removed_before)
    compiled._remove_oldest(tmp_path, "a.f")
    assert len(list(tmp_path.iterdir())) == compiled.MAX_KEPT
