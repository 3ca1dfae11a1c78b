"""CIFAR-10 in both official layouts: the same shards, exact pixels, and one line for whatever is
wrong.
"""

import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from preprocess.shard import main
from preprocess.sources.cifar10 import BATCHES, OFFICIAL_CLASSES, Cifar10
from shards.dataset import ShardDataset
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.loader import Loader, View
from tests.preprocess.commands import shard
from train.network.model import Classifier

ALL = [batch for batches in BATCHES.values() for batch in batches]
NUM = 30


def images_of(batch: str) -> tuple[np.ndarray, list[int]]:
    """Images uint8 [NUM, 3072] in planes, and labels."""
    rng = np.random.default_rng(ALL.index(batch))
    smooth = np.repeat(rng.integers(30, 220, (NUM, 3, 32, 8)), 4, axis=3) + rng.integers(
        0, 30, (NUM, 3, 32, 32)
    )
    return smooth.astype(np.uint8).reshape(NUM, 3072), (np.arange(NUM) * 7 % 10).tolist()


def write_pickled(root: Path) -> Path:
    root.mkdir()
    for batch in ALL:
        images, labels = images_of(batch)
        names = [b"%d.png" % number for number in range(NUM)]
        content = {
            b"batch_label": batch.encode(),
            b"labels": labels,
            b"data": images,
            b"filenames": names,
        }
        (root / batch).write_bytes(pickle.dumps(content, 2))
    meta = {b"num_vis": 3072, b"label_names": [name.encode() for name in OFFICIAL_CLASSES]}
    (root / "batches.meta").write_bytes(pickle.dumps(meta, 2))
    return root


def write_binary(root: Path) -> Path:
    root.mkdir()
    for batch in ALL:
        images, labels = images_of(batch)
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], images], axis=1)
        (root / f"{batch}.bin").write_bytes(rows.tobytes())
    (root / "batches.meta.txt").write_text("\n".join(OFFICIAL_CLASSES) + "\n\n")
    return root


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> dict[str, Path]:
    """Both layouts, packed by the command line, a tenth of train as val."""
    root = tmp_path_factory.mktemp("cifar10")
    for name, write in (("py", write_pickled), ("bin", write_binary)):
        source = write(root / f"cifar-10-batches-{name}")
        with pytest.MonkeyPatch.context() as patch:
            given = [
                "--source",
                "cifar10",
                "--root",
                str(source),
                "--out",
                str(root / name),
                "--workers",
                "1",
            ]
            patch.setattr("sys.argv", ["preprocess.shard", *given, "--val-fraction", "0.1"])
            main()
    return {name: root / name for name in ("py", "bin")}


def test_both_layouts_give_the_same_bytes(packed):
    for split in ("train", "val", "test"):
        names = sorted(path.name for path in (packed["py"] / split).iterdir())
        assert names == sorted(path.name for path in (packed["bin"] / split).iterdir())
        for name in set(names) - {"index.json"}:  # which tells the command, and so the root
            assert (packed["py"] / split / name).read_bytes() == (
                packed["bin"] / split / name
            ).read_bytes(), name


def test_every_pixel_and_label_arrives(packed):
    found = {}
    for split in ("train", "val", "test"):
        dataset = ShardDataset(packed["py"] / split)
        assert dataset.index.task == "multiclass"
        assert dataset.index.class_names == OFFICIAL_CLASSES
        assert dataset.index.members == ("png",)
        found |= {
            key: (image, labels.argmax(), labels.sum())
            for image, labels, _, key in map(dataset.__getitem__, range(len(dataset)))
        }
        assert len(dataset) == {"train": 135, "val": 15, "test": 30}[split]
    for batch in ALL:
        images, labels = images_of(batch)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            pixels, where, total = found.pop(f"{batch}-{number:05d}")
            np.testing.assert_array_equal(pixels, image.reshape(3, 32, 32).transpose(1, 2, 0))
            assert (where, total) == (label, 1)
    assert not found


def normalised(index: DatasetIndex) -> torch.Tensor:
    """What a network gets: the loader's images behind the normalisation of a model, float32 [N, 3,
    32, 32].
    """
    statistics = index.statistics
    model = Classifier(nn.Identity(), tuple(statistics["mean"]), tuple(statistics["std"]))
    loader = Loader(index, 64, view=View(32, False, augment="pad"))
    return torch.cat([model(batch.images)[batch.valid] for batch in loader]).double()


def check_normalised(index: DatasetIndex) -> None:
    pixels = normalised(index)
    assert len(pixels) == index.num_samples
    torch.testing.assert_close(
        pixels.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        pixels.std((0, 2, 3), correction=0), torch.ones(3).double(), rtol=0, atol=1e-4
    )


def test_normalised_data_has_mean_0_and_std_1(packed):
    check_normalised(DatasetIndex.open(packed["py"] / "train"))


def test_the_real_batches(cifar10_root, tmp_path, monkeypatch, capsys):
    """Packed by the command; the labels and the first and last pixels are those that numpy reads."""
    where = ("--source", "cifar10", "--root", str(cifar10_root), "--out", str(tmp_path))
    status, _, told = shard(monkeypatch, capsys, *where, "--val-fraction", "0.1")
    assert status == 0, told
    train, val, test = (DatasetIndex.open(tmp_path / split) for split in ("train", "val", "test"))
    source = Cifar10(cifar10_root)
    assert train.num_samples + val.num_samples == len(source.records("train"))
    assert test.num_samples == len(source.records("test"))
    with (cifar10_root / "test_batch").open("rb") as file:
        content = pickle.load(file, encoding="bytes")  # ours to trust
    numbers = [int(key.rsplit("-", 1)[1]) for key in test.keys().tolist()]
    assert sorted(numbers) == list(range(len(content[b"labels"])))
    assert test.labels().argmax(1).tolist() == [content[b"labels"][number] for number in numbers]
    dataset = ShardDataset(test)
    for row in (0, 1, test.num_samples - 1):
        image = content[b"data"][numbers[row]].reshape(3, 32, 32).transpose(1, 2, 0)
        np.testing.assert_array_equal(dataset[row][0], image)
    check_normalised(train)
    make = partial(Loader, train, 256, view=View(32, augment="pad", cutout=8))
    there, kept, plain = make(cache="device", device="cpu"), make(cache="ram"), make()
    ids = []
    for batch, *others in zip(plain, kept, there, strict=True):
        assert all(torch.equal(batch.images, other.images) for other in others)
        ids += batch.ids[batch.valid].tolist()
    assert sorted(ids) == list(range(train.num_samples))


# what is wrong


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--encoding", "jpg"), "--encoding jpg: this source's images become png; leave it out"),
        (
            ("--quality", "50"),
            "--quality 50 is of JPEGs, and these images become png; leave it out",
        ),
        (("--encoding", "png", "--quality", "50"), "--quality 50 is of JPEGs"),
    ],
)
def test_flags_that_would_do_nothing(more, says, tmp_path, monkeypatch, capsys):
    root = write_pickled(tmp_path / "root")
    args = ["--source", "cifar10", "--root", str(root), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args, *more)
    assert (status, errors.count("\n"), (tmp_path / "out").exists()) == (2, 1, False), errors
    assert says in errors
    assert shard(monkeypatch, capsys, *args, "--encoding", "png")[0] == 0


def test_no_such_layout(tmp_path):
    write_pickled(tmp_path / "cifar-10-batches-py")
    with pytest.raises(
        DataError,
        match=r"holds no batches but cifar-10-batches-py; use .*cifar-10-batches-py as the root",
    ):
        Cifar10(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds neither data_batch_1 nor data_batch_1\.bin"):
        Cifar10(tmp_path / "empty")
    with pytest.raises(DataError, match="is not a folder; give the folder cifar-10-batches-py"):
        Cifar10(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match="split 'val' is none of CIFAR-10's; there are: train, test"
    ):
        Cifar10(tmp_path / "cifar-10-batches-py").records("val")


@pytest.mark.parametrize(("write", "suffix"), [(write_pickled, ""), (write_binary, ".bin")])
def test_a_missing_batch(write, suffix, tmp_path):
    root = write(tmp_path / "root")
    (root / f"data_batch_3{suffix}").unlink()
    with pytest.raises(DataError, match=rf"data_batch_3{suffix} is missing; unpack the archive"):
        Cifar10(root)


def test_damaged_binary_batches(tmp_path):
    root = write_binary(tmp_path / "root")
    path = root / "data_batch_2.bin"
    whole = path.read_bytes()
    for content, says in (
        (whole[:-1], r"92,189 bytes are not a multiple of 3,073"),
        (b"", "0 bytes are not"),
        (whole[:3073] + b"\x0a" + whole[3074:], "image 1 has label 10, CIFAR-10's are 0 to 9"),
        (bytes(65 << 20), "more than 67,108,864 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"data_batch_2\.bin.*{says}"):
            Cifar10(root).records("train")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_damaged_and_hostile_pickled_batches(tmp_path, monkeypatch, capsys):
    root, victim = write_pickled(tmp_path / "root"), tmp_path / "victim"
    path = root / "test_batch"
    images, labels = images_of("test_batch")
    for content, says in (
        ({b"labels": labels}, "has no data"),
        ({b"data": images}, "has no labels"),
        ({b"data": images, b"labels": labels[:-1]}, "30 images but 29 labels"),
        ({b"data": images[:, :-3], b"labels": labels}, r"data is 30 x 3069, not N x 3,072"),
        ({b"data": images[:0], b"labels": []}, "not a pickle as CIFAR-10 has them"),
        ({b"data": images.reshape(-1), b"labels": labels}, "data is 92160, not N x"),
        (
            {b"data": images, b"labels": [*labels[:-1], 10]},
            "image 29 has label 10, CIFAR-10's are 0 to 9",
        ),
        ({b"data": images, b"labels": [*labels[:-1], -1]}, "image 29 has label -1"),
        ({b"data": images, b"labels": [*labels[:-1], "3"]}, "labels are not all whole numbers"),
        (
            {b"data": images.astype(np.float32), b"labels": labels},
            "not a pickle as CIFAR-10 has them",
        ),
        ({b"data": images, b"labels": labels, b"more": Evil(victim)}, r"names \w+\.mkdir"),
        ([1, 2], "has no data"),
    ):
        path.write_bytes(pickle.dumps(content, 2))
        with pytest.raises(DataError, match=rf"test_batch: .*{says}"):
            Cifar10(root).records("test")
    path.write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="test_batch: not a pickle as CIFAR-10 has them"):
        Cifar10(root).records("test")
    status, _, told = shard(
        monkeypatch,
        capsys,
        "--source",
        "cifar10",
        "--root",
        str(root),
        "--out",
        str(tmp_path / "o"),
    )
    assert status == 2
    assert told.splitlines()[-1].startswith(f"error: {path}: not a pickle")
    assert not victim.exists()


@pytest.mark.parametrize("names", [[b"a"] * 10, [b"a", b"b"], [*range(10)], [""] * 10])
def test_odd_class_names(names, tmp_path):
    root = write_pickled(tmp_path / "root")
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, 2))
    with pytest.raises(
        DataError, match=r"batches\.meta: (lists a class twice|does not list 10 class names)"
    ):
        Cifar10(root)


def test_without_names_the_official_ones_count(tmp_path):
    root = write_binary(tmp_path / "root")
    shutil.move(root / "batches.meta.txt", tmp_path)
    assert Cifar10(root).class_names == OFFICIAL_CLASSES
