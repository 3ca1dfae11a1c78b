"""Source imagefolder: torchvision's order, both layouts, and the mistakes it does not notice."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder as TorchvisionFolder

from preprocess.record import Record
from preprocess.sources.imagefolder import ImageFolder
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import photograph
from tests.preprocess.commands import shard

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".PNG": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
}


def write(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    photograph(40, 30, seed).save(file, FORMATS[path.suffix])
    path.write_bytes(file.getvalue())


def fill(folder: Path) -> Path:
    """Write classes whose order is not the alphabet's, with nested folders and every format."""
    names = (
        "b/x.jpg",
        "B/x.jpg",
        "B/x.PNG",
        "a b/deeper/z.webp",
        "a b/y.jpeg",
        "a b/Y.bmp",
        "10/one.tif",
        "9/1.2.jpg",
    )
    for seed, name in enumerate(names):
        write(folder / name, seed)
    return folder


def read(root: Path) -> list[Record]:
    source = ImageFolder(root)
    return [record for split in source.splits() for record in source.records(split)]


def test_order_and_labels_are_torchvisions(tmp_path):
    source = ImageFolder(fill(tmp_path / "photos"))
    theirs = TorchvisionFolder(tmp_path / "photos")
    records = source.records("all")
    assert (source.splits(), source.task) == (("all",), "multiclass")
    assert list(source.class_names) == theirs.classes
    assert [(str(record.path), record.labels[0]) for record in records] == theirs.samples
    assert len({record.name for record in records}) == len(records)


def test_links_to_folders_are_followed_and_loops_refused(tmp_path):
    for name in ("photos/cat/1.jpg", "elsewhere/deep/2.jpg", "photos/dog/3.jpg"):
        write(tmp_path / name)
    (tmp_path / "photos/cat/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/cat/again").symlink_to(tmp_path / "elsewhere/deep")
    theirs = TorchvisionFolder(tmp_path / "photos")
    assert [
        (str(record.path), record.labels[0]) for record in read(tmp_path / "photos")
    ] == theirs.samples
    assert len(theirs.samples) == 4
    (tmp_path / "elsewhere/deep/back").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"(again/back/deep|more/deep/back) is a link back"):
        read(tmp_path / "photos")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    write(tmp_path / "photos/cat/locked/1.jpg")
    write(tmp_path / "photos/cat/2.jpg")
    (tmp_path / "photos/cat/locked").chmod(0)
    try:
        with pytest.raises(PermissionError, match="locked"):
            read(tmp_path / "photos")
    finally:
        (tmp_path / "photos/cat/locked").chmod(0o755)


def test_packed_labels_equal_the_folders(tmp_path, monkeypatch, capsys):
    for split in ("train", "valid", "test"):
        fill(tmp_path / "photos" / split)
    (tmp_path / "photos" / "README.txt").write_text("whose photographs these are")
    (tmp_path / "photos" / "train" / "b" / ".DS_Store").write_text("")
    args = [
        "--order",
        "source",
        "--source",
        "imagefolder",
        "--root",
        str(tmp_path / "photos"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert (status, "training needs" in told) == (0, False), errors
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        index = DatasetIndex.open(tmp_path / "out" / split)
        theirs = TorchvisionFolder(tmp_path / "photos" / folder)
        assert index.task == "multiclass"
        assert list(index.class_names) == theirs.classes
        assert index.labels().sum(1).tolist() == [1] * len(theirs)
        assert np.argmax(index.labels(), 1).tolist() == theirs.targets


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("train/a.jpg", "boat/b.jpg"):
        write(tmp_path / name)
    assert ImageFolder(tmp_path).class_names == ("boat", "train")


def test_a_held_out_part_keeps_every_class(tmp_path, monkeypatch, capsys):
    for number in range(30):
        write(tmp_path / "photos" / f"class-{number % 3}" / f"{number}.jpg", number)
    args = [
        "--source",
        "imagefolder",
        "--root",
        str(tmp_path / "photos"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert shard(monkeypatch, capsys, *args, "--val-fraction", "0.2")[0] == 0
    assert DatasetIndex.open(tmp_path / "out/val").labels().sum(0).tolist() == [2, 2, 2]


def test_mistakes_get_one_line(tmp_path):
    def says(change, layout: str = "photos") -> str:
        root = tmp_path / "photos"
        shutil.rmtree(root, ignore_errors=True)
        for split in ("train", "val"):
            for name in ("cat", "dog"):
                write(root / split / name / "1.jpg")
        change(root)
        with pytest.raises(DataError) as caught:
            read(tmp_path / layout)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is not a folder" in says(lambda root: None, "absent")
    assert "holds images but no class folder" in says(lambda root: None, "photos/train/cat")
    assert "dog holds no image" in says(lambda root: (root / "train/dog/1.jpg").unlink())
    assert "train has no class 'cow'" in says(lambda root: write(root / "val/cow/1.jpg"))
    assert "val has no class 'dog', train has; make" in says(
        lambda root: shutil.rmtree(root / "val/dog")
    )
    assert "2.jpg is in no class folder" in says(lambda root: write(root / "train/2.jpg"))
    assert "notes.txt is none of .jpg" in says(
        lambda root: (root / "train/cat/notes.txt").write_text("x")
    )
    assert "extra is no split with class folders" in says(lambda root: (root / "extra").mkdir())
    assert "both for split val; keep one" in says(lambda root: write(root / "valid/cat/1.jpg"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no class folder" in says(lambda root: None, "empty")


def test_a_folder_whose_name_is_no_utf8_is_no_class(tmp_path, monkeypatch, capsys):
    root = tmp_path / "photos"
    write(root / "cat/1.jpg")
    write(root / os.fsdecode(b"caf\xe9") / "1.jpg")
    args = ["--source", "imagefolder", "--root", str(root), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("\n")) == (2, 1), errors
    assert r"class 'caf\udce9' is no UTF-8" in errors
    assert not (tmp_path / "out").exists()


def test_a_class_without_images_in_val_is_told_by_an_empty_folder(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "val/dog/2.jpg"):
        write(tmp_path / name)
    (tmp_path / "val/cat").mkdir()
    source = ImageFolder(tmp_path)
    assert [record.labels for record in source.records("val")] == [(1,)]
    with pytest.raises(DataError, match=r"split 'test' is not in .*there are: train, val"):
        source.records("test")
