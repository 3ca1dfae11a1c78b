"""Views of an image and what becomes of their scores: each against a plain computation of its own."""

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, FiveCrop, Resize, TenCrop

from eval.prediction.ensemble import EnsembleMember, check_sizes, predict_ensemble, who_looks
from eval.prediction.evaluate import predict
from eval.prediction.tta import Look, looks
from eval.prediction.tta import views as cut_views
from shards.augment.pixel_ops import change_pixels
from shards.augment.sample_changes import _symmetries
from shards.choices import TestTimeName
from shards.dataset import ShardDataset
from shards.errors import DataError
from shards.loader import Loader, View

SIZE = 48
NUM_VIEWS = {"none": 1, "flip": 2, "fivecrop": 5, "tencrop": 10, "multiscale": 3, "dihedral": 8}
CENTRE_FIRST = (4, 0, 1, 2, 3)  # of torchvision's order


def network(seed=0, num_classes=11):
    """A network that sees where in the image what is, of any size."""
    weight = torch.randn((num_classes, 3, 4, 4), generator=torch.Generator().manual_seed(seed))

    def forward(images):
        pooled = torch.nn.functional.adaptive_avg_pool2d(images.float() / 64 - 2, 4)
        return torch.einsum("bcij,kcij->bk", pooled, weight)

    return forward


def symmetric(images):
    forward = network(3)
    return forward(images) + forward(images.flip(3))


def batches_of(index, batch_size=16):
    return lambda look: Loader(
        index, batch_size, view=View(look.size, False, five_crops=look.five_crops)
    )


def ensemble(index, members, tta="none", reduce="mean", batch_size=16):
    return predict_ensemble(
        members, tta, reduce, batches_of(index, batch_size), index.num_samples, lambda x: x
    )


def torchvision_views(index, tta, size=SIZE):
    """The images of every view, by torchvision's own transforms on whole images: a list of uint8
    [N, 3, s, s].
    """
    whole = [
        Image.fromarray(ShardDataset(index).image(number)) for number in range(index.num_samples)
    ]

    def cut(size, transform):
        return [transform(Resize(round(size / 0.875))(image)) for image in whole]

    if tta == "multiscale":
        per_view = [cut(s, CenterCrop(s)) for s in (size, round(1.25 * size), round(1.5 * size))]
    elif tta in ("fivecrop", "tencrop", "torchvision's tencrop"):
        per_view = list(
            zip(*cut(size, (TenCrop if tta.startswith("torch") else FiveCrop)(size)), strict=True)
        )
    else:
        per_view = [cut(size, CenterCrop(size))]
    if tta in ("flip", "tencrop"):
        per_view += [
            [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in view]
            for view in per_view
        ]
    if tta == "dihedral":
        (centre,) = per_view
        per_view += [[image.transpose(turn) for image in centre] for turn in Image.Transpose]
    return [
        torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in view])
        for view in per_view
    ]


@pytest.mark.parametrize("cache", ["none", "ram"])
@pytest.mark.parametrize("size", [33, 64])
def test_the_five_crops_are_torchvisions(index, size, cache):
    expected = torchvision_views(index, "fivecrop", size)
    loader = Loader(index, 16, num_threads=3, view=View(size, False, five_crops=True), cache=cache)
    for _ in range(2):
        parts = [batch.images.unflatten(0, (5, 16))[:, batch.valid] for batch in loader]
        given = torch.cat(parts, dim=1)
        assert given.shape == (5, index.num_samples, 3, size, size)
        for crop, number in zip(given, CENTRE_FIRST, strict=True):
            assert torch.equal(crop, expected[number])


def test_the_centre_of_five_is_the_centre_alone(index):
    """Cut out of its own part of the image, up to the rounding of the filter's weights."""
    alone, five = (batches_of(index)(Look(SIZE, five_crops)) for five_crops in (False, True))
    for one, other in zip(alone, five, strict=True):
        assert torch.equal(one.ids, other.ids)
        difference = (one.images.int() - other.images[:16].int()).abs()
        assert difference.float().mean() < 0.2
        assert difference.max() <= 3


def test_mirrored_corners_are_torchvisions(index):
    """Of the mirrored centre torchvision rounds the place anew: a pixel to the side where the room
    is odd.
    """
    ten = torchvision_views(index, "torchvision's tencrop")
    for ours, theirs in ((0, 6), (1, 5), (2, 8), (3, 7)):
        assert torch.equal(ten[ours].flip(3), ten[theirs])
    assert not torch.equal(ten[4].flip(3), ten[9])


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("tta", get_args(TestTimeName))
def test_views_become_one_as_a_plain_computation_says(index, tta, reduce):
    forward = network()
    outputs = ensemble(index, [EnsembleMember("a", forward, SIZE)], tta, reduce)
    each = torch.stack([torch.sigmoid(forward(view)) for view in torchvision_views(index, tta)])
    expected = each.mean(0) if reduce == "mean" else each.amax(0)
    # The pixels differ by less than a grey level from torchvision's; the network weighs thousands
    # of them.
    assert (outputs.scores - expected).abs().mean() < 2e-3
    assert torch.equal(outputs.labels, torch.from_numpy(index.labels()))
    assert torch.equal(outputs.known, torch.from_numpy(index.known()))
    if tta != "none":
        assert (outputs.scores - each[0]).abs().mean() > 2e-2


def view_of(forward, look, tta, number):
    return lambda images: forward(cut_views(images, look, tta)[number])


@pytest.mark.parametrize("tta", get_args(TestTimeName))
def test_views_become_one_exactly(index, tta):
    """The same against `predict` of one view at a time, to rounding."""
    forward = network()
    each = [
        predict(
            view_of(forward, look, tta, number),
            batches_of(index)(look),
            index.num_samples,
            lambda x: x,
        ).scores
        for look in looks(tta, SIZE)
        for number in range(NUM_VIEWS[tta] // len(looks(tta, SIZE)))
    ]
    assert len(each) == NUM_VIEWS[tta]
    member = [EnsembleMember("a", forward, SIZE)]
    torch.testing.assert_close(
        ensemble(index, member, tta).scores, torch.stack(each).mean(0), rtol=1e-6, atol=1e-7
    )
    highest = ensemble(index, member, tta, "max").scores
    torch.testing.assert_close(highest, torch.stack(each).amax(0), rtol=1e-6, atol=1e-7)
    if tta == "none":
        assert torch.equal(ensemble(index, member, tta).scores, each[0])


def test_a_symmetric_network_sees_nothing_new_in_a_mirror(index):
    plain, flip = (
        ensemble(index, [EnsembleMember("a", symmetric, SIZE)], tta) for tta in ("none", "flip")
    )
    torch.testing.assert_close(flip.scores, plain.scores, rtol=1e-6, atol=1e-7)
    five, ten = (
        ensemble(index, [EnsembleMember("a", symmetric, SIZE)], tta, "max")
        for tta in ("fivecrop", "tencrop")
    )
    torch.testing.assert_close(ten.scores, five.scores, rtol=1e-6, atol=1e-7)


def test_a_network_that_turns_alike_sees_nothing_new_in_any_symmetry(index):
    def forward(images):
        turned = [images.rot90(turns, (2, 3)) for turns in range(4)]
        return sum(symmetric(each) for each in turned)

    plain, dihedral = (
        ensemble(index, [EnsembleMember("a", forward, SIZE)], tta) for tta in ("none", "dihedral")
    )
    torch.testing.assert_close(dihedral.scores, plain.scores, rtol=1e-5, atol=1e-6)


def test_the_symmetries_are_those_of_training():
    images = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    shown = cut_views(images, Look(9), "dihedral")
    assert len({view.numpy().tobytes() for view in shown}) == 8
    for view, maps in zip(shown, _symmetries(9), strict=True):
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy().copy()
        none = np.empty((0, 2), np.int64)
        change_pixels(pixels, np.stack([maps, maps]), none, none)
        assert torch.equal(view, torch.from_numpy(pixels).permute(0, 3, 1, 2))


@pytest.mark.parametrize("tta", ["none", "tencrop", "dihedral"])
@pytest.mark.parametrize("batch_size", [1, 7, 70, 300])
def test_the_batch_size_changes_nothing(index, tta, batch_size):
    member = [EnsembleMember("a", network(), SIZE)]
    one, other = ensemble(index, member, tta), ensemble(index, member, tta, batch_size=batch_size)
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-5, atol=1e-6)
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.known, other.known)


@pytest.mark.parametrize("sizes", [(SIZE, SIZE), (SIZE, 60)])
@pytest.mark.parametrize(
    ("tta", "reduce"), [("none", "mean"), ("tencrop", "max"), ("multiscale", "mean")]
)
def test_several_networks_are_the_mean_of_their_own_probabilities(index, sizes, tta, reduce):
    members = [EnsembleMember(str(seed), network(seed), size) for seed, size in enumerate(sizes)]
    together = ensemble(index, members, tta, reduce)
    alone = [ensemble(index, [member], tta, reduce).scores for member in members]
    assert (alone[0] - alone[1]).abs().mean() > 0.05
    torch.testing.assert_close(together.scores, (alone[0] + alone[1]) / 2, rtol=1e-6, atol=1e-7)


def test_what_several_networks_see_is_decoded_once(index):
    members = [
        EnsembleMember("a", network(0), 40),
        EnsembleMember("b", network(1), 40),
        EnsembleMember("c", network(2), 50),
    ]
    asked = []

    def batches(look):
        asked.append(look)
        return batches_of(index)(look)

    predict_ensemble(members, "multiscale", "mean", batches, index.num_samples, lambda x: x)
    # 50 serves all three, 60 two
    assert sorted(look.size for look in asked) == [40, 50, 60, 62, 75]
    assert who_looks(members, "multiscale")[Look(50)] == [0, 1, 2]
    assert who_looks(members, "multiscale")[Look(60)] == [0, 1]
    # trained on whole images: shares no look with others
    small = EnsembleMember("d", network(3), 40, crop_share=1.0)
    assert who_looks([*members, small], "none") == {
        Look(40): [0, 1],
        Look(50): [2],
        Look(40, crop_share=1.0): [3],
    }


def test_a_nan_stays_one(index):
    def broken(images):
        logits = network()(images)
        logits[:, 2] = float("nan")
        return logits

    for reduce in ("mean", "max"):
        scores = ensemble(
            index,
            [EnsembleMember("a", broken, SIZE), EnsembleMember("b", network(1), SIZE)],
            "flip",
            reduce,
        ).scores
        assert scores[:, 2].isnan().all()
        assert not scores[:, [0, 1, 3]].isnan().any()


def test_a_network_of_fixed_size_is_refused_before_the_first_batch():
    def fixed(images):
        assert images.shape[2] == SIZE, f"input height ({images.shape[2]}) is not {SIZE}"
        return network()(images)

    cpu = torch.device("cpu")
    for tta in ("none", "flip", "fivecrop", "tencrop"):
        check_sizes([EnsembleMember("runs/vit/best", fixed, SIZE)], tta, cpu)
    for members, tta, size in (
        ([EnsembleMember("runs/vit/best", fixed, SIZE)], "multiscale", "60|72"),
        (
            [
                EnsembleMember("runs/x/best", network(), SIZE),
                EnsembleMember("runs/vit/best", fixed, 80),
            ],
            "none",
            "80",
        ),
    ):
        with pytest.raises(
            DataError, match=f"^runs/vit/best: its network does not take images of ({size}) pixels"
        ) as e:
            check_sizes(members, tta, cpu)
        assert "\n" not in str(e.value)
