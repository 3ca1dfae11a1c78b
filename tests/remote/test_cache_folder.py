"""The cache's folder: only our files, only through its handle, one download, nothing lost."""

import errno
import hashlib
import multiprocessing
import os
import shutil
import threading
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.remote import marked_folder
from shards.remote.cache_folder import MARKER, NEVER_S, CacheFolder, Part


def name_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def put(folder: CacheFolder, number: int, size: int = 1000, wanted=lambda _: None, before=0.0):
    """Put an object into the cache; return what `begin` says."""
    part = folder.begin(name_of(number), size, wanted, before)
    if isinstance(part, Part):
        part.file.write(bytes([number % 256]) * size)
        part.finish()
        part.close()
        return "done"
    return part


def everything(root: Path) -> dict[str, bytes]:
    """Read all files below a folder, where links lead to what they are."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path).encode()
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def test_a_new_or_an_empty_folder_is_marked(tmp_path):
    for path in (tmp_path / "deep" / "new", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        put(CacheFolder(path), 1)
        assert sorted(os.listdir(path)) == sorted([MARKER, name_of(1)])
        assert CacheFolder(path).has(name_of(1))


def test_a_folder_of_something_else_is_refused_and_not_touched(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "set" / "train")
    (tmp_path / "set" / name_of(1)).write_bytes(b"somebody's own")
    before = everything(tmp_path)
    for path in (tmp_path / "set", tmp_path / "set" / "train", tmp_path, Path("/")):
        with pytest.raises(DataError, match="is not empty and no cache of Tarmac's"):
            CacheFolder(path)
    assert everything(tmp_path) == before


def test_a_marker_that_is_a_link_marks_nothing(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "marker").write_bytes(b"")
    (tmp_path / "cache" / MARKER).symlink_to(tmp_path / "marker")
    with pytest.raises(DataError, match="is not empty and no cache"):
        CacheFolder(tmp_path / "cache")


def test_a_file_and_a_dead_link_are_no_cache(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    for path in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(DataError, match="cannot be the cache"):
            CacheFolder(path)


def test_only_our_own_files_are_ever_removed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"p" * 1000)
    folder = CacheFolder(tmp_path / "cache", 3e-6)  # room for three objects
    root = tmp_path / "cache"
    (root / name_of(100)).symlink_to(outside / "precious")
    (root / f"{name_of(101)}-1000.part").symlink_to(outside / "precious")
    (root / name_of(102)).mkdir()
    (root / name_of(102) / "inside").write_bytes(b"i")
    (root / "notes.txt").write_bytes(b"n" * 5000)
    (root / name_of(103).upper()).write_bytes(b"u")
    (root / (name_of(104) + "0")).write_bytes(b"0")
    (root / f"{name_of(105)}.tar").write_bytes(b"t")
    before = everything(tmp_path)
    for number in range(20):
        assert put(folder, number, wanted=lambda _: NEVER_S) == "done"
    after = everything(tmp_path)
    assert before.items() <= after.items()
    assert len([path for path in root.iterdir() if path.name in map(name_of, range(20))]) == 3


@pytest.mark.parametrize("kind", ["link", "hard link", "folder"])
def test_what_lies_in_the_way_is_refused_and_not_written_to(tmp_path, kind):
    folder = CacheFolder(tmp_path / "cache")
    precious = tmp_path / "precious"
    precious.write_bytes(b"p")
    for name in (name_of(1), f"{name_of(2)}-1000.part"):
        path = tmp_path / "cache" / name
        if kind == "link":
            path.symlink_to(precious)
        elif kind == "hard link":
            os.link(precious, path)
        else:
            path.mkdir()
    with pytest.raises(DataError, match=r"move it away|Is a directory"):
        put(folder, 2)
    if kind != "hard link":  # a whole object with another name is an object
        with pytest.raises(DataError, match="move it away"):
            folder.open_object(name_of(1))
    assert precious.read_bytes() == b"p"


def test_what_is_needed_last_goes_and_what_is_held_stays(tmp_path):
    folder = CacheFolder(tmp_path / "cache", 3e-6)
    for number in range(3):
        put(folder, number)
    needed = {name_of(number): 10.0 * number for number in range(10)}
    needed[name_of(4)] = 15.0
    held = folder.open_object(name_of(2))
    assert put(folder, 4, wanted=needed.get, before=15.0) == "full"  # 2 is held, 1 sooner than 15
    assert put(folder, 4, wanted=needed.get, before=5.0) == "done"  # 1 goes
    assert [folder.has(name_of(number)) for number in range(5)] == [True, False, True, False, True]
    held.close()
    assert put(folder, 5, wanted=needed.get, before=16.0) == "done"  # 2 goes
    assert [folder.has(name_of(n)) for n in (0, 2, 4, 5)] == [True, False, True, True]


def test_a_map_holds_its_object(tmp_path):
    import mmap

    folder = CacheFolder(tmp_path / "cache", 1e-6)
    put(folder, 1)
    with folder.open_object(name_of(1)) as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert put(folder, 2, wanted=lambda _: NEVER_S) == "full"
    view.close()
    assert put(folder, 2, wanted=lambda _: NEVER_S) == "done"


def test_what_nobody_speaks_of_any_more_goes_first(tmp_path):
    folder = CacheFolder(tmp_path / "cache", 3e-6)
    for number in range(3):
        put(folder, number)
    folder.stamp(name_of(0), 1e6)  # another job needs it, late
    folder.stamp(name_of(1), -1000)  # of a job that is no more
    folder.stamp(name_of(2), 5)
    assert put(folder, 3) == "done"
    assert not folder.has(name_of(1))
    assert put(folder, 4) == "done"
    assert not folder.has(name_of(0))


def test_a_part_counts_as_the_whole_and_is_continued(tmp_path):
    folder = CacheFolder(tmp_path / "cache", 2e-6)
    part = folder.begin(name_of(1), 1500, lambda _: None, 0.0)
    part.file.write(b"1" * 100)
    part.file.flush()
    assert folder.begin(name_of(1), 1500, lambda _: None, 0.0) == "busy"
    assert folder.begin(name_of(2), 1500, lambda _: NEVER_S, 0.0) == "full"
    part.close()  # as if its process had ended
    again = folder.begin(name_of(1), 1500, lambda _: None, 0.0)
    assert again.file.read() == b"1" * 100
    again.close()
    assert put(folder, 2, 1500, wanted=lambda _: NEVER_S) == "done"  # the part goes
    assert sorted(os.listdir(tmp_path / "cache")) == sorted([MARKER, name_of(2)])


def _race(root, start, results):
    folder = CacheFolder(Path(root), 8e-6)
    start.wait()
    outcomes = []
    for number in range(40):
        outcomes.append(put(folder, number % 10, wanted=lambda _: 5.0, before=1.0))
        file = folder.open_object(name_of(number % 10))
        if file is not None:
            with file:
                outcomes.append(file.read() == bytes([number % 10]) * 1000)
    results.put(outcomes)


def test_processes_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    results = context.Queue()
    jobs = [
        context.Process(target=_race, args=(str(tmp_path / "cache"), start, results))
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    start.set()
    outcomes = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join()
    assert not any(False in each for each in outcomes)
    assert sum(each.count("done") for each in outcomes) >= 10
    stored = [path for path in (tmp_path / "cache").iterdir() if path.name != MARKER]
    assert len(stored) <= 8
    assert all(path.stat().st_size == 1000 for path in stored)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_serves_what_it_has(tmp_path):
    put(CacheFolder(tmp_path / "cache"), 1)
    (tmp_path / "cache").chmod(0o500)
    folder = CacheFolder(tmp_path / "cache")
    assert folder.open_object(name_of(1)) is not None
    with pytest.raises(DataError, match="Permission denied"):
        put(folder, 2)


def test_threads_that_list_the_folder_at_once_all_see_all_of_it(tmp_path):
    """A listing through the folder's own handle would share its position: others see the rest."""
    folder = CacheFolder(tmp_path / "cache")
    for number in range(40):
        put(folder, number)
    seen = set()

    def look():
        for _ in range(1000):
            seen.add(len(folder.listed()))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {40}


def test_a_folder_that_cannot_be_listed_is_one_line(tmp_path, monkeypatch):
    folder = CacheFolder(tmp_path / "cache")

    def no_more(_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(marked_folder.os, "listdir", no_more)
    with pytest.raises(DataError, match=rf"^{tmp_path / 'cache'}: cannot be listed \(Too many"):
        folder.room()


@pytest.mark.parametrize(
    ("num_bytes", "free", "room"),
    [
        (10**13, 4 * 10**9, 3 * 10**9),  # a large disk that is nearly full
        (10**13, 9 * 10**8, 0),
        (10**10, 10**9, 8 * 10**8),
        (10**10, 10**8, 0),
    ],
)
def test_without_a_size_a_little_of_the_disk_stays_free(tmp_path, disk_of, num_bytes, free, room):
    disk_of(num_bytes, free)
    assert CacheFolder(tmp_path / "a").room() == room
    assert CacheFolder(tmp_path / "a").room(to_the_last=True) == free
    assert CacheFolder(tmp_path / "a", gigabytes=0.05).room() == 5 * 10**7
