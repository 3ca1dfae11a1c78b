"""Metrics of scores that arithmetic on whole numbers makes: float64 results, spelled in hex."""

import torch
from torch import Tensor

from eval.metrics import average_precision, tail_accuracy
from eval.ranking import rank

NUM_SAMPLES, NUM_CLASSES = 2_003, 7


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Make scores float32, some of them tied, labels and known [N, K], without a generator."""
    numbers = torch.arange(NUM_SAMPLES * NUM_CLASSES).view(NUM_SAMPLES, NUM_CLASSES)
    scrambled = (numbers * 2_654_435_761) % 2**24
    scores = scrambled.float() / 2**24
    scores[:, 1] = (scores[:, 1] * 8).floor() / 8
    labels = (scrambled * 48_271 % 65_537) % 11 < 1 + (scores > 0.75) * 3
    return scores, labels, numbers % 13 != 0


def metrics() -> dict[str, str]:
    """Return AP, tail accuracy and the highest and lowest samples, each as one line."""
    scores, labels, known = problem()
    tails = tail_accuracy(scores, labels, torch.tensor([0.5, 0.75, 0.9]), known)
    top, bottom = rank(scores, 5, known)
    return {
        "average precision": spelled(average_precision(scores, labels, known)),
        "tail accuracy": spelled(tails),
        "ranking": str([top.tolist(), bottom.tolist()]),
    }


def spelled(values: Tensor) -> str:
    return " ".join(float(value).hex() for value in values.flatten())
