"""A packed dataset where a folder of pictures is wanted."""

import shutil

import pytest

from eval.prediction.pictures import find_pictures
from preprocess.sources.imagefolder import ImageFolder
from shards.errors import DataError
from tests.conftest import jpeg, photograph


@pytest.fixture
def dataset(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "set/train")
    (tmp_path / "set/train/damaged").mkdir()  # as verify --repair leaves it
    return tmp_path / "set"


def test_it_is_no_source_of_class_folders(dataset):
    with pytest.raises(DataError, match="is a packed dataset with the splits train, no folder of"):
        ImageFolder(dataset)


def test_photographs_packed_beside_themselves_are_a_source(dataset):
    for name in ("train/cat/1.jpg", "train/dog/2.jpg"):
        (dataset / name).parent.mkdir()
        (dataset / name).write_bytes(jpeg(photograph(20, 20, 1)))
    shutil.rmtree(dataset / "train/damaged")
    assert ImageFolder(dataset).class_names == ("cat", "dog")


def test_it_holds_no_pictures_to_predict(dataset):
    with pytest.raises(DataError, match=r"is a packed dataset, .*; evaluate it with: .* --data "):
        find_pictures([str(dataset)])
