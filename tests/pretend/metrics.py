"""Metrics on a pretended device: `python -m tests.pretend.metrics WHAT`.

WHAT is `bits`, how many entries differ from those of the CPU, by metric and dtype; or `launches`,
what average precision asks of the device, by the size of the matrix.
"""

import json
import sys

import torch

from eval.metrics import average_precision
from tests.eval.test_gpu import DTYPES, SAME_BITS
from tests.pretend.counters import WAITS, counting
from tests.pretend.tensors import Pretend

SIZES = ((500, 3), (5823, 20), (50_000, 80))


def different_bits() -> dict[str, int]:
    """Compute every metric with ties, NaN, infinities, and classes without positives or all of
    whose entries are ignored.
    """
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(400, 7, generator=generator).mul(40).round().div(8)
    labels, known = (torch.rand(400, 7, generator=generator) < share for share in (0.3, 0.8))
    scores[3, 0], scores[5, 1] = torch.nan, torch.inf
    labels[:, 2] = known[:, 4] = False
    found = {}
    for dtype in DTYPES:
        given = scores.to(dtype), labels, known
        for function in SAME_BITS:
            expected = function(*given)
            with Pretend():
                there = function(*(each.to("cuda") for each in given))
                assert there.device.type == "cuda"
                got = there.cpu()
            same = (got == expected) | (got.isnan() & expected.isnan())
            found[f"{function.__name__} {dtype}"] = int((~same).sum())
    return found


def launches() -> dict[str, dict[str, int]]:
    """Count what one call asks of the device, after one that is not counted."""
    found = {}
    for size in SIZES:
        scores = torch.rand(size, device="cuda")
        labels = scores > 0.5
        average_precision(scores, labels)
        with counting() as asked:
            average_precision(scores, labels)
        waits = sum(asked[name] for name in WAITS)
        found[f"{size[0]} x {size[1]}"] = {"launches": asked["launches"], "waits": waits}
    return found


if __name__ == "__main__":
    print(json.dumps({"bits": different_bits, "launches": launches}[sys.argv[1]]()))
