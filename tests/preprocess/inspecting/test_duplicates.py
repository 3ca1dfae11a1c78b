"""Near-duplicates: every harmless change of a picture is seen through, different pictures are not
confused.
"""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from preprocess.images.geometry import ImageOptions
from preprocess.inspecting import duplicates
from preprocess.inspecting.duplicates import (
    MAX_BITS,
    MAX_DIFFERENCE,
    Fingerprints,
    difference,
    find_duplicates,
    fingerprint,
    take_fingerprints,
)
from preprocess.packing.pack import pack_split
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import Pool
from preprocess.record import Record
from shards.errors import SampleError
from shards.index import DatasetIndex
from tests.conftest import jpeg


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture with large shapes and fine grain, like a photograph and unlike any other seed's."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize(
        (width, height)
    )
    return Image.fromarray(
        np.clip(
            np.asarray(shapes).astype(int) + rng.integers(-15, 16, (height, width, 1)), 0, 255
        ).astype(np.uint8)
    )


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Take `share` off each side."""
    width, height = image.size
    left, top = round(share * width), round(share * height)
    return image.crop((left, top, width - left, height - top))


CHANGES = {
    "encoded at quality 40": lambda image: jpeg(image, quality=40),
    "half as large": lambda image: jpeg(
        image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    ),
    "squeezed": lambda image: jpeg(image.resize((image.width * 6 // 5, image.height * 4 // 5))),
    "cropped": lambda image: jpeg(cropped(image, 0.02)),
    "brighter": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.3)),
    "darker": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(0.7)),
    "grey": lambda image: jpeg(image.convert("L").convert("RGB")),
    "mirrored": lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}


def pack(root, split, pictures: dict[str, bytes]) -> DatasetIndex:
    """Pack JPEGs, without labels, as one split."""
    folder = root / f"{split}-source"
    folder.mkdir(parents=True)
    records = []
    for name, data in pictures.items():
        path = folder / f"{name}.jpg"
        path.write_bytes(data)
        records.append(Record(name, path, path.name, (), ()))
    pool = Pool(1)
    job = Job(split, ("a",), records, ImageOptions(), 10**9, 0, 0, "test", order="source")
    pack_split(job, root / split, pool)
    return DatasetIndex.open(root / split)


def as_pictures(thumbnails: np.ndarray, splits: list[int]) -> Fingerprints:
    return Fingerprints(thumbnails, np.array(splits), *fingerprint(thumbnails))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(tmp_path, change):
    scenes = {f"s{seed}": scene(seed) for seed in range(40)}
    train = pack(
        tmp_path, "train", {name: jpeg(image, quality=95) for name, image in scenes.items()}
    )
    val = pack(
        tmp_path,
        "val",
        {f"copy-{name}": CHANGES[change](scenes[name]) for name in list(scenes)[:10]},
    )
    found = find_duplicates(take_fingerprints([train, val], 2), 2)
    keys = [*train.keys(), *val.keys()]
    assert {(keys[pair.first], keys[pair.second]) for pair in found.pairs} == {
        (f"s{n}", f"copy-s{n}") for n in range(10)
    }
    assert {pair.mirrored for pair in found.pairs} == {change == "mirrored"}
    assert found.num_between == 10
    assert found.num_within == 0
    assert found.alike.sum(0).tolist() == [10, 10]


def test_changed_copies_of_real_photographs_are_found(tmp_path, voc2012_root):
    paths = sorted((voc2012_root / "JPEGImages").glob("*.jpg"))[:120]
    train = pack(tmp_path, "train", {path.stem: path.read_bytes() for path in paths})
    copies = {}
    for path in paths[:25]:
        with Image.open(path) as image:
            copies |= {f"{path.stem}-{name}": change(image) for name, change in CHANGES.items()}
            copies[f"{path.stem}-cropped more"] = jpeg(cropped(image, 0.025))
    val = pack(tmp_path, "val", copies)
    found = find_duplicates(take_fingerprints([train, val], 2), 2)
    keys = [*train.keys(), *val.keys()]
    pairs = [(keys[p.first], keys[p.second]) for p in found.pairs if not p.within]
    assert [pair for pair in pairs if not pair[1].startswith(pair[0])] == []
    assert len(pairs) >= 0.98 * len(copies)


def test_different_photographs_are_not_confused(voc2012_root):
    thumbnails = []
    for path in sorted((voc2012_root / "JPEGImages").glob("*.jpg"))[:1000]:
        with Image.open(path) as image:
            image.draft("L", (64, 64))
            thumbnails.append(np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX)))
    found = find_duplicates(as_pictures(np.stack(thumbnails), [0] * len(thumbnails)), 2)
    assert found.num_within <= 2  # of 499,500 pairs


def test_every_pair_is_compared_across_block_edges(monkeypatch):
    monkeypatch.setattr(duplicates, "ROWS", 4)
    monkeypatch.setattr(duplicates, "COLUMNS", 7)
    rng = np.random.default_rng(0)
    base = np.stack([np.asarray(scene(seed).convert("L").resize((32, 32))) for seed in range(12)])
    thumbnails = base[rng.integers(0, 12, 45)]
    thumbnails[::3] = thumbnails[::3, :, ::-1]
    thumbnails = np.clip(
        thumbnails.astype(int) + rng.integers(-20, 21, thumbnails.shape), 0, 255
    ).astype(np.uint8)
    pictures = as_pictures(thumbnails, [0] * 20 + [1] * 25)
    turned = fingerprint(np.ascontiguousarray(thumbnails[:, :, ::-1]))[0]

    def is_pair(a, b):
        bits = min(
            (int(hashes[a]) ^ int(pictures.hashes[b])).bit_count()
            for hashes in (pictures.hashes, turned)
        )
        one, other = thumbnails[a : a + 1], thumbnails[b : b + 1]
        gap = min(difference(one, other)[0], difference(one[:, :, ::-1], other)[0])
        return bits <= MAX_BITS and gap <= MAX_DIFFERENCE

    expected = {(a, b) for a, b in combinations(range(45), 2) if is_pair(a, b)}
    found = find_duplicates(pictures, 2)
    assert len(expected) > 40
    assert {(pair.first, pair.second) for pair in found.pairs} == expected
    assert len(found.pairs) == found.num_between + found.num_within
    assert found.num_within == sum((a < 20) == (b < 20) for a, b in expected)
    alike = np.zeros((45, 2), bool)
    for a, b in expected:
        alike[a, int(b >= 20)] = alike[b, int(a >= 20)] = True
    assert np.array_equal(found.alike, alike)


def test_equal_hashes_alone_are_not_enough():
    """Two pictures of the same frequencies and signs, of which one has its weight in the low, one
    in the high ones.
    """
    vertical, horizontal = duplicates._frequencies()
    waves = duplicates._waves(int(vertical.max()) + 1)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], 64)
    thumbnails = []
    for weights in (np.linspace(3, 0.3, 64), np.linspace(0.3, 3, 64)):
        image = np.einsum("k,ky,kx->yx", signs * weights, waves[vertical], waves[horizontal])
        thumbnails.append((128 + 100 * image / np.abs(image).max()).astype(np.uint8))
    pictures = as_pictures(np.stack(thumbnails), [0, 0])
    assert np.bitwise_count(pictures.hashes[0] ^ pictures.hashes[1]) <= MAX_BITS
    assert find_duplicates(pictures, 1).pairs == []


def test_a_mirror_image_flips_known_bits_of_the_hash():
    thumbnails = np.stack(
        [np.asarray(scene(seed).convert("L").resize((32, 32))) for seed in range(50)]
    )
    hashes = fingerprint(thumbnails)[0]
    turned = fingerprint(np.ascontiguousarray(thumbnails[:, :, ::-1]))[0]
    # a coefficient of about 0
    assert np.bitwise_count(hashes ^ turned ^ duplicates._mirror_mask()).max() <= 1


def test_pictures_of_one_colour_are_not_compared():
    rng = np.random.default_rng(0)
    thumbnails = (128 + rng.integers(-2, 3, (30, 32, 32))).astype(np.uint8)
    thumbnails[-2:] = np.asarray(scene(0).convert("L").resize((32, 32)))
    pictures = as_pictures(thumbnails, [0] * 30)
    assert pictures.flat.tolist() == [True] * 28 + [False] * 2
    found = find_duplicates(pictures, 1)
    assert [(pair.first, pair.second, pair.bits, pair.difference) for pair in found.pairs] == [
        (28, 29, 0, 0.0)
    ]


def test_all_flat_finds_nothing():
    assert find_duplicates(as_pictures(np.full((3, 32, 32), 7, np.uint8), [0, 0, 1]), 1).pairs == []


def test_many_copies_are_all_counted_and_the_most_telling_kept(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 5)
    thumbnails = np.repeat(np.asarray(scene(0).convert("L").resize((32, 32)))[None], 40, 0)
    found = find_duplicates(as_pictures(thumbnails, [0] * 38 + [1] * 2), 1)
    assert (found.num_between, found.num_within) == (76, 38 * 37 // 2 + 1)
    assert [pair.within for pair in found.pairs] == [False] * 5
    assert found.alike.all()


def test_a_damaged_image_is_named(tmp_path):
    index = pack(tmp_path, "train", {"good": jpeg(scene(0)), "bad": jpeg(scene(1))})
    shard = index.shard_path(0)
    data = bytearray(shard.read_bytes())
    row = index.samples[[index.key(0), index.key(1)].index("bad")]
    start = int(row["offset"][0])
    data[start : start + 40] = bytes(40)
    shard.write_bytes(data)
    with pytest.raises(
        SampleError, match=r"train-000000.tar: sample bad: damaged JPEG .*; run the same preprocess"
    ):
        take_fingerprints([DatasetIndex.open(tmp_path / "train")], 1)
