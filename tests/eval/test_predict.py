"""`python -m eval.predict`: pictures from anywhere score as in a shard; what cannot be read is
told, not fatal.
"""

import contextlib
import csv
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.object_server import ObjectServer
from eval.config import EvalConfig
from eval.predict import PredictConfig
from eval.predict_pictures import choose, decoder
from eval.prediction.pictures import PictureBatches, find_pictures
from eval.prediction.tta import Look
from preprocess.images.image import decode_image
from preprocess.images.outcome import BadImage, DamagedImage
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.loader import Loader, View
from shards.remote import patience
from tests.conftest import jpeg, pack, photograph, write_photographs
from tests.eval.prediction.test_prediction import make_run
from tests.remote.faulty_server import HASTY, FaultyServer
from train.run import checkpoint

NUM = 40


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """JPEGs of odd sizes, every subsampling, some progressive or grey, in a folder and packed at
    their size.
    """
    root = tmp_path_factory.mktemp("predict")
    records = write_photographs(root / "photographs", NUM)
    for number in range(0, NUM, 5):
        image = photograph(150 + number, 90, number)
        records[number].path.write_bytes(
            jpeg(image.convert("L") if number % 2 else image, progressive=True, quality=70)
        )
    pack(records, root / "data" / "val")
    return root, [str(record.path) for record in records]


@pytest.fixture(scope="module")
def ckpt(photographs):
    root, _ = photographs
    return make_run(root / "run", root / "data", model="test_resnet")


@pytest.mark.parametrize("look", [Look(32), Look(57), Look(32, True), Look(40, crop_share=1.0)])
def test_a_picture_is_seen_to_the_bit_as_in_a_shard(photographs, ckpt, look):
    root, paths = photographs
    decode, num_channels = decoder([checkpoint.read(ckpt)])
    same_views(
        PictureBatches([*map(Path, paths)], 11, 16, 2, decode, num_channels),
        DatasetIndex.open(root / "data/val"),
        look,
    )


def same_views(pictures, index, look, bands="all"):
    """Compare the batches of pictures and of the index that was packed of them."""
    view = View(
        look.size, False, crop_share=look.crop_share, five_crops=look.five_crops, bands=bands
    )
    loader = Loader(index, pictures.local_batch_size, view=view)
    assert len(pictures) == len(loader)
    seen = list(pictures.batches(look))
    for ours, theirs in zip(seen, loader, strict=True):
        num = int(theirs.valid.sum())
        crops = [
            batch.images.reshape(-1, len(batch.valid), *batch.images.shape[1:])
            for batch in (ours, theirs)
        ]
        assert torch.equal(crops[0], crops[1][:, :num])
        assert torch.equal(ours.ids, theirs.ids[:num])
        assert ours.images.is_contiguous(memory_format=torch.channels_last)
    assert pictures.unreadable == {}


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "tencrop", "multiscale", "dihedral"])
def test_scores_are_those_of_eval_on_the_packed_pictures(
    photographs, ckpt, predict, call_eval, tmp_path, tta
):
    _, paths = photographs
    status, out, err = predict(
        "--ckpt", ckpt, "--csv", tmp_path / "s.csv", "--tta", tta, "--local-batch-size", 16, *paths
    )
    assert (status, err) == (0, "")
    assert [line.partition(": ")[0] for line in out.splitlines()] == paths
    with open(tmp_path / "s.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["path", *DatasetIndex.open(ckpt.parents[1] / "data" / "val").class_names]
    assert [row[0] for row in rows] == paths
    expected = call_eval("--ckpt", ckpt, "--tta", tta, "--local-batch-size", 16, "--out", tmp_path)
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float), expected, atol=1e-6)
    assert expected.std() > 0.1


def png_header(width, height):
    """A PNG that claims a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    return header + struct.pack(">I", 100) + b"IDAT"


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted(
    ckpt, predict, tmp_path, monkeypatch
):
    monkeypatch.setattr("eval.prediction.pictures.MAX_FILE_BYTES", 50_000)
    whole = jpeg(photograph(80, 60))
    files = {
        "a good.jpg": whole,
        "bomb.png": png_header(60_000, 60_000),
        "cut.jpg": whole[: len(whole) // 2],
        "empty.png": b"",
        "huge.jpg": whole + bytes(50_000),
        "text\x1b[2J.jpg": b"GIF89a, they said",
        "z.jpg": whole,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    status, out, err = predict(
        "--ckpt", ckpt, "--local-batch-size", 3, tmp_path, "--csv", tmp_path / "s" / "s.csv"
    )
    assert status == 2
    assert [line.partition(": ")[0] for line in out.splitlines()] == [
        f"{tmp_path}/a good.jpg",
        f"{tmp_path}/z.jpg",
    ]
    assert len({line.partition(": ")[2] for line in out.splitlines()}) == 1
    *named, last = err.splitlines()
    assert last == "error: 7 of 9 pictures cannot be read, as named above"
    reasons = {
        line.partition(": ")[0].removeprefix(f"{tmp_path}/"): line.partition(": ")[2]
        for line in named
    }
    says = {
        "bomb.png": "more than 100,000,000 pixels by its header",
        "cut.jpg": "truncated",
        "empty.png": "empty file",
        "gone.jpg": "is not a file",
        "huge.jpg": "more than 50,000 bytes",
        "pipe.jpg": "is not a file",
        "text?[2J.jpg": "",
    }
    assert sorted(reasons) == sorted(says)
    assert all(says[name] in reasons[name] for name in says), reasons
    assert len((tmp_path / "s" / "s.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("tta", ["none", "multiscale"])
def test_pictures_by_address_score_as_files_do_each_fetched_once(
    tta, photographs, ckpt, predict, tmp_path, monkeypatch
):
    root, paths = photographs
    monkeypatch.setattr(patience, "PATIENCE", HASTY)
    flags = ("--ckpt", ckpt, "--tta", tta, "--csv", tmp_path / "s.csv", "--local-batch-size", 4)
    assert predict(*flags, *paths[:9])[0] == 0
    files = (tmp_path / "s.csv").read_text().replace(f"{root}/photographs", "URL")
    with FaultyServer(root / "photographs", {"500": 0.2, "cut": 0.2}) as server:
        urls = [f"{server.url}/{Path(path).name}" for path in paths[:9]]
        status, out, err = predict(*flags, *urls)
        assert (status, err) == (0, "")
        assert [line.rpartition(": ")[0] for line in out.splitlines()] == urls
        assert (tmp_path / "s.csv").read_text().replace(server.url, "URL") == files
        server.rates = {}
        server.asked.clear()
        status, out, err = predict(*flags, urls[0], f"{server.url}/gone.jpg", paths[1])
        assert server.asked[Path(paths[0]).name] == 1
    assert status == 2
    assert [line.partition(" ")[0] for line in out.splitlines()] == [
        urls[0].partition(" ")[0],
        paths[1].partition(" ")[0],
    ]
    first, last = err.splitlines()
    assert first.startswith(f"{server.url}/gone.jpg: is not there (the server answers 404)")
    assert last == "error: 1 of 3 pictures cannot be read, as named above"


def test_a_server_that_is_away_ends_it_in_one_line(photographs, ckpt, predict, monkeypatch):
    root, paths = photographs
    monkeypatch.setattr(patience, "PATIENCE", HASTY)
    with FaultyServer(root / "photographs", always="500") as server:
        urls = [f"{server.url}/{Path(path).name}" for path in paths]
        status, out, err = predict("--ckpt", ckpt, "--num-threads", 1, *urls)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"error: {urls[0]}: the server answers 500" in err
    assert len(server.asked) <= 2  # the others were not tried


def test_an_object_that_is_no_picture_is_not_fetched_to_its_end(
    photographs, ckpt, predict, monkeypatch
):
    root, paths = photographs
    monkeypatch.setattr("eval.prediction.pictures.MAX_FILE_BYTES", 100)
    with ObjectServer(root / "photographs") as server:
        url = f"{server.url}/{Path(paths[0]).name}"
        status, _, err = predict("--ckpt", ckpt, url)
    assert status == 2
    assert err.startswith(f"{url}: has more than 100 bytes")


def damaged_for_good() -> bytes:
    """Make a JPEG that has lost pixels, and that even --accept-damaged cannot decode."""
    data = jpeg(photograph(64, 48))
    random = np.random.default_rng(0)
    for _ in range(2000):
        spoilt = np.frombuffer(data, np.uint8).copy()
        places = random.integers(2, len(data), 5)
        spoilt[places] = random.integers(0, 256, len(places))
        with contextlib.suppress(BadImage):
            try:
                decode_image(spoilt.tobytes())
            except DamagedImage:
                try:
                    decode_image(spoilt.tobytes(), accept_damaged=True)
                except BadImage:
                    return spoilt.tobytes()
    pytest.fail("none found")


def test_a_damaged_picture_that_cannot_be_decoded_is_not_called_predicted(ckpt, predict, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph(64, 48)))
    (tmp_path / "b.jpg").write_bytes(damaged_for_good())
    status, out, err = predict("--ckpt", ckpt, "--accept-damaged", tmp_path)
    assert (status, len(out.splitlines())) == (2, 1)
    named, last = err.splitlines()
    assert named.startswith(f"{tmp_path}/b.jpg: ")
    assert "predicted" not in err
    assert last == "error: 1 of 2 pictures cannot be read, as named above"


@pytest.mark.parametrize("config_class", [EvalConfig, PredictConfig])
@pytest.mark.parametrize(
    "ckpt", ["runs/a/best,runs/a/best", "runs/a/best,runs/b/best,runs/a/best/"]
)
def test_a_checkpoint_named_twice_is_refused_everywhere(config_class, ckpt):
    with pytest.raises(DataError, match="names a checkpoint twice"):
        config_class(ckpt=ckpt)


def test_nothing_readable_is_no_traceback(ckpt, predict, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    status, out, err = predict("--ckpt", ckpt, "--tta", "multiscale", tmp_path / "a.jpg")
    assert (status, out) == (2, "")
    assert err.endswith("error: 1 of 1 picture cannot be read, as named above\n")


def test_a_table_that_cannot_be_written_is_refused_before_anything_is_predicted(
    ckpt, predict, photographs, tmp_path
):
    picture = photographs[1][0]
    (tmp_path / "file").touch()
    for table, says in (
        (tmp_path, "is a folder; give the name of a file"),
        (tmp_path / "file" / "a.csv", "file"),
    ):
        status, out, err = predict("--ckpt", ckpt, picture, "--csv", table)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert says in err


def test_a_model_that_diverged_gives_no_answer(predict, photographs, tmp_path, monkeypatch):
    ckpt = make_run(tmp_path / "run", photographs[0] / "data", model="test_resnet")
    monkeypatch.setattr(
        "eval.predict_pictures._predict", lambda *_: np.full((1, 11), np.nan, np.float32)
    )
    status, out, err = predict("--ckpt", ckpt, photographs[1][0])
    assert (status, out) == (2, "")
    assert "error: scores are NaN of 1 of 1 picture (first: " in err


def test_files_and_folders_in_the_order_given_each_once(tmp_path):
    for name in (
        "b/2.JPG",
        "b/1.png",
        "b/c/3.tiff",
        "b/notes.txt",
        "b/.git/4.jpg",
        "a.weird",
        "b/.5.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = [str(tmp_path / name) for name in ("b/c/3.tiff", "a.weird", "b", "a.weird")]
    found = [str(path.relative_to(tmp_path)) for path in find_pictures(given).pictures]
    assert found == ["b/c/3.tiff", "a.weird", "b/1.png", "b/2.JPG"]
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_pictures([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no picture with one of the suffixes \.jpg"):
        find_pictures([str(tmp_path / "empty")])


@pytest.mark.parametrize(
    ("threshold", "top", "task", "labels"),
    [
        (None, 0, "multilabel", [2, 1]),
        (None, 0, "multiclass", [2]),
        (None, 3, "multilabel", [2, 1, 0]),
        (None, 2, "multiclass", [2, 1]),
        (0.3, 0, "multilabel", [2, 1, 0, 3]),
        (0.3, 1, "multilabel", [2]),
        (0.3, 0, "multiclass", [2, 1, 0, 3]),
        (0.95, 0, "multilabel", []),
        (0.0, 0, "multilabel", [2, 1, 0, 3, 4]),
    ],
)
def test_which_labels_are_printed(threshold, top, task, labels):
    scores = np.array([0.3, 0.5, 0.9, 0.3, 0.1])
    assert choose(scores, threshold, top, task) == labels


def test_a_picture_that_reaches_no_threshold_tells_what_came_nearest(ckpt, predict, photographs):
    _, paths = photographs
    _, out, _ = predict("--ckpt", ckpt, "--threshold", 1, paths[1])
    _, first, _ = predict("--ckpt", ckpt, "--top", 1, paths[1])
    assert out == first.replace(": class", ": - (nearest: class").replace("\n", ")\n")


def test_several_checkpoints_are_averaged_and_others_refused(photographs, ckpt, predict, tmp_path):
    root, paths = photographs
    other = make_run(tmp_path / "other", root / "data", seed=1, model="test_resnet")
    scores = []
    for number, given in enumerate((ckpt, other, f"{ckpt},{other}")):
        assert predict("--ckpt", given, "--csv", tmp_path / f"{number}.csv", *paths[:9])[0] == 0
        scores.append(
            np.loadtxt(tmp_path / f"{number}.csv", delimiter=",", skiprows=1, usecols=range(1, 12))
        )
    np.testing.assert_allclose(scores[2], (scores[0] + scores[1]) / 2, atol=1e-6)
    single = make_run(tmp_path / "single", root / "data", task="multiclass")
    status, _, err = predict("--ckpt", ckpt, "--ckpt", single, paths[0])
    assert status == 2
    assert "single/best: has other classes, or another task, than" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threshold": 1.5}, "threshold is 1.5: give a probability"),
        ({"top": -1}, "top is -1"),
        ({"size": 3}, "size is 3"),
        ({"local_batch_size": 0}, "local_batch_size is 0"),
        ({"ckpt": ","}, "ckpt is empty"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, says):
    with pytest.raises(DataError, match=says):
        PredictConfig(**options)
