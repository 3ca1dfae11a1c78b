"""The embedded default: complete, deterministic, disjoint, and never half written."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocess.sources import digits
from preprocess.sources.digits import CLASS_NAMES, Digits, DigitsSettings, write_digits
from preprocess.sources.voc import VOC
from shards.errors import DataError


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    content = b"".join(str(path.relative_to(root)).encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "voc"
    write_digits(root, num_train=300, num_val=100)
    return root


def test_reads_as_voc(folder):
    source = VOC(folder)
    assert source.class_names == CLASS_NAMES
    assert source.splits() == ("train", "val")
    train, val = source.records("train"), source.records("val")
    assert (len(train), len(val)) == (300, 100)
    assert not {record.name for record in train} & {record.name for record in val}
    for records in (train, val):
        counts = np.array([len(record.labels) for record in records])
        assert counts.min() >= 1
        assert counts.max() <= 4
        assert {label for record in records for label in record.labels} == set(range(20))
        assert any(record.ignored for record in records)
    with Image.open(train[0].path) as image:
        assert (image.size, image.mode) == ((64, 64), "RGB")


def test_annotations_say_what_the_lists_say(folder, tmp_path):
    for path in folder.iterdir():
        if path.name != "ImageSets":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("train", "val"):
        text = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text()
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(text)
    from_lists, from_annotations = VOC(folder), VOC(tmp_path)
    assert from_annotations.class_names == CLASS_NAMES
    for split in ("train", "val"):
        expected = [(r.name, r.labels, r.ignored) for r in from_lists.records(split)]
        assert [(r.name, r.labels, r.ignored) for r in from_annotations.records(split)] == expected


def test_same_settings_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_digits(tmp_path / name, num_train=8, num_val=4, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_finished_folder_is_kept_and_another_refused(tmp_path):
    root = tmp_path / "deep" / "voc"
    write_digits(root, num_train=4, num_val=2)
    marker = root / "JPEGImages" / "train_000000.jpg"
    marker.touch()
    before = marker.stat().st_mtime_ns
    write_digits(root, num_train=4, num_val=2)
    assert marker.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="other settings"):
        write_digits(root, num_train=5, num_val=2)


def test_foreign_folder_is_refused_and_an_empty_one_used(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is no digits folder"):
        write_digits(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    write_digits(tmp_path / "empty", num_train=2, num_val=2)
    assert (tmp_path / "empty" / "digits.json").exists()


def test_nothing_is_left_of_a_failed_run(tmp_path, monkeypatch):
    def full(image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digits, "_jpeg", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_digits(tmp_path / "voc", num_train=2, num_val=2)
    assert list(tmp_path.iterdir()) == []


def test_source_writes_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(digits.write_digits, "__defaults__", (6, 3, 48, 0))
    source = Digits(tmp_path / "voc", difficult="negative")
    assert [len(source.records(split)) for split in source.splits()] == [6, 3]


def test_the_folder_you_are_in_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root in (Path("."), tmp_path):
        with pytest.raises(DataError, match="is the folder you are in; choose one inside it"):
            write_digits(root, num_train=2, num_val=2)


@pytest.mark.parametrize("change", [{"num_train": 0}, {"size": 8}, {"seed": -1}])
def test_settings_out_of_range(change):
    with pytest.raises(DataError, match=next(iter(change))):
        DigitsSettings(**change)


def test_train_and_val_share_no_handwriting():
    painters = digits._painters(DigitsSettings())
    train, val = (
        {stroke.tobytes() for part in painters[s].strokes for stroke in part}
        for s in ("train", "val")
    )
    assert len(train) + len(val) == 1797
    assert not train & val
