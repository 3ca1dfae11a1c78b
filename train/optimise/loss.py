"""Losses that count only what is known, for soft labels too.

Every loss is a sum, not a mean: divided by the count of the *global* batch (`count`) it is the same
on any number of ranks and however a batch is split, and padding, known nowhere, weighs nothing.
`known` may be a bool or a weight from 0 to 1, as mixed images have it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, softplus

from shards.errors import DataError
from shards.index import DatasetIndex
from train.config import TrainConfig

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]


class Loss(Protocol):
    """What a step and validation ask of a loss. B = samples, K = classes.

    `has_answers` says whether the highest logit of a sample is right or wrong.
    """

    @property
    def has_answers(self) -> bool: ...

    def __call__(self, logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        """Sum up: logits, labels from 0 to 1, known [B, K] -> scalar."""

    def count(self, num_known: float, num_classes: int) -> float:
        """Tell what the sum over the global batch is divided by, from its number of known labels."""

    def plain(self) -> "Loss":
        """Return the same loss of unsmoothed labels, for validation."""


@dataclass(frozen=True, eq=False)
class BinaryLoss:
    """A question of its own for each class. `terms` gives what each logit costs if the label is
    there, and if not.

    A label y costs y times the one plus 1 - y times the other, so that a soft label costs what the
    two labels that it was mixed of cost on average. `pos_weight` [K] multiplies the first, as in
    torch's BCEWithLogitsLoss. `smoothing` e moves labels from 0 and 1 to e/2 and 1 - e/2.
    """

    terms: Terms
    pos_weight: Tensor | None = None
    smoothing: float = 0.0
    has_answers: ClassVar[bool] = False

    def __call__(self, logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        if_there, if_not = self.terms(logits)
        if self.pos_weight is not None:
            if_there = if_there * self.pos_weight
        if self.smoothing:
            labels = labels * (1 - self.smoothing) + self.smoothing / 2
        losses = labels * if_there + (1 - labels) * if_not
        if known.dtype == torch.bool:  # each launch on a GPU counts
            return torch.where(known, losses, 0.0).sum()
        return torch.where(known > 0, losses * known, 0.0).sum()

    def count(self, num_known: float, num_classes: int) -> float:
        return num_known

    def plain(self) -> "BinaryLoss":
        return replace(self, smoothing=0.0)


@dataclass(frozen=True)
class CrossEntropyLoss:
    """One question for each sample: which class? A sample counts where all its labels are known.

    `smoothing` e moves the share e of a label evenly to all classes, as in torch's
    CrossEntropyLoss.
    """

    smoothing: float = 0.0
    has_answers: ClassVar[bool] = True

    def __call__(self, logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        losses = cross_entropy(
            logits, labels.to(logits.dtype), reduction="none", label_smoothing=self.smoothing
        )
        weights = known.to(logits.dtype).amin(1)
        return torch.where(weights > 0, losses * weights, 0.0).sum()

    def count(self, num_known: float, num_classes: int) -> float:
        return num_known / num_classes

    def plain(self) -> "CrossEntropyLoss":
        return replace(self, smoothing=0.0)


def bce_terms(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy: -log p and -log(1 - p), p = sigmoid(logits)."""
    return softplus(-logits), softplus(logits)


def focal_terms(logits: Tensor, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal loss (Lin et al. 2017, eq. 5): -a (1-p)^g log p and -(1-a) p^g log(1-p).

    Powers are taken of logarithms: exact for extreme logits, with a finite gradient for every gamma
    >= 0.
    """
    if_there = alpha * torch.exp(gamma * logsigmoid(-logits)) * softplus(-logits)
    if_not = (1 - alpha) * torch.exp(gamma * logsigmoid(logits)) * softplus(logits)
    return if_there, if_not


def asymmetric_terms(
    logits: Tensor, gamma_neg: float, gamma_pos: float, clip: float
) -> tuple[Tensor, Tensor]:
    """Asymmetric loss (Ridnik et al. 2021, eq. 4 to 7): -(1-p)^g+ log p and -q^g- log(1-q), q =
    max(p - clip, 0).

    The gradient goes through the focusing factors too, as in the paper's analysis of it.
    """
    if_there = torch.exp(gamma_pos * logsigmoid(-logits)) * softplus(-logits)
    if clip == 0:
        return if_there, torch.exp(gamma_neg * logsigmoid(logits)) * softplus(logits)
    shifted = torch.sigmoid(logits) - clip
    counts = shifted > 0
    # what does not count must not make the gradient NaN either
    safe = torch.where(counts, shifted, 0.5)
    left = torch.where(counts, torch.sigmoid(-logits) + clip, 0.5)  # 1 - q, exact where p is near 1
    return if_there, torch.where(counts, -(safe**gamma_neg) * torch.log(left), 0.0)


def positive_weights(statistics: dict[str, Any], num_samples: int, highest: float) -> Tensor:
    """Return known negatives / positives of each class [K], from 1 / `highest` to `highest`."""
    positives = torch.tensor(statistics["positives"], dtype=torch.float64)
    negatives = num_samples - torch.tensor(statistics["ignored"], dtype=torch.float64) - positives
    ratios = torch.where(positives > 0, negatives / positives.clamp(min=1), highest)
    return ratios.clamp(1 / highest, highest).float()


def build_loss(config: TrainConfig, index: DatasetIndex, device: torch.device) -> Loss:
    """Make the loss of a run on the training split `index`. Raises DataError where it does not fit
    the task.
    """
    name = config.loss
    if name == "auto":
        name = "cross_entropy" if index.task == "multiclass" else "bce"
    if (name == "cross_entropy") != (index.task == "multiclass"):
        fit = "cross_entropy" if index.task == "multiclass" else "bce, focal or asl"
        raise DataError(
            f"loss is {name}, but the task of {index.root} is {index.task}: choose {fit}"
        )
    if name == "cross_entropy":
        if config.pos_weight:
            raise DataError(
                f"pos_weight is {config.pos_weight:g}, which cross_entropy does not know: leave it "
                f"out"
            )
        return CrossEntropyLoss(config.label_smoothing)
    terms: dict[str, Terms] = {
        "bce": bce_terms,
        "focal": partial(focal_terms, alpha=config.focal_alpha, gamma=config.focal_gamma),
        "asl": partial(
            asymmetric_terms,
            gamma_neg=config.asl_gamma_neg,
            gamma_pos=config.asl_gamma_pos,
            clip=config.asl_clip,
        ),
    }
    weights = None
    if config.pos_weight:
        weights = positive_weights(index.statistics, index.num_samples, config.pos_weight).to(
            device
        )
    return BinaryLoss(terms[name], weights, config.label_smoothing)
