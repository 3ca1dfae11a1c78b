"""Small images: seen whole, padded and cropped, from the shards, from memory or on a device, the
same pixels by every road; and random-resized crops made on a device.
"""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tqdm import tqdm

from preprocess.images.geometry import Band, ImageOptions
from preprocess.record import Record
from shards.augment.crops import random_resized_crops
from shards.augment.pad_crop import draw_holes, draw_windows, mean_colour
from shards.augment.torch_ops import resized_crops
from shards.dataset import ShardDataset
from shards.decode.decoder import Decoder, resize_box_into
from shards.errors import DataError, SampleError
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice
from shards.sampler import World
from tests.conftest import CLASSES, pack
from tests.loading import load

SIZE, NUM, PAD, CUTOUT, SEED = 12, 70, 3, 5, 3
CUDA = pytest.param(
    {"cache": "device", "device": "cuda"},
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
    id="cuda",
)
PLACES = [
    pytest.param({"cache": "none"}, id="none"),
    pytest.param({"cache": "ram"}, id="ram"),
    pytest.param({"cache": "device", "device": "cpu"}, id="device"),
    CUDA,
]
ON_DEVICE = PLACES[2:]


@pytest.fixture(scope="module", params=["rgb", "nir"])
def small(request, tmp_path_factory) -> DatasetIndex:
    """Images of 12 x 12 pixels as PNG members, of three or four channels."""
    root, rng = tmp_path_factory.mktemp("small"), np.random.default_rng(0)
    names = ("red", "green", "blue", "nir")[: 4 if request.param == "nir" else 3]
    records = []
    for number in range(NUM):
        path = root / f"{number}.tif"
        pixels = rng.integers(0, 256, (SIZE, SIZE, len(names)), dtype=np.uint8)
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
        records.append(
            Record(
                str(number),
                path,
                path.name,
                (number % len(CLASSES),),
                ((number + 1) % len(CLASSES),),
            )
        )
    bands = tuple(Band(name, position, 0, 255) for position, name in enumerate(names))
    pack(records, root / "train", image=ImageOptions(encoding="png", bands=bands))
    return DatasetIndex.open(root / "train")


def loader(index, **options) -> Loader:
    defaults = {"global_batch_size": 16, "size": SIZE, "seed": SEED, "augment": "pad", "pad": PAD}
    return load(index, **{**defaults, **options})


def same(a: Batch, b: Batch) -> bool:
    mine, other = a.tensors(), b.tensors()
    return a.num_known == b.num_known and all(
        torch.equal(mine[name].cpu(), other[name].cpu()) for name in mine
    )


def valid(batch: Batch, name: str) -> torch.Tensor:
    return getattr(batch, name)[batch.valid]


def plainly(index: DatasetIndex, number: int, epoch: int, cutout: int) -> np.ndarray:
    """Pad, cut, mirror and cut a square out of one image, with numpy."""
    image = np.pad(
        ShardDataset(index).image(number), ((PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect"
    )
    ((left, top, mirrored),) = draw_windows(np.array([number]), PAD, SEED, epoch) + np.array(
        [PAD, PAD, 0]
    )
    view = image[top : top + SIZE, left : left + SIZE][:, :: -1 if mirrored else 1].copy()
    if cutout:
        (hole,) = draw_holes(np.array([number]), SIZE, cutout, SEED, epoch)
        (x0, y0), (x1, y1) = np.clip(hole, 0, SIZE), np.clip(hole + cutout, 0, SIZE)
        view[y0:y1, x0:x1] = np.rint(255 * np.array(index.statistics["mean"]))
    return view


@pytest.mark.parametrize("cutout", [0, CUTOUT])
@pytest.mark.parametrize("place", PLACES)
def test_training_is_what_numpy_makes(small, place, cutout):
    ours, seen = loader(small, **place, cutout=cutout), []
    for epoch in range(2):
        for batch in ours:
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            for image, number in zip(
                batch.images[batch.valid], batch.ids[batch.valid].tolist(), strict=True
            ):
                expected = plainly(small, number, epoch, cutout)
                np.testing.assert_array_equal(image.permute(1, 2, 0).cpu().numpy(), expected)
                seen.append(number)
    assert sorted(seen) == sorted([*range(NUM)] * 2)


@pytest.mark.parametrize("place", PLACES)
def test_evaluation_sees_every_pixel_as_it_is(small, place):
    dataset = ShardDataset(small)
    for batch in loader(small, **place, train=False):
        for image, number in zip(
            batch.images[batch.valid], batch.ids[batch.valid].tolist(), strict=True
        ):
            np.testing.assert_array_equal(
                image.permute(1, 2, 0).cpu().numpy(), dataset.image(number)
            )


def test_the_usual_evaluation_would_enlarge_and_cut(small):
    """What `augment="pad"` is spared: at 0.875 the middle of an enlarged image is seen, not the
    image.
    """
    whole, usual = (
        next(iter(loader(small, train=False, augment=augment))) for augment in ("pad", "crop")
    )
    assert not torch.equal(whole.images, usual.images)
    assert same(whole, next(iter(loader(small, train=False, augment="crop", crop_share=1.0))))


def test_a_box_at_its_own_size_is_as_pillow_leaves_it():
    """Such a box is cut and not filtered, wherever it lies."""

    class Whole(Decoder):
        def box(self, data, width, height, box, channels=3):
            x, y, w, h = box
            return np.ascontiguousarray(data[y : y + h, x : x + w])

    rng = np.random.default_rng(0)
    for width, height, size in ((9, 9, 9), (12, 9, 9), (13, 11, 7)):
        image, out = (
            rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
            np.empty((size, size, 3), np.uint8),
        )
        for x, y in np.ndindex(width - size + 1, height - size + 1):
            resize_box_into(
                out, Whole(), image, width, height, [float(x), float(y), float(size), float(size)]
            )
            edges = (x, y, x + size, y + size)
            expected = Image.fromarray(image).resize(
                (size, size), Image.Resampling.BILINEAR, box=edges
            )
            np.testing.assert_array_equal(out, np.asarray(expected))


@pytest.mark.parametrize("place", PLACES[1:])
@pytest.mark.parametrize("train", [True, False])
def test_photographs_of_other_sizes_are_seen_alike_by_every_road(index, place, train):
    for a, b in zip(loader(index, train=train), loader(index, train=train, **place), strict=True):
        assert same(a, b)


@pytest.mark.parametrize("place", PLACES)
def test_batches_threads_and_ranks_change_nothing(small, place):
    make = partial(loader, small, **place, cutout=CUTOUT)
    whole = list(make())
    for num_threads in (1, 5):
        assert all(same(a, b) for a, b in zip(whole, make(num_threads=num_threads), strict=True))
    for num_ranks in (2, 3):
        ranks = [make(world=World(rank, num_ranks)) for rank in range(num_ranks)]
        for batch, *parts in zip(whole, *ranks, strict=True):
            for name in ("ids", "images", "labels", "known"):
                assert torch.equal(
                    torch.cat([getattr(part, name)[part.valid] for part in parts]),
                    getattr(batch, name)[batch.valid],
                )
            assert {part.num_known for part in parts} == {batch.num_known}
    images = torch.cat([batch.images[batch.valid] for batch in whole])
    assert torch.equal(
        images, torch.cat([batch.images[batch.valid] for batch in make(global_batch_size=7)])
    )


@pytest.mark.parametrize("augment", ["pad", "crop"])
@pytest.mark.parametrize("place", ON_DEVICE)
def test_a_device_makes_the_batches_of_the_shards(small, place, augment):
    """All but the pixels of crops, which are resized there by another filter, is equal."""
    for epoch in range(2):
        plain, there = loader(small, augment=augment), loader(small, augment=augment, **place)
        plain.set_epoch(epoch)
        there.set_epoch(epoch)
        for a, b in zip(plain, there, strict=True):
            here, made = a.tensors(), b.tensors()
            assert {value.device.type for value in made.values()} == {there.maker.device.type}
            assert {name: value.dtype for name, value in here.items()} == {
                name: value.dtype for name, value in made.items()
            }
            assert same(a, replace(b, images=a.images))


@pytest.mark.parametrize("augment", ["pad", "crop"])
@pytest.mark.parametrize("place", PLACES)
def test_it_goes_on_in_the_middle_on_other_ranks(small, place, augment):
    whole = loader(small, **place, augment=augment)
    whole.set_epoch(2)
    rest = list(whole)[3:]
    stopped = loader(small, **place, augment=augment)
    stopped.set_epoch(2)
    iterator = iter(stopped)
    for _ in range(3):
        next(iterator)
    state = stopped.state_dict()
    iterator.close()
    resumed = [loader(small, **place, augment=augment, world=World(rank, 2)) for rank in range(2)]
    for one in resumed:
        one.load_state_dict(state)
    for expected, *parts in zip(rest, *resumed, strict=True):
        for name in ("ids", "images"):
            assert torch.equal(
                torch.cat([getattr(part, name)[part.valid] for part in parts]),
                getattr(expected, name)[expected.valid],
            )


@pytest.mark.parametrize("place", ON_DEVICE)
def test_a_batch_that_is_there_is_not_copied(small, place):
    ours = loader(small, **place)
    made = []
    make = ours.maker.make
    ours.maker.make = lambda *which: made.append(make(*which)) or made[-1]
    for batch in OnDevice(ours, torch.device(place["device"])):
        assert any(batch.images is one.images for one in made)


@pytest.mark.parametrize("place", ON_DEVICE)
def test_inference_mode_where_a_loader_is_made_and_read_changes_nothing(small, place):
    expected = list(loader(small, **place))
    with torch.inference_mode():
        ours = loader(small, **place)
        assert all(same(a, b) for a, b in zip(ours, expected, strict=True))
    assert all(same(a, b) for a, b in zip(loader(small, **place), expected, strict=True))


@pytest.mark.parametrize("place", ON_DEVICE)
@pytest.mark.parametrize("five_crops", [False, True])
def test_a_device_keeps_the_views_of_evaluation(index, place, five_crops):
    options = {"train": False, "augment": "crop", "five_crops": five_crops, "size": 20}
    for a, b in zip(loader(index, **options), loader(index, **options, **place), strict=True):
        assert same(a, b)
        assert b.images.is_contiguous(memory_format=torch.channels_last)


# random-resized crops on a device


def by_pillow(image: np.ndarray, box, mirrored: bool, size: int) -> np.ndarray:
    """Cut out whole pixels, then resize with Pillow's antialiased filter."""
    x, y, w, h = (int(value) for value in box)
    planes = [Image.fromarray(image[y : y + h, x : x + w, c]) for c in range(image.shape[2])]
    out = np.dstack(
        [np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR)) for plane in planes]
    )
    return out[:, ::-1] if mirrored else out


@pytest.mark.parametrize("place", ON_DEVICE)
@pytest.mark.parametrize(
    ("side", "size", "channels"), [(8, 8, 1), (37, 32, 3), (64, 20, 4), (16, 50, 3), (90, 7, 3)]
)
def test_crops_are_those_of_pillow(side, size, channels, place):
    rng = np.random.default_rng(side)
    images = rng.integers(0, 256, (6, side, side, channels), dtype=np.uint8)
    sides = np.full(200, side)
    boxes, mirrored = random_resized_crops(np.arange(200), sides, sides, 0, 0, (0.01, 1.0))
    boxes[:3] = [0, 0, side, side], [side - 1, side - 1, 1, 1], [0, side // 2, side, 1]
    numbers = rng.integers(0, 6, 200)
    there = [
        torch.from_numpy(values).to(place["device"])
        for values in (images, numbers, boxes.astype(float), mirrored)
    ]
    ours = resized_crops(*there, size).cpu().numpy()
    expected = np.stack(
        [
            by_pillow(images[n], box, m, size)
            for n, box, m in zip(numbers, boxes, mirrored, strict=True)
        ]
    )
    difference = np.abs(ours.astype(int) - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.2
    one_by_one = [
        resized_crops(there[0], *(each[i : i + 1] for each in there[1:]), size)
        for i in range(0, 200, 9)
    ]
    np.testing.assert_array_equal(torch.cat(one_by_one).cpu().numpy(), ours[::9])


@pytest.mark.parametrize("place", ON_DEVICE)
def test_one_colour_stays_one_colour_in_any_box(place):
    """Boxes between pixels, thinner than one, at the edges."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (50, 1, 1, 3), dtype=np.uint8)
    corner = rng.uniform(0, 19.9, (50, 2))
    boxes = np.hstack([corner, rng.uniform(0.01, 1, (50, 2)) * (20 - corner)])
    images = torch.from_numpy(np.broadcast_to(colours, (50, 20, 20, 3)).copy()).to(place["device"])
    numbers, flips = (
        torch.arange(50).to(images.device),
        torch.zeros(50, dtype=torch.bool, device=images.device),
    )
    out = resized_crops(images, numbers, torch.from_numpy(boxes).to(images.device), flips, 9)
    assert torch.equal(out, images[:, :9, :9])


@pytest.mark.parametrize("place", ON_DEVICE)
def test_crops_on_a_device_are_near_those_of_the_shards(index, place):
    """The same boxes and flips: what differs are filters, and images squeezed into squares before."""
    plain = loader(index, augment="crop", size=24, scale=(0.5, 1.0))
    there = loader(index, augment="crop", size=24, scale=(0.5, 1.0), cache_short_side=96, **place)
    for a, b in zip(plain, there, strict=True):
        difference = (a.images.float() - b.images.cpu().float()).abs().mean((1, 2, 3))
        assert difference.max() < 12
        assert difference.mean() < 4
        mirrored = (a.images.flip(3).float() - b.images.cpu().float()).abs().mean()
        assert mirrored > 4 * difference.mean()


@pytest.mark.parametrize("place", PLACES)
def test_crops_get_a_square_cut_out_too(small, place):
    whole, cut = (
        list(loader(small, **place, augment="crop", cutout=cutout)) for cutout in (0, CUTOUT)
    )
    for a, b in zip(whole, cut, strict=True):
        holes = draw_holes(a.ids[a.valid].cpu().numpy(), SIZE, CUTOUT, SEED, 0)
        for image, holed, hole in zip(a.images, b.images, holes, strict=False):
            (x0, y0), (x1, y1) = np.clip(hole, 0, SIZE), np.clip(hole + CUTOUT, 0, SIZE)
            expected = image.clone()
            expected[:, y0:y1, x0:x1] = torch.from_numpy(mean_colour(small)).to(image.device)[
                :, None, None
            ]
            assert torch.equal(expected, holed)


# what is wrong


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"augment": "zoom"}, "augment is 'zoom': give crop or pad"),
        ({"pad": SIZE}, r"pad is 12: an image of 12 pixels can be reflected by 0 to 11"),
        ({"cutout": -2}, "cutout is -2"),
        (
            {"cache": "ram", "cache_short_side": 20},
            "cache_short_side is 20: augment pad keeps images at their size",
        ),
        ({"cache": "device"}, "cache is device, but no device is given"),
        ({"cache": "device", "device": "gpu"}, "device is 'gpu': not one of torch's"),
        (
            {"cache": "device", "device": "cpu", "augment": "crop", "cache_short_side": 10**6},
            r"cache device cannot hold 70 images on cpu: \d+\.\d+ GB of memory are needed, .*; give a smaller",
        ),
    ],
)
def test_options_that_cannot_be(small, options, says):
    with pytest.raises(DataError, match=says):
        loader(small, **options)


def test_one_rank_of_a_machine_draws_the_bar(small, monkeypatch):
    told = []

    def bar(*_, disable, **__):
        told.append(disable)
        return tqdm(disable=True)

    monkeypatch.setattr("shards.pipeline.device_maker.tqdm", bar)
    for rank in range(4):
        loader(small, cache="device", device="cpu", world=World(rank, 4, num_local=2)).warm_up()
    assert told == [None, True, None, True]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(small):
    with pytest.raises(
        DataError, match=r"cache device cannot hold 70 images on cuda: [^\n]*; give a smaller size"
    ):
        loader(small, cache="device", device="cuda")


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_image_stops_with_shard_and_key(small, tmp_path, place):
    shutil.copytree(small.root, tmp_path / "train")
    damaged = DatasetIndex.open(tmp_path / "train")
    row = damaged.samples[37]
    with open(damaged.shard_path(int(row["shard"])), "r+b") as file:
        file.seek(int(row["offset"][0]) + 10)
        file.write(bytes(80))
    with pytest.raises(SampleError, match=r"train-000002\.tar: sample 37: "):
        list(loader(damaged, **place))
