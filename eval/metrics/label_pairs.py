"""Label co-occurrence and label confusion."""

from torch import Tensor


def co_occurrence(labels: Tensor, known: Tensor) -> Tensor:
    """Count the samples that show both classes, int64 [K, K]; on the diagonal those that show the
    class.
    """
    positive = ((labels > 0) & known).double()  # whole numbers up to 2**53 add up exactly
    return (positive.T @ positive).long()


def label_confusion(
    scores: Tensor, labels: Tensor, known: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Count what is wrongly predicted beside each true label: (wrong, of), int64 [K, K] each.

    Row a, column b: of the samples that show a and not b, how many score b at or above the
    threshold; on the diagonal, of those that show a, how many score a there. Only known labels
    count.
    """
    positive = (labels > 0) & known
    negative = ~(labels > 0) & known
    predicted = scores.double() >= threshold
    shown = positive.double()
    wrong = shown.T @ (predicted & negative).double()
    of = shown.T @ negative.double()
    wrong.diagonal().copy_((predicted & positive).sum(0))
    of.diagonal().copy_(positive.sum(0))
    return wrong.long(), of.long()
