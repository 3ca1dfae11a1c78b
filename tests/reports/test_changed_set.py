"""Resuming on a set that is no longer the one the run began with; and on the same one elsewhere."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from preprocess.record import Record
from shards.errors import DataError
from shards.identity import _hash_keys, changes, identity
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.described import listed, write_listed
from tests.train.conftest import pack_here
from tests.train.here import command_here, train_here

pytestmark = pytest.mark.slow

NUM = 24
CLASSES = ("one", "two")


def records_of(split, seed=0):
    return [
        Record(
            f"{split}-{number:03d}",
            "x",
            "made here",
            (number % 2,),
            (),
            data=jpeg(photograph(40, 36, number + seed)),
        )
        for number in range(NUM)
    ]


def write(root, change=None, split="train", classes=CLASSES, **options):
    """Pack a set; `change` takes the records of one split and gives others."""
    for each in ("train", "val"):
        records = records_of(each)
        if change is not None and each == split:
            records = change(records)
        pack_here(root, records, each, classes, **options)
    return root


def replaced(records, number, **values):
    return [
        *records[:number],
        dataclasses.replace(records[number], **values),
        *records[number + 1 :],
    ]


def other_label(records):
    return replaced(records, 5, labels=(0, 1))


def ignored_label(records):
    return replaced(records, 5, ignored=(0,))


def other_image(records):
    return replaced(records, 5, data=jpeg(photograph(40, 36, 999)))


def other_order(records):
    return [*records[12:], *records[:12]]


def other_key(records):
    return replaced(records, 5, name="another")


def one_less(records):
    return records[:-1]


CHANGES = [
    (other_label, "labels"),
    (ignored_label, "labels"),
    (other_image, "images"),
    (other_order, "order of the samples"),
    (other_key, "keys of the samples"),
    (one_less, r"number of samples \(24, now 23\)"),
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A set and a run of two epochs on it that could go on."""
    root = tmp_path_factory.mktemp("begun")
    write(root / "data")
    train_here(root / "data", root / "run", epochs=2, global_batch_size=12)
    return root


def resume(begun, data, tmp_path):
    shutil.copytree(begun / "run", tmp_path / "run")
    train_here(data, tmp_path / "run", epochs=2, global_batch_size=12, resume=True)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("change", "says"), CHANGES, ids=lambda value: getattr(value, "__name__", "")
)
def test_other_data_are_refused_by_what_is_other(change, says, split, begun, tmp_path):
    data = write(tmp_path / "data", change, split)
    with pytest.raises(
        DataError, match=rf"data is not what it was trained on; other: {says} of {split}\. Give"
    ):
        resume(begun, data, tmp_path)


def test_other_classes_are_refused(begun, tmp_path):
    with pytest.raises(DataError, match="was trained on other classes"):
        resume(begun, write(tmp_path / "data", classes=("one", "three")), tmp_path)


def test_a_set_that_was_moved_goes_on(begun, tmp_path):
    shutil.copytree(begun / "data", tmp_path / "moved")
    resume(begun, tmp_path / "moved", tmp_path)


def test_a_set_packed_again_alike_goes_on(begun, tmp_path, capsys):
    resume(begun, write(tmp_path / "data"), tmp_path)
    assert "shards" not in capsys.readouterr().out


def test_shards_of_another_size_go_on_and_are_said(begun, tmp_path, capsys):
    resume(begun, write(tmp_path / "data", shard_samples=7), tmp_path)
    assert (
        "data/train: its shards are not those of the run's start; labels and images agree"
        in capsys.readouterr().out
    )


def test_a_checkpoint_of_a_release_before_goes_on_and_is_said(begun, tmp_path, capsys):
    shutil.copytree(begun / "run", tmp_path / "old")
    path = tmp_path / "old" / "last" / "checkpoint.json"
    described = json.loads(path.read_text())
    del described["data"]
    path.write_text(json.dumps(described))
    train_here(begun / "data", tmp_path / "old", epochs=2, global_batch_size=12, resume=True)
    assert "did not keep what it was trained on" in capsys.readouterr().out


def test_other_statistics_are_refused(begun, tmp_path):
    data = write(tmp_path / "data")
    described = listed(data / "train")
    described["statistics"]["mean"][0] += 0.01
    write_listed(data / "train", described)
    before, now = (identity(DatasetIndex.open(root / "train")) for root in (begun / "data", data))
    assert changes(before, now) == ["statistics of the pixels"]


def test_a_damaged_description_is_one_line(begun, tmp_path):
    shutil.copytree(begun / "run", tmp_path / "run")
    path = tmp_path / "run" / "last" / "checkpoint.json"
    described = json.loads(path.read_text())
    described["data"] = {"train": 3}
    path.write_text(json.dumps(described))
    with pytest.raises(DataError, match="its description of the data cannot be read"):
        train_here(begun / "data", tmp_path / "run", epochs=2, global_batch_size=12, resume=True)


def test_keys_are_hashed_alike_in_any_width():
    names = ["a", "b", "abcdefgh", "abcdefghi", "hgfedcba", ""]
    narrow, wide = (_hash_keys(np.array(names, f"S{width}")) for width in (9, 40))
    assert narrow.tolist() == wide.tolist()
    assert len(set(narrow.tolist())) == len(names)


@pytest.mark.parametrize("name", ["config.yaml", "--config"])
def test_a_configuration_that_is_not_utf8_is_one_line(name, begun, tmp_path, capsys):
    args = [
        "train",
        "--data",
        str(begun / "data"),
        "--no-tensorboard",
        "--out",
        str(tmp_path / "run"),
    ]
    if name == "--config":
        (tmp_path / "latin.yaml").write_bytes("out: Stra\xdfe\n".encode("latin-1"))
        status, _, told = command_here(capsys, *args, "--config", str(tmp_path / "latin.yaml"))
        assert told.splitlines()[-1].startswith(f"error: {tmp_path}/latin.yaml: not UTF-8")
    else:
        shutil.copytree(begun / "run", tmp_path / "run")
        (tmp_path / "run" / "last" / "config.yaml").write_bytes(
            "out: Stra\xdfe\n".encode("latin-1")
        )
        status, _, told = command_here(capsys, *args, "--resume")
        assert (
            f"{tmp_path}/run/last/config.yaml: not the configuration of a run"
            in told.splitlines()[-1]
        )
    assert status == 2
    assert "Traceback" not in told


def test_the_folder_of_a_run_that_never_saved_may_hold_any_bytes(begun, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_bytes(b"out: Stra\xdfe\n")
    train_here(begun / "data", tmp_path / "run", resume=True)
    assert (tmp_path / "run.1" / "config.yaml").read_bytes() == b"out: Stra\xdfe\n"
