"""Open Images: verified labels, boxes, descriptions; what no row names is unknown."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.open_images import OpenImages
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard
from tests.preprocess.refusals import refused_by

HEADER = "ImageID,Source,LabelName,Confidence\n"
ROWS = """0a,verification,/m/cat,1
0a,crowdsource-verification,/m/dog,0
0b,verification,/m/dog,1.0
0b,verification,/m/bat2,0
0c,verification,/m/cat,0
"""
NAMES = '/m/bat1,Bat\n/m/bat2,Bat\n/m/cat,Cat\n/m/dog,"Dog, big"\n'
SHOWN = {"0a": ([1], [0]), "0b": ([2], [1]), "0c": ([], [0, 2])}


def write(
    root: Path, rows: str = ROWS, split: str = "train", folder: str = "train", **more
) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(("0a", "0b", "0c")):
        (root / folder / f"{image}.jpg").write_bytes(jpeg(photograph(20, 20, number)))
    (root / f"{split}-annotations-human-imagelabels.csv").write_text(HEADER + rows)
    (root / "class-descriptions.csv").write_text(NAMES)
    return root


def labels_of(source: OpenImages, split: str = "train") -> dict[str, tuple[list[int], list[int]]]:
    return {r.name: (list(r.labels), list(r.ignored)) for r in source.records(split)}


refused = partial(refused_by, OpenImages)


def test_unknown_labels_are_ignored(tmp_path, monkeypatch, capsys):
    root = write(tmp_path / "in")
    write(root, split="oidv6-validation", folder="validation")
    args = ["--source", "openimages", "--root", str(root), "--out", str(tmp_path / "out")]
    status, said, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    for split in ("train", "val"):
        index = DatasetIndex.open(tmp_path / "out" / split)
        assert index.class_names == ("Bat", "Cat", "Dog, big")
        found = {
            index.key(n): tuple(np.flatnonzero(row).tolist() for row in (shown, ~known))
            for n, (shown, known) in enumerate(zip(index.labels(), index.known(), strict=True))
        }
        assert found == {"0a": ([1], [0]), "0b": ([2], [1]), "0c": ([], [0, 2])}
    assert "labels: 1 is shown, 0 is not; what no row names is ignored" in said


def test_absent_labels_may_be_negative(tmp_path):
    assert labels_of(OpenImages(write(tmp_path), absent="negative")) == {
        "0a": ([1], []),
        "0b": ([2], []),
        "0c": ([], []),
    }


def test_the_order_of_rows_and_files_is_free(tmp_path):
    rows = "".join(sorted(ROWS.splitlines(keepends=True), reverse=True))
    source = OpenImages(write(tmp_path, rows))
    assert labels_of(source) == SHOWN


def test_a_table_of_boxes_is_joined(tmp_path):
    root = write(tmp_path)
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
    boxes = header + "0a,xclick,/m/bat2,1,0.1,0.2,0.3,0.4,0,0\n0c,xclick,/m/dog,1,0,1,0,1,0,1\n"
    (root / "train-annotations-bbox.csv").write_bytes(b"\xef\xbb\xbf" + boxes.encode())
    names = "train-annotations-human-imagelabels.csv,train-annotations-bbox.csv"
    assert labels_of(OpenImages(root, labels=names)) == {
        "0a": ([0, 1], []),
        "0b": ([2], [1]),
        "0c": ([2], [0]),
    }
    (root / "train-annotations-human-imagelabels.csv").unlink()
    assert labels_of(OpenImages(root, missing_images="skip")) == {
        "0a": ([0], [1]),
        "0c": ([1], [0]),
    }


def test_rows_that_contradict_each_other_are_unknown(tmp_path):
    source = OpenImages(write(tmp_path, ROWS + "0a,verification,/m/cat,0\n"))
    assert labels_of(source)["0a"] == ([], [0, 1])
    says = "split train: 1 label is 1 in one row and 0 in another, so ignored"
    assert says in source.describe()


def test_rows_that_contradict_each_other_are_ignored_where_absent_is_negative(tmp_path):
    rows = ROWS + "0a,verification,/m/cat,0\n0b,x,/m/new,1\n0b,x,/m/new,0\n"
    source = OpenImages(write(tmp_path, rows), absent="negative")
    assert source.class_names == ("Bat", "Cat", "Dog, big")  # nobody knows where /m/new is
    assert labels_of(source) == {"0a": ([], [1]), "0b": ([2], []), "0c": ([], [])}
    says = "split train: 2 labels are 1 in one row and 0 in another, so ignored"
    assert says in source.describe()


def test_the_layout_of_fiftyone_and_folders_in_parts(tmp_path):
    write(tmp_path / "a", folder="train/data")
    (tmp_path / "a/train/labels").mkdir()
    table = tmp_path / "a/train-annotations-human-imagelabels.csv"
    table.rename(tmp_path / "a/train/labels/classifications.csv")
    assert labels_of(OpenImages(tmp_path / "a")) == SHOWN
    write(tmp_path / "b", folder="train_0")
    (tmp_path / "b/train_f").mkdir()
    (tmp_path / "b/train_0/0c.jpg").rename(tmp_path / "b/train_f/0c.JPG")
    source = OpenImages(tmp_path / "b")
    assert labels_of(source) == SHOWN
    assert [record.source for record in source.records("train")] == [
        "train_0/0a.jpg",
        "train_0/0b.jpg",
        "train_f/0c.JPG",
    ]
    write(tmp_path / "c", folder="pictures")
    assert labels_of(OpenImages(tmp_path / "c", images="pictures")) == SHOWN
    assert labels_of(OpenImages(tmp_path / "c")) == SHOWN


def test_two_labels_of_one_name_keep_their_ids(tmp_path):
    source = OpenImages(write(tmp_path, ROWS + "0c,x,/m/bat1,1\n0c,x,/m/new,0\n"))
    assert source.class_names == ("Bat (/m/bat1)", "Bat (/m/bat2)", "Cat", "Dog, big", "/m/new")
    assert "1 class has no description; it is called by its id" in source.describe()


def test_a_list_of_classes(tmp_path):
    root = write(tmp_path)
    (root / "mine.txt").write_text("Dog, big\r\n/m/cat\r\n")
    source = OpenImages(root, class_list="mine.txt")
    assert source.class_names == ("Dog, big", "Cat")
    assert labels_of(source) == {"0a": ([1], []), "0b": ([0], [1]), "0c": ([], [0])}
    for text, says in (
        ("Bat", "mine.txt:1: 'Bat' names several labels, give its id"),
        ("Cat\nHorse", "mine.txt:2: 'Horse' is no class"),
        ("Cat\n/m/cat", "mine.txt:2: '/m/cat' is in line 1 already"),
        ("", "mine.txt lists no class"),
    ):
        (root / "mine.txt").write_text(text)
        assert says in refused(root, class_list="mine.txt")


def test_images_that_are_missing_or_in_no_table(tmp_path):
    root = write(tmp_path, ROWS + "../../etc/passwd,x,/m/cat,1\n")
    (root / "train/0d.jpg").touch()
    assert "1 of its images are not there, such as ../../etc/passwd; get them, or" in refused(root)
    source = OpenImages(root, missing_images="skip")
    assert labels_of(source) == SHOWN
    assert "left out: 1 image of train not there" in source.describe()
    assert "left out: 1 image that no table of train has: train/0d.jpg" in source.describe()
    (root / "train/more").mkdir()
    (root / "train/more/0a.png").touch()
    assert "train/0a.jpg and train/more/0a.png are both image 0a" in refused(root)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            "0a,x,/m/cat,0.7\n",
            "csv:2: Confidence is '0.7', a machine's guess; take the table of human",
        ),
        ("0a,x,/m/cat,-1\n", "csv:2: Confidence is '-1', use 1 or 0"),
        ("0a,x,/m/cat,yes\n", "csv:2: Confidence is 'yes', use 1 or 0"),
        ("0a,x,/m/cat,nan\n", "csv:2: Confidence is 'nan', use 1 or 0"),
        ("0a,x,/m/cat\n", "csv:2: 3 values for 4 columns"),
        ("0a,x,,1\n", "csv:2: no image or no label"),
        ("zz,x,/m/cat,1\n", "none of its images is below .*, such as zz; give their folder"),
        ("", "none of its images is below"),
        ('0a,x,"/m/cat,1\n', "csv:2"),
    ],
)
def test_wrong_rows(tmp_path, rows, says):
    said = refused(write(tmp_path, rows))
    assert re.search(says, said), said


def test_wrong_files_and_flags(tmp_path):
    assert "holds no *human-imagelabels*.csv; name the tables with --labels" in refused(tmp_path)
    root = write(tmp_path)
    table = root / "train-annotations-human-imagelabels.csv"
    assert "give ignored or negative" in refused(root, absent="x")
    assert "give refuse or skip" in refused(root, missing_images="x")
    assert "is no path inside" in refused(root, labels="../x.csv")
    assert "is no path inside" in refused(root, images="/etc")
    assert "is not a folder" in refused(root, images="none")
    assert "cannot be read" in refused(root, labels="none.csv")
    table.write_text("image,label\n0a,cat\n")
    assert "has no column 'ImageID'; its first line should be" in refused(root)
    table.write_bytes(HEADER.encode("utf-16"))
    assert "it is UTF-16" in refused(root)
    write(root)
    (root / "class-descriptions.csv").write_text("/m/cat\n")
    assert "class-descriptions.csv:1: expected a label id and its name" in refused(root)
    (root / "class-descriptions.csv").write_text("/m/cat,Cat\n/m/cat,Dog\n")
    assert "label /m/cat is 'Cat' above; keep one" in refused(root)


def test_more_unknown_labels_than_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.sources.open_images._MOST_UNKNOWN", 8)
    said = refused(write(tmp_path))
    assert "3 images of 3 classes have too many unknown labels; choose classes" in said
    OpenImages(tmp_path, absent="negative").records("train")
