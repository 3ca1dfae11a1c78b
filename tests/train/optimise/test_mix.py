"""Mixup and cutmix: against loops over pairs, on any ranks, with labels unknown and batches cut
short.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shards.errors import DataError
from shards.pipeline.batch import Batch
from shards.sampler import GlobalPlan, Plan, World
from tests.train.optimise.test_loss import LOSSES, is_one_label
from train.config import TrainConfig
from train.optimise.mix import Mix, draw

K, SIZE = 5, 12
ALPHAS = [(0.4, 0.0), (0.0, 1.0), (0.8, 0.7)]


def global_batch(num: int, one_label: bool = False, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    labels = (torch.rand(num, K, generator=generator) < 0.4).float()
    known = torch.rand(num, K, generator=generator) < 0.7
    if one_label:
        labels = torch.eye(K)[torch.randint(K, (num,), generator=generator)]
        known = torch.ones(num, K, dtype=torch.bool)
    valid = torch.ones(num, dtype=torch.bool)
    return Batch(images, labels, known, valid, ids=torch.arange(num), num_known=int(known.sum()))


def share_of(plan: Plan, num_global: int) -> slice:
    """Which samples of a global batch are a rank's."""
    start = min(plan.world.rank * plan.local_batch_size, num_global)
    return slice(start, min(start + plan.local_batch_size, num_global))


def part_of(batch: Batch, plan: Plan, seed: int = 0) -> Batch:
    """What a rank gets of a global batch, padded with noise that is known nowhere."""
    part = share_of(plan, len(batch.images))
    num = plan.local_batch_size
    padding = global_batch(num, seed=seed + 100)
    out, whole = {}, batch.tensors()
    for name, values in padding.tensors().items():
        out[name] = values.clone()
        out[name][: part.stop - part.start] = whole[name][part]
    out["valid"][part.stop - part.start :] = False
    out["known"][part.stop - part.start :] = False
    out["images"] = out["images"].contiguous(memory_format=torch.channels_last)
    return Batch(**out, num_known=batch.num_known)


def mixer(
    mixup: float, cutmix: float, global_batch_size: int, world: World | None = None, seed: int = 3
) -> Mix:
    config = TrainConfig(mixup=mixup, cutmix=cutmix, seed=seed)
    return Mix(config, GlobalPlan(1000, global_batch_size, seed, world or World(), True))


def by_hand(batch: Batch, drawn) -> Batch:
    """Mix pixel by pixel and label by label."""
    images, labels = batch.images.double(), batch.labels.double().clone()
    mixed, weights = images.clone(), batch.known.double()
    for one in range(0, len(images) - 1, 2):
        share, (left, top, right, bottom) = drawn.shares[one // 2], drawn.boxes[one // 2]
        for own, other in ((one, one + 1), (one + 1, one)):
            if right > left and bottom > top:
                mixed[own, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
            else:
                mixed[own] = share * images[own] + (1 - share) * images[other]
            for k in range(K):
                parts = [(share, own), (1 - share, other)]
                known = [
                    (part, batch.labels[row, k].item())
                    for part, row in parts
                    if batch.known[row, k]
                ]
                weights[own, k] = sum(part for part, _ in known)
                total = sum(part * label for part, label in known)
                labels[own, k] = total / weights[own, k] if weights[own, k] > 0 else 0
    return replace(batch, images=mixed, labels=labels, known=weights)


@pytest.mark.parametrize(("mixup", "cutmix"), ALPHAS)
@pytest.mark.parametrize("num", [16, 7, 1])
def test_pairs_are_mixed_as_by_hand(mixup, cutmix, num):
    batch = global_batch(num)
    expected = by_hand(batch, draw((3, 2, 5), 8, mixup, cutmix, SIZE))
    local = part_of(batch, GlobalPlan(1000, 16, 3, World(), True))
    mixed = mixer(mixup, cutmix, 16)(local, 2, 5)
    for name in ("images", "known"):
        torch.testing.assert_close(
            getattr(mixed, name)[:num].double(), getattr(expected, name), rtol=1e-5, atol=1e-4
        )
    counts = expected.known > 0
    torch.testing.assert_close(
        mixed.labels[:num].double()[counts], expected.labels[counts], rtol=1e-5, atol=1e-6
    )
    assert (mixed.known[num:] == 0).all()
    assert mixed.known.sum().item() == pytest.approx(batch.known.sum().item(), rel=1e-5)
    assert mixed.images.is_contiguous(memory_format=torch.channels_last)
    if num == 16:
        assert not torch.equal(mixed.images, local.images.float())
    if num == 1:  # nobody to mix with
        assert torch.equal(mixed.images[:1], local.images[:1].float())


@pytest.mark.parametrize(("mixup", "cutmix"), ALPHAS)
@pytest.mark.parametrize("num_ranks", [2, 3, 4])
@pytest.mark.parametrize("num", [24, 17, 5, 1])
def test_ranks_and_padding_change_no_mixture(mixup, cutmix, num_ranks, num):
    batch = global_batch(num)
    whole = mixer(mixup, cutmix, 24)(part_of(batch, GlobalPlan(1000, 24, 3, World(), True)), 1, 7)
    for rank in range(num_ranks):
        world = World(rank, num_ranks)
        plan = GlobalPlan(1000, 24, 3, world, True)
        part = share_of(plan, num)
        mixed = mixer(mixup, cutmix, 24, world)(part_of(batch, plan, seed=rank), 1, 7)
        for name in ("images", "labels", "known"):
            assert torch.equal(
                getattr(mixed, name)[: part.stop - part.start], getattr(whole, name)[part]
            )


def test_a_draw_is_a_function_of_seed_epoch_step_and_pair():
    for alphas in ALPHAS:
        few, many = (draw((1, 2, 3), num, *alphas, 224) for num in (4, 64))
        np.testing.assert_array_equal(few.shares, many.shares[:4])
        np.testing.assert_array_equal(few.boxes, many.boxes[:4])
        assert len(np.unique(many.shares)) > 50
        for key in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
            assert not np.array_equal(draw(key, 64, *alphas, 224).shares, many.shares)


def test_shares_follow_their_distributions():
    mixed, cut, both = (
        draw((1, 0, 0), 4000, *alphas, 224) for alphas in ((0.4, 0.0), (0.0, 1.0), (0.4, 1.0))
    )
    variance = 1 / (4 * (2 * 0.4 + 1))  # of Beta(a, a)
    assert mixed.shares.mean() == pytest.approx(0.5, abs=0.03)
    assert mixed.shares.var() == pytest.approx(variance, rel=0.1)
    assert not mixed.boxes.any()
    widths, heights = (cut.boxes[:, 2:] - cut.boxes[:, :2]).T
    np.testing.assert_allclose(cut.shares, 1 - widths * heights / 224**2)
    assert cut.boxes.min() >= 0
    assert cut.boxes.max() == 224
    inside = (cut.boxes[:, :2] > 0).all(1) & (cut.boxes[:, 2:] < 224).all(1)
    np.testing.assert_array_equal(widths[inside], heights[inside])
    share_of_cuts = both.boxes.any(1).mean()
    assert share_of_cuts == pytest.approx(0.5, abs=0.04)
    np.testing.assert_array_equal(both.shares[~both.boxes.any(1)], mixed.shares[~both.boxes.any(1)])


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_mixed_labels_is_the_mixed_loss(name):
    """What the papers train: share * loss(own label) + (1 - share) * loss(other label), each where
    it is known.
    """
    batch = global_batch(16, is_one_label(name))
    drawn = draw((3, 0, 0), 8, 0.8, 0.7, SIZE)
    mixed = mixer(0.8, 0.7, 16)(batch, 0, 0)
    logits = torch.randn(16, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    other = torch.arange(16) ^ 1
    expected = torch.zeros((), dtype=torch.float64)
    for row, share in enumerate(np.repeat(drawn.shares, 2)):
        for part, source in ((share, row), (1 - share, int(other[row]))):
            rows = (
                logits[row : row + 1],
                batch.labels[source : source + 1].double(),
                batch.known[source : source + 1],
            )
            expected += part * LOSSES[name](*rows)
    loss = LOSSES[name](logits, mixed.labels.double(), mixed.known.double())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("global_batch_size", "num_ranks", "says"),
    [(15, 1, "a multiple of 2"), (20, 4, "5 samples each.*of 8")],
)
def test_pairs_on_two_ranks_are_refused(global_batch_size, num_ranks, says):
    with pytest.raises(DataError, match=says):
        mixer(0.2, 0.0, global_batch_size, World(0, num_ranks))
    mixer(0.2, 0.0, 16, World(0, num_ranks))
