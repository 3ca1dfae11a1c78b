"""ImageFolder: splits in every usual spelling, a root that is not the right one, and what systems
leave behind.
"""

from pathlib import Path

import pytest

from preprocess.reading.split_names import split_named, split_of
from preprocess.sources.imagefolder import ImageFolder
from preprocess.sources.webdataset import WebDataset
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard
from tests.preprocess.foreign import sample, write_shard


def write(root: Path, *files: str) -> Path:
    for number, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photograph(20, 20, number)) if name.endswith("jpg") else b"x")
    return root


def splits(root: Path, *folders: str) -> dict[str, tuple[str, ...]]:
    """Write two classes into each folder: the sources of the records by split."""
    write(root, *(f"{folder}/{name}/1.jpg" for folder in folders for name in ("cat", "dog")))
    source = ImageFolder(root)
    assert source.class_names == ("cat", "dog")
    return {
        split: tuple(record.source for record in source.records(split)) for split in source.splits()
    }


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("Training", "Testing"), ("train", "test")),
        (("TRAIN", "VALID", "TEST"), ("train", "val", "test")),
        (("Train", "Validation"), ("train", "val")),
        (("seg_train", "seg_test"), ("train", "test")),
        (("train_set", "val_set"), ("train", "val")),
        (("training_set", "test_set"), ("train", "test")),
        (("trainset", "testset"), ("train", "test")),
        (("train_images", "val_images"), ("train", "val")),
        (("TrainImages", "ValImages"), ("train", "val")),
        (("train", "dev", "test1"), ("train", "val", "test")),
        (("train", "eval"), ("train", "val")),
        (("train2017", "val2017"), ("train", "val")),
        (("01_train", "02_val"), ("train", "val")),
        (("asl_alphabet_train", "asl_alphabet_test"), ("train", "test")),
        (("flowers-train", "holdout test"), ("train", "test")),
        (("trainval", "test"), ("trainval", "test")),
        (("train_val", "test"), ("trainval", "test")),
        (("Training",), ("train",)),
    ],
    ids=str,
)
def test_splits_are_recognised_however_they_are_spelled(tmp_path, folders, expected):
    found = splits(tmp_path, *folders)
    assert tuple(found) == expected
    for folder, split in zip(folders, expected, strict=True):
        assert found[split] == (f"{folder}/cat/1.jpg", f"{folder}/dog/1.jpg")


def test_a_split_inside_a_folder_of_its_name(tmp_path):
    found = splits(tmp_path / "a", "seg_train/seg_train", "seg_test/seg_test")
    assert found["train"] == ("seg_train/seg_train/cat/1.jpg", "seg_train/seg_train/dog/1.jpg")
    assert tuple(splits(tmp_path / "b", "training_set/training_set", "test_set/test_set")) == (
        "train",
        "test",
    )
    assert tuple(splits(tmp_path / "c", "train/images", "val/images")) == ("train", "val")
    assert "split train: folder train/images" in ImageFolder(tmp_path / "c").describe()


@pytest.mark.parametrize("folder", ["test", "test1", "seg_pred/seg_pred", "unlabeled", "test/test"])
def test_images_without_labels_beside_the_splits_are_left_out_with_a_word(
    tmp_path, monkeypatch, capsys, folder
):
    write(tmp_path / "in", *(f"{folder}/{number}.jpg" for number in range(3)))
    assert tuple(splits(tmp_path / "in", "train", "val")) == ("train", "val")
    args = ["--source", "imagefolder", "--root", str(tmp_path / "in"), "--list"]
    status, told, _ = shard(monkeypatch, capsys, *args)
    assert (
        status,
        f"left out: {folder}, 3 images in no class folder, so without labels" in told,
    ) == (0, True)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            ("train/cat/1.jpg", "val/cat/1.jpg", "bird/1.jpg"),
            "bird is no split with class folders, but is in the same",
        ),
        (
            ("train/cat/1.jpg", "train2/cat/1.jpg"),
            "train and train2, both for split train; keep one",
        ),
        (("train/cat/1.jpg", "val/cat/1.jpg", "extra/cat/1.jpg"), "extra is no split"),
        (("train/cat/1.jpg", "val/1.jpg"), "val is no split with class folders"),
        (
            ("Training/a/1.jpg", "PublicTest/a/1.jpg", "PrivateTest/a/1.jpg"),
            "PrivateTest and PublicTest, both for split",
        ),
        (
            ("train/Cat/1.jpg", "val/cat/1.jpg"),
            "val/cat: train has no class 'cat'; it has 'Cat': rename one of them",
        ),
        (("train/1.jpg", "test/cat/1.jpg"), "train is no split with class folders"),
        (
            (
                "chest/train/a/1.jpg",
                "chest/val/a/1.jpg",
                "chest/chest/train/a/1.jpg",
                "chest/chest/val/a/1.jpg",
            ),
            "in holds no split, but {root}/chest does: train, val; give --root {root}/chest",
        ),
        (("in/train/a/1.jpg", "train/a/1.jpg"), "in/in has splits of its own"),
        (
            ("birds/train/a/1.jpg", "birds/test/a/1.jpg", "docs/page.txt"),
            "give --root {root}/birds",
        ),
        (
            ("x/train/a/1.jpg", "x/test/a/1.jpg", "y/train/a/1.jpg", "y/test/a/1.jpg"),
            "give --root {root}/x (or of y)",
        ),
        (
            ("data/birds/cat/1.jpg", "data/birds/dog/1.jpg"),
            "cat, dog; give --root {root}/data/birds",
        ),
        (("data/birds/Training/cat/1.jpg",), "give --root {root}/data/birds"),
        (("__MACOSX/birds/._a", "birds/cat/1.jpg", "birds/dog/1.jpg"), "give --root {root}/birds"),
        (
            ("cat/train/1.jpg", "cat/test/1.jpg", "dog/train/1.jpg"),
            "splits, inside the class folders; put",
        ),
        (("JPEGImages/1.jpg", "ImageSets/Main/train.txt"), "use --source voc"),
        (("train/1.jpg", "train/_annotations.coco.json"), "use --source coco --root {root}"),
        (("train/images/1.jpg", "train/labels/1.txt", "val/images/2.jpg"), "the layout of YOLO"),
        (("images/1.jpg", "labels/1.txt"), "the layout of YOLO; use --source yolo"),
        (("data/train-0.parquet",), "is a table of a Hugging Face dataset; use --source hf"),
    ],
)
def test_a_layout_that_would_make_classes_of_other_folders_gets_one_line(tmp_path, files, says):
    root = write(tmp_path / "in", *files)
    with pytest.raises(DataError) as caught:
        ImageFolder(root)
    assert says.format(root=root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_that_only_sound_like_splits_stay_classes(tmp_path):
    write(tmp_path, "train_station/platform/1.jpg", "test_tube/2.jpg", "airport/3.jpg")
    source = ImageFolder(tmp_path)
    assert source.class_names == ("airport", "test_tube", "train_station")
    source.records("all")
    assert (
        "class train_station has folders below it, such as platform, which belong to it"
        in source.describe()
    )


JUNK = (
    "__MACOSX/cat/._1.jpg",
    "cat/._1.jpg",
    "cat/.DS_Store",
    "cat/_DS_Store",
    "cat/Thumbs.db",
    "cat/THUMBS.DB",
    "cat/desktop.ini",
    "cat/Desktop.ini",
    "cat/.ipynb_checkpoints/1-checkpoint.jpg",
    ".ipynb_checkpoints/cat/1.jpg",
    "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "@eaDir/1.jpg",
    "$RECYCLE.BIN/1.jpg",
    "System Volume Information/x.dat",
)


def test_what_systems_leave_behind_is_neither_class_nor_image(tmp_path, monkeypatch, capsys):
    root = write(tmp_path / "in", "cat/1.jpg", "dog/2.jpg", *JUNK)
    args = ["--source", "imagefolder", "--root", str(root), "--out", str(tmp_path / "out")]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert (status, "left out" in told) == (0, False), errors
    index = DatasetIndex.open(tmp_path / "out/all")
    assert index.class_names == ("cat", "dog")
    assert index.keys().tolist() == ["cat%2F1", "dog%2F2"]
    beside = [name for name in JUNK if not name.startswith("cat/")]
    inside = [f"train/{name}" for name in JUNK]
    assert tuple(splits(write(tmp_path / "more", *beside, *inside), "train", "val")) == (
        "train",
        "val",
    )


def test_a_hidden_photograph_is_left_out_with_a_word(tmp_path):
    source = ImageFolder(write(tmp_path, "cat/1.jpg", "cat/.2.jpg", "dog/3.jpg"))
    assert len(source.records("all")) == 2
    assert "left out, since their names start with a dot: cat/.2.jpg" in source.describe()


@pytest.mark.parametrize(
    ("name", "whole", "inside"),
    [
        ("train", "train", "train"),
        ("Training", "train", "train"),
        ("PublicTest", None, "test"),
        ("valImages2", "val", "val"),
        ("instances_train2017", None, "train"),
        ("imagenet-val-0007", None, "val"),
        ("train_station", None, "train"),
        ("trainer", None, None),
        ("devil", None, None),
        ("contest", None, None),
        ("evaluation", "val", "val"),
        ("train_test", None, "test"),
        ("training_validation", "trainval", "trainval"),
        ("images", None, None),
        ("", None, None),
    ],
)
def test_which_split_a_name_tells(name, whole, inside):
    assert (split_named(name), split_of(name)) == (whole, inside)


def test_folders_of_shards_and_columns_of_splits_are_spelled_the_same_way(
    tmp_path, monkeypatch, capsys
):
    for folder in ("Training", "Validation"):
        write_shard(tmp_path / "tars" / folder / "0.tar", [sample(0)])
    (tmp_path / "tars/Training/._0.tar").write_bytes(b"x")
    assert WebDataset(tmp_path / "tars").splits() == ("train", "val")
    root = write(tmp_path / "in", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "._labels.csv")
    (root / "labels.csv").write_text(
        "path,labels,split\n1.jpg,cat,Training\n2.jpg,dog,PublicTest\n3.jpg,cat,VAL\n4.jpg,cat,test1\n"
    )
    args = ["--source", "csv", "--root", str(root), "--out", str(tmp_path / "out")]
    assert shard(monkeypatch, capsys, *args)[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "PublicTest",
        "test1",
        "train",
        "val",
    ]
