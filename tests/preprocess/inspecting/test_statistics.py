"""Numbers of a split equal plain recounts."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from preprocess.inspecting.statistics import count, histogram
from preprocess.packing.index_file import statistics
from preprocess.packing.resume import Entry
from shards.disk.format import BLOCK_BITS, unpack_labels
from shards.index import open_split
from tests.preprocess.conftest import NAMES, members


@pytest.mark.parametrize("split", ["train", "val"])
def test_numbers_equal_a_plain_recount(things, split):
    found = count(open_split(things, split))
    described = members(things / split)
    labels = [set(sample["labels"]) for sample, _ in described]
    assert found.num_samples == len(described)
    assert found.image_bytes == sum(len(image) for _, image in described)
    assert found.positives == [sum(c in shown for shown in labels) for c in range(len(NAMES))]
    assert found.ignored == [
        sum(c in sample["ignored"] for sample, _ in described) for c in range(len(NAMES))
    ]
    assert dict(enumerate(found.labels_per_image)) == {
        n: Counter(map(len, labels))[n] for n in range(max(map(len, labels)) + 1)
    }
    assert found.unlabelled == [number for number, shown in enumerate(labels) if not shown]
    assert found.labels_mean == pytest.approx(np.mean([len(shown) for shown in labels]))
    for a in range(len(NAMES)):
        for b in range(len(NAMES)):
            assert found.together[a, b] == sum(a in shown and b in shown for shown in labels)
    sizes = [Image.open(io.BytesIO(image)).size for _, image in described]
    assert found.sizes.num_different == len(set(sizes))
    commonest = found.sizes.common
    assert all(Counter(sizes)[w, h] == n for w, h, n in commonest)
    assert [n for _, _, n in commonest] == sorted(Counter(sizes).values(), reverse=True)[
        : len(commonest)
    ]
    assert len(commonest) == min(6, len(set(sizes)))
    for measured, values in (
        (found.sizes.megapixels, [w * h / 1e6 for w, h in sizes]),
        (found.sizes.aspect, [w / h for w, h in sizes]),
        (found.sizes.short_side, [min(size) for size in sizes]),
        (found.sizes.long_side, [max(size) for size in sizes]),
    ):
        values = sorted(values)
        assert measured["smallest"] == pytest.approx(values[0])
        assert measured["median"] == pytest.approx(values[(len(values) - 1) // 2])
        assert measured["largest"] == pytest.approx(values[-1])


def test_counting_in_blocks_changes_nothing(things, monkeypatch):
    index = open_split(things, "train")
    whole = count(index)
    monkeypatch.setattr("preprocess.inspecting.statistics.BLOCK_BITS", 7 * len(NAMES))
    parts = count(index)
    assert (parts.positives, parts.ignored, parts.labels_per_image) == (
        whole.positives,
        whole.ignored,
        whole.labels_per_image,
    )
    assert parts.unlabelled == whole.unlabelled
    assert np.array_equal(parts.together, whole.together)


def test_histograms_lose_nothing():
    rng = np.random.default_rng(0)
    values = [rng.lognormal(size=500), rng.lognormal(size=30)]
    edges, counts = histogram(values, 12)
    assert len(edges) == 13
    assert [c.sum() for c in counts] == [500, 30]
    edges, counts = histogram([np.full(4, 2.0), np.full(3, 2.0)], 12)
    assert edges.tolist() == [2.0, 2.0]
    assert [c.tolist() for c in counts] == [[4], [3]]


def test_classes_are_counted_a_block_at_a_time(index, monkeypatch):
    """All at once, 9 million samples of 600 classes would take 5 GB."""
    assert BLOCK_BITS <= 1 << 24
    sizes = []

    def unpack(packed, num_classes):
        sizes.append(len(packed) * num_classes)
        return unpack_labels(packed, num_classes)

    monkeypatch.setattr("preprocess.packing.index_file.BLOCK_BITS", 100)
    monkeypatch.setattr("preprocess.packing.index_file.unpack_labels", unpack)
    entry = Entry("train-000000.tar", 1, 1, "", 0, 1, "", 1, [0], [0], [])
    found = statistics(index.samples, [entry], index.num_classes)
    assert found["positives"] == index.labels().sum(0).tolist()
    assert found["ignored"] == (~index.known()).sum(0).tolist()
    assert len(sizes) > 4
    assert max(sizes) <= 100
