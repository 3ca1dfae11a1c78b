"""Images of several members: PNG exact, further bands cut by the same boxes, the same pixels by
every road.
"""

import io
import shutil

import numpy as np
import pytest
import simplejpeg
import tifffile
import torch
from PIL import Image

from preprocess.images.geometry import Band, ImageOptions
from preprocess.record import Record
from shards.augment.crops import random_resized_crops
from shards.bench import BenchConfig
from shards.bench import main as bench
from shards.dataset import ShardDataset
from shards.decode.decoder import Decoder, resize_into
from shards.decode.png import decode_png
from shards.errors import DataError, SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.reader import ShardReader
from tests.conftest import CLASSES, SIZES, pack, photograph, write_photographs
from tests.loading import load

BANDS = (
    Band("red", 2, 0, 255),
    Band("green", 1, 0, 255),
    Band("blue", 0, 0, 255),
    Band("nir", 3, 0, 510),
)
NUM = 24


def bands_of(number: int, num_bands: int = 4) -> np.ndarray:
    """Blue, green, red and infrared, not alike: uint16 [height, width, bands]; the last ones up to
    510.
    """
    size = SIZES[number % len(SIZES)]
    colours = np.asarray(photograph(*size, number))[..., ::-1]
    further = [
        2 * np.asarray(photograph(*size, 1000 * band + number).convert("L"))
        for band in range(3, num_bands)
    ]
    return np.dstack([colours, *further]).astype(np.uint16)


def pack_tiffs(folder, root, bands, **options) -> DatasetIndex:
    folder.mkdir(parents=True)
    records = []
    for number in range(NUM):
        path = folder / f"{number}.tif"
        tifffile.imwrite(
            path, bands_of(number, len(bands)), photometric="minisblack", planarconfig="contig"
        )
        records.append(Record(str(number), path, path.name, (number % len(CLASSES),), ()))
    pack(records, root, image=ImageOptions(bands=bands, **options))
    return DatasetIndex.open(root)


@pytest.fixture(scope="module")
def multispectral(tmp_path_factory) -> DatasetIndex:
    root = tmp_path_factory.mktemp("multispectral")
    return pack_tiffs(root / "source", root / "train", BANDS)


@pytest.fixture(scope="module")
def lossless(tmp_path_factory) -> DatasetIndex:
    """The photographs of `write_photographs` as PNG members."""
    root = tmp_path_factory.mktemp("lossless")
    pack(
        write_photographs(root / "source", NUM), root / "train", image=ImageOptions(encoding="png")
    )
    return DatasetIndex.open(root / "train")


def loader(index, **options) -> Loader:
    return load(index, **{"global_batch_size": 8, "size": 32, "seed": 3, **options})


def members(index: DatasetIndex, number: int) -> list[np.ndarray]:
    """Decode each member of a sample whole, without Tarmac."""
    reader, row = ShardReader(index), index.samples[number]
    decoded = []
    for member, suffix in enumerate(index.members):
        data = reader.member(row, member).tobytes()
        grey = "." in suffix
        if suffix.endswith("png"):
            pixels = np.asarray(Image.open(io.BytesIO(data)))
        else:
            pixels = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB")
        assert (Image.open(io.BytesIO(data)).mode == "L") == grey
        decoded.append(pixels.reshape(*pixels.shape[:2], -1))
    return decoded


def test_what_is_packed(multispectral):
    index = multispectral
    assert index.members == ("jpg", "nir.jpg")
    assert index.num_channels == 4
    assert index.settings["bands"][3] == {"name": "nir", "position": 3, "low": 0, "high": 510}
    originals = [bands_of(number)[..., [2, 1, 0, 3]] for number in range(NUM)]
    for original in originals:
        original[..., 3] = np.rint(original[..., 3] / 2)
    pixels = np.concatenate([original.reshape(-1, 4) for original in originals]) / 255
    np.testing.assert_allclose(index.statistics["mean"], pixels.mean(0), atol=1e-6)
    np.testing.assert_allclose(index.statistics["std"], pixels.std(0), atol=1e-6)
    for number, original in enumerate(originals):
        rgb, nir = members(index, number)
        assert np.abs(np.dstack([rgb, nir]).astype(int) - original).mean() < 12  # JPEG of noise


def test_tars_of_several_members_are_webdataset_samples(multispectral):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(multispectral.shard_path(number)) for number in range(len(multispectral.shards))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == multispectral.keys().tolist()
    assert all({"jpg", "nir.jpg", "json"} <= set(sample) for sample in samples)


def test_png_pixels_are_exact(lossless):
    assert (lossless.members, lossless.num_channels) == (("png",), 3)
    dataset = ShardDataset(lossless)
    for number in range(NUM):
        np.testing.assert_array_equal(dataset.image(number), members(lossless, number)[0])


@pytest.mark.parametrize("encoding", ["jpg", "png"])
def test_any_number_of_bands_in_any_encoding(tmp_path, encoding):
    bands = (*BANDS, Band("swir", 4, 0, 510), Band("red-edge", 5, 0, 510))
    index = pack_tiffs(tmp_path / "source", tmp_path / "train", bands, encoding=encoding)
    assert index.members == (
        encoding,
        f"nir.{encoding}",
        f"swir.{encoding}",
        f"red-edge.{encoding}",
    )
    dataset = ShardDataset(index)
    for number in range(NUM):
        whole = np.dstack(members(index, number))
        np.testing.assert_array_equal(dataset.image(number), whole)
        if encoding == "png":
            np.testing.assert_array_equal(whole[..., :3], bands_of(number, 6)[..., 2::-1])
    for options in ({}, {"cache": "ram"}, {"train": False}, {"train": False, "five_crops": True}):
        for batch in loader(index, **options):
            assert batch.images.shape[1:] == (6, 32, 32)


WAYS = [
    {},
    {"train": False},
    {"train": False, "five_crops": True},
    {"augment": "pad", "cutout": 8},
    {"cache": "ram"},
    {"cache": "ram", "augment": "pad"},
    {"cache": "device", "device": "cpu"},
    {"cache": "device", "device": "cpu", "augment": "pad", "cutout": 8},
]


@pytest.mark.parametrize("options", WAYS)
def test_all_bands_are_cut_alike(multispectral, options):
    """Each band equals a set of that band alone: the same boxes, mirrors and filters."""
    for batch, colours in zip(
        loader(multispectral, **options), loader(multispectral, bands="rgb", **options), strict=True
    ):
        assert batch.images.shape[1] == 4
        if options.get("cache") != "device":
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
        # OpenCV's blur rounds four channels otherwise than three, where a cached image shrinks.
        assert (batch.images[:, :3].int() - colours.images.int()).abs().max() <= (
            options.get("cache") == "ram"
        )
        assert torch.equal(batch.ids, colours.ids)


def test_training_crops_of_a_further_band_are_those_of_its_image(multispectral):
    """By the tile decoder, within its distance from decoding, cutting and resizing."""
    index, ours = multispectral, loader(multispectral)
    for batch in ours:
        ids = batch.ids[batch.valid].numpy()
        rows = index.samples[ids]
        boxes, flips = random_resized_crops(ids, rows["width"], rows["height"], 3, 0, (0.08, 1.0))
        for image, number, (x, y, w, h), flip in zip(
            batch.images, ids, boxes.tolist(), flips, strict=False
        ):
            nir = members(index, int(number))[1][y : y + h, x : x + w, 0]
            expected = np.asarray(
                Image.fromarray(nir).resize((32, 32), Image.Resampling.BILINEAR)
            ).astype(int)
            expected = expected[:, ::-1] if flip else expected
            assert np.abs(image[3].numpy() - expected).mean() < 3


@pytest.mark.parametrize("options", [{"train": False}, {"train": False, "five_crops": True}])
def test_evaluation_of_a_further_band_is_that_of_a_grey_photograph(
    multispectral, tmp_path, options
):
    """The near infrared packed as RGB of equal channels: the same centre, corners and filter."""
    records = []
    for number in range(NUM):
        path = tmp_path / f"{number}.png"
        Image.fromarray(members(multispectral, number)[1][..., 0]).save(path)
        records.append(Record(str(number), path, path.name, (), ()))
    pack(records, tmp_path / "train", image=ImageOptions(encoding="png"))
    grey = loader(DatasetIndex.open(tmp_path / "train"), **options)
    for batch, expected in zip(loader(multispectral, **options), grey, strict=True):
        assert torch.equal(batch.images[:, 3], expected.images[:, 0])


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("which", ["multispectral", "lossless"])
def test_the_cache_changes_no_pixel(request, monkeypatch, which, train):
    # cached images take the ordinary road
    monkeypatch.setattr(Decoder, "crop_tiles_into", lambda *_: False)
    index = request.getfixturevalue(which)
    kept, plain = (
        loader(index, train=train, cache="ram", cache_short_side=10**6),
        loader(index, train=train),
    )
    for _ in range(2):
        for one, other in zip(kept, plain, strict=True):
            assert torch.equal(one.images, other.images)


def test_a_cached_band_is_near_a_streamed_one(multispectral):
    for kept, plain in zip(
        loader(multispectral, cache="ram", cache_short_side=999), loader(multispectral), strict=True
    ):
        assert (kept.images.float() - plain.images.float()).abs().mean((0, 2, 3)).max() < 6


def test_training_crops_of_png_are_those_of_its_pixels(lossless):
    for batch in loader(lossless):
        ids = batch.ids[batch.valid].numpy()
        rows = lossless.samples[ids]
        boxes, flips = random_resized_crops(ids, rows["width"], rows["height"], 3, 0, (0.08, 1.0))
        for image, number, (x, y, w, h), flip in zip(
            batch.images, ids, boxes.tolist(), flips.tolist(), strict=False
        ):
            expected = np.empty((32, 32, 3), np.uint8)
            resize_into(expected, members(lossless, int(number))[0][y : y + h, x : x + w], flip)
            np.testing.assert_array_equal(image.permute(1, 2, 0), expected)


def test_rgb_alone_reads_no_other_member(multispectral, tmp_path):
    root = tmp_path / "train"
    shutil.copytree(multispectral.root, root)
    index = DatasetIndex.open(root)
    for row in index.samples:
        with open(index.shard_path(int(row["shard"])), "r+b") as file:
            file.seek(int(row["offset"][1]))
            file.write(bytes(int(row["length"][1])))
    expected = [batch.images[:, :3] for batch in loader(multispectral)]
    for batch, images in zip(loader(index, bands="rgb"), expected, strict=True):
        assert torch.equal(batch.images, images)
    np.testing.assert_array_equal(
        ShardDataset(index, "rgb").image(5), ShardDataset(multispectral).image(5)[..., :3]
    )
    with pytest.raises(SampleError, match=r"train-00000\d\.tar: sample \d+: not a JPEG"):
        list(loader(index))


def test_an_unknown_choice_of_bands_is_refused(multispectral):
    for open_it in (loader, ShardDataset):
        with pytest.raises(DataError, match="bands is 'nir': give all or rgb"):
            open_it(multispectral, bands="nir")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_damaged_png_is_refused_and_never_gives_other_pixels():
    image = photograph(40, 30)
    data = png(image)
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(300):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 1 + number % 3):
            damaged[at] ^= 1 << rng.integers(8)
        damaged = damaged[: rng.integers(0, len(data))] if number % 4 == 0 else damaged
        try:
            pixels = decode_png(np.frombuffer(bytes(damaged), np.uint8), 40, 30, 3)
        except SampleError:
            refused += 1
        else:
            np.testing.assert_array_equal(pixels, image)
    assert refused > 280


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "LA"])
def test_another_kind_or_size_of_png_is_refused_before_decoding(mode):
    image = (
        photograph(40, 30).convert("L").convert("I;16")
        if mode == "I;16"
        else photograph(40, 30).convert(mode)
    )
    with pytest.raises(SampleError, match="not an 8-bit RGB PNG of the 40 x 30 pixels"):
        decode_png(np.frombuffer(png(image), np.uint8), 40, 30, 3)
    with pytest.raises(SampleError, match="not an 8-bit RGB PNG of the 30 x 40 pixels"):
        decode_png(np.frombuffer(png(photograph(40, 30)), np.uint8), 30, 40, 3)


@pytest.mark.parametrize("which", ["multispectral", "lossless"])
@pytest.mark.parametrize("train", [True, False])
def test_the_bench_reads_them(request, capsys, which, train):
    index = request.getfixturevalue(which)
    argv = [
        str(index.root.parent),
        "--size=32",
        "--global-batch-size=8",
        "--seconds=0.1",
        "--num-threads=1",
    ]
    bench([*argv, "--train" if train else "--no-train"])
    printed = capsys.readouterr().out
    assert f"{NUM} images" in printed
    assert BenchConfig.split == "train"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoding": "webp"}, "--encoding is 'webp': give jpg or png"),
        ({"bands": BANDS[1:]}, "the first three must be red, green, blue"),
        ({"bands": (*BANDS, BANDS[3])}, "the others different"),
    ],
)
def test_options_out_of_range(settings, says):
    with pytest.raises(DataError, match=says):
        ImageOptions(**settings)
