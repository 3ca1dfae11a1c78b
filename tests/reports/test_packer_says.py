"""The packer says what it found: classes with their counts split by split, and where labels came
from.
"""

import json
import unicodedata
from pathlib import Path

import pytest

from preprocess.record import Record
from preprocess.sources import digits
from preprocess.sources.found import MOST_CLASSES, counted, listed, odd
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

LABELLED = """
from preprocess.record import Record, Source

class Labelled(Source):
    class_names = ("cat", "dog", "fox")
    def __init__(self, root):
        self.root = root
    def splits(self):
        return ("train", "val")
    def describe(self):
        return ["labels: of a list in this file"]
    def records(self, split):
        shown = [((0,), ()), ((0, 1), (2,)), ((), (0,)), ((), ())][: 4 if split == "train" else 2]
        return [Record(f"{n}", self.root / f"{n}.jpg", f"{n}.jpg", *labels) for n, labels in enumerate(shown)]
"""
TRAIN = """train: 4 images, 3 classes; 2 images without any label; 1 class without a positive
  cat  2 positives, 1 ignored
  dog  1 positive
  fox  0 positives, 1 ignored
"""
VAL = """val: 2 images, 3 classes; 1 class without a positive
  cat  2 positives
  dog  1 positive
  fox  0 positives, 1 ignored
"""


@pytest.fixture
def args(tmp_path, monkeypatch) -> list[str]:
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(jpeg(photograph(20, 20, number)))
    (tmp_path / "labelled_source.py").write_text(LABELLED)
    monkeypatch.syspath_prepend(str(tmp_path))
    return [
        "--source",
        "labelled_source:Labelled",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]


def test_counts_are_told_after_packing(args, monkeypatch, capsys):
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    assert told.startswith("labels: of a list in this file\n")
    assert TRAIN in told
    assert VAL in told


def test_list_says_the_same_and_writes_nothing(args, tmp_path, monkeypatch, capsys):
    status, told, errors = shard(monkeypatch, capsys, *args, "--list")
    assert (status, told, errors) == (0, f"labels: of a list in this file\n{TRAIN}{VAL}", "")
    assert not (tmp_path / "out").exists()
    status, told, _ = shard(monkeypatch, capsys, *args, "--list", "--splits", "val")
    assert (status, told) == (0, f"labels: of a list in this file\n{VAL}")


def test_what_is_rejected_is_in_no_count(args, tmp_path, monkeypatch, capsys):
    (tmp_path / "in/1.jpg").write_bytes(b"no image")
    status, told, errors = shard(monkeypatch, capsys, *args, "--max-rejects", "1")
    assert status == 0, errors
    assert (
        "train: 3 images, 3 classes; 2 images without any label; 2 classes without a positive\n  "
        "cat  1 pos" in told
    )


def test_a_finished_set_is_told_again_and_no_flag_of_listing_is_in_it(
    args, tmp_path, monkeypatch, capsys
):
    shard(monkeypatch, capsys, *args)
    before = (tmp_path / "out/train/index.json").read_bytes()
    assert TRAIN in shard(monkeypatch, capsys, *args)[1]
    shard(monkeypatch, capsys, *args, "--list")
    assert (tmp_path / "out/train/index.json").read_bytes() == before
    assert "--list" not in json.loads(before)["command"]


def test_the_parts_of_a_division_are_listed(tmp_path, monkeypatch, capsys):
    for number in range(20):
        path = tmp_path / "in" / f"class-{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photograph(20, 20, number)))
    args = [
        "--source",
        "imagefolder",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, told, _ = shard(monkeypatch, capsys, *args, "--val-fraction", "0.2", "--list")
    assert status == 0
    assert "labels: the names of the class folders" in told
    assert "split val: held out, 0.2 of split all, stratified, --split-seed 0" in told
    assert "val: 4 images, 2 classes\n  class-0  2 positives\n  class-1  2 positives\n" in told


def test_of_many_classes_some_are_shown_and_list_shows_all():
    names = [f"class {number}" for number in range(1000)]
    counts = counted("train", [record((number,)) for number in range(999)], 1000)
    lines = list(listed(counts, names))
    assert lines[0] == "train: 999 images, 1,000 classes; 1 class without a positive"
    assert len(lines) == MOST_CLASSES + 2
    assert lines[-1] == f"  and {1000 - MOST_CLASSES} more classes; --list shows all"
    assert len(list(listed(counts, names, everything=True))) == 1001


def record(labels: tuple[int, ...]) -> Record:
    return Record("x", Path("x"), "x", labels, ())


def test_labels_that_occur_as_classes_hardly_do_are_asked_about():
    ids = [record((number,)) for number in range(30)]
    (line,) = odd(ids, [str(number) for number in range(30)])
    assert (
        "each of 30 classes, such as 0, is on one image only: are these numbers or names of images?"
        in line
    )
    pieces = [record((0,)), record((1, 2)), record((1, 2)), record((0, 1, 2))]
    (line,) = odd(pieces, ["car", "light", "traffic"])
    assert line.startswith("please check: light and traffic are always on the same images")
    usual = [record((0,)), record((1, 2)), record((1,)), record((0, 1, 2))]
    assert list(odd(usual, ["car", "light", "traffic"])) == []
    # on all images: nothing to tell them apart by
    assert list(odd([record((0, 1))] * 3, ["a", "b"])) == []


def test_names_cannot_rewrite_the_terminal():
    (_, line) = listed(counted("train", [record((0,))], 1), ["cat\x1b[2J"])
    assert not any(unicodedata.category(char) == "Cc" for char in line)


def test_listing_the_embedded_default_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digits.write_digits, "__defaults__", (6, 3, 48, 0))
    status, told, errors = shard(monkeypatch, capsys, "--list")
    assert (status, list(tmp_path.iterdir())) == (0, []), errors
    assert "labels: the digits drawn on each image and their ink" in told
    assert "train: 6 images, 20 classes" in told


def test_names_that_would_be_refused_are_listed_first(tmp_path, monkeypatch, capsys):
    for name in ("cat|dog", "dog|fox"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes(jpeg(photograph(20, 20)))
    args = [
        "--source",
        "imagefolder",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, told, errors = shard(monkeypatch, capsys, *args, "--list")
    assert (status, errors.count("\n")) == (2, 1)
    assert "  cat|dog  1 positive\n" in told
    assert "--accept-class-names" in errors
    status, told, _ = shard(monkeypatch, capsys, *args, "--accept-class-names")
    assert (status, DatasetIndex.open(tmp_path / "out/all").num_samples) == (0, 2)
