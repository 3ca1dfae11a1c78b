"""Every operation within a grey level of torchvision's, compiled and on tensors, and the same bits
from both.
"""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from shards.augment import sample_changes as changes_of
from shards.augment.pad_crop import erase_boxes
from shards.augment.pixel_ops import change_pixels
from shards.augment.sample_changes import (
    BINS,
    MAP_BITS,
    ONE,
    TURN,
    UNIT,
    BatchAugmentation,
    Changes,
    draw_changes,
    move_map,
    posterize_mask,
    rotation_map,
)
from shards.augment.tensor_ops import DeviceChanges
from shards.pipeline.block import copied_together

SIZES = [(32, 32), (33, 47), (1, 9), (2, 2), (3, 3), (5, 1), (64, 31)]
STILL = np.array([[UNIT, 0, 0, 0, UNIT, 0]])


def images_of(height, width, channels, seed=0):
    """Noise, smooth pictures, few levels, constants, black, white, and one pixel that differs:
    uint8 [9, C, H, W].
    """
    random = np.random.default_rng((seed, height, width, channels))
    shape = (height, width, channels)
    ramp = np.linspace(20, 230, height * width * channels).reshape(shape)
    wave = 127 + 90 * np.sin(np.arange(height * width * channels) / 7).reshape(shape)
    one = np.full(shape, 90)
    one[height // 2, width // 2] = 91
    made = [
        random.integers(0, 256, shape),
        random.integers(0, 256, (height, width, 1)) * np.ones(channels),
        ramp,
        wave,
        random.integers(100, 104, shape),
        np.full(shape, 117),
        np.zeros(shape),
        np.full(shape, 255),
        one,
    ]
    return torch.from_numpy(np.stack(made).astype(np.uint8)).permute(0, 3, 1, 2)


def given(num, code=0, amount=0, maps=None, boxes=None):
    """The same change for each of `num` images."""
    return Changes(
        np.repeat(STILL if maps is None else np.array([maps], np.int64), num, 0),
        np.full((1, num), code, np.int64),
        np.full((1, num), amount, np.int64),
        np.empty((0, 4), np.int64) if boxes is None else boxes,
    )


def compiled(images, changes, colour=None):
    """What the compiled kernels make of images [B, C, H, W]."""
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy().copy()
    change_pixels(pixels, changes.maps, changes.codes, changes.amounts)
    if colour is not None:
        erase_boxes(pixels, changes.boxes, colour)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def on_tensors(images, changes, colour=None, where="cpu"):
    """What torch makes of them."""
    pixels = images.permute(0, 2, 3, 1).contiguous().clone().to(where)
    colour = np.zeros(pixels.shape[3], np.uint8) if colour is None else colour
    device = DeviceChanges(changes, colour, *pixels.shape[1:3])
    there = copied_together(device.arrays, torch.device(where))
    return device.apply(pixels, there).permute(0, 3, 1, 2).cpu()


def changed(images, changes, colour=None):
    """Both, which are the same bits."""
    one = compiled(images, changes, colour)
    assert torch.equal(one, on_tensors(images, changes, colour))
    return one


def within(ours, theirs, levels=1):
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= levels, difference.max()


FACTORS = [0.0, 0.01, 0.34, 0.7, 0.967, 1.0, 1.033, 1.4, 1.99, 2.0]
BLENDS = {
    "brightness": (changes_of.BRIGHTNESS, v2.adjust_brightness),
    "contrast": (changes_of.CONTRAST, v2.adjust_contrast),
    "saturation": (changes_of.SATURATION, v2.adjust_saturation),
    "sharpness": (changes_of.SHARPNESS, v2.adjust_sharpness),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", BLENDS)
def test_blends_are_torchvisions(name, size, channels):
    code, theirs = BLENDS[name]
    images = images_of(*size, channels)
    for factor in FACTORS:
        ours = changed(images, given(len(images), code, round(ONE * (factor - 1))))
        within(ours, theirs(images, factor))
        if factor == 1:
            assert torch.equal(ours, images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_hues_are_torchvisions(size, channels):
    images = images_of(*size, channels)
    for hue in (-0.5, -0.31, -0.1, 0.0, 0.004, 0.17, 0.25, 0.5):
        ours = changed(images, given(len(images), changes_of.HUE, round(TURN * hue) % TURN))
        within(ours, v2.adjust_hue(images, hue))
        if hue == 0:
            assert torch.equal(ours, images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_tables_are_torchvisions(size, channels):
    images = images_of(*size, channels)
    num = len(images)
    for bits in range(9):
        ours = changed(images, given(num, changes_of.POSTERIZE, posterize_mask(bits)))
        assert torch.equal(ours, v2.posterize(images, bits))
    for twice in (0, 1, 17, 255, 256, 409, 510):
        ours = changed(images, given(num, changes_of.SOLARIZE, twice))
        assert torch.equal(ours, v2.solarize(images, twice / 2))
    within(changed(images, given(num, changes_of.AUTOCONTRAST)), v2.autocontrast(images))
    ours = changed(images, given(num, changes_of.EQUALIZE))
    assert torch.equal(ours, v2.equalize(images))


def is_near_a_tie(maps, height, width):
    """Where rounding decides which pixel is taken: bool [H, W]. float32 goes either way there."""
    y, x = np.mgrid[:height, :width]
    near = np.zeros((height, width), bool)
    for a, b, c in np.array(maps).reshape(2, 3):
        at = (a * x + b * y + c) / UNIT
        near |= np.abs(at - np.floor(at) - 0.5) < 1e-3
    return torch.from_numpy(near)


def same_but_ties(ours, theirs, maps):
    """Compare, and return the share of pixels that could be compared."""
    clear = ~is_near_a_tie(maps, *ours.shape[2:])
    assert torch.equal(ours[:, :, clear], theirs[:, :, clear])
    return clear.float().mean().item()


def by_torchvision(images, move, signed):
    """What TrivialAugmentWide does with strength `signed` of 30."""
    share = float(torch.linspace(0, 0.99, BINS)[abs(signed)]) * np.sign(signed)
    degrees = math.degrees(math.atan(share))
    pixels = int(signed * 32 / 30)  # in float32, as there, 15 is 15.99999 pixels
    plain = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    nearest = {"interpolation": InterpolationMode.NEAREST}
    if move == "rotate":
        turn = float(torch.linspace(0, 135, BINS)[abs(signed)]) * np.sign(signed)
        return v2.rotate(images, turn, **nearest)
    asked = {
        "shear x": {"shear": [degrees, 0.0], "center": [0, 0]},
        "shear y": {"shear": [0.0, degrees], "center": [0, 0]},
        "translate x": {"translate": [pixels, 0]},
        "translate y": {"translate": [0, pixels]},
    }
    return v2.affine(images, **{**plain, **nearest, **asked[move]})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("move", changes_of.MOVES)
def test_moves_are_torchvisions(move, size, channels):
    images = images_of(*size, channels)
    shares = []
    for signed in (-30, -13, -1, 0, 4, 15, 20, 30):
        maps = move_map(move, signed, *size)
        ours = changed(images, given(len(images), maps=maps))
        shares.append(same_but_ties(ours, by_torchvision(images, move, signed), maps))
    assert np.mean(shares) > 0.7


@pytest.mark.parametrize("degrees", [-180, -90, -37.5, 0, 1, 45, 90, 123, 180, 270])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 31), (257, 256)])
def test_rotations_are_torchvisions(size, degrees):
    images = images_of(*size, 3)
    maps = rotation_map(degrees, *size)
    theirs = v2.rotate(images, degrees, InterpolationMode.NEAREST)
    share = same_but_ties(changed(images, given(len(images), maps=maps)), theirs, maps)
    # a quarter turn of an odd side around the middle of an even one falls between pixels
    assert share > 0.9 or (sum(size) % 2 and degrees % 180 == 90)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_erasing_is_torchvisions(channels):
    images = images_of(33, 47, channels)
    colour = np.arange(50, 50 + channels).astype(np.uint8)
    boxes = np.array([[i, 2 * i, 5 + 4 * i, 3 + 3 * i] for i in range(len(images))])
    boxes[3] = 0
    ours = changed(images, given(len(images), boxes=boxes), colour)
    for out, image, (left, top, right, bottom) in zip(ours, images, boxes.tolist(), strict=True):
        fill = torch.from_numpy(colour)[:, None, None]
        assert torch.equal(out, v2.erase(image, top, left, bottom - top, right - left, fill))


CODES = range(changes_of.BRIGHTNESS, changes_of.HUE + 1)


@pytest.mark.parametrize("code", CODES)
def test_further_channels(code):
    """Colours are those of the first three; what needs none treats a further one as a grey image."""
    images = images_of(33, 47, 5)
    amount = {changes_of.POSTERIZE: 0xC0, changes_of.SOLARIZE: 300}.get(code, ONE // 3)
    num = len(images)
    ours = changed(images, given(num, code, amount))
    assert torch.equal(ours[:, :3], changed(images[:, :3], given(num, code, amount)))
    for further in (images[:, 3:4], images[:, 4:]):
        alone = changed(further, given(num, code, amount))
        at = 3 if torch.equal(further, images[:, 3:4]) else 4
        assert torch.equal(ours[:, at : at + 1], alone)
    grey = [changed(images[:, :count], given(num, code, amount))[:, :1] for count in (1, 2)]
    assert torch.equal(*grey)


ALL = {
    "trivial": BatchAugmentation(trivial_augment=True),
    "jitter": BatchAugmentation(color_jitter=0.4, hue_jitter=0.1),
    "brightness to saturation": BatchAugmentation(color_jitter=1.0),
    "hue": BatchAugmentation(hue_jitter=0.5),
    "dihedral": BatchAugmentation(dihedral=True),
    "erasing": BatchAugmentation(erasing=0.5),
    "all": BatchAugmentation(trivial_augment=True, dihedral=True, erasing=0.3),
}


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_a_batch_of_all_kinds_is_the_same_on_tensors(options, channels):
    random = np.random.default_rng(channels)
    images = torch.from_numpy(random.integers(0, 256, (97, channels, 24, 24), np.uint8))
    images[5:20] = images_of(24, 24, channels)[:1]
    changes = draw_changes(options, np.arange(97) * 7, 3, 2, 24, 24)
    colour = np.full(channels, 99, np.uint8)
    ours = changed(images, changes, colour)
    assert torch.equal(ours, images) == (options.hue_jitter == 0.5 and channels < 3)
    one_by_one = torch.cat(
        [
            changed(
                images[at : at + 1], draw_changes(options, np.array([7 * at]), 3, 2, 24, 24), colour
            )
            for at in range(97)
        ]
    )
    assert torch.equal(ours, one_by_one)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_a_gpu_gives_the_bits_of_the_cpu(options, channels):
    random = np.random.default_rng(channels)
    images = torch.from_numpy(random.integers(0, 256, (257, channels, 64, 64), np.uint8))
    changes = draw_changes(options, np.arange(257), 3, 2, 64, 64)
    colour = np.full(channels, 99, np.uint8)
    there = on_tensors(images, changes, colour, "cuda")
    assert torch.equal(there, compiled(images, changes, colour))


def test_maps_have_room_for_large_images():
    assert 4 * 2**MAP_BITS * 100_000 < 2**62
