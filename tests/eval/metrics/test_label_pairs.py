"""Which labels come together and which are confused, against a loop over samples."""

import numpy as np
import torch

from eval.metrics.label_pairs import co_occurrence, label_confusion


def test_counts_agree_with_a_loop():
    rng = np.random.default_rng(0)
    scores, labels, known = (
        rng.random((60, 4)),
        rng.random((60, 4)) < 0.4,
        rng.random((60, 4)) < 0.8,
    )
    together = np.zeros((4, 4), int)
    wrong, of = np.zeros((4, 4), int), np.zeros((4, 4), int)
    for row in range(60):
        for a in range(4):
            for b in range(4):
                if not (known[row, a] and known[row, b] and labels[row, a]):
                    continue
                together[a, b] += labels[row, b]
                if a == b or not labels[row, b]:
                    of[a, b] += 1
                    wrong[a, b] += scores[row, b] >= 0.5
    tensors = [torch.from_numpy(matrix) for matrix in (scores, labels, known)]
    np.testing.assert_array_equal(co_occurrence(*tensors[1:]), together)
    found = label_confusion(*tensors, threshold=0.5)
    np.testing.assert_array_equal(found[0], wrong)
    np.testing.assert_array_equal(found[1], of)
