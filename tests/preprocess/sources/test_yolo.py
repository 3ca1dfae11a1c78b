"""YOLO datasets as Ultralytics, Roboflow, Darknet and CVAT write them, and wrong ones."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.yolo import YOLO
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard
from tests.preprocess.refusals import refused_by

BOX = "0.5 0.5 0.2 0.3"
NAMES = "names:\n  0: cat\n  1: big dog\n  2: no\n"
LABELS = {"1": f"0 {BOX}\n2 {BOX}\n", "2": "", "3": None, "4": f"1 {BOX}\n1 {BOX}\n"}
SHOWN = [(0, 2), (), (), (1,)]


def write(folder: Path, labels: Path, files=LABELS, suffix=".jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(files.items()):
        (folder / f"{name}{suffix}").write_bytes(jpeg(photograph(20, 20, number)))
        if text is not None:
            (labels / f"{name}.txt").write_text(text)


def dataset(
    root: Path, yaml: str = NAMES + "train: images/train\nval: images/val\n", **how
) -> Path:
    for split in ("train", "val"):
        write(root / "images" / split, root / "labels" / split, **how)
    (root / "data.yaml").write_text(yaml)
    return root


def shown(source: YOLO, split: str = "train") -> list[tuple[int, ...]]:
    return [record.labels for record in source.records(split)]


refused = partial(refused_by, YOLO)


def test_a_dataset_packs(tmp_path, monkeypatch, capsys):
    root = dataset(tmp_path / "my set")
    (root / "labels/train/9.txt").write_text(f"0 {BOX}")
    args = [
        "--order",
        "source",
        "--source",
        "yolo",
        "--root",
        str(root),
        "--out",
        str(tmp_path / "out"),
    ]
    status, said, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    for split in ("train", "val"):
        index = DatasetIndex.open(tmp_path / "out" / split)
        assert index.class_names == ("cat", "big dog", "no")
        assert index.task == "multilabel"
        assert [tuple(np.flatnonzero(row).tolist()) for row in index.labels()] == SHOWN
        assert f"split {split}: 1 image has no label file, so it shows none of the classes" in said
    assert "left out: 1 label file without an image: labels/train/9.txt" in said


@pytest.mark.parametrize(
    "yaml",
    [
        NAMES + "path: .\ntrain: images/train\nval: images/val\ntest:\n",
        NAMES + "path: ../datasets/here\ntrain: images/train\nval: images/val\ntest: ~\n",
        NAMES + "path: /content/datasets/here\ntrain: images/train/\nval: ./images/val\n",
        NAMES + "train: ../images/train\nval: ../images/val\nnc: 3\n",
        NAMES + "train: [images/train]\nvalid:\n- images\\val\n",
        'names: ["cat", "big  dog", no]\ntrain: images/train\nval: images/val\ndownload: |\n  a\n',
        "train: lists/train.txt\nval: lists/val.txt\nnames: [cat, big dog, 'no']",
    ],
)
def test_what_data_yaml_may_say(tmp_path, yaml):
    root = dataset(tmp_path / "set", yaml)
    (root / "lists").mkdir()
    for split, start in (("train", "./images/train/"), ("val", "/home/me/set/images/val/")):
        (root / f"lists/{split}.txt").write_text(
            "\r\n".join(f"{start}{name}.jpg" for name in LABELS)
        )
    source = YOLO(root)
    assert source.class_names == ("cat", "big dog", "no")
    assert source.splits() == ("train", "val")
    assert shown(source) == shown(source, "val") == SHOWN
    assert source.records("val")[0].source == "images/val/1.jpg"
    assert source.records("val")[0].path == root / "images/val/1.jpg"


def test_an_absolute_path_to_the_root_itself(tmp_path):
    root = dataset(tmp_path / "set")
    (root / "data.yaml").write_text(
        f"{NAMES}path: {root}\ntrain: {root}/images/train\nval: images/val\n"
    )
    assert shown(YOLO(root)) == SHOWN


def test_roboflow(tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path / split / "images", tmp_path / split / "labels")
    splits = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
    (tmp_path / "data.yaml").write_text(
        f"{splits}names: ['cat', 'big dog', 'no']\nroboflow:\n  workspace: me\n"
    )
    source = YOLO(tmp_path)
    assert source.splits() == ("train", "val", "test")
    assert shown(source, "test") == SHOWN


def test_darknet_as_cvat_exports_it(tmp_path):
    write(tmp_path / "obj_train_data", tmp_path / "obj_train_data")
    (tmp_path / "obj.names").write_text("cat\nbig dog\nno\n\n")
    (tmp_path / "obj.data").write_text(
        "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    (tmp_path / "train.txt").write_text(
        "".join(f"data/obj_train_data/{name}.jpg\n" for name in LABELS)
    )
    source = YOLO(tmp_path)
    assert source.class_names == ("cat", "big dog", "no")
    assert shown(source) == SHOWN
    assert "train.txt: paths are read without data/" in source.describe()


@pytest.mark.parametrize(
    ("images", "labels", "split"),
    [
        ("images", "labels", "all"),
        ("images/train2017", "labels/train2017", "train"),
        ("a", "a", "all"),
    ],
)
def test_without_a_description(tmp_path, images, labels, split):
    write(tmp_path / images, tmp_path / labels)
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\nbig dog\r\nno\r\n")
    source = YOLO(tmp_path)
    assert source.splits() == (split,)
    assert shown(source, split) == SHOWN


def test_upper_case_and_links(tmp_path):
    root = dataset(tmp_path / "set", suffix=".JPG")
    (root / "labels/train/1.txt").rename(root / "labels/train/1.TXT")
    (root / "images/train").rename(tmp_path / "elsewhere")
    (root / "images/train").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert shown(YOLO(root)) == SHOWN


def test_kinds_of_lines(tmp_path):
    lines = f"0 {BOX}\n2.000000 0.1 0.1 0.2 0.2 0.3 0.1\n\n1 0 0 1 0 1 1 0 1\n1\t0.5 0.5\t1 1"
    root = dataset(tmp_path, files={"1": lines})
    assert shown(YOLO(root)) == [(0, 1, 2)]
    pose = dataset(
        tmp_path / "pose",
        NAMES + "kpt_shape: [2, 3]\ntrain: images/train\n",
        files={"1": "1" + 10 * " 0.5"},
    )
    assert shown(YOLO(pose)) == [(1,)]


def test_a_byte_order_mark_and_utf_16(tmp_path):
    root = dataset(tmp_path)
    (root / "labels/train/1.txt").write_bytes(f"0 {BOX}\r\n2 {BOX}\r\n".encode("utf-16"))
    (root / "data.yaml").write_bytes(b"\xef\xbb\xbf" + (root / "data.yaml").read_bytes())
    assert shown(YOLO(root)) == SHOWN


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            f"3 {BOX}",
            "labels/train/1.txt:2: class 3 is not in .*data.yaml, which names 3 classes, 0 to 2",
        ),
        (f"-1 {BOX}", "1.txt:2: class -1 is not in"),
        (f"1.5 {BOX}", "1.txt:2: class 1.5 is not in"),
        (f"cat {BOX}", "1.txt:2: .* has 'cat', which is no number"),
        (
            "1,0.5,0.5,1,1",
            "1.txt:2: .* which is no number; write the class id and its box, with spaces between",
        ),
        ("1 nan 0.5 1 1", "1.txt:2: .* has 'nan', which is no number"),
        ("1", "1.txt:2: '1' has 1 number;"),
        (f"1 {BOX} 0.97", "1.txt:2: .* has 6 numbers: a class, a box and a score of predictions"),
        (f"1e400 {BOX}", "1.txt:2: .* which is no number"),
    ],
)
def test_wrong_lines(tmp_path, line, says):
    root = dataset(tmp_path, files={"1": f"0 {BOX}\n{line}\n"})
    assert re.search(says, refused(root)), refused(root)


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("train: images/train\n", "data.yaml has no names"),
        ("names: []\ntrain: images/train", "names is empty"),
        ("names: cat\ntrain: images/train", "names is 'cat'; give a list"),
        ("names: [cat, [dog]]\ntrain: images/train", "class 1 has no name"),
        ("names: [cat, '']\ntrain: images/train", "class 1 has no name"),
        ("names: {a: cat}\ntrain: images/train", "names has key 'a'; number the classes from 0"),
        ("names: {0: cat, 0: dog}\ntrain: images/train", "0 is given twice, in lines 1 and 1"),
        ("names: {0: cat, 00: dog}\ntrain: images/train", "class 0 is in names twice"),
        (
            "names: [cat, dog, cat]\ntrain: images/train",
            "class 2 is named 'cat', as class 0 is; rename one",
        ),
        ("names: [cat]\nnc: 2\ntrain: images/train", "nc is 2, but names has 1; make them agree"),
        (NAMES + "train: /etc\n", "train: path '/etc' is no path inside"),
        (NAMES + "train: images/../../x\n", "train: path 'images/../../x' is no path inside"),
        (NAMES + "train: ../../x\n", "train: '../../x' is neither folder nor list below"),
        (NAMES + "train: {a: b}\n", "train is .*; give a folder or list file"),
        (NAMES + "train: images/train\ntraining: images/val\n", "train and training are one split"),
        (NAMES + "train: [images/train, images]\n", "is in 'images/train' already; list it once"),
        (NAMES + "kpt_shape: 17\ntrain: images/train\n", "kpt_shape is '17'; give two numbers"),
        ("names: [cat\n", "data.yaml is no YAML"),
        ("- a\n", "data.yaml has no names"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b]\ntrain: images/train", "class 0 has no name"),
        ("names: " + 3000 * "[" + "\n", "data.yaml is no YAML"),
        ("nc: 100001\ntrain: images/train", "nc is 100001; give 1 to 100,000"),
        ("!!python/object/apply:os.system ['true']", "data.yaml is no YAML"),
    ],
)
def test_wrong_descriptions(tmp_path, yaml, says):
    said = refused(dataset(tmp_path, yaml))
    assert re.search(says, said), said


def test_names_that_are_missing_are_numbered_and_the_packer_says_so(tmp_path):
    source = YOLO(dataset(tmp_path, "nc: 3\ntrain: images/train\n"))
    assert source.class_names == ("class_0", "class_1", "class_2")
    assert "data.yaml names no class; they are called class_0, class_1, ..." in source.describe()


def test_same_names_merge(tmp_path):
    source = YOLO(
        dataset(tmp_path, "names: [cat, dog, cat]\ntrain: images/train\n"), same_names="merge"
    )
    assert source.class_names == ("cat", "dog")
    assert shown(source) == [(0,), (), (), (1,)]
    assert "class cat: 2 ids of this name, taken as one class" in source.describe()


def test_ids_may_have_gaps(tmp_path):
    source = YOLO(
        dataset(tmp_path, "names: {2: no, 0: cat, 1: big dog, 7: x}\ntrain: images/train\n")
    )
    assert source.class_names == ("cat", "big dog", "no", "x")
    assert shown(source) == SHOWN


def test_no_label_file_at_all_is_no_background(tmp_path):
    root = dataset(tmp_path, files={"1": None, "2": None})
    said = refused(root)
    assert "none of 2 images has a label file; the one of images/train/1.jpg would be in" in said
    assert said.endswith(f"{root}/labels/train")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("../../etc/x.jpg", "is no image below"),
        ("images/train/../../../x.jpg", "is no image below"),
        (
            "images/train/1.jpg\nimages/train/../../../x.jpg",
            "train.txt:2: path .* is no path inside",
        ),
        (
            "images/train/1.jpg\nimages/train/2.txt",
            "train.txt:2: .* is no image; list one image a line",
        ),
        (
            "images/train/1.jpg\nimages/train/1.jpg",
            "image images/train/1.jpg is in 'train.txt' already",
        ),
        (
            "images/train/1.jpg\n./images/train//1.jpg",
            "image images/train/1.jpg is in 'train.txt' already",
        ),
        ("", "train.txt lists no image"),
    ],
)
def test_wrong_lists(tmp_path, line, says):
    root = dataset(tmp_path, NAMES + "train: train.txt\n")
    (root / "train.txt").write_text(line)
    said = refused(root)
    assert re.search(says, said), said


def test_a_listed_image_that_is_missing_is_a_reject(tmp_path):
    root = dataset(tmp_path, NAMES + "train: train.txt\n")
    (root / "train.txt").write_text("images/train/1.jpg\nimages/train/gone.jpg\n")
    assert [record.path.is_file() for record in YOLO(root).records("train")] == [True, False]


def test_splits_that_share_images_are_named(tmp_path):
    source = YOLO(dataset(tmp_path, NAMES + "train: images/train\nval: images/train\n"))
    assert [len(source.records(split)) for split in source.splits()] == [4, 4]
    assert "splits train and val share 4 images" in source.describe()


def test_a_link_that_goes_round_in_a_circle(tmp_path):
    root = dataset(tmp_path)
    (root / "images/train/again").symlink_to(root / "images", target_is_directory=True)
    assert "is a link back to a folder that holds it" in refused(root)


def test_a_root_one_level_too_high_and_no_dataset(tmp_path):
    dataset(tmp_path / "a/set")
    assert f"give --root {tmp_path / 'a/set'}" in refused(tmp_path / "a")
    assert "holds no data.yaml and no classes.txt" in refused(tmp_path)
    assert "is not a folder" in refused(tmp_path / "none")
    (tmp_path / "a/set/other.yaml").write_text(NAMES)
    (tmp_path / "a/set/data.yaml").rename(tmp_path / "a/set/third.yaml")
    assert "holds other.yaml, third.yaml; name one with --data-yaml" in refused(tmp_path / "a/set")
    assert shown(YOLO(tmp_path / "a/set", data_yaml="third.yaml")) == SHOWN
    assert shown(YOLO(tmp_path / "a/set/third.yaml")) == SHOWN
    said = refused(tmp_path / "a/set/third.yaml", data_yaml="other.yaml")
    assert "is a file, --data-yaml names another; give one" in said
    (tmp_path / "a/set/third.yaml").rename(tmp_path / "a/set/data.yaml")
    assert f"give --root {tmp_path / 'a/set'}" in refused(tmp_path / "a/set/images/train")


def test_a_huge_label_file_is_not_read(tmp_path):
    root = dataset(tmp_path)
    with (root / "labels/train/1.txt").open("wb") as file:
        file.truncate(10 << 30)
    assert "has more than 33,554,432 bytes" in refused(root)
