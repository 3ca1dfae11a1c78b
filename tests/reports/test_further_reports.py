"""Silent faults that users of other tools reported, tried here; the log names each report."""

import io
import itertools
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from eval.metrics import average_precision
from preprocess.images.image import decode_image
from shards.dataset import ShardDataset
from shards.index import DatasetIndex
from shards.loader import Loader
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard
from tests.train.conftest import shades as shades
from tests.train.here import train_here
from train.run import checkpoint

RED = (255, 0, 0)
BLUE = (0, 0, 255)


@pytest.fixture
def pack(monkeypatch, capsys):
    """Pack as a user does: (exit status, what was told on stdout and stderr)."""

    def command(*args: object) -> tuple[int, str]:
        status, told, errors = shard(monkeypatch, capsys, *map(str, args))
        return status, told + errors

    return command


@pytest.fixture
def table(tmp_path) -> Path:
    """Four photographs and a table of their labels."""
    for number in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}.jpg").write_bytes(jpeg(photograph(24, 20, number)))
    path = tmp_path / "in" / "labels.csv"
    path.write_text("path,labels\n0.jpg,cat\n1.jpg,dog\n2.jpg,cat|dog\n3.jpg,cat\n")
    return path


def test_labels_that_were_corrected_after_packing(pack, table):
    """A cache of labels that was not made new when the labels changed."""
    args = ["--source", "csv", "--root", table.parent, "--out", table.parents[1] / "out"]
    assert pack(*args)[0] == 0
    assert pack(*args)[0] == 0
    table.write_text(table.read_text().replace("0.jpg,cat", "0.jpg,dog"))
    status, told = pack(*args)
    assert status == 2
    assert "holds another dataset, or this one with other options" in told


def test_a_photograph_that_was_replaced_after_packing(pack, table):
    """Thumbnails and caches that kept the old image, though the time of the file is the old one
    too.
    """
    args = [
        "--order",
        "source",
        "--source",
        "csv",
        "--root",
        table.parent,
        "--out",
        table.parents[1] / "out",
    ]
    photo = table.parent / "0.jpg"
    assert pack(*args)[0] == 0
    before = photo.stat()
    photo.write_bytes(jpeg(Image.new("RGB", (24, 20), RED)))
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert pack(*args)[0] == 0
    pixels = ShardDataset(table.parents[1] / "out" / "all")[0][0]
    assert abs(pixels.mean((0, 1)) - RED).max() < 3


def test_a_photograph_was_replaced_by_one_of_the_same_size(pack, table):
    """All BMPs of 24 x 20 pixels have as many bytes: names, labels and sizes are what they were."""
    args = [
        "--order",
        "source",
        "--source",
        "csv",
        "--root",
        table.parent,
        "--out",
        table.parents[1] / "out",
    ]
    photo = table.parent / "0.jpg"  # the content says what it is
    photo.write_bytes(saved(Image.new("RGB", (24, 20), BLUE), "BMP"))
    assert pack(*args)[0] == 0
    assert "0 written, 1 verified and kept" in pack(*args)[1]
    made = (table.parents[1] / "out" / "all" / "all-000000.tar").stat().st_mtime_ns
    photo.write_bytes(saved(Image.new("RGB", (24, 20), RED), "BMP"))
    os.utime(photo, ns=(made + 10**9, made + 10**9))
    assert "1 written, 0 verified and kept" in pack(*args)[1]
    pixels = ShardDataset(table.parents[1] / "out" / "all")[0][0]
    assert abs(pixels.mean((0, 1)) - RED).max() < 3


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("path,labels,labels\n0.jpg,cat,dog\n1.jpg,dog,cat\n", "more than one column 'labels'"),
        ("path,cat,dog,cat\n0.jpg,1,0,0\n1.jpg,0,1,1\n", "'cat' twice"),
        (
            "path,labels\n0.jpg,cat,dog\n1.jpg,dog\n",
            "labels.csv:2: 3 values for 2 columns",
        ),
    ],
)
def test_a_column_that_is_there_twice(pack, table, text, what):
    """csv.DictReader keeps the last column of a name, and drops what has none."""
    table.write_text(text)
    status, told = pack(
        "--source", "csv", "--root", table.parent, "--out", table.parents[1] / "out"
    )
    assert status == 2
    assert what in told


def tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_dots_in_the_names_of_a_tar(pack, tmp_path):
    """`v1.0.a.jpg` and `v1.0.b.jpg` have one key, v1, by WebDataset's rule; a folder `v1.0` has no
    part in it.
    """
    images = [jpeg(photograph(24, 20, number)) for number in range(2)]
    folders = {
        "v1.0/a.jpg": images[0],
        "v1.0/a.cls": b"0",
        "v1.0/b.jpg": images[1],
        "v1.0/b.cls": b"1",
    }
    tar(tmp_path / "folders" / "0.tar", folders)
    assert (
        pack("--source", "webdataset", "--root", tmp_path / "folders", "--out", tmp_path / "out")[0]
        == 0
    )
    assert DatasetIndex.open(tmp_path / "out" / "all").labels().tolist() == [
        [True, False],
        [False, True],
    ]
    tar(
        tmp_path / "names" / "0.tar",
        {name.replace("/", "."): data for name, data in folders.items()},
    )
    status, told = pack(
        "--source", "webdataset", "--root", tmp_path / "names", "--out", tmp_path / "none"
    )
    assert status == 2
    assert "sample v1 has no .jpg, .jpeg, .png; it has .0.a.jpg" in told


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first(kind):
    frames = [Image.new("RGB", (20, 12), colour) for colour in (RED, BLUE)]
    data = saved(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if kind == "WEBP" else {}),
    )
    assert (decode_image(data) == RED).all()


def test_inverted_inks():
    """Adobe stores the inks of CMYK inverted; read as they are, red is cyan."""
    assert (
        abs(
            decode_image(saved(Image.new("CMYK", (32, 24), (0, 255, 255, 0)), "JPEG"))
            - np.array(RED)
        ).max()
        < 3
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode):
    image = Image.new(mode, (20, 12), {"RGBA": (0, 0, 0, 0), "LA": (0, 0), "P": 0}[mode])
    data = saved(image, "PNG", **({"transparency": 0} if mode == "P" else {}))
    assert (decode_image(data) == 255).all()


@pytest.mark.parametrize("size", [(1, 3000), (3000, 2), (1, 1)])
@pytest.mark.parametrize("short_side", [0, 32])
def test_slivers(pack, tmp_path, size, short_side):
    """A short side of 32 makes no side 0, and evaluation sees a square of what is there."""
    (tmp_path / "in" / "cat").mkdir(parents=True)
    Image.new("RGB", size, RED).save(tmp_path / "in" / "cat" / "a.JFIF", "JPEG")
    Image.new("RGB", (40, 30), RED).save(tmp_path / "in" / "cat" / "b.jpe", "JPEG")
    limit = ["--short-side", short_side] if short_side else []
    args = [
        "--source",
        "imagefolder",
        "--root",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        "--accept-class-names",
    ]
    status, told = pack(*args, *limit)
    assert status == 0, told
    batch = next(iter(Loader(DatasetIndex.open(tmp_path / "out" / "all"), 2, 16, train=False)))
    assert bool(batch.valid.all())
    red = torch.tensor(RED).view(1, 3, 1, 1)
    assert int((batch.images.int() - red).abs().max()) < 4


def test_ties_do_not_depend_on_the_order_of_samples():
    labels = torch.tensor([1, 0, 1, 0, 0, 1])[:, None]
    scores = torch.tensor([0.5, 0.5, 0.5, 0.9, 0.1, 0.1])[:, None]
    expected = average_precision_score(labels[:, 0].numpy(), scores[:, 0].numpy())
    for order in torch.stack(
        [torch.arange(6), torch.arange(5, -1, -1), torch.tensor([3, 1, 4, 0, 5, 2])]
    ):
        assert float(average_precision(scores[order], labels[order])) == pytest.approx(
            expected, abs=1e-12
        )


def test_large_logits_are_ranked_as_they_are():
    """Where a library takes them for logits and applies a sigmoid first, all of them are 1."""
    scores = torch.tensor([98.1, 98.5, 97.6, 99.3])[:, None]
    labels = torch.tensor([0, 1, 0, 1])[:, None]
    assert float(average_precision(scores, labels)) == 1.0


def test_epochs_differ_though_nobody_sets_them(index):
    """torch's DistributedSampler repeats the first epoch's order for a user who forgets set_epoch."""
    loader = Loader(index, 16, 32)
    first, second = ([batch.ids.tolist() for batch in loader] for _ in range(2))
    assert first != second
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second))


def test_a_state_taken_at_the_end_of_an_epoch_begins_the_next(index):
    """Others resumed to an empty epoch, or to the same one again."""
    loader, other = Loader(index, 16, 32), Loader(index, 16, 32)
    for _batch in loader:
        at_last_batch = loader.state_dict()
    after = loader.state_dict()
    expected = [batch.ids.tolist() for batch in loader]
    for state in (at_last_batch, after):
        other.load_state_dict(state)
        assert [batch.ids.tolist() for batch in other] == expected


def test_a_second_resumption_in_one_epoch(index):
    whole = [batch.ids.tolist() for batch in Loader(index, 16, 32)]
    state, seen = None, []
    for num in (1, 2, 2):
        loader = Loader(index, 16, 32)
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        seen += [next(batches).ids.tolist() for _ in range(num)]
        state = loader.state_dict()
    assert seen == whole


def test_averaged_weights_have_averaged_statistics(shades, tmp_path):
    """Where only parameters are averaged, batch norm keeps the mean 0 and the variance 1 that it
    began with.
    """
    train_here(shades, tmp_path / "run", model="test_resnet", ema_decay=0.9)
    last = checkpoint.read(tmp_path / "run" / "last")
    own, averaged = last.weights(), last.weights(averaged=True)
    means = [name for name in own if name.endswith("running_mean")]
    assert means
    for name in means:
        assert float(averaged[name].abs().max()) > 0
        difference = float((averaged[name] - own[name]).norm() / own[name].norm())
        assert 0 < difference < 1
