"""Losses that count only what is known."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def masked_bce_sum(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Sum binary cross-entropy over known labels: logits, labels and known [B, K] -> scalar.

    A sum, not a mean: divided by the number of known labels of the *global* batch it is the same loss on any number of
    ranks, and padding (known nowhere) weighs nothing.
    """
    losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return torch.where(known, losses, 0.0).sum()
