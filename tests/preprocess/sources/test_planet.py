"""Planet's rainforest folder: its list line by line, its images, ranges from training alone, and on
to batches.
"""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import simplejpeg
import tifffile
import torch
from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.inspecting.inspection import as_json, inspect
from preprocess.inspecting.thumbnails import thumbnails
from preprocess.shard import main
from preprocess.sources.planet import BANDS, TAGS, Planet, _percentiles
from shards.commandline import run
from shards.dataset import ShardDataset
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.reader import ShardReader
from tests.preprocess.planet_folder import MARKS, NIR_ONLY, WEATHER, scene, write_planet

NUM, SIZE = 40, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("planet") / "planet"
    write_planet(root, NUM, SIZE)
    return root


@pytest.fixture(scope="module")
def tags(folder) -> list[set[str]]:
    lines = (folder / "train_v2.csv").read_text().splitlines()[1:]
    return [set(line.split(",")[1].split()) for line in lines]


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def shard(*args: str) -> Done:
    argv = ["preprocess.shard", "--source", "planet", "--workers", "1", *args]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            run(main)
        except SystemExit as left:
            code = int(left.code)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "planet"
    done = shard(
        "--root", str(folder), "--out", str(out), "--val-fraction", "0.25", "--quality", "95"
    )
    assert done.returncode == 0, done.stderr
    assert f"bands scaled to 8 bits after {NUM * 3 // 4} training images: red " in done.stdout
    return out


def original(folder: Path, key: str) -> np.ndarray:
    """Read red, green, blue and near infrared, as they are, by tifffile alone."""
    return tifffile.imread(folder / "train-tif-v2" / f"{key}.tif")[..., [2, 1, 0, 3]]


def small(tmp_path: Path, text: str, images=("a", "b"), kind="tif", folder="train-tif-v2") -> Path:
    (tmp_path / "train_v2.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in images:
        (tmp_path / folder / f"{name}.{kind}").write_bytes(b"")
    return tmp_path


def test_records_are_the_rows(folder, tags):
    source = Planet(folder)
    assert (source.splits(), source.class_names, source.task) == (("all",), TAGS, "multilabel")
    records = source.records("all")
    assert [record.name for record in records] == [f"train_{number}" for number in range(NUM)]
    assert [{TAGS[label] for label in record.labels} for record in records] == tags
    assert all(
        record.labels == tuple(sorted(record.labels)) and not record.ignored for record in records
    )
    assert records[7].source == "train-tif-v2/train_7.tif"
    with pytest.raises(
        DataError, match=r"split 'train' is not in .*; there is all, and --val-fraction divides it"
    ):
        source.records("train")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "image_name,tags\na,clear\nb,\n",
            "train_v2.csv:3: b has no tags; add them, or remove this line",
        ),
        ("image_name,tags\na,  \nb,haze\n", "train_v2.csv:2: a has no tags"),
        (
            "image_name,tags\na,clear\nb,haze jungle\n",
            "train_v2.csv:3: 'jungle' is none of the 17 tags (agriculture, ",
        ),
        ("image_name,tags\na,clear\nb,Haze\n", "train_v2.csv:3: 'Haze' is none of the 17 tags"),
        (
            "image_name,tags\na,clear\n\nb,haze\na,haze\n",
            "train_v2.csv:5: a is in line 2 already; remove one of them",
        ),
        (
            "image_name,tags\na,clear\nb\n",
            "train_v2.csv:3: 1 value instead of image_name,tags; correct this line",
        ),
        (
            "image_name,tags\na,clear,haze\nb,haze\n",
            "train_v2.csv:2: 3 values instead of image_name,tags",
        ),
        ("image_name,tags\n,clear\nb,haze\n", "train_v2.csv:2: '' is not an image name"),
        ("image_name,tags\n../a,clear\nb,haze\n", "train_v2.csv:2: '../a' is not an image name"),
        (
            "a,clear\nb,haze\n",
            "train_v2.csv:1: 'a,clear' instead of image_name,tags; give the list's name with "
            "--table",
        ),
        ("", "train_v2.csv:1: '' instead of image_name,tags"),
        ("image_name,tags\n", "train_v2.csv: no image below the header"),
        (b"image_name,tags\na,\xff\xfe\n", "train_v2.csv is no UTF-8 text; save it as such"),
        (
            'image_name,tags\na,"clear\nb,haze\n',
            "train_v2.csv:3: unexpected end of data; correct the line",
        ),
        (
            "image_name,tags\na," + "x" * 200_000 + "\n",
            "train_v2.csv:2: field larger than field limit",
        ),
        ("image_name,tags\na,clear\nb,haze\nc,haze\n", "train_v2.csv: 1 of 3 images are not in "),
        (
            "image_name,tags\nd,clear\n",
            "no .tif or .jpg of the list; give the folder's name with --images",
        ),
    ],
)
def test_a_list_that_does_not_fit_gets_one_line(tmp_path, text, says):
    with pytest.raises(DataError) as error:
        Planet(small(tmp_path, text))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


GOOD = "image_name,tags\na,clear primary\nb,haze primary primary\n"


def test_what_real_lists_have_is_read(tmp_path):
    """A byte order mark, CRLF, a tag twice in a line as in the official list, quotes, no newline at
    the end.
    """
    text = b'\xef\xbb\xbfimage_name,tags\r\na,"clear  primary"\r\n\r\nb,haze primary primary'
    records = Planet(small(tmp_path, text)).records("all")
    assert [record.labels for record in records] == [(5, 12), (10, 12)]


def test_another_list_and_folder_by_name(tmp_path):
    small(tmp_path, GOOD)
    small(tmp_path, GOOD, kind="jpg", folder="train-jpg")
    (tmp_path / "train_v2.csv").rename(tmp_path / "mine.csv")
    with pytest.raises(
        DataError, match=r"train_v2.csv cannot be read \(No such file.*\); give .* with --table"
    ):
        Planet(tmp_path)
    with pytest.raises(
        DataError, match=r"several folders .*, train-jpg, train-tif-v2; choose one with --images"
    ):
        Planet(tmp_path, table="mine.csv")
    source = Planet(tmp_path, table="mine.csv", images="train-jpg")
    assert [record.source for record in source.records("all")] == [
        "train-jpg/a.jpg",
        "train-jpg/b.jpg",
    ]
    assert source.image_options(ImageOptions(quality=7), source.records("all")) == ImageOptions(
        quality=7
    )
    for images, says in (
        ("..", "'..' is no path inside"),
        ("/", "'/' is no path inside"),
        ("a", "a is not a folder; give"),
    ):
        with pytest.raises(DataError, match=says):
            Planet(tmp_path, table="mine.csv", images=images)
    with pytest.raises(DataError, match="--clip-percent is of TIFFs"):
        Planet(tmp_path, table="mine.csv", images="train-jpg", clip_percent=3)


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere is not a folder; give the folder that holds train_v2\.csv"
    ):
        Planet(tmp_path / "nowhere")
    root = small(tmp_path, GOOD, images=("a",))
    small(tmp_path, GOOD, images=("b",), kind="jpg")
    with pytest.raises(DataError, match=r"holds .tif and .jpg images; move one kind elsewhere"):
        Planet(root)
    small(tmp_path, GOOD, images=("a",), kind="TIFF")
    with pytest.raises(DataError, match=r"a.TIFF and a.tif are both called a; move one elsewhere"):
        Planet(root)


def test_a_subset_is_asked_for_and_told(tmp_path):
    root = small(
        tmp_path, GOOD + "c,clear\nd,clear\ne,clear\nf,clear\n", images=("a", "b", "x", "y")
    )
    with pytest.raises(
        DataError,
        match=r"4 of 6 images are not in .*train-tif-v2, such as c; .*--missing-images skip$",
    ):
        Planet(root)
    source = Planet(root, missing_images="skip")
    assert [record.name for record in source.records("all")] == ["a", "b"]
    labels, rows, images = source.describe()
    assert labels == "labels: tags of train_v2.csv, separated by spaces; images of train-tif-v2"
    assert rows.startswith("4 of 6 rows of ")
    assert rows.endswith("are left out: c, d, e and 1 more")
    assert images.startswith("2 of 4 images in ")
    assert images.endswith("train_v2.csv and are left out: x, y")
    with pytest.raises(DataError, match="--missing-images is 'keep': give refuse or skip"):
        Planet(root, missing_images="keep")
    with pytest.raises(DataError, match="--clip-percent is 50: give a number from 0 to below 50"):
        Planet(root, clip_percent=50)


@pytest.mark.parametrize("percent", [0, 0.1, 1, 25, 49.9])
def test_ranges_are_percentiles_of_the_training_pixels(folder, percent):
    source = Planet(folder, clip_percent=percent)
    train = source.records("all")[5:25]
    bands = source.image_options(ImageOptions(), train).bands
    assert {band.name: band.position for band in bands} == BANDS
    pixels = np.concatenate([original(folder, record.name).reshape(-1, 4) for record in train])
    expected = np.quantile(
        pixels, [percent / 100, 1 - percent / 100], axis=0, method="inverted_cdf"
    )
    np.testing.assert_array_equal([(band.low, band.high) for band in bands], expected.T)


def test_grey_levels_lost_to_clouds_are_told(folder, capsys):
    for percent, is_told in ((1, True), (25, False)):
        source = Planet(folder, clip_percent=percent)
        source.image_options(ImageOptions(), source.records("all"))
        told = capsys.readouterr().out
        assert ("half of the nir pixels share " in told) == is_told
        assert ("a higher --clip-percent spreads them" in told) == is_told


def test_a_band_of_one_value_has_a_range():
    assert _percentiles(np.bincount([7, 7, 7], minlength=1 << 16), 1) == (7, 8)


def test_ranges_of_a_large_set_are_of_a_seeded_sample(folder, monkeypatch, capsys):
    source = Planet(folder)
    train = source.records("all")
    whole = source.image_options(ImageOptions(), train)
    monkeypatch.setattr("preprocess.sources.planet.RANGE_IMAGES", 30)
    sample = source.image_options(ImageOptions(), train)
    assert sample == source.image_options(ImageOptions(), train)
    assert sample != whole
    assert (
        np.abs(
            np.array([band.high for band in sample.bands]) / [band.high for band in whole.bands] - 1
        ).max()
        < 0.2
    )
    assert "bands scaled to 8 bits after 30 of 40 training images: red " in capsys.readouterr().out


def test_a_folder_without_a_tiff_of_four_bands_is_refused(tmp_path):
    root = small(tmp_path, GOOD)
    tifffile.imwrite(
        root / "train-tif-v2" / "a.tif", np.zeros((8, 8, 3), np.uint16), photometric="rgb"
    )
    source = Planet(root)
    with pytest.raises(
        DataError, match=r"none of 2 training images is a TIFF of 4 bands; give .* --images"
    ):
        source.image_options(ImageOptions(), source.records("all"))


def test_from_the_folder_to_batches(folder, tags, packed):
    splits = [DatasetIndex.open(packed / name) for name in ("train", "val")]
    assert sorted(key for index in splits for key in index.keys().tolist()) == sorted(
        f"train_{n}" for n in range(NUM)
    )
    assert splits[0].settings == splits[1].settings
    described = json.loads((packed / "val" / "index.json").read_text())
    ranges = {band["name"]: (band["low"], band["high"]) for band in described["image"]["bands"]}
    train = np.concatenate(
        [original(folder, key).reshape(-1, 4) for key in splits[0].keys().tolist()]
    )
    expected = np.quantile(train, [0.01, 0.99], axis=0, method="inverted_cdf").T.astype(float)
    np.testing.assert_array_equal(
        [ranges[name] for name in ("red", "green", "blue", "nir")], expected
    )
    for index in splits:
        assert index.members == ("jpg", "nir.jpg")
        scaled = {}
        for key in index.keys().tolist():
            low, high = expected.T
            scaled[key] = np.rint(255 * np.clip((original(folder, key) - low) / (high - low), 0, 1))
        pixels = np.concatenate([image.reshape(-1, 4) for image in scaled.values()]) / 255
        np.testing.assert_allclose(index.statistics["mean"], pixels.mean(0), atol=1e-6)
        np.testing.assert_allclose(index.statistics["std"], pixels.std(0), atol=1e-6)
        for batch in Loader(
            index, global_batch_size=8, size=32, train=index.split == "train", scale=(0.5, 1.0)
        ):
            assert batch.images.shape == (8, 4, 32, 32)
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            for labels, number in zip(
                batch.labels[batch.valid], batch.ids[batch.valid].tolist(), strict=True
            ):
                shown = {TAGS[label] for label in torch.nonzero(labels).ravel().tolist()}
                assert shown == tags[int(index.key(number).removeprefix("train_"))]
        images = ShardDataset(index)
        for number, key in enumerate(index.keys().tolist()):
            assert np.abs(images.image(number) - scaled[key]).mean((0, 1)).max() < 6


def test_the_same_command_keeps_everything_and_other_ranges_are_another_dataset(folder, packed):
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*") if path.is_file()}
    args = [
        "--root",
        str(folder),
        "--out",
        str(packed),
        "--val-fraction",
        "0.25",
        "--quality",
        "95",
    ]
    assert "0 written, 1 verified and kept" in shard(*args).stdout
    assert {path: path.stat().st_mtime_ns for path in packed.rglob("*") if path.is_file()} == before
    refused = shard(*args, "--clip-percent", "2")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "this one with other options" in refused.stderr


def test_damaged_and_odd_images_are_listed(folder, tmp_path):
    root = tmp_path / "planet"
    write_planet(root, 6, 32)
    images = root / "train-tif-v2"
    (images / "train_1.tif").write_bytes((images / "train_1.tif").read_bytes()[:-100])
    Image.new("RGB", (32, 32)).save(images / "train_2.tif")
    (images / "train_3.tif").write_bytes(b"")
    done = shard(
        "--order",
        "source",
        "--root",
        str(root),
        "--out",
        str(tmp_path / "out"),
        "--max-rejects",
        "3",
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "all" / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == [
        "truncated TIFF",
        "3 bands; red, green, blue, nir are needed",
        "not a TIFF",
    ]


def test_a_set_of_jpegs_is_rgb_of_the_same_pixels(tmp_path):
    root = tmp_path / "planet"
    write_planet(root, 8, 48, kind="jpg")
    done = shard("--root", str(root), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    index = DatasetIndex.open(tmp_path / "out" / "all")
    assert (index.members, index.settings["bands"]) == (("jpg",), [])
    for number, key in enumerate(index.keys().tolist()):
        data = (root / "train-jpg" / f"{key}.jpg").read_bytes()
        np.testing.assert_array_equal(
            ShardDataset(index).image(number), simplejpeg.decode_jpeg(data)
        )


def test_the_inspection_shows_colours(packed):
    inspection = inspect(packed, True, 1)
    described = as_json(inspection)
    assert len(described["splits"]["train"]["mean"]) == 4
    pictures = thumbnails(inspection.indexes, [(0, 0), (1, 3)], 1)
    assert all(uri.startswith("data:image/webp") for uri in pictures.values())


@pytest.mark.parametrize("tag", MARKS)
def test_every_tag_of_the_made_up_folder_leaves_a_mark(tag):
    """Those of NIR_ONLY in the near infrared alone: four bands tell more than three."""
    assert {*MARKS, *WEATHER, "primary"} == set(TAGS)
    without, shown = (
        scene(np.random.default_rng(3), {"primary", *more}, 64).astype(int) for more in ((), (tag,))
    )
    changed = np.abs(shown - without).max((0, 1))
    assert changed[3] > 200
    assert (changed[:3].max() > 200) != (tag in NIR_ONLY)
    assert (changed[:3].max() == 0) == (tag in NIR_ONLY)


def test_real_images(planet_root, tmp_path):
    done = shard("--root", str(planet_root), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "40,476 of 40,479 images are not in" in done.stderr
    done = shard(
        "--root", str(planet_root), "--out", str(tmp_path / "out"), "--missing-images", "skip"
    )
    assert done.returncode == 0, done.stderr
    index = DatasetIndex.open(tmp_path / "out" / "all")
    tags = [{TAGS[k] for k in np.flatnonzero(row)} for row in index.labels()]
    assert dict(zip(index.keys().tolist(), tags, strict=True)) == {
        "train_0": {"haze", "primary"},
        "train_2": {"clear", "primary"},
        "train_3": {"clear", "primary"},
    }
    reader = ShardReader(index)
    for row in index.samples:
        nir = simplejpeg.decode_jpeg(reader.member(row, 1), "GRAY")
        assert nir.shape == (256, 256, 1)
    # the ranges are used, though haze makes one of the three bright
    assert min(index.statistics["std"]) > 0.15
