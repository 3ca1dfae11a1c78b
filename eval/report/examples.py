"""A few samples of a single-label set, with the probability of every class."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metrics.multiclass import predicted_classes, target_classes
from eval.prediction.predictions import Predictions, finite_list

NUM_EXAMPLES = 10
MAX_COLUMNS = 20  # classes with a column of their own; of more only the likeliest are shown
NUM_LIKELIEST = 5


@dataclass(frozen=True)
class Cell:
    """One probability: `kind` is true for the sample's class, wrong for another one that is
    likeliest, else empty.
    """

    text: str
    probability: float
    kind: str


@dataclass(frozen=True)
class ExampleRow:
    """One sample of the table."""

    sample: int
    key: str
    name: str  # of its class
    predicted: str
    cells: Sequence[Cell]


def draw_examples(
    predictions: Predictions, seed: int, num: int = NUM_EXAMPLES
) -> list[dict[str, Any]]:
    """Draw samples by `seed` and tell their classes and the probability of every class, in the
    index's order.
    """
    targets = target_classes(predictions.labels, predictions.known).tolist()
    counted = [sample for sample, target in enumerate(targets) if target >= 0]
    chosen = sorted(random.Random(seed).sample(counted, min(num, len(counted))))
    predicted = predicted_classes(predictions.scores[chosen]).tolist()
    names = predictions.class_names
    return [
        {
            "sample": sample,
            "key": str(predictions.keys[sample]),
            "class": names[targets[sample]],
            "predicted": names[guess],
            "probabilities": finite_list(predictions.scores[sample]),
        }
        for sample, guess in zip(chosen, predicted, strict=True)
    ]


def example_table(
    drawn: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> tuple[list[str], list[ExampleRow]]:
    """Lay out examples: the heads of the columns, and a row per sample.

    A column per class; of many classes the likeliest ones, and the sample's own.
    """
    names = list(class_names)
    rows = []
    for example in drawn:
        probabilities = example["probabilities"]
        true = example["class"]
        guess = example["predicted"]
        kinds = {guess: "wrong"} | {true: "true"}
        shown = [(number, "") for number in range(len(names))]
        if len(names) > MAX_COLUMNS:
            falling = sorted(range(len(names)), key=lambda number: -probabilities[number])[
                :NUM_LIKELIEST
            ]
            shown = [
                (names.index(true), ""),
                *((number, f" {names[number]}") for number in falling),
            ]
        cells = [
            Cell(
                f"{probabilities[number]:.3f}{name}",
                probabilities[number],
                kinds.get(names[number], ""),
            )
            for number, name in shown
        ]
        rows.append(ExampleRow(example["sample"], example["key"], true, guess, cells))
    if len(names) <= MAX_COLUMNS:
        return names, rows
    return ["its class", "likeliest", *(f"{place}." for place in range(2, NUM_LIKELIEST + 1))], rows
