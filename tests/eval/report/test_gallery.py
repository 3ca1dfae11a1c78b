"""Which classes and samples are shown."""

import pytest
import torch

from eval.prediction.predictions import Predictions
from eval.report.gallery import build_galleries, choose_classes, true_labels
from shards.errors import DataError


def make(num_samples, num_classes):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand((num_samples, num_classes), generator=generator)
    labels = torch.rand(scores.shape, generator=generator) < 0.3
    known = torch.rand(scores.shape, generator=generator) < 0.9
    names = [f"c{c}" for c in range(num_classes)]
    return Predictions(scores, labels, known, [f"k{i}" for i in range(num_samples)], names, "val")


def test_choose_classes():
    names = [f"c{i}" for i in range(30)]
    drawn = choose_classes(names, None, seed=0)
    assert drawn == choose_classes(names, None, seed=0)
    assert len(set(drawn)) == 5
    assert drawn != choose_classes(names, None, seed=1)
    assert choose_classes(names[:3], None, seed=0) == [0, 1, 2]
    assert choose_classes(names, ["c7", "c2", "c7"], seed=0) == [7, 2]
    with pytest.raises(DataError, match="--classes: no class is named 'dog'; there are c0, c1"):
        choose_classes(names, ["c1", "dog"], seed=0)
    with pytest.raises(DataError, match=r"named 'cta'; did you mean cat\?$"):
        choose_classes(["cat", "dog", "cow"], ["cta"], seed=0)


def test_the_most_wrong_are_of_the_other_label():
    predictions = make(200, 3)
    for number, gallery in enumerate(build_galleries(predictions, [0], num_images=30)):
        positive = (predictions.labels & predictions.known)[:, number]
        negative = (~predictions.labels & predictions.known)[:, number]
        scores = predictions.scores[:, number]
        wrongly_high = (
            scores.masked_fill(~negative, -1).argsort(descending=True, stable=True)[:20].tolist()
        )
        wrongly_low = scores.masked_fill(~positive, 2).argsort(stable=True)[:20].tolist()
        assert [sample for sample, _ in gallery.false_positives] == wrongly_high
        assert [sample for sample, _ in gallery.false_negatives] == wrongly_low
        assert len(gallery.highest) == len(gallery.lowest) == 30
        assert all(
            score == scores[sample].item()
            for sample, score in (*gallery.highest, *gallery.false_positives)
        )


def test_many_classes_share_the_pictures_that_fit_but_the_chosen_ones_are_whole(monkeypatch):
    predictions = make(1000, 40)
    monkeypatch.setattr("eval.report.gallery.MAX_PICTURES", 400)
    galleries = build_galleries(predictions, [3, 5], num_images=50)
    assert len(set().union(*(gallery.samples() for gallery in galleries))) <= 400
    assert len(galleries[3].highest) == len(galleries[5].lowest) == 50
    assert (
        len({len(gallery.highest) for n, gallery in enumerate(galleries) if n not in (3, 5)}) == 1
    )
    assert 0 < len(galleries[0].highest) < 50
    assert [n for n, gallery in enumerate(galleries) if not gallery.is_shortened] == [3, 5]
    assert not any(
        gallery.is_shortened for gallery in build_galleries(predictions, [], num_images=1)
    )


def test_true_labels_are_known_positives():
    predictions = make(20, 4)
    shown = true_labels(predictions, [7, 3])
    assert list(shown) == [7, 3]
    for sample, labels in shown.items():
        row = predictions.labels[sample] & predictions.known[sample]
        assert labels == row.nonzero()[:, 0].tolist()
    assert true_labels(predictions, []) == {}
