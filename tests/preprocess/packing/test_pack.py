"""Packing: the same bytes every time, what is finished is kept, what other tools read is there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import webdataset

from preprocess.images.geometry import ImageOptions
from preprocess.packing.packing_plan import Job
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import CLASSES, pack, write_photographs
from tests.preprocess import waiting

ROOT = Path(__file__).parents[3]


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def command(*args: str, **options) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "preprocess.shard", *args]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)


def test_webdataset_reads_the_same_samples(packed, index):
    urls = [str(path) for path in sorted(packed.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == index.keys().tolist()
    for row, sample in enumerate(samples):
        assert sample["json"]["labels"] == np.flatnonzero(index.labels()[row]).tolist()
        assert sample["json"]["ignored"] == np.flatnonzero(~index.known()[row]).tolist()
        height, width, _ = sample["jpg"].shape
        assert (sample["json"]["width"], sample["json"]["height"]) == (width, height)
        assert (index.samples["width"][row], index.samples["height"][row]) == (width, height)


def test_tar_members_are_anonymous_and_ordered(packed):
    with tarfile.open(packed / "train-000001.tar") as tar:
        members = tar.getmembers()
    assert len(members) == 32
    for image, described in zip(members[::2], members[1::2], strict=True):
        assert image.name.removesuffix(".jpg") == described.name.removesuffix(".json")
        assert (image.mtime, image.uid, image.gid, image.uname) == (0, 0, 0, "")


def test_rows_and_dali_index_point_at_the_bytes(packed, index):
    for number, shard in enumerate(index.shards):
        data = (packed / shard.name).read_bytes()
        with tarfile.open(packed / shard.name) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        rows = index.samples[index.samples["shard"] == number]
        lines = (packed / shard.name).with_suffix(".idx").read_text().splitlines()
        assert lines[0] == f"v1.2 {len(rows)}"
        keys = index.keys()[index.samples["shard"] == number]
        for row, key, line in zip(rows, keys, lines[1:], strict=True):
            start, length = int(row["offset"][0]), int(row["length"][0])
            image = data[start : start + length]
            assert image == files[f"{key}.jpg"]
            assert row["crc"].tolist() == [zlib.crc32(image)]
            words = line.split(" ")
            for suffix, offset, size, name in zip(*(words[i::4] for i in range(4)), strict=True):
                assert name.endswith("." + suffix)
                assert data[int(offset) : int(offset) + int(size)] == files[name]


@pytest.mark.slow
def test_same_input_same_bytes_on_any_number_of_workers(records, packed, tmp_path):
    pack(records, tmp_path / "train", workers=3)
    assert content(tmp_path / "train") == content(packed)


def test_shards_hold_equally_many_and_have_a_size_on_average(records, tmp_path):
    packing = pack(records, tmp_path / "train", shard_bytes=60_000, shard_samples=0)
    shards = DatasetIndex.open(tmp_path / "train").shards
    assert packing.num_shards == len(shards) > 3
    *others, last = [shard.num_samples for shard in shards]
    assert len(set(others)) == 1
    assert last > others[0] - len(shards)
    mean = sum(shard.num_bytes for shard in shards) / len(shards)
    assert 30_000 < mean < 75_000  # an end of up to 10,240 bytes is added to each


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("damage", ["gone", "flipped", "idx"])
def test_a_rerun_restores_what_is_damaged_and_nothing_else(
    records, packed, tmp_path, number, damage
):
    root = tmp_path / "train"
    shutil.copytree(packed, root)
    shard = root / f"train-{number:06d}.tar"
    if damage == "gone":
        shard.unlink()
    elif damage == "flipped":
        data = bytearray(shard.read_bytes())
        data[5000] ^= 1
        shard.write_bytes(data)
    else:
        shard.with_suffix(".idx").unlink()
    packing = pack(records, root)
    assert packing.num_kept == 4
    assert content(root) == content(packed)
    assert pack(records, root).num_kept == 5


def test_a_changed_photograph_is_packed_anew(tmp_path):
    records = write_photographs(tmp_path / "photos", 40)
    pack(records, tmp_path / "train")
    records[20].path.write_bytes(records[28].path.read_bytes())
    assert pack(records, tmp_path / "train").num_kept == 2


def test_another_dataset_is_not_overwritten(records, packed, tmp_path):
    root = tmp_path / "train"
    shutil.copytree(packed, root)
    for other, options in ((records[:50], {}), (records, {"shard_samples": 20})):
        with pytest.raises(
            DataError, match="holds another dataset, or this one with other options"
        ):
            pack(other, root, **options)
    assert content(root) == content(packed)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="holds files that are no dataset"):
        pack(records, tmp_path / "photos")


def test_rejects_are_listed_and_counted(tmp_path):
    records = write_photographs(tmp_path / "photos", 40)
    records[3].path.write_bytes(b"not an image")
    records[35].path.write_bytes(records[35].path.read_bytes()[:300])
    root = tmp_path / "train"
    with pytest.raises(
        DataError,
        match=r"2 of 40 images of train were rejected, --max-rejects is 0: see .*rejected",
    ):
        pack(records, root)
    lines = [json.loads(line) for line in (root / "rejected.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == [records[3].source, records[35].source]
    assert "truncated" in lines[1]["reason"].lower()
    assert not (root / "index.json").exists()
    packing = pack(records, root, max_rejects=2)
    assert (packing.num_rejected, packing.num_samples, packing.num_kept) == (2, 38, 1)
    index = DatasetIndex.open(root)
    assert index.num_samples == 38
    assert pack(records, root, max_rejects=2).num_kept == 3


def test_a_photograph_that_was_missing_from_the_start_may_stay_away(tmp_path):
    records = write_photographs(tmp_path / "photos", 40)
    records[3].path.unlink()
    root = tmp_path / "train"
    assert pack(records, root, max_rejects=1).num_rejected == 1
    before = content(root)
    assert pack(records, root, max_rejects=1).num_kept == 3
    assert content(root) == before


def test_a_finished_set_is_left_alone_where_its_source_has_lost_photographs(tmp_path):
    records = write_photographs(tmp_path / "photos", 40)
    records[3].path.unlink()
    root = tmp_path / "train"
    pack(records, root, max_rejects=1)
    before = content(root)
    for number in (20, 21):
        records[number].path.unlink()
    records[21].path.touch()  # a copy that failed
    with pytest.raises(DataError) as caught:
        pack(records, root, max_rejects=2)
    assert str(caught.value) == (
        f"{root}: 2 of its images are now missing or empty in the source, such as "
        f"{records[20].path}; restore them, or leave them out of the set with --max-rejects 3"
    )
    assert content(root) == before
    (root / "entries.json").write_text("damaged")  # what is listed of the shards is lost too
    with pytest.raises(DataError, match=r"3 of its images are now missing or empty in the source"):
        pack(records, root, max_rejects=2)
    assert content(root) == {**before, "entries.json": b"damaged"}
    packing = pack(records, root, max_rejects=3)
    assert (packing.num_samples, packing.num_rejected) == (37, 3)


def test_two_photographs_with_one_key(records, tmp_path):
    with pytest.raises(DataError, match="would both have the key"):
        pack([records[0], records[0]], tmp_path / "train")


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    """A VOC folder of 300 small photographs and one class."""
    root = tmp_path_factory.mktemp("voc")
    for folder in ("ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    ids = []
    for record in write_photographs(root / "JPEGImages", 300):
        path = record.path.with_name(record.path.name.replace("photo ", "p"))
        record.path.rename(path)
        ids.append(path.stem)
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{name}\n" for name in ids))
    (root / "ImageSets/Main/cat_train.txt").write_text(
        "".join(f"{name} {i % 2}\n" for i, name in enumerate(ids))
    )
    return root


@pytest.mark.slow
def test_killed_at_any_image_then_run_again(tmp_path):
    """Before the first one, inside a shard, at its last image, at the first of the next, before the
    very last.
    """
    photos = [record.path for record in write_photographs(tmp_path / "photos", 60)]
    args = [
        "--source",
        waiting.NAME,
        "--root",
        str(tmp_path / "photos"),
        "--shard-samples",
        "10",
        "--workers",
        "1",
        "--order",
        "source",
    ]
    assert command(*args, "--out", str(tmp_path / "whole")).returncode == 0
    out = tmp_path / "killed"
    for place in (0, 5, 9, 10, 34, 59):
        waiting.hold(photos[place])
        argv = [sys.executable, "-m", "preprocess.shard", *args, "--out", str(out)]
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        waiting.wait_until_reached(process, photos[place])
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (out / "train/index.json").exists()
        # the one before may still have been on its way to the disk
        num_shards = len(list((out / "train").glob("*.tar")))
        assert place // 10 - 1 <= num_shards <= place // 10
        waiting.let_go(photos[place])
    again = command(*args, "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert content(out / "train") == content(tmp_path / "whole/train")


@pytest.mark.slow
@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_full_disk_gets_one_line_and_leaves_nothing_half_finished(voc, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], check=False
    ).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        args = [
            "--source",
            "voc",
            "--root",
            str(voc),
            "--out",
            str(disk / "out"),
            "--shard-samples",
            "20",
        ]
        result = command(*args, "--workers", "1")
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert "no space left on the device" in result.stderr
        assert "train-" in result.stderr or "packing.json" in result.stderr
        assert not (disk / "out/train/index.json").exists()
        assert not list((disk / "out/train").glob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert "verified and kept" in command(*args, "--workers", "1").stdout
        assert DatasetIndex.open(disk / "out/train").num_samples == 300
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--source", "voc"], "--source voc needs --root"),
        (["--source", "voc", "--root", "nowhere"], "nowhere is not a folder"),
        (["--source", "coco"], "coco"),
        (
            ["--max-side", "-1"],
            "--max-side is -1: give from 1 to 65500 pixels, or 0 for the original size",
        ),
        (["--max-side", "9", "--short-side", "9"], "--max-side 9 and --short-side 9 exclude"),
        (["--quality", "0"], "--quality is 0: give a number from 1 to 100"),
        (["--shard-mb", "0"], "--shard-mb is 0"),
        (["--workers", "-1"], "--workers is -1"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_mistake_gets_one_line(args, says, tmp_path):
    result = command(*args, "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


def test_real_counts_per_class(voc2012_root, tmp_path):
    out = tmp_path / "voc"
    args = ["--source", "voc", "--root", str(voc2012_root), "--splits", "val", "--short-side", "64"]
    result = command(*args, "--out", str(out))
    assert result.returncode == 0, result.stderr
    index = DatasetIndex.open(out / "val")
    assert len(index.class_names) == 20
    for number, name in enumerate(index.class_names):
        lines = (voc2012_root / f"ImageSets/Main/{name}_val.txt").read_text().split("\n")
        values = [line.split()[1] for line in lines if line.strip()]
        assert index.labels()[:, number].sum() == values.count("1"), name
        assert (~index.known())[:, number].sum() == values.count("0"), name


def test_numbers_taken_for_classes_are_refused_before_packing(records):
    names = tuple(map(str, range(100_001)))
    with pytest.raises(
        DataError, match="the source has 100,001 classes, such as '100000'; 100,000 are the most"
    ):
        Job("train", names, records, ImageOptions(), 10**9, 0, 0, "test")


def test_classes_of_the_fixture_are_more_than_a_byte():
    assert len(CLASSES) > 8
