"""Which samples the report shows of each class: the highest and lowest scores, and the most wrong
ones.
"""

import difflib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from eval.metrics.multiclass import predicted_classes, target_classes
from eval.prediction.predictions import Predictions
from eval.ranking import rank
from shards.errors import DataError
from shards.pages.spelling import plain

NUM_WRONG = 20  # highest without the class, and lowest with it
NUM_CLASSES = 5  # chosen at random where none is named
MAX_PICTURES = 3000  # in one report: some 9 MB of photographs

Shown = tuple[int, float]  # sample number, score
# sample number, score of the class it is taken for, its class, that one
Mistake = tuple[int, float, int, int]


@dataclass(frozen=True)
class Gallery:
    """The samples to show of one class."""

    highest: Sequence[Shown]
    lowest: Sequence[Shown]
    false_positives: Sequence[Shown]  # negatives by falling score
    false_negatives: Sequence[Shown]  # positives by rising score
    is_shortened: bool = False  # to keep the page small

    def samples(self) -> set[int]:
        """Number the samples."""
        parts = (self.highest, self.lowest, self.false_positives, self.false_negatives)
        return {sample for part in parts for sample, _ in part}


def choose_classes(
    class_names: Sequence[str], names: Sequence[str] | None, seed: int, num: int = NUM_CLASSES
) -> list[int]:
    """Return the classes to show: those named, in that order, each once; else `num` drawn by
    `seed`.
    """
    if names is None:
        return sorted(
            random.Random(seed).sample(range(len(class_names)), min(num, len(class_names)))
        )
    numbers = {name: index for index, name in enumerate(class_names)}
    unknown = [name for name in names if name not in numbers]
    if unknown:
        near = difflib.get_close_matches(unknown[0], class_names, NUM_CLASSES)
        some = ", ".join(map(plain, class_names[:NUM_CLASSES]))
        more = ", ..." if len(class_names) > NUM_CLASSES else ""
        hint = f"did you mean {', '.join(map(plain, near))}?" if near else f"there are {some}{more}"
        raise DataError(f"--classes: no class is named {', '.join(map(repr, unknown))}; {hint}")
    return [numbers[name] for name in dict.fromkeys(names)]


def build_galleries(
    predictions: Predictions, chosen: Sequence[int], num_images: int
) -> list[Gallery]:
    """Return the gallery of every class, those of `chosen` of full length.

    The others are shortened together where all of them would show more than `MAX_PICTURES` samples.
    """
    scores = predictions.scores
    known = predictions.known.bool()
    positive = predictions.labels > 0
    num_wrong = min(num_images, NUM_WRONG)
    highest, lowest = (_shown(ids, scores) for ids in rank(scores, num_images, known))
    false_positives = _shown(rank(scores, num_wrong, known & ~positive)[0], scores)
    false_negatives = _shown(rank(scores, num_wrong, known & positive)[1], scores)
    columns = zip(highest, lowest, false_positives, false_negatives, strict=True)
    full = [Gallery(*column) for column in columns]
    kept = set(chosen)
    for share in (1.0, 0.5, 0.25, 0.1, 0.02, 0.0):
        galleries = [
            gallery
            if number in kept
            else _shortened(gallery, share * num_images, share * num_wrong)
            for number, gallery in enumerate(full)
        ]
        if len(set().union(*(gallery.samples() for gallery in galleries))) <= MAX_PICTURES:
            break
    return galleries


def _shown(ids: Tensor, scores: Tensor) -> list[list[Shown]]:
    """Pair the samples [K, k], -1 where there is none, with their scores."""
    values = scores.T.gather(1, ids.clamp(min=0)).double().tolist()
    rows = zip(ids.tolist(), values, strict=True)
    return [[pair for pair in zip(*row, strict=True) if pair[0] >= 0] for row in rows]


def _shortened(gallery: Gallery, num_images: float, num_wrong: float) -> Gallery:
    images = round(num_images)
    wrong = round(num_wrong)
    return Gallery(
        gallery.highest[:images],
        gallery.lowest[:images],
        gallery.false_positives[:wrong],
        gallery.false_negatives[:wrong],
        images < len(gallery.highest)
        or wrong < max(len(gallery.false_positives), len(gallery.false_negatives)),
    )


def true_labels(predictions: Predictions, samples: Sequence[int]) -> Mapping[int, list[int]]:
    """Return the known positive classes of each sample."""
    rows = ((predictions.labels > 0) & predictions.known.bool())[list(samples)].tolist()
    return {
        sample: [number for number, shows in enumerate(row) if shows]
        for sample, row in zip(samples, rows, strict=True)
    }


def surest_mistakes(predictions: Predictions, num: int) -> list[Mistake]:
    """Return the samples with one label that are taken for another class, the surest first."""
    scores = predictions.scores
    targets = target_classes(predictions.labels, predictions.known)
    guesses = predicted_classes(scores)
    highest = scores.gather(1, guesses[:, None])
    samples = rank(highest, num, ((guesses != targets) & (targets >= 0))[:, None])[0][0].tolist()
    return [
        (sample, highest[sample, 0].item(), int(targets[sample]), int(guesses[sample]))
        for sample in samples
        if sample >= 0
    ]
