"""COCO as Roboflow and other tools export it: a JSON among the images of each split, a category
that heads others.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.coco import COCO
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

FISH = (
    {"id": 0, "name": "fish", "supercategory": "none"},
    {"id": 1, "name": "salmon", "supercategory": "fish"},
    {"id": 7, "name": "trout", "supercategory": "fish"},
)
SHOWN = ((1,), (7,), (), (1, 7))
ROBOFLOW = "_annotations.coco.json"


def content(categories=FISH, shown=SHOWN, prefix="") -> dict:
    objects = [(image, category) for image, of_image in enumerate(shown) for category in of_image]
    return {
        "images": [
            {"id": number, "file_name": f"{prefix}{number}.jpg"} for number in range(len(shown))
        ],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c} for n, (i, c) in enumerate(objects)
        ],
        "categories": list(categories),
    }


def write(root: Path, file: str, folder: str, **how) -> Path:
    """Write a JSON, and its images into a folder: grey, the split's place in the alphabet says how
    grey.
    """
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content(**how)))
    for number in range(len(how.get("shown", SHOWN))):
        (root / folder / f"{number}.jpg").write_bytes(jpeg(photograph(20, 20, number)))
    return root


def roboflow(root: Path, *splits: str, **how) -> Path:
    for split in splits:
        write(root, f"{split}/{ROBOFLOW}", split, **how)
    return root


@pytest.mark.parametrize(
    "flags", [(), ("--annotations", f"train/{ROBOFLOW},valid/{ROBOFLOW},test/{ROBOFLOW}")]
)
def test_an_export_of_roboflow_packs_split_by_split(tmp_path, monkeypatch, capsys, flags):
    root = roboflow(tmp_path / "in", "train", "valid", "test")
    args = [
        "--order",
        "source",
        "--source",
        "coco",
        "--root",
        str(root),
        "--out",
        str(tmp_path / "out"),
        *flags,
    ]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        index = DatasetIndex.open(tmp_path / "out" / split)
        assert index.class_names == ("salmon", "trout")
        assert [np.flatnonzero(row).tolist() for row in index.labels()] == [[0], [1], [], [0, 1]]
        assert f"split {split}: labels of {folder}/{ROBOFLOW}, images of {folder}" in told
        assert f"{split}: 4 images, 2 classes; 1 image without any label" in told
    assert (
        "left out: category 'fish' (id 0), no object is one and it is the supercategory of others"
        in told
    )


def test_one_file_is_the_split_of_its_folder(tmp_path):
    source = COCO(roboflow(tmp_path, "train", "valid"), annotations=f"valid/{ROBOFLOW}")
    assert source.splits() == ("val",)
    assert source.records("val")[0].source == "valid/0.jpg"
    write(tmp_path / "flat", ROBOFLOW, ".")
    assert COCO(tmp_path / "flat").splits() == ("all",)


def test_a_category_that_heads_others_is_kept_where_it_is_annotated_or_asked_for(tmp_path):
    root = roboflow(tmp_path / "a", "train", "valid")
    assert COCO(root, supercategories="keep").class_names == ("fish", "salmon", "trout")
    write(root, f"valid/{ROBOFLOW}", "valid", shown=((0,), (1,)))
    source = COCO(root)
    assert source.class_names == ("fish", "salmon", "trout")
    assert [record.labels for record in source.records("val")] == [(0,), (1,)]
    with pytest.raises(DataError, match="--supercategories is 'x': give one of drop, keep"):
        COCO(root, supercategories="x")


def test_a_class_without_an_object_that_heads_no_other_is_kept(tmp_path):
    alone = [
        {"id": 3, "name": "cat", "supercategory": "cat"},
        {"id": 5, "name": "dog", "supercategory": "none"},
    ]
    source = COCO(roboflow(tmp_path, "train", categories=alone, shown=((5,),)))
    assert source.class_names == ("cat", "dog")
    assert source.records("train")[0].labels == (1,)


def test_roboflows_heading_of_the_name_of_a_class(tmp_path):
    """Projects are often called after their only class: id 0 heads, id 1 is annotated, both are
    called fish.
    """
    both = [
        {"id": 0, "name": "fish", "supercategory": "none"},
        {"id": 1, "name": "fish", "supercategory": "fish"},
    ]
    source = COCO(roboflow(tmp_path, "train", categories=both, shown=((1,), ())))
    assert source.class_names == ("fish",)
    assert [record.labels for record in source.records("train")] == [(0,), ()]


def test_categories_of_one_name_are_refused_or_merged(tmp_path):
    both = [{"id": 2, "name": "dog"}, {"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}]
    root = roboflow(tmp_path, "train", categories=both, shown=((2,), (9,), (2, 9), (4,)))
    with pytest.raises(
        DataError, match=r"category 9 is named 'dog', as category 2 is; .* --same-names merge$"
    ):
        COCO(root)
    source = COCO(root, same_names="merge")
    assert source.class_names == ("dog", "cat")
    assert [record.labels for record in source.records("train")] == [(0,), (0,), (0,), (1,)]
    assert "class dog: several categories of this name, taken as one class" in source.describe()


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("train/annotations.json", "train"),
        ("train/labels.json", "train/data"),
        ("train/x.json", "train/images"),
        ("train/annotations/x.json", "train/images"),
        ("annotations/train.json", "images/train"),
        ("annotations/train.json", "train"),
        ("annotations/instances_train.json", "images"),
        ("my-train-set.json", "images"),
    ],
)
def test_images_are_found_where_other_tools_put_them(tmp_path, file, folder):
    source = COCO(write(tmp_path, file, folder), annotations=file)
    assert source.splits() == ("train",)
    assert [record.source for record in source.records("train")] == [
        f"{folder}/{number}.jpg" for number in range(4)
    ]


@pytest.mark.parametrize("prefix", ["train/", "./", "train\\", "./train/"])
def test_file_names_with_a_folder(tmp_path, prefix):
    source = COCO(roboflow(tmp_path, "train", prefix=prefix))
    assert all(record.path.is_file() for record in source.records("train"))


def test_a_folder_of_images_for_each_file(tmp_path):
    for split in ("a", "b"):
        write(tmp_path, f"{split}.json", f"pictures of {split}")
    files = "a.json,b.json"
    source = COCO(tmp_path, annotations=files, images="pictures of a,pictures of b")
    assert source.splits() == ("a", "b")
    assert [source.records(split)[0].source for split in source.splits()] == [
        "pictures of a/0.jpg",
        "pictures of b/0.jpg",
    ]
    with pytest.raises(DataError, match="--images names 3 folders and --annotations 2 files"):
        COCO(tmp_path, annotations=files, images="a,b,c")


def test_an_image_that_is_listed_but_missing_is_a_reject(tmp_path, monkeypatch, capsys):
    root = roboflow(tmp_path / "in", "train")
    (root / "train/0.jpg").unlink()
    args = ["--source", "coco", "--root", str(root), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, "1 of 4 images of train were rejected" in errors) == (2, True)
    assert "train/0.jpg" in (tmp_path / "out/train/rejected.jsonl").read_text()
    assert shard(monkeypatch, capsys, *args, "--max-rejects", "1")[0] == 0


def test_images_that_no_file_lists_are_named(tmp_path):
    root = roboflow(tmp_path, "train")
    for number in range(10, 15):
        (root / "train" / f"{number}.jpg").touch()
    (root / "train/._0.jpg").touch()
    says = (
        f"left out: 5 images of train not listed in train/{ROBOFLOW}: 10.jpg, 11.jpg, 12.jpg, ..."
    )
    source = COCO(root)
    source.records("train")
    assert says in source.describe()


def test_a_split_without_its_images_is_in_nobodys_way(tmp_path, monkeypatch, capsys):
    root = roboflow(tmp_path / "in", "train", "valid")
    for path in (root / "valid").glob("*.jpg"):
        path.unlink()
    args = ["--source", "coco", "--root", str(root), "--out", str(tmp_path / "out")]
    assert shard(monkeypatch, capsys, *args, "--splits", "train")[0] == 0
    status, _, errors = shard(monkeypatch, capsys, *args, "--splits", "val")
    assert (status, "image 0, 0.jpg, is in none of" in errors) == (2, True)


def test_annotations_of_images_or_categories_that_are_not_listed_are_counted(tmp_path):
    root = roboflow(tmp_path, "train")
    described = content()
    described["annotations"] += [{"id": n, "image_id": 90 + n, "category_id": 1} for n in range(4)]
    (root / "train" / ROBOFLOW).write_text(json.dumps(described))
    with pytest.raises(
        DataError, match=r"annotation 4 has image_id 90, which is not listed \(and so have 3 more\)"
    ):
        COCO(root)


def test_a_root_one_level_too_high(tmp_path):
    roboflow(tmp_path / "My-Fish-1", "train", "valid")
    (tmp_path / "__MACOSX/train").mkdir(parents=True)
    (tmp_path / "__MACOSX/train" / ROBOFLOW).touch()
    with pytest.raises(DataError) as caught:
        COCO(tmp_path)
    assert str(caught.value).endswith(
        f"holds My-Fish-1/train/{ROBOFLOW}; give --root {tmp_path / 'My-Fish-1'}"
    )


def test_two_files_of_one_split_are_named_with_their_folders(tmp_path):
    roboflow(tmp_path, "train", "Training")
    with pytest.raises(
        DataError, match=rf"Training/{ROBOFLOW}, train/{ROBOFLOW}: two of these are of one split"
    ):
        COCO(tmp_path)
