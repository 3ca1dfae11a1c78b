"""What each sample draws: a function of (seed, epoch, sample), distributed as torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import RandomErasing, TrivialAugmentWide

from shards.augment import sample_changes as changes_of
from shards.augment.pixel_ops import change_pixels
from shards.augment.sample_changes import (
    ONE,
    TURN,
    UNIT,
    BatchAugmentation,
    Changes,
    composed,
    draw_changes,
    move_map,
)
from shards.errors import DataError

EVERYTHING = BatchAugmentation(trivial_augment=True, dihedral=True, erasing=0.5)
JITTER = BatchAugmentation(color_jitter=0.4, hue_jitter=0.1, erasing=0.25)
MANY = np.arange(40_000)


def parts(changes: Changes) -> list[np.ndarray]:
    return [changes.maps, changes.codes.T, changes.amounts.T, changes.boxes]


@pytest.mark.parametrize("options", [EVERYTHING, JITTER])
def test_a_sample_draws_by_seed_epoch_and_id_alone(options):
    ids = np.random.default_rng(0).permutation(500)
    whole = parts(draw_changes(options, ids, 5, 3, 40, 40))
    for some in (slice(0, 1), slice(7, 90), slice(499, 500), slice(None, None, -3)):
        alone = parts(draw_changes(options, ids[some], 5, 3, 40, 40))
        assert all(np.array_equal(one, all_[some]) for one, all_ in zip(alone, whole, strict=True))
    for seed, epoch in ((6, 3), (5, 4), (3, 5)):
        other = parts(draw_changes(options, ids, seed, epoch, 40, 40))
        for one, another in zip(other, whole, strict=True):
            moved = (one != another).any(1) if one.size else np.ones(1)
            assert moved.mean() > 0.2 or np.array_equal(whole[1], one)


def test_the_draws_never_change_between_releases():
    """Changed, a run that goes on after an update would train on other images."""
    found = [
        np.concatenate(
            [part.ravel() for part in parts(draw_changes(options, MANY[:9], 1, 2, 32, 32))]
        )
        for options in (EVERYTHING, JITTER)
    ]
    assert [int(np.dot(part, np.arange(1, len(part) + 1))) for part in found] == GOLDEN


GOLDEN = [196492579986, 121597063]


def test_operations_and_strengths_are_as_likely_as_each_other():
    changes = draw_changes(BatchAugmentation(trivial_augment=True), MANY, 0, 0, 224, 224)
    num = len(MANY) / changes_of.NUM_OPERATIONS
    counts = np.bincount(changes.codes[0], minlength=10)
    still = (changes.maps == [UNIT, 0, 0, 0, UNIT, 0]).all(1)
    assert abs(np.count_nonzero(~still) - 5 * num * 30 / 31) < 5 * np.sqrt(5 * num)
    assert abs(counts[0] - 6 * num) < 5 * np.sqrt(6 * num)
    assert (abs(counts[1:9] - num) < 5 * np.sqrt(num)).all()
    factors = changes.amounts[0][changes.codes[0] == changes_of.CONTRAST] / ONE
    assert len(np.unique(factors)) == 61
    assert abs(factors).max() < 0.9901
    assert abs(factors.mean()) < 0.05


def test_strengths_are_torchvisions():
    """Of every operation and of each of its 31 strengths."""
    space = TrivialAugmentWide()._AUGMENTATION_SPACE
    _, codes, amounts = changes_of._trivial_tables(224, 224)
    names = ["Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize"]
    for number, name in enumerate(names, start=6):
        theirs = space[name][0](31, 224, 224).double().numpy()
        ours = amounts[number, :, 0]
        if codes[number] == changes_of.POSTERIZE:
            assert [changes_of.posterize_mask(int(bits)) for bits in theirs] == ours.tolist()
        elif codes[number] == changes_of.SOLARIZE:
            assert np.allclose(ours / 2, 255 * theirs, atol=1e-4)
        else:
            assert np.allclose(ours / ONE, theirs, atol=1e-5)
            assert np.array_equal(ours, -amounts[number, :, 1])
    assert len(space) == changes_of.NUM_OPERATIONS


def test_jitter_is_drawn_evenly():
    options = BatchAugmentation(color_jitter=0.4, hue_jitter=0.1)
    changes = draw_changes(options, MANY, 0, 0, 64, 64)
    assert changes.codes[:, 0].tolist() == [
        changes_of.BRIGHTNESS,
        changes_of.CONTRAST,
        changes_of.SATURATION,
        changes_of.HUE,
    ]
    factors = changes.amounts[:3] / ONE
    hues = (changes.amounts[3] / TURN + 0.5) % 1 - 0.5
    for values, most in ((factors, 0.4), (hues[None], 0.1)):
        assert abs(values).max() <= most + 1e-5
        assert np.allclose(values.mean(1), 0, atol=0.02 * most)
        assert np.allclose(values.std(1), most / 3**0.5, rtol=0.02)
    assert abs(np.corrcoef(np.vstack([factors, hues]))[np.triu_indices(4, 1)]).max() < 0.03


def test_boxes_are_torchvisions():
    boxes = draw_changes(BatchAugmentation(erasing=0.5), MANY, 0, 0, 48, 64).boxes
    ours = (boxes[:, 2:] - boxes[:, :2]).astype(float)
    kept = ours.any(1)
    assert abs(kept.mean() - 0.5) < 0.02
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 64).all()
    assert (boxes[:, 3] <= 48).all()
    torch.manual_seed(0)
    draw = RandomErasing(p=1)
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    made = [draw.make_params([image]) for _ in range(4000)]
    theirs = np.array(
        [[one["w"], one["h"], one["j"], one["i"]] for one in made if one["v"] is not None]
    )
    mine = np.concatenate([ours, boxes[:, :2]], axis=1)[kept]
    assert np.allclose(mine.mean(0), theirs.mean(0), rtol=0.06)
    assert np.allclose(mine.std(0), theirs.std(0), rtol=0.06)


def moved(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    out = image[None].copy()
    none = np.empty((0, 1), np.int64)
    change_pixels(out, np.asarray(maps, np.int64).reshape(1, 6), none, none)
    return out[0]


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_the_eight_symmetries(size):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    ours = [moved(image, maps) for maps in changes_of._symmetries(size)]
    turned = [np.rot90(image, turns) for turns in range(4)]
    theirs = turned + [each[:, ::-1] for each in turned]
    assert np.array_equal(ours[0], image)
    assert {each.tobytes() for each in ours} == {
        np.ascontiguousarray(each).tobytes() for each in theirs
    }
    assert len({each.tobytes() for each in ours}) == (8 if size > 1 else 1)


def test_symmetries_are_equally_likely():
    maps = draw_changes(BatchAugmentation(dihedral=True), MANY, 0, 0, 9, 9).maps
    _, counts = np.unique(maps, axis=0, return_counts=True)
    assert len(counts) == 8
    assert (abs(counts - len(MANY) / 8) < 5 * np.sqrt(len(MANY) / 8)).all()


@pytest.mark.parametrize("move", changes_of.MOVES)
def test_a_symmetry_comes_before_a_move(move):
    image = np.random.default_rng(1).integers(0, 256, (21, 21, 3), np.uint8)
    maps = np.array([move_map(move, 13, 21, 21)], np.int64)
    for symmetry in changes_of._symmetries(21):
        both = moved(image, composed(symmetry[None], maps))
        assert (both == moved(moved(image, symmetry), maps)).mean() > 0.98  # ties may differ


def test_a_symmetry_needs_a_square():
    with pytest.raises(DataError, match="images are 30 x 20 pixels: dihedral augmentation needs"):
        draw_changes(BatchAugmentation(dihedral=True), MANY[:2], 0, 0, 20, 30)
