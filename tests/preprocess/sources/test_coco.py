"""Source coco: instances to labels, crowds to ignored ones, splits by file, and JSON from
strangers.
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

CATEGORIES = [
    {"id": 18, "name": "dog"},
    {"id": 1, "name": "person"},
    {"id": 90, "name": "toothbrush"},
]
SHOWN = {  # image -> (category, iscrowd)
    7: [(18, 0), (18, 1), (1, 1)],
    3: [(90, 0), (1, 0)],
    5: [],
    11: [(1, 1), (1, 1), (18, 0)],
}


def instances(shown: dict = SHOWN) -> dict:
    return {
        "info": {"description": "made for a test"},
        "images": [
            {"id": image, "file_name": f"{image:012d}.jpg", "height": 30, "width": 40}
            for image in shown
        ],
        "annotations": [
            {
                "id": n,
                "image_id": image,
                "category_id": category,
                "iscrowd": crowd,
                "segmentation": [[0.5] * 8],
            }
            for image, objects in shown.items()
            for n, (category, crowd) in enumerate(objects)
        ],
        "categories": list(CATEGORIES),
    }


def write(root: Path, name: str, content: object, folder: str | None = None) -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "annotations" / name).write_text(text)
    if folder is not None and isinstance(content, dict):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for image in content["images"]:
            (root / folder / image["file_name"]).write_bytes(jpeg(photograph(40, 30, image["id"])))
    return root


def test_packed_labels_equal_the_instances(tmp_path, monkeypatch, capsys):
    root = write(tmp_path / "coco", "instances_train2017.json", instances(), "train2017")
    write(root, "instances_val2017.json", instances({2: [(18, 0)]}), "val2017")
    write(root, "captions_val2017.json", "{}")
    args = [
        "--order",
        "source",
        "--source",
        "coco",
        "--root",
        str(root),
        "--out",
        str(tmp_path / "out"),
    ]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert (status, "training needs" in told) == (0, False), errors
    index = DatasetIndex.open(tmp_path / "out/train")
    assert (index.class_names, index.task) == (("person", "dog", "toothbrush"), "multilabel")
    assert index.keys().tolist() == ["000000000007", "000000000003", "000000000005", "000000000011"]
    assert [np.flatnonzero(row).tolist() for row in index.labels()] == [[1], [0, 2], [], [1]]
    assert [np.flatnonzero(~row).tolist() for row in index.known()] == [[0], [], [], [0]]
    assert DatasetIndex.open(tmp_path / "out/val").labels().tolist() == [[False, True, False]]


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images", "."])
def test_the_images_are_found_where_people_put_them(tmp_path, folder):
    root = write(tmp_path, "instances_val2017.json", instances(), folder)
    source = COCO(root)
    assert source.splits() == ("val",)
    assert all(record.path.is_file() for record in source.records("val"))


def test_files_of_other_names(tmp_path):
    root = write(tmp_path, "_annotations.coco.json", instances(), "photos")
    source = COCO(root, annotations="annotations/_annotations.coco.json", images="photos")
    assert source.splits() == ("all",)
    assert source.records("all")[0].source == "photos/000000000007.jpg"
    write(root, "other.json", instances())
    both = COCO(
        root,
        annotations="annotations/_annotations.coco.json,annotations/other.json",
        images="photos",
    )
    assert both.splits() == ("_annotations.coco", "other")


def changed(key: str, number: int, **values) -> dict:
    content = instances()
    content[key][number] = {**content[key][number], **values}
    return content


def lost() -> dict:
    content = instances()
    for item in content["images"]:
        item["file_name"] = f"lost-{item['file_name']}"
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is not JSON (Expecting value"),
        ("{", "is not JSON"),
        ("\xff", "is not JSON"),
        ("[" * 200_000, "is nested too deeply"),
        ('{"a":' * 200_000, "is nested too deeply"),
        ([1, 2], "holds a list, not images"),
        ({}, "has no list of categories"),
        ({**instances(), "categories": {"1": "dog"}}, "has no list of categories"),
        ({**instances(), "annotations": None}, "has no list of annotations"),
        ({**instances(), "images": [7]}, "has no list of images"),
        ({**instances(), "images": [], "annotations": []}, "0 images and 3 categories"),
        (
            {**instances(), "categories": [{"id": n, "name": str(n)} for n in range(100_001)]},
            "has 100,001 categories",
        ),
        (changed("categories", 1, id=18), "category 18 is named 'person'"),
        (changed("categories", 1, name="dog"), "category 18 is named 'dog', as category 1 is"),
        (changed("categories", 1, name=None), "category 1 is named None"),
        (changed("categories", 1, id=None), "category 1 has id None; give a whole number"),
        (changed("categories", 1, id=True), "has id True"),
        (changed("images", 2, id=[5]), "image 2 has id [5]; give a whole number"),
        (changed("images", 2, id=7), "image 7 has file_name '000000000005.jpg'"),
        (
            changed("images", 2, file_name="./000000000007.jpg"),
            "images 7 and 5 are both of file './000000000007.jpg'; put",
        ),
        (changed("images", 2, file_name=3), "image 5 has file_name 3"),
        (
            changed("images", 2, file_name="../../5.jpg"),
            "image 5: path '../../5.jpg' is no path inside",
        ),
        (
            changed("images", 0, file_name="/etc/passwd"),
            "image 7: path '/etc/passwd' is no path inside",
        ),
        (lost(), "image 7, lost-000000000007.jpg, is in none of"),
        (
            changed("annotations", 4, image_id=99),
            "annotation 4 has image_id 99, which is not listed",
        ),
        (
            changed("annotations", 4, category_id=2),
            "annotation 4 has category_id 2, which is not listed",
        ),
        (
            changed("annotations", 4, category_id=1.5),
            "annotation 4 has category_id 1.5; give a whole number",
        ),
        (changed("annotations", 4, iscrowd="no"), "annotation 4 has iscrowd 'no'; use 0 or 1"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_json_that_is_wrong_gets_one_line(tmp_path, content, says):
    root = write(tmp_path, "instances_train2017.json", instances(), "train2017")
    write(root, "instances_train2017.json", content)
    with pytest.raises(DataError) as caught:
        COCO(root).records("train")
    assert says in str(caught.value)
    assert "instances_train2017.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_together(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        COCO(tmp_path / "absent")
    with pytest.raises(
        DataError, match=r"holds no annotations/instances_\*\.json and no .*; give the folder"
    ):
        COCO(tmp_path)
    root = write(tmp_path, "mine.json", instances())
    with pytest.raises(
        DataError, match=r"it holds annotations/mine\.json: name them with --annotations"
    ):
        COCO(root)
    write(root, "instances_train2014.json", instances())
    write(root, "instances_train2017.json", instances())
    with pytest.raises(DataError, match="two of these are of one split"):
        COCO(root)
    (root / "annotations/instances_train2014.json").unlink()
    write(root, "instances_val2017.json", changed("categories", 2, name="brush"))
    with pytest.raises(
        DataError, match=r"category 90 \('brush'\) is not the same in train and val"
    ):
        COCO(root)
    with pytest.raises(DataError, match=r"--annotations: path '../x' is no path inside"):
        COCO(root, annotations="../x")
    with pytest.raises(DataError, match="split 'test' has no JSON file; there are: train"):
        COCO(root, annotations="annotations/instances_train2017.json").records("test")


def test_quoted_ids_are_numbers(tmp_path):
    content = instances()
    for item in content["annotations"]:
        item["image_id"] = str(item["image_id"])
    root = write(tmp_path, "instances_train2017.json", content, "train2017")
    assert [record.labels for record in COCO(root).records("train")] == [(1,), (0, 2), (), (1,)]
