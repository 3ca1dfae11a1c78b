"""Foreign shards indexed where they lie: what readers see equals what packing anew would make, or
is a reject.
"""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from preprocess.images.image import decode_image
from preprocess.packing.keys import sample_key
from preprocess.packing.pool import open_pool
from preprocess.verifying.verification import verify_split
from shards.dataset import ShardDataset
from shards.errors import SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard
from tests.preprocess.foreign import drawn_labels, png, sample, write_shard

SUFFIXES = ("jpg", "jpeg", "png")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """Three shards of 8 samples: jpg, jpeg (every other one progressive) and png, with lists of
    labels.
    """
    root = tmp_path_factory.mktemp("foreign")
    for number, suffix in enumerate(SUFFIXES):
        samples = [
            sample(n, suffix, json={"labels": drawn_labels(n)})
            for n in range(8 * number, 8 * number + 8)
        ]
        write_shard(root / f"photos-{number:03d}.tar", samples)
    return root


def index_in_place(monkeypatch, capsys, root: Path, out: Path, *more: str) -> tuple[int, str, str]:
    args = ["--source", "webdataset", "--root", str(root), "--out", str(out), "--in-place", *more]
    return shard(monkeypatch, capsys, *args)


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def test_every_sample_is_the_packages_and_as_packing_would_see_it(
    foreign, tmp_path, monkeypatch, capsys
):
    status, told, errors = index_in_place(monkeypatch, capsys, foreign, tmp_path / "out")
    assert status == 0, errors
    assert "24 samples in 3 shards" in told
    index = DatasetIndex.open(tmp_path / "out/all")
    urls = sorted(str(path) for path in foreign.glob("*.tar"))
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert index.keys().tolist() == [sample_key(item["__key__"]) for item in theirs]
    assert (index.in_place, index.task, index.num_channels) == (True, "multilabel", 3)
    dataset = ShardDataset(index)
    sums = np.zeros(3)
    for number, item in enumerate(theirs):
        pixels = decode_image(next(item[suffix] for suffix in SUFFIXES if suffix in item))
        image, labels, known, _ = dataset[number]
        assert np.array_equal(image, pixels)
        assert np.flatnonzero(labels).tolist() == json.loads(item["json"])["labels"]
        assert known.all()
        sums += pixels.reshape(-1, 3).sum(0)
    num_pixels = int((index.samples["width"].astype(int) * index.samples["height"]).sum())
    assert index.statistics["mean"] == pytest.approx(sums / num_pixels / 255, abs=1e-6)
    assert [path.resolve() for path in sorted((tmp_path / "out/all").glob("*.tar"))] == sorted(
        foreign.glob("*.tar")
    )


def test_batches_equal_those_of_shards_packed_anew(foreign, tmp_path, monkeypatch, capsys):
    assert index_in_place(monkeypatch, capsys, foreign, tmp_path / "linked")[0] == 0
    args = [
        "--source",
        "webdataset",
        "--root",
        str(foreign),
        "--out",
        str(tmp_path / "anew"),
        "--encoding",
        "png",
        "--order",
        "source",
    ]
    assert shard(monkeypatch, capsys, *args)[0] == 0
    both = [
        Loader(
            DatasetIndex.open(tmp_path / name / "all"),
            global_batch_size=8,
            size=24,
            train=train,
            seed=3,
        )
        for train in (False, True)
        for name in ("linked", "anew")
    ]
    for linked, anew in (both[:2], both[2:]):
        for ours, theirs in zip(linked, anew, strict=True):
            assert ours.ids.tolist() == theirs.ids.tolist()
            assert np.array_equal(ours.labels.numpy(), theirs.labels.numpy())
            assert np.array_equal(ours.images.numpy(), theirs.images.numpy())


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(photograph(40, 30), exif=exif)


IMAGE = photograph(40, 30, 5)
DEEP = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40))
BAD = {
    "turned": ("jpg", turned(6), "EXIF orientation 6"),
    "on-its-head": ("jpg", turned(3), "EXIF orientation 3"),
    "cmyk": ("jpg", encoded(IMAGE.convert("CMYK"), "JPEG"), "JPEG of mode CMYK"),
    "alpha": ("png", encoded(IMAGE.convert("RGBA"), "PNG"), "PNG of mode RGBA"),
    "palette": ("png", encoded(IMAGE.convert("P"), "PNG"), "PNG of mode P"),
    "grey-png": ("png", encoded(IMAGE.convert("L"), "PNG"), "PNG of mode L"),
    "deep": ("png", encoded(DEEP, "PNG"), "PNG of mode I;16"),
    "see-through": ("png", encoded(IMAGE, "PNG", transparency=(1, 2, 3)), "PNG"),
    "webp": ("jpg", encoded(IMAGE, "WEBP"), "WEBP of mode RGB"),
    "cut": ("jpg", jpeg(IMAGE)[:600], "Truncated"),
    "nothing": ("jpg", b"", "empty file"),
    "text": ("png", b"no image at all", "damaged header"),
}  # fmt: skip
GOOD = {
    "grey": ("jpg", jpeg(IMAGE.convert("L"))),
    "upright": ("jpg", turned(1)),
    "progressive": ("jpg", jpeg(IMAGE, progressive=True)),
    "full-chroma": ("jpeg", jpeg(IMAGE, subsampling=0)),
    "stored-as-rgb": ("jpg", encoded(IMAGE, "JPEG", keep_rgb=True)),
    "png": ("png", png(IMAGE)),
}


def test_what_would_be_seen_otherwise_is_a_reject_with_its_reason(tmp_path, monkeypatch, capsys):
    samples = [
        {"__key__": key, kind: data, "cls": 0}
        for key, (kind, data, *_) in sorted({**BAD, **GOOD}.items())
    ]
    write_shard(tmp_path / "wds/a.tar", samples)
    status, _, errors = index_in_place(monkeypatch, capsys, tmp_path / "wds", tmp_path / "out")
    assert (status, errors.count("error:")) == (2, 1)
    assert f"{len(BAD)} of {len(samples)} images of all were rejected, --max-rejects is 0" in errors
    lines = [
        json.loads(line) for line in (tmp_path / "out/all/rejected.jsonl").read_text().splitlines()
    ]
    reasons = {
        line["source"].removeprefix("a.tar/").rpartition(".")[0]: line["reason"] for line in lines
    }
    assert set(reasons) == set(BAD)
    for key, (_, data, reason) in BAD.items():
        assert reason in reasons[key], key
        try:
            decode_image(data)
        except ValueError:
            continue  # packing refuses it too
        assert "pack these shards without --in-place" in reasons[key], key
    status, _, errors = index_in_place(
        monkeypatch, capsys, tmp_path / "wds", tmp_path / "out", "--max-rejects", str(len(BAD))
    )
    assert status == 0, errors
    dataset = ShardDataset(DatasetIndex.open(tmp_path / "out/all"))
    assert sorted(dataset.index.keys()) == sorted(GOOD)
    for number in range(len(dataset)):
        image, _, _, key = dataset[number]
        assert np.array_equal(image, decode_image(GOOD[key][1]))


def test_a_rerun_keeps_what_is_right_and_mends_the_rest(foreign, tmp_path, monkeypatch, capsys):
    wds, out = tmp_path / "wds", tmp_path / "out"
    shutil.copytree(foreign, wds)
    assert index_in_place(monkeypatch, capsys, wds, out)[0] == 0
    before = content(out / "all")
    _, told, _ = index_in_place(monkeypatch, capsys, wds, out)
    assert "0 written, 3 verified and kept" in told
    for name in ("all-000001.tar", "all-000001.idx", "rows.npy", "index.json"):
        (out / "all" / name).unlink()
        if name == "index.json":
            (out / "all/all-000001.tar").unlink()
            (out / "all/packing.json").write_text(json.dumps({"identity": "?", "shards": []}))
            status, _, errors = index_in_place(monkeypatch, capsys, wds, out)
            assert status == 2
            assert "holds another dataset" in errors
            shutil.rmtree(out)
        assert index_in_place(monkeypatch, capsys, wds, out)[0] == 0
        assert content(out / "all") == before, name
    wds = wds.rename(tmp_path / "moved")
    with pytest.raises(
        SampleError,
        match=r"all-000000\.tar: .* cannot be opened .*; restore the tar that the shard",
    ):
        ShardDataset(out / "all")[0]
    args = ["--source", "webdataset", "--root", str(wds), "--out", str(out), "--in-place"]
    _, told, _ = shard(monkeypatch, capsys, *args)
    assert "3 verified and kept" in told
    assert (out / "all/all-000000.tar").resolve() == wds / "photos-000.tar"
    changed = [sample(n, "png", json={"labels": drawn_labels(n)}) for n in range(16, 24)]
    changed[0]["png"] = png(photograph(40, 30, 77))
    write_shard(wds / "photos-002.tar", changed)
    _, told, errors = shard(monkeypatch, capsys, *args)
    assert "1 written, 2 verified and kept" in told, errors
    index = DatasetIndex.open(out / "all")
    assert index.samples["width"][16] == 40
    tar = wds / "photos-002.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(
        SampleError,
        match=r"all-000002\.tar: .*; restore the tar that the shard is a link to, or run",
    ):
        ShardDataset(index)[16]


def test_killed_before_its_end_it_goes_on(foreign, tmp_path, monkeypatch, capsys):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("preprocess.packing.in_place.dali_index", dies)
        assert index_in_place(patched, capsys, foreign, tmp_path / "out")[0] == 130
    assert not (tmp_path / "out/all/index.json").exists()
    assert index_in_place(monkeypatch, capsys, foreign, tmp_path / "out")[0] == 0
    assert index_in_place(monkeypatch, capsys, foreign, tmp_path / "whole")[0] == 0
    assert content(tmp_path / "out/all") == content(tmp_path / "whole/all")


def test_part_of_it_held_out(foreign, tmp_path, monkeypatch, capsys):
    status, _, errors = index_in_place(
        monkeypatch, capsys, foreign, tmp_path / "out", "--val-fraction", "0.25"
    )
    assert status == 0, errors
    train, val = (DatasetIndex.open(tmp_path / "out" / split) for split in ("train", "val"))
    assert (train.num_samples, val.num_samples) == (18, 6)
    assert not set(train.keys()) & set(val.keys())
    for index in (train, val):
        numbers = [int(key.removeprefix("photo")) for key in index.keys().tolist()]
        assert [np.flatnonzero(row).tolist() for row in index.labels()] == [
            drawn_labels(n) for n in numbers
        ]
        dataset = ShardDataset(index)
        assert [dataset[row][0].shape[1] for row in range(len(dataset))] == [
            40 + n for n in numbers
        ]


def test_dalis_index_names_every_member(foreign, tmp_path, monkeypatch, capsys):
    index_in_place(monkeypatch, capsys, foreign, tmp_path / "out")
    for path in sorted((tmp_path / "out/all").glob("*.idx")):
        data = path.with_suffix(".tar").read_bytes()
        lines = path.read_text().splitlines()
        assert lines[0] == "v1.2 8"
        for line in lines[1:]:
            words = line.split(" ")
            assert len(words) == 8
            for suffix, offset, size, name in zip(*(words[i::4] for i in range(4)), strict=True):
                assert name.endswith(f".{suffix}")
                header = data[int(offset) - 512 : int(offset)]
                assert header[: len(name)].decode() == name
                assert int(header[124:135], 8) == int(size)


@pytest.mark.parametrize(
    "more",
    [("--short-side", "64"), ("--shard-mb", "1"), ("--encoding", "png"), ("--quality", "80")],
)
def test_options_of_writing_do_not_go_with_it(foreign, tmp_path, monkeypatch, capsys, more):
    status, _, errors = index_in_place(monkeypatch, capsys, foreign, tmp_path / "out", *more)
    assert (status, errors.count("\n")) == (2, 1)
    assert f"{more[0]} says how images are written, --in-place writes none" in errors


def test_a_shard_and_its_copy(foreign, tmp_path, monkeypatch, capsys):
    shutil.copytree(foreign, tmp_path / "wds")
    shutil.copy(tmp_path / "wds/photos-000.tar", tmp_path / "wds/photos-copy.tar")
    status, _, errors = index_in_place(monkeypatch, capsys, tmp_path / "wds", tmp_path / "out")
    assert status == 2
    assert "photos-copy.tar: holds the same bytes as" in errors


@pytest.mark.parametrize("damage", ["none", "flipped", "idx", "samples", "gone", "emptied", "key"])
def test_verify_reads_what_is_linked(foreign, tmp_path, monkeypatch, capsys, damage):
    wds, root = tmp_path / "wds", tmp_path / "out/all"
    shutil.copytree(foreign, wds)
    assert index_in_place(monkeypatch, capsys, wds, tmp_path / "out")[0] == 0
    if damage == "flipped":
        data = bytearray((wds / "photos-001.tar").read_bytes())
        data[int(DatasetIndex.open(root).samples["offset"][9, 0]) + 3] ^= 0xFF
        (wds / "photos-001.tar").write_bytes(data)
    elif damage == "emptied":
        (wds / "photos-001.tar").write_bytes(b"")
    elif damage == "key":
        keys = np.load(root / "keys.npy")
        keys[9] = b"photo\xff"
        np.save(root / "keys.npy", keys)
    elif damage == "gone":
        (wds / "photos-001.tar").unlink()
    elif damage == "idx":
        (root / "all-000001.idx").write_text("v1.2 0\n")
    elif damage == "samples":
        (root / "rows.npy").write_bytes(b"")
    with open_pool(1) as pool:
        found = verify_split(root, pool).findings
    lines = [finding.line() for finding in found]
    files = {"none": [], "flipped": ["all-000001.tar"] * 2, "idx": ["all-000001.idx"]}
    files |= {
        "samples": ["rows.npy"],
        "gone": ["all-000001.tar"],
        "key": ["all-000001.tar", "shards.npy"],
    }
    files["emptied"] = ["all-000001.tar"] * 9
    assert [finding.file for finding in found] == files[damage], lines
    assert all(
        "run the same preprocess.shard command again" in line and "--repair" not in line
        for line in lines
    )
    if damage == "key":
        assert r"sample photo\xff: its key in rows.npy is none that the packer makes" in lines[0]
    elif damage == "emptied":
        assert "has 0 bytes" in lines[0]
        assert "is beyond the end of the shard" in lines[1]


def test_member_names_that_are_no_utf8(tmp_path, monkeypatch, capsys):
    path = tmp_path / "wds/a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in ((b"caf\xe9.jpg", jpeg(IMAGE)), (b"caf\xe9.cls", b"0")):
            member = tarfile.TarInfo(os.fsdecode(name))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    status, _, errors = index_in_place(monkeypatch, capsys, tmp_path / "wds", tmp_path / "out")
    assert status == 0, errors
    assert DatasetIndex.open(tmp_path / "out/all").num_samples == 1
    assert b" caf\xe9.jpg " in (tmp_path / "out/all/all-000000.idx").read_bytes()
    with open_pool(1) as pool:
        assert verify_split(tmp_path / "out/all", pool).findings == []


def test_sizes_are_read_from_headers_alone(foreign, tmp_path, monkeypatch, capsys):
    """A re-run that keeps every shard reads no whole image for them."""
    assert index_in_place(monkeypatch, capsys, foreign, tmp_path / "out")[0] == 0
    monkeypatch.setattr(
        "preprocess.record.Record.read", lambda record: pytest.fail(f"{record.source} is read")
    )
    status, told, errors = index_in_place(monkeypatch, capsys, foreign, tmp_path / "out")
    assert status == 0, errors
    assert "0 written, 3 verified and kept" in told
