"""HEIC and AVIF, as phones write them: turned once, bounded, and a line where nothing reads them."""

import io
import random
import struct
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from preprocess.images import heif
from preprocess.images.geometry import ImageOptions
from preprocess.images.heif import heif_format
from preprocess.images.image import decode_image, pack_image
from preprocess.images.outcome import BadImage
from shards.errors import DataError
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

HAS = {"HEIF": heif._register(), "AVIF": features.check("avif")}
FORMATS = [
    pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"nothing that writes {name}"))
    for name, there in HAS.items()
]
SUFFIXES = {"HEIF": ".HEIC", "AVIF": ".avif"}


def corners() -> Image.Image:
    """Four colours, by which every turn is seen."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = (255, 0, 0)
    pixels[:24, 32:] = (0, 255, 0)
    pixels[24:, :32] = (0, 0, 255)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[274] = orientation
    return found.tobytes()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(kind, orientation):
    data = encoded(corners(), kind, exif=exif(orientation), quality=95)
    assert heif_format(data) == kind
    turned = ImageOps.exif_transpose(
        Image.open(io.BytesIO(jpeg(corners(), exif=exif(orientation))))
    )
    expected = np.asarray(turned.convert("RGB"))
    found = decode_image(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 8
    packed = pack_image(data, ImageOptions(short_side=24))
    assert (packed.width, packed.height) == (32, 24) if orientation < 5 else (24, 32)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_transparent_is_white(kind):
    image = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    image.paste((0, 0, 200, 255), (16, 0, 32, 32))
    found = decode_image(encoded(image, kind, quality=95))
    assert found[:, :12].min() > 240
    assert found[:, 20:, 0].max() < 30


@pytest.mark.parametrize("kind", FORMATS)
def test_grey_and_the_first_of_several(kind):
    grey = photograph(40, 32).convert("L")
    found = decode_image(encoded(grey, kind, quality=95))
    assert found.shape == (32, 40, 3)
    assert np.abs(found[..., 0].astype(int) - np.asarray(grey)).mean() < 10
    first = Image.new("RGB", (32, 32), (250, 0, 0))
    second = Image.new("RGB", (32, 32), (0, 250, 0))
    both = encoded(first, kind, save_all=True, append_images=[second], quality=95)
    assert decode_image(both)[..., 0].min() > 200


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(60_000, 60_000), (11_000, 11_000), (0, 5), (1 << 31, 1)])
def test_a_size_that_is_not_true_is_no_bomb(kind, size):
    data = encoded(corners(), kind)
    at = data.index(b"ispe") + 8
    with pytest.raises(BadImage):
        decode_image(data[:at] + struct.pack(">II", *size) + data[at + 8 :])


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_is_a_reason(kind):
    data = encoded(corners(), kind)
    rng = random.Random(0)
    reasons = set()
    for number in range(120):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if number % 3 == 0:
            damaged = damaged[: rng.randrange(len(damaged))]
        try:
            decode_image(bytes(damaged))
        except BadImage as error:
            reasons.add(str(error))
    assert reasons
    assert not any("\n" in reason for reason in reasons)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_of_a_phone_packs(tmp_path, monkeypatch, capsys, kind):
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(2):
            data = encoded(photograph(48, 40, number), kind, exif=exif(6))
            (tmp_path / "in" / name / f"IMG_{number}{SUFFIXES[kind]}").write_bytes(data)
    args = ["--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    status, said, errors = shard(monkeypatch, capsys, "--source", "imagefolder", *args)
    assert status == 0, errors
    assert "4 samples" in said


def test_without_the_packages_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    (tmp_path / "in/cat").mkdir(parents=True)
    (tmp_path / "in/dog").mkdir()
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    (tmp_path / "in/cat/1.heic").write_bytes(heic)
    (tmp_path / "in/dog/1.jpg").write_bytes(jpeg(photograph(30, 20)))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heif._register.cache_clear()
    try:
        args = ["--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
        status, _, errors = shard(monkeypatch, capsys, "--source", "imagefolder", *args)
    finally:
        heif._register.cache_clear()
    assert (status, errors.count("\n")) == (2, 1)
    assert "HEIC needs the package pillow-heif: pip install 'tarmac-vision[heic]'" in errors
    monkeypatch.setattr(heif.features, "check", lambda name: False)
    with pytest.raises(DataError, match=r"AVIF needs Pillow 11.3 or later: pip install 'tarmac-"):
        decode_image(heic.replace(b"heic", b"avif"))


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        ((b"heic", b"mif1", b"heic"), "HEIF"),
        ((b"mif1", b"mif1", b"heic"), "HEIF"),
        ((b"avif", b"mif1", b"miaf"), "AVIF"),
        ((b"mif1", b"avif", b"miaf"), "AVIF"),
        ((b"heix", b"mif1", b"avif"), "HEIF"),
        ((b"isom", b"mp41", b"mp42"), None),
        ((b"qt  ",), None),
    ],
)
def test_the_brands_say_which_format_it_is(monkeypatch, brands, kind):
    monkeypatch.setattr(heif, "_register", lambda: True)
    monkeypatch.setattr(heif.features, "check", lambda name: True)
    first, *others = brands
    box = b"ftyp" + first + bytes(4) + b"".join(others)
    assert heif_format((4 + len(box)).to_bytes(4, "big") + box + b"avif") == kind
    assert heif_format(b"\xff\xff\xff\xff" + box + bytes(9)) == kind
    assert heif_format(b"") is heif_format(b"\0\0\0\x20ftyp") is None
