"""Pictures of more bands than three: TIFFs are scaled as the packer of the training set scaled
them.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from eval.predict_pictures import decoder
from eval.prediction.pictures import PictureBatches
from eval.prediction.tta import Look
from preprocess.images.geometry import Band, ImageOptions
from preprocess.record import Record
from shards.errors import DataError, SampleError
from shards.index import DatasetIndex
from tests.conftest import jpeg, pack, photograph
from tests.eval.test_predict import same_views
from train.config import TrainConfig
from train.network.model import build_network
from train.run import checkpoint
from train.run.checkpoint import Meta, Progress

BANDS = (
    Band("red", 2, 100, 9000),
    Band("green", 1, 0, 8000),
    Band("blue", 0, 50, 7000),
    Band("nir", 3, 0, 20000),
)
NUM = 11


@pytest.fixture(scope="module")
def tiffs(tmp_path_factory):
    """4-band 16-bit TIFFs of odd sizes on disk, and packed without loss."""
    root = tmp_path_factory.mktemp("tiffs")
    rng = np.random.default_rng(0)
    records = []
    for number in range(NUM):
        pixels = rng.integers(0, 20000, (40 + 7 * number, 61 - number, 4), dtype=np.uint16)
        path = root / f"{number:02d}.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
        records.append(Record(path.stem, path, path.name, (number % 11,), ()))
    pack(records, root / "data" / "train", image=ImageOptions(bands=BANDS, encoding="png"))
    (root / "data" / "train").rename(root / "data" / "val")
    return root


def make_run(folder, tiffs, channels, keep_bands=True, **changes):
    index = DatasetIndex.open(tiffs / "data" / "val")
    torch.manual_seed(channels)
    network = build_network("test_resnet", 11, 32, channels=channels)
    network.get_classifier().weight.data.normal_(std=2.0)
    config = TrainConfig(
        data=str(tiffs / "data"),
        out=str(folder),
        model="test_resnet",
        size=32,
        bands="all" if channels == 4 else "rgb",
        precision="no",
    )
    bands = tuple({**band, **changes} for band in index.settings["bands"]) if keep_bands else ()
    statistics = (0.4,) * channels, (0.2,) * channels
    meta = Meta(index.class_names, "multilabel", *statistics, Progress(epoch=1), {}, {}, bands)
    folder.mkdir(parents=True)
    checkpoint.save(folder / "best", config, meta, network.state_dict(), None, {})
    return folder / "best"


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("look", [Look(32), Look(45, five_crops=True), Look(32, crop_share=1.0)])
def test_a_tiff_is_seen_to_the_bit_as_in_a_shard(tiffs, tmp_path, channels, look):
    opened = checkpoint.read(make_run(tmp_path / "run", tiffs, channels))
    decode, num_channels = decoder([opened])
    assert num_channels == channels
    pictures = PictureBatches(sorted(tiffs.glob("*.tif")), 11, 4, 2, decode, num_channels)
    same_views(
        pictures,
        DatasetIndex.open(tiffs / "data" / "val"),
        look,
        bands="all" if channels == 4 else "rgb",
    )


@pytest.mark.parametrize("which", [(3,), (4,), (3, 4)])
def test_scores_are_those_of_eval(tiffs, tmp_path, predict, call_eval, which):
    runs = ",".join(
        str(make_run(tmp_path / f"run{channels}", tiffs, channels)) for channels in which
    )
    status, _, err = predict(
        "--ckpt", runs, "--csv", tmp_path / "s.csv", *sorted(tiffs.glob("*.tif"))
    )
    assert (status, err) == (0, "")
    expected = call_eval("--ckpt", runs, "--out", tmp_path / "out")
    found = np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1, usecols=range(1, 12))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert expected.std() > 0.05


def test_a_photograph_is_rgb_to_a_network_of_three_bands_and_refused_by_one_of_four(
    tiffs, tmp_path
):
    data = jpeg(photograph(40, 30))
    decode, _ = decoder([checkpoint.read(make_run(tmp_path / "three", tiffs, 3))])
    assert decode(data).shape == (30, 40, 3)
    decode, _ = decoder([checkpoint.read(make_run(tmp_path / "four", tiffs, 4))])
    with pytest.raises(SampleError, match="not a TIFF"):
        decode(data)
    few = io.BytesIO()
    tifffile.imwrite(few, np.zeros((9, 9, 3), np.uint16), photometric="rgb")
    with pytest.raises(SampleError, match="3 bands; red, green, blue, nir are needed"):
        decode(few.getvalue())


def test_checkpoints_without_ranges_or_with_others_are_one_line(tiffs, tmp_path, predict):
    picture = next(Path(tiffs).glob("*.tif"))
    old = make_run(tmp_path / "old", tiffs, 4, keep_bands=False)
    status, _, err = predict("--ckpt", old, picture)
    assert (status, err.count("\n")) == (2, 1)
    assert (
        "old/best: its network sees 4 bands, but the checkpoint is of a release that did not keep "
        "their" in err
    )
    one, other = (
        make_run(tmp_path / "one", tiffs, 4),
        make_run(tmp_path / "other", tiffs, 4, high=100.0),
    )
    status, _, err = predict("--ckpt", f"{one},{other}", picture)
    assert (status, err.count("\n")) == (2, 1)
    assert "other/best: its set scales bands otherwise than that of" in err
    with pytest.raises(DataError, match="its description of bands cannot be read"):
        decoder([checkpoint.read(make_run(tmp_path / "odd", tiffs, 4, low="x"))])
