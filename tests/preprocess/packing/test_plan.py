"""The plan: an order of its own, equal shards, the same bytes by any engine and any tasks."""

import dataclasses
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from preprocess.images.geometry import ImageOptions
from preprocess.packing.commanded import pack_as_asked
from preprocess.packing.folder_state import FolderState
from preprocess.packing.listing import SpooledRecords, key_hash, list_in_parallel
from preprocess.packing.local_engine import LocalEngine
from preprocess.packing.pack import finalize, make_plan, pack_split, pack_task
from preprocess.packing.packing_bar import PackingBar
from preprocess.packing.packing_plan import Job, in_packing_order
from preprocess.packing.pieces import MOST_RECORDS, PieceLength, PieceTask, pack_piece
from preprocess.packing.pool import open_pool
from preprocess.packing.shard_file import PackSettings, pack_shard, pack_shard_once
from preprocess.record import Record, Source
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import CLASSES, pack
from tests.preprocess.parted import PartedSource

# a clock of files may stand still for milliseconds; a shard older than its photographs is not kept
AHEAD = (4 * 10**18, 4 * 10**18)


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def job(records, **options) -> Job:
    settings = {"shard_bytes": 10**9, "shard_samples": 16, "max_rejects": 0, **options}
    return Job("train", CLASSES, records, ImageOptions(), command="test", **settings)


def by_name(records: list[Record]) -> list[str]:
    return [record.name for record in records]


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory) -> Path:
    """The 70 photographs in their packing order, packed by one worker."""
    root = tmp_path_factory.mktemp("whole") / "train"
    with open_pool(1) as pool:
        pack_split(job(records), root, pool)
    return root


def test_the_order_is_of_the_keys_and_of_no_listing(records):
    ordered, identity = in_packing_order(job(records))
    again, identity_again = in_packing_order(job(random.Random(1).sample(records, len(records))))
    assert by_name(ordered) == by_name(again)
    assert identity == identity_again
    assert by_name(ordered) != by_name(records)
    assert [key_hash(record) for record in ordered] == sorted(map(key_hash, records))
    assert by_name(in_packing_order(job(records, order="source"))[0]) == by_name(records)


def test_the_order_never_changes():
    """As bytes of shards: it is part of what a packing promises."""
    records = [Record(f"n{n}", Path(f"{n}.jpg"), f"{n}.jpg", (), ()) for n in range(8)]
    assert "".join(by_name(in_packing_order(job(records))[0])) == "n5n4n2n7n0n3n6n1"


def test_a_set_sorted_by_class_is_mixed(tmp_path):
    """Ten classes one after the other: each shard has about as many of each."""
    records = [Record(f"{n:04d}", Path("x"), f"{n}.jpg", (n // 200,), ()) for n in range(2000)]
    ordered, _ = in_packing_order(job(records))
    for start in range(0, 2000, 250):
        counts = np.bincount([record.labels[0] for record in ordered[start : start + 250]])
        assert len(counts) == 10
        assert counts.min() >= 10
        assert counts.max() <= 45


def test_two_records_with_one_key_are_named(records):
    twin = dataclasses.replace(records[3], source="another.jpg")
    with pytest.raises(DataError, match=r"another\.jpg and photo 003\.jpg would both have the key"):
        in_packing_order(job([*records, twin]))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_and_lengths_of_pieces_give_the_same(
    records, whole, tmp_path, workers, monkeypatch
):
    monkeypatch.setattr(PieceLength, "note", lambda self, piece: setattr(self, "now", workers))
    with open_pool(workers) as pool:
        pack_split(job(records), tmp_path / "train", pool)
    assert content(tmp_path / "train") == content(whole)


def test_tasks_in_any_order_and_their_finish_give_the_same(records, whole, tmp_path):
    root = tmp_path / "train"
    with open_pool(1) as pool:
        for index in random.Random(0).sample(range(8), 8):
            report = pack_task(job(records), root, pool, index, 8)
            assert (report.num_kept, report.num_planned) == (0, 5)
            if report.num_there < 5:
                with pytest.raises(DataError, match="of 5 shards are not there, such as train-0"):
                    finalize(job(records), root, pool)
        assert not (root / "index.json").exists()
        packing = finalize(job(records), root, pool)
    assert (packing.num_samples, packing.num_shards, packing.is_verified) == (70, 5, False)
    assert content(root) == content(whole)


def test_a_finish_reads_no_tar(records, whole, tmp_path, monkeypatch):
    root = tmp_path / "train"
    with open_pool(1) as pool:
        for index in range(2):
            pack_task(job(records), root, pool, index, 2)
        for name in (
            "preprocess.packing.shard_rows.read_rows",
            "preprocess.packing.resume.file_sha256",
        ):
            monkeypatch.setattr(name, lambda path: pytest.fail(f"{path} is read"))
        finalize(job(records), root, pool)
    assert content(root) == content(whole)


def test_a_task_that_runs_again_keeps_what_is_whole(records, whole, tmp_path):
    root = tmp_path / "train"
    with open_pool(1) as pool:
        pack_task(job(records), root, pool, 0, 2)
        shards = sorted(root.glob("*.tar"))
        assert [path.name for path in shards] == [f"train-00000{n}.tar" for n in (0, 2, 4)]
        damaged = bytearray(shards[1].read_bytes())
        damaged[3000] ^= 1
        shards[1].write_bytes(damaged)
        for path in shards:
            os.utime(path, ns=AHEAD)
        assert pack_task(job(records), root, pool, 0, 2).num_kept == 2
        kept = [path.stat().st_mtime_ns == AHEAD[1] for path in shards]
        assert kept == [True, False, True]
        # A whole packing goes on from there, too, and makes only what is missing.
        assert pack_split(job(records), root, pool).num_kept == 3
        assert pack_task(job(records), root, pool, 0, 2).num_kept == 3
    assert content(root) == content(whole)


def test_a_task_says_that_it_makes_nothing_of_a_finished_set(records, whole, tmp_path):
    root = Path(shutil.copytree(whole, tmp_path / "train"))
    (root / "train-000002.tar").unlink()
    says = (
        "is finished, but 1 of its shards, such as train-000002.tar, is damaged, missing or of "
        "other images: run the same command without --num-tasks, --task-index and --finalize"
    )
    with open_pool(1) as pool:
        assert pack_task(job(records), root, pool, 1, 2).num_kept == 2
        with pytest.raises(DataError, match=re.escape(says)):
            pack_task(job(records), root, pool, 0, 2)
        with pytest.raises(DataError, match=re.escape(says)):
            finalize(job(records), root, pool)
        pack_split(job(records), root, pool)
        assert pack_task(job(records), root, pool, 0, 2).num_kept == 3
    assert content(root) == content(whole)


def test_a_task_that_starts_while_another_one_begins(records, whole, tmp_path, monkeypatch):
    """The other one writes its first files between two looks at the folder."""
    root = tmp_path / "train"
    listed = Path.iterdir

    def late(folder: Path) -> Iterator[Path]:
        if folder == root:
            monkeypatch.undo()
            pack_task(job(records), root, pool, 1, 2)
        return listed(folder)

    with open_pool(1) as pool:
        monkeypatch.setattr(Path, "iterdir", late)
        assert pack_task(job(records), root, pool, 0, 2).num_there == 5
        finalize(job(records), root, pool)
    assert content(root) == content(whole)


def test_a_task_of_other_images_is_refused(records, tmp_path):
    with open_pool(1) as pool:
        pack_task(job(records), tmp_path / "train", pool, 0, 2)
        with pytest.raises(DataError, match="holds another dataset, or this one with other option"):
            pack_task(job(records[:-1]), tmp_path / "train", pool, 1, 2)
        with pytest.raises(DataError, match="holds another dataset, or this one with other option"):
            finalize(job(records, shard_samples=8), tmp_path / "train", pool)


def test_rejects_of_tasks_are_counted_by_their_finish(records, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    changed = [dataclasses.replace(records[0], path=bad), *records[1:]]
    root = tmp_path / "train"
    with open_pool(1) as pool:
        rejected = [pack_task(job(changed), root, pool, n, 2).num_rejected for n in range(2)]
        assert sorted(rejected) == [0, 1]
        with pytest.raises(DataError, match="1 of 70 images of train were rejected"):
            finalize(job(changed), root, pool)
        assert (root / "rejected.jsonl").exists()
        assert finalize(job(changed, max_rejects=1), root, pool).num_rejected == 1
    assert DatasetIndex.open(root).num_samples == 69


def test_whoever_makes_a_shard_alone_makes_the_same(records, whole, tmp_path):
    """As a task of a cluster does."""

    class Alone:
        def pack(self, settings, tasks, advance):
            for task in reversed(list(tasks)):
                yield pack_shard(settings, task)

    with open_pool(1) as pool:
        pack_split(job(records), tmp_path / "train", pool, Alone())
    assert content(tmp_path / "train") == content(whole)


def test_a_task_that_is_tried_again_keeps_the_shard_that_it_has_finished(records, whole, tmp_path):
    """Its machine may have died between the finished shard and the answer."""
    root = tmp_path / "train"
    root.mkdir()
    with open_pool(1) as pool:
        plan = make_plan(job(records), root, FolderState(), pool)
    work = job(records)
    settings = PackSettings(
        root, plan.part.identity, work.image, work.accept_damaged, len(work.class_names)
    )
    task = plan.task(plan.numbers[0])
    path = root / task.name
    first = pack_shard_once(settings, task)
    os.utime(path, ns=AHEAD)
    again = pack_shard_once(settings, task)
    assert (again.entry, path.stat().st_mtime_ns) == (first.entry, AHEAD[1])
    np.testing.assert_array_equal(again.rows, first.rows)

    data = path.read_bytes()
    for damage in (data[:-1], bytes([data[0] ^ 1]) + data[1:], None):
        path.unlink() if damage is None else path.write_bytes(damage)
        assert pack_shard_once(settings, task).entry == first.entry
        assert path.read_bytes() == data == (whole / task.name).read_bytes()
    other = dataclasses.replace(settings, identity="0" * 64)
    os.utime(path, ns=AHEAD)
    pack_shard_once(other, task)
    assert path.stat().st_mtime_ns < AHEAD[1]


def test_one_shard_is_enough_for_all_workers(records, tmp_path):
    with open_pool(2) as pool:
        packing = pack_split(job(records * 1, shard_samples=70), tmp_path / "train", pool)
        assert len(pool.started) == 2
    assert packing.num_shards == 1


def test_pieces_are_bounded_by_bytes(records):
    piece = pack_piece(PieceTask(records[:8], ImageOptions(), False))
    length = PieceLength()
    length.note(piece)
    assert length.now == MOST_RECORDS
    huge = dataclasses.replace(piece.tar, data=bytes(20 << 20))
    length.note(dataclasses.replace(piece, tar=huge))
    assert length.now == 1


def test_a_small_set_is_one_shard_and_a_larger_one_is_cut_evenly(records, tmp_path):
    with open_pool(1) as pool:
        small = make_plan(job(records, shard_samples=0), tmp_path, FolderState(), pool)
        assert small.part.num_shards == 1
        cut = make_plan(
            job(records, shard_samples=0, shard_bytes=50_000), tmp_path, FolderState(), pool
        )
    counts = [len(cut.task(number).records) for number in cut.numbers]
    assert len(set(counts[:-1])) == 1
    assert sum(counts) == 70
    assert counts[-1] > counts[0] - len(counts)


def test_a_source_that_cannot_list_its_parts_is_told(tmp_path):
    class Unfinished(PartedSource):
        list_part = Source.list_part

    source = Unfinished.written(tmp_path, 2, 1)
    with pytest.raises(DataError, match=r"^Unfinished: names parts of train, .*write it"):
        source.records("train")


def test_the_source_order_is_kept_where_asked(records, tmp_path):
    pack(records, tmp_path / "train", order="source")
    keys = DatasetIndex.open(tmp_path / "train").keys().tolist()
    names = [key.replace("%2E", ".") for key in keys]
    assert names == by_name(records)


def test_a_source_listed_in_parts_is_packed_as_one_that_is_not(tmp_path):
    source = PartedSource.written(tmp_path / "photos", num_parts=3, per_part=7)
    trees = []
    for workers in (1, 2):
        with open_pool(workers) as pool:
            listed = list_in_parallel(source, "train", pool)
            assert isinstance(listed, SpooledRecords)
            assert list(listed) == list(source.records("train"))
            root = tmp_path / f"{workers}" / "train"
            parted = dataclasses.replace(job(listed, shard_samples=5), class_names=("a",))
            pack_split(parted, root, pool)
            trees.append(content(root))
    with open_pool(1) as pool:
        plain = dataclasses.replace(parted, records=source.records("train"))
        pack_split(plain, tmp_path / "plain" / "train", pool)
    assert trees[0] == trees[1] == content(tmp_path / "plain" / "train")


def test_lines_about_tasks(records, tmp_path):
    root = tmp_path / "train"
    with open_pool(1) as pool:
        engine = LocalEngine(pool)
        line = pack_as_asked(job(records), root.parent, root, pool, engine, (1, 2), False)
        assert line.endswith("2 shards written, 0 verified and kept; 2 of 5 shards are there")
        line = pack_as_asked(job(records), root.parent, root, pool, engine, (0, 2), False)
        assert "all shards are there: the same command with --finalize writes the index" in line
        line = pack_as_asked(job(records), root.parent, root, pool, engine, None, True)
        assert "70 samples in 5 shards" in line
        assert "0 written, 5 kept, 0 images" in line


def test_a_log_gets_a_line_with_the_rate_and_what_is_left(capsys, monkeypatch):
    monkeypatch.setattr("preprocess.packing.packing_bar.LINE_EVERY_S", 0.0)
    with PackingBar("pack train", 1000, 400) as bar:
        bar.advance(200)
        assert bar.line(10.0) == "pack train: 600 of 1,000 images, 20 images/s, 00:20 left"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "images/s" in line]
    assert line.startswith("pack train: 600 of 1,000 images, ")
