"""Opening a dataset: what is wrong is met at the door, with the file and the remedy."""

import json
import pickle
import shutil

import numpy as np
import pytest

from shards.errors import FormatError
from shards.index import DatasetIndex, list_splits, open_split


@pytest.fixture
def copied(packed_1, tmp_path):
    """A split of version 1; tests/shards/disk/test_tables.py is about version 2."""
    root = tmp_path / "train"
    shutil.copytree(packed_1, root)
    return root


def change(root, **values) -> None:
    path = root / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refused(root, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        DatasetIndex.open(root)


def test_labels_and_known_are_the_records(index, records):
    assert index.num_samples == len(records)
    labels, known = index.labels(), index.known()
    assert labels.shape == known.shape == (70, 11)
    assert labels.dtype == known.dtype == bool
    for row, record in enumerate(records):
        assert tuple(np.flatnonzero(labels[row])) == record.labels
        assert tuple(np.flatnonzero(~known[row])) == record.ignored
    assert index.key(3) == "3%2E21"
    assert index.keys()[3] == "3%2E21"


def test_statistics_are_those_of_the_decoded_pixels(index):
    from shards.dataset import ShardDataset

    dataset = ShardDataset(index)
    pixels = np.concatenate([dataset[i][0].reshape(-1, 3) for i in range(len(dataset))]) / 255
    # exact sums of the packer's own decoding, which libjpeg's differs from by roundings
    np.testing.assert_allclose(index.statistics["mean"], pixels.mean(0), atol=1e-4)
    np.testing.assert_allclose(index.statistics["std"], pixels.std(0), rtol=0.03)  # repeats chroma
    assert index.statistics["positives"] == index.labels().sum(0).tolist()
    assert index.statistics["ignored"] == (~index.known()).sum(0).tolist()


def test_samples_are_mapped_not_read(index):
    assert isinstance(index.samples.base, np.memmap)


def test_pickled_as_a_path(index):
    data = pickle.dumps(index)
    assert len(data) < 1000
    assert pickle.loads(data).key(5) == index.key(5)


def test_unfinished(copied):
    (copied / "index.json").rename(copied / "packing.json")
    refused(copied, "packing was not finished; run the same preprocess.shard command again")


def test_nothing_there(tmp_path):
    refused(tmp_path, r"no index\.json here; pack it first")


def test_the_dataset_instead_of_a_split(packed):
    refused(packed.parent, "did you mean .*train")
    assert list_splits(packed.parent) == ["train"]
    with pytest.raises(FormatError, match="no split 'val' here; it has train"):
        open_split(packed.parent, "val")
    assert open_split(packed.parent, "train").num_samples == 70


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"version": 3}, "format version 3, this code reads 1 and 2"),
        ({"format": "zip"}, "not the index of a tarmac dataset"),
        ({"num_samples": 71}, "the index says 71 rows"),
        ({"class_names": ["a"] * 30}, "of 30 classes; pack this split again"),
        ({"shards": []}, "shards hold 0 samples"),
        (
            {"shards": [{"name": "../x.tar", "bytes": 1, "num_samples": 1, "sha256": ""}]},
            "leads out of the folder",
        ),
        (
            {"shards": [{"name": "x" * 300, "bytes": 1, "num_samples": 1, "sha256": ""}]},
            "cannot be looked at",
        ),
        ({"shards": [{"name": "x.tar"}]}, "no valid 'bytes' entry"),
        ({"image": {"members": ["exe"]}}, "not of a kind read here"),
        ({"image": {"members": [3]}}, "no valid .* entry"),
        ({"image": "RGB"}, "no valid .* entry"),
        (
            {"shards": [{"name": 7, "bytes": 1, "num_samples": 1, "sha256": ""}]},
            "no valid .* entry",
        ),
        ({"shards": ["train-000000.tar"]}, "no valid .* entry"),
    ],
)
def test_an_index_that_does_not_fit(copied, values, says):
    change(copied, **values)
    refused(copied, says)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_no_index_at_all(copied, content):
    (copied / "index.json").write_text(content)
    refused(copied, r"index\.json: not")


def test_a_shard_cut_short_or_gone(copied):
    shard = copied / "train-000003.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:-512])
    refused(copied, r"train-000003\.tar: has [\d,]+ bytes, the index says [\d,]+ bytes")
    shard.unlink()
    refused(copied, r"train-000003\.tar: is missing")


@pytest.mark.parametrize(
    "damage", [b"", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O'}", b"junk" * 100]
)
def test_damaged_rows(copied, damage):
    (copied / "samples.npy").write_bytes(damage)
    refused(copied, r"samples\.npy: cannot be read")


def test_pickled_rows_are_not_loaded(copied):
    np.save(copied / "samples.npy", np.array([{}], object), allow_pickle=True)
    refused(copied, r"samples\.npy: cannot be read")


def test_rows_of_another_dataset(copied):
    np.save(copied / "samples.npy", np.zeros(70, [("key", "S3")]))
    refused(copied, r"samples\.npy: \(70,\) rows of")


def test_a_split_in_the_place_of_a_dataset_is_named(index):
    with pytest.raises(FormatError, match="is one split; give the folder of the whole dataset"):
        open_split(index.root, "train")
