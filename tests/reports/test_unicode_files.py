"""Files whose names are in another Unicode form on disk than in the file that lists them."""

import json
import os
import unicodedata
from pathlib import Path

import pytest

from preprocess.reading.unicode_files import FilesByForm
from preprocess.record import Source
from preprocess.sources.coco import COCO
from preprocess.sources.csvtable import CSV
from preprocess.sources.hf import HF
from preprocess.sources.open_images import OpenImages
from preprocess.sources.planet import Planet
from preprocess.sources.voc import VOC
from preprocess.sources.yolo import YOLO
from shards.errors import DataError
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
both_ways = pytest.mark.parametrize(("written", "stored"), [(NFC, NFD), (NFD, NFC)])


@pytest.fixture(autouse=True)
def keeps_both_forms(tmp_path):
    for name in (NFC, NFD):
        (tmp_path / name).touch()
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this file system takes both forms for one name")
    for name in (NFC, NFD):
        (tmp_path / name).unlink()


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(photograph(32, 24, seed)))
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def table(root: Path, *names: str, images: str = "") -> CSV:
    text(root / "t.csv", "path,labels\n" + "".join(f"{name},cat\n" for name in names))
    return CSV(root, images=images)


def instances(root: Path, *names: str) -> COCO:
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    text(root / "annotations/instances_train.json", json.dumps(content))
    return COCO(root)


def the_record(source: Source, split: str, image: Path, name: str) -> None:
    """Check that the only record of a split reads the image and is named as it is written."""
    (record,) = source.records(split)
    assert record.read() == image.read_bytes()
    assert record.name == name
    assert NFC in record.source if NFC in name else NFD in record.source
    assert record.labels == (0,)


@both_ways
def test_csv(tmp_path, written, stored):
    image = photo(tmp_path / f"{stored}/{stored}.jpg")
    the_record(table(tmp_path, f"{written}/{written}.jpg"), "all", image, f"{written}/{written}")


@both_ways
def test_csv_in_a_folder_of_its_own(tmp_path, written, stored):
    image = photo(tmp_path / f"train/{stored}.jpg")
    text(tmp_path / "train/t.csv", f"path,labels\n{written}.jpg,cat\n")
    source = CSV(tmp_path, table="train/t.csv")
    the_record(source, "all", image, f"train/{written}")


@both_ways
def test_coco(tmp_path, written, stored):
    image = photo(tmp_path / f"train/{stored}.jpg")
    source = instances(tmp_path, f"{written}.jpg")
    the_record(source, "train", image, written)
    assert not any("left out" in line for line in source.describe())


@both_ways
@pytest.mark.parametrize("suffix", [".jpg", ".Jpg"])
def test_voc(tmp_path, written, stored, suffix):
    image = photo(tmp_path / f"JPEGImages/{stored}{suffix}")
    text(tmp_path / "ImageSets/Main/train.txt", f"{written}\n")
    text(
        tmp_path / f"Annotations/{stored}.xml",
        "<annotation><object><name>aeroplane</name></object></annotation>",
    )
    the_record(VOC(tmp_path), "train", image, written)


@both_ways
def test_yolo_list(tmp_path, written, stored):
    image = photo(tmp_path / f"images/{stored}/{stored}.jpg")
    text(tmp_path / f"labels/{stored}/{stored}.txt", "0 .5 .5 .1 .1\n")
    text(tmp_path / "data.yaml", "names: [cat]\ntrain: train.txt\n")
    text(tmp_path / "train.txt", f"images/{written}/{written}.jpg\n")
    name = f"images/{written}/{written}"
    the_record(YOLO(tmp_path), "train", image, name)


@both_ways
def test_yolo_label_file(tmp_path, written, stored):
    image = photo(tmp_path / f"images/train/{written}.jpg")
    text(tmp_path / f"labels/train/{stored}.txt", "0 .5 .5 .1 .1\n")
    text(tmp_path / "data.yaml", "names: [cat]\ntrain: images/train\n")
    the_record(YOLO(tmp_path), "train", image, f"images/train/{written}")


@both_ways
def test_open_images(tmp_path, written, stored):
    image = photo(tmp_path / f"train/{stored}.jpg")
    text(
        tmp_path / "train-annotations-human-imagelabels.csv",
        f"ImageID,Source,LabelName,Confidence\n{written},verification,/m/01,1\n",
    )
    source = OpenImages(tmp_path)
    the_record(source, "train", image, written)
    assert not any("left out" in line for line in source.describe())


@both_ways
def test_planet(tmp_path, written, stored):
    image = photo(tmp_path / f"train-jpg/{stored}.jpg")
    text(tmp_path / "train_v2.csv", f"image_name,tags\n{written},agriculture\n")
    source = Planet(tmp_path)
    (record,) = source.records("all")
    assert record.read() == image.read_bytes()
    assert (record.name, record.source) == (written, f"train-jpg/{written}.jpg")
    assert not any("left out" in line for line in source.describe())


@both_ways
def test_hf(tmp_path, written, stored):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    image = photo(tmp_path / f"{stored}.jpg")
    rows = pyarrow.table({"image": [f"{written}.jpg"], "label": ["cat"]})
    parquet.write_table(rows, tmp_path / "train.parquet")
    (record,) = HF(tmp_path, image_column="image").records("train")
    assert record.read() == image.read_bytes()


def test_an_exact_name_wins(tmp_path):
    images = [photo(tmp_path / f"{name}.jpg", seed) for seed, name in enumerate((NFC, NFD))]
    for source, split in (
        (table(tmp_path, f"{NFC}.jpg", f"{NFD}.jpg"), "all"),
        (instances(tmp_path, f"{NFC}.jpg", f"{NFD}.jpg"), "train"),
    ):
        records = source.records(split)
        assert [r.read() for r in records] == [image.read_bytes() for image in images]
        assert [r.name for r in records] == [NFC, NFD]


def test_one_file_for_two_names_is_refused(tmp_path):
    photo(tmp_path / f"{NFD}.jpg")
    for source, split in (
        (table(tmp_path, f"{NFC}.jpg", f"{NFD}.jpg"), "all"),
        (instances(tmp_path, f"{NFC}.jpg", f"{NFD}.jpg"), "train"),
    ):
        with pytest.raises(DataError, match=r"is one file with .*Unicode form") as refused:
            source.records(split)
        assert "\n" not in str(refused.value)


def test_several_files_of_one_name_are_refused(tmp_path):
    # ANGSTROM SIGN, A with ring, A and a ring above it
    sign, *there = "\u212b.jpg", "\xc5.jpg", "A\u030a.jpg"
    for name in there:
        photo(tmp_path / name)
    with pytest.raises(DataError, match=r"t.csv:2: .*u212b.*2 files.*u030a.*xc5") as refused:
        table(tmp_path, sign)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_missing(tmp_path):
    photo(tmp_path / f"{NFD}.jpg")
    records = table(tmp_path, f"{NFC}.jpg", "é.jpg").records("all")
    with pytest.raises(FileNotFoundError):
        records[1].read()


def test_no_folder_is_listed_while_all_names_match(tmp_path, monkeypatch):
    for name in (NFC, "a"):
        photo(tmp_path / f"{name}.jpg")
    files = FilesByForm()
    monkeypatch.setattr(os, "scandir", None)
    for name in (f"{NFC}.jpg", "a.jpg", "missing.jpg"):
        assert files.find(tmp_path, name, "t.csv:2") == tmp_path / name
    with pytest.raises(TypeError):
        files.find(tmp_path, f"{NFD}.jpg", "t.csv:2")


def test_shards_do_not_depend_on_the_form_on_disk(tmp_path, monkeypatch, capsys):
    packed = []
    for stored in (NFC, NFD):
        root = tmp_path / f"of_{len(packed)}"
        photo(root / f"{stored}.jpg")
        table(root, f"{NFC}.jpg")
        out = tmp_path / f"packed_{len(packed)}"
        arguments = ("--source", "csv", "--root", str(root), "--out", str(out))
        assert shard(monkeypatch, capsys, *arguments)[0] == 0
        (tar,) = (out / "all").glob("*.tar")
        packed.append(tar.read_bytes())
    assert packed[0] == packed[1]


@both_ways
def test_voc_class_list(tmp_path, written, stored):
    image = photo(tmp_path / f"JPEGImages/{stored}.jpg")
    text(tmp_path / "ImageSets/Main/train.txt", f"{written}\n")
    text(tmp_path / "ImageSets/Main/cat_train.txt", f"{stored} 1\n")
    the_record(VOC(tmp_path), "train", image, written)
