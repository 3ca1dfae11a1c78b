"""Every loss against a plain reference: values, gradients, masks, soft labels, extreme logits,
shares of a batch.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.ops import sigmoid_focal_loss

from shards.errors import DataError
from train.checks import check_new
from train.config import TrainConfig
from train.optimise.loss import (
    BinaryLoss,
    CrossEntropyLoss,
    asymmetric_terms,
    bce_terms,
    build_loss,
    focal_terms,
    positive_weights,
)

B, K = 7, 5
POS_WEIGHT = torch.tensor([0.5, 1.0, 2.0, 7.0, 20.0], dtype=torch.float64)


def paper_asl(logits, labels, gamma_neg, gamma_pos, clip):
    """Ridnik et al. 2021, as written."""
    p = torch.sigmoid(logits)
    p_m = (p - clip).clamp(min=0)
    there = (1 - p) ** gamma_pos * torch.log(p)
    absent = p_m**gamma_neg * torch.log(1 - p_m)
    return -labels * there - (1 - labels) * absent


def plain_bce(logits, labels, pos_weight=None):
    return binary_cross_entropy_with_logits(logits, labels, reduction="none", pos_weight=pos_weight)


BINARY = {
    "bce": (bce_terms, plain_bce),
    "focal": (partial(focal_terms, alpha=0.25, gamma=2.0), sigmoid_focal_loss),
    "focal-3": (
        partial(focal_terms, alpha=0.6, gamma=3.0),
        partial(sigmoid_focal_loss, alpha=0.6, gamma=3.0),
    ),
    "focal-0": (partial(focal_terms, alpha=0.5, gamma=0.0), lambda x, y: 0.5 * plain_bce(x, y)),
    **{
        f"asl-{n}-{p}-{clip}": (
            partial(asymmetric_terms, gamma_neg=n, gamma_pos=p, clip=clip),
            partial(paper_asl, gamma_neg=n, gamma_pos=p, clip=clip),
        )
        for n, p, clip in ((4.0, 1.0, 0.05), (2.0, 0.0, 0.0), (0.5, 0.5, 0.2), (0.0, 0.0, 0.0))
    },
}
LOSSES = {
    **{name: BinaryLoss(terms) for name, (terms, _) in BINARY.items()},
    "weighted": BinaryLoss(bce_terms, POS_WEIGHT.float()),
    "weighted asl": BinaryLoss(BINARY["asl-4.0-1.0-0.05"][0], POS_WEIGHT.float(), 0.1),
    "smoothed": BinaryLoss(bce_terms, smoothing=0.2),
    "cross entropy": CrossEntropyLoss(),
    "smoothed cross entropy": CrossEntropyLoss(0.1),
}


def batch(one_label=False, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(B, K, generator=generator, dtype=dtype)
    labels = (torch.rand(B, K, generator=generator) < 0.3).to(dtype)
    known = torch.rand(B, K, generator=generator) < 0.7
    if one_label:
        labels = torch.eye(K, dtype=dtype)[torch.randint(K, (B,), generator=generator)]
        known = (torch.rand(B, 1, generator=generator) < 0.6).expand(B, K)
    return logits.requires_grad_(), labels, known


def is_one_label(name):
    return "cross" in name


def close(loss, expected, logits):
    """Compare values and gradients."""
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, logits, retain_graph=True)
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", BINARY)
def test_binary_losses_are_those_of_the_papers(name):
    terms, reference = BINARY[name]
    logits, labels, known = batch()
    close(BinaryLoss(terms)(logits, labels, known), reference(logits, labels)[known].sum(), logits)


def test_bce_is_the_formula():
    logits, labels, known = batch()
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    losses = -np.where(labels.numpy() > 0, np.log(p), np.log(1 - p))
    expected = losses[known.numpy()].sum()
    assert BinaryLoss(bce_terms)(logits, labels, known).item() == pytest.approx(expected, rel=1e-12)


def test_positive_weights_are_torchs():
    logits, labels, known = batch()
    expected = plain_bce(logits, labels, POS_WEIGHT)[known].sum()
    close(BinaryLoss(bce_terms, POS_WEIGHT)(logits, labels, known), expected, logits)


def test_smoothing_moves_labels_to_the_middle():
    logits, labels, known = batch()
    expected = plain_bce(logits, labels * 0.8 + 0.1)[known].sum()
    loss = BinaryLoss(bce_terms, smoothing=0.2)
    close(loss(logits, labels, known), expected, logits)
    close(loss.plain()(logits, labels, known), plain_bce(logits, labels)[known].sum(), logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_of_class_numbers(smoothing):
    logits, labels, known = batch(one_label=True)
    rows = known[:, 0]
    reference = partial(cross_entropy, logits[rows], labels[rows].argmax(1), reduction="sum")
    loss = CrossEntropyLoss(smoothing)
    close(loss(logits, labels, known), reference(label_smoothing=smoothing), logits)
    close(loss.plain()(logits, labels, known), reference(), logits)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mixed_label_costs_the_mean_of_what_it_is_mixed_of(name):
    loss = LOSSES[name]
    logits, one, _ = batch(is_one_label(name))
    other = batch(is_one_label(name), seed=1)[1]
    everything = torch.ones(B, K, dtype=torch.bool)
    mixed = loss(logits, 0.3 * one + 0.7 * other, everything)
    close(
        mixed, 0.3 * loss(logits, one, everything) + 0.7 * loss(logits, other, everything), logits
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_between_known_and_unknown_counts_in_proportion(name):
    loss = LOSSES[name]
    logits, labels, known = batch(is_one_label(name))
    expected = loss(logits, labels, known) * 0.25
    close(loss(logits, labels, known * torch.tensor(0.25, dtype=torch.float64)), expected, logits)


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_batch_add_up_and_padding_weighs_nothing(name):
    loss = LOSSES[name]
    logits, labels, known = batch(is_one_label(name))
    with torch.no_grad():
        parts = sum(
            loss(*(values[rows] for values in (logits, labels, known)))
            for rows in (slice(3), slice(3, B))
        )
        torch.testing.assert_close(parts, loss(logits, labels, known))
        assert float(loss(logits, labels, torch.zeros_like(known))) == 0
    count = loss.count(B * K, K)
    assert count == (B if is_one_label(name) else B * K)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("soft", [False, True])
def test_extreme_logits_stay_finite(name, soft):
    loss = LOSSES[name]
    extreme = torch.tensor([-1e4, -200.0, -89.0, -20.0, 0.0, 20.0, 89.0, 200.0, 1e4])
    logits = torch.cartesian_prod(extreme, extreme)
    logits = torch.cat([logits, logits, logits[:, :1]], 1).requires_grad_()
    labels = torch.eye(K)[torch.arange(len(logits)) % K]
    labels = labels * 0.6 + 0.08 if soft else labels
    value = loss(logits, labels, torch.ones(len(logits), K, dtype=torch.bool))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_the_unknown_is_zero(name):
    logits, labels, known = batch(is_one_label(name))
    LOSSES[name](logits, labels, known).backward()
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).any()


def index(task="multilabel", positives=(1, 50, 0, 99, 100), ignored=(0, 0, 10, 0, 0)):
    statistics = {"positives": list(positives), "ignored": list(ignored)}
    return SimpleNamespace(task=task, root="data/x/train", statistics=statistics, num_samples=100)


def test_positive_weights_come_from_the_index_and_are_bounded():
    weights = positive_weights(index().statistics, 100, 20.0)
    np.testing.assert_allclose(weights, [20, 1, 20, 1 / 20, 1 / 20], rtol=1e-6)
    loss = build_loss(TrainConfig(pos_weight=20), index(), torch.device("cpu"))
    assert torch.equal(loss.pos_weight, weights)


@pytest.mark.parametrize(
    ("options", "task", "says"),
    [
        ({"loss": "cross_entropy"}, "multilabel", "choose bce, focal or asl"),
        ({"loss": "asl"}, "multiclass", "choose cross_entropy"),
        ({"pos_weight": 2}, "multiclass", "pos_weight is 2"),
        ({"asl_clip": 0.1}, "multilabel", "asl_clip is 0.1, but loss is auto"),
        ({"loss": "asl", "focal_gamma": 3}, "multilabel", "focal_gamma is 3, but loss is asl"),
        ({"loss": "focal", "focal_alpha": 2}, "multilabel", "focal_alpha is 2"),
        ({"pos_weight": 0.5}, "multilabel", "pos_weight is 0.5"),
        ({"label_smoothing": 1.0}, "multilabel", "label_smoothing is 1"),
    ],
)
def test_what_contradicts_itself_is_refused(options, task, says):
    def build():
        config = TrainConfig(**options)
        check_new(config)
        build_loss(config, index(task), torch.device("cpu"))

    with pytest.raises(DataError, match=says):
        build()


@pytest.mark.parametrize("name", ["bce", "focal", "asl"])
def test_the_options_reach_the_loss(name):
    options = {
        "focal": {"focal_alpha": 0.6, "focal_gamma": 3.0},
        "asl": {"asl_gamma_neg": 2, "asl_clip": 0.0},
    }
    config = TrainConfig(loss=name, label_smoothing=0.1, **options.get(name, {}))
    terms = {
        "bce": bce_terms,
        "focal": BINARY["focal-3"][0],
        "asl": partial(asymmetric_terms, gamma_neg=2.0, gamma_pos=1.0, clip=0.0),
    }
    logits, labels, known = batch()
    expected = BinaryLoss(terms[name], smoothing=0.1)(logits, labels, known)
    assert build_loss(config, index(), torch.device("cpu"))(logits, labels, known) == expected
    by_task = {
        task: type(build_loss(TrainConfig(), index(task), torch.device("cpu")))
        for task in ("multilabel", "multiclass")
    }
    assert by_task == {"multilabel": BinaryLoss, "multiclass": CrossEntropyLoss}
