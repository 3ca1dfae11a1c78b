"""Average precision on a GPU beside scikit-learn on the host: time and memory of the GPU.

    python benchmarks/gpu_metrics.py --out benchmarks/results/metrics-gpu.md

Scores and labels are on the device where a model would have left them, and the result stays there.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from bench_metrics import DTYPES, SIZES, sample_set, sklearn_loop
from note import circumstances, spread, table, tell
from torch import Tensor
from tqdm import tqdm

from eval.metrics import average_precision
from eval.metrics.roc import roc_auc

CALLS_PER_ROUND = 10


def milliseconds(
    function: Callable[[Tensor, Tensor], Tensor], scores: Tensor, labels: Tensor, calls: int
) -> float:
    """Time a call, the mean of several in a row, with the device waited for before and after them."""
    wait(scores.device)
    start = time.perf_counter()
    for _ in range(calls):
        function(scores, labels)
    wait(scores.device)
    return 1e3 * (time.perf_counter() - start) / calls


def wait(device: torch.device) -> None:
    """Wait for what was asked of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_times(scores: Tensor, labels: Tensor) -> float:
    """Measure the peak extra memory of one call, as a multiple of the scores; NaN on a CPU."""
    if scores.device.type != "cuda":
        return float("nan")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    average_precision(scores, labels)
    return (torch.cuda.max_memory_allocated() - before) / scores.nbytes


def measure(
    num_samples: int, num_classes: int, dtype: str, rounds: int, device: str
) -> tuple[str, ...]:
    """Measure one size; raise RuntimeError where scikit-learn gives another AP, or where the call
    waits.
    """
    scores, labels = sample_set(num_samples, num_classes, dtype)
    on_gpu = scores.to(device), labels.to(device)
    average_precision(*on_gpu)
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    ap = average_precision(*on_gpu)
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("default")
    worst = (ap.cpu() - sklearn_loop(scores, labels)).abs().max()
    if not worst <= 1e-9:
        raise RuntimeError(
            f"scikit-learn gives another AP at {num_samples} x {num_classes}: by up to {worst:.1e}"
        )
    roc_auc(*on_gpu)
    host = [milliseconds(sklearn_loop, scores, labels, 1) for _ in range(3)]
    times = [milliseconds(average_precision, *on_gpu, CALLS_PER_ROUND) for _ in range(rounds)]
    auc = [milliseconds(roc_auc, *on_gpu, CALLS_PER_ROUND) for _ in range(rounds)]
    ratios = [statistics.median(host) / one for one in times]
    cells = (
        spread(host),
        spread(times, 2),
        spread(ratios),
        f"{peak_times(*on_gpu):.2f}",
        spread(auc, 2),
    )
    return (f"{num_samples:,} x {num_classes}", dtype, *cells)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", default="", help="also write the note here")
    parser.add_argument("--rehearse", action="store_true", help="one small size, also on a CPU")
    args = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    if not (has_gpu or args.rehearse):
        parser.error("no CUDA device here: bench_metrics.py is the benchmark for a CPU")
    name = torch.cuda.get_device_name() if has_gpu else "no GPU"
    lines = circumstances(("torch", "numpy", "scikit-learn"), name)
    sizes = [(300, 4)] if args.rehearse else SIZES
    cases = [(*size, "float32") for size in sizes] + [(*sizes[-1], dtype) for dtype in DTYPES[1:]]
    device = "cuda" if has_gpu else "cpu"
    rows = [measure(*case, args.rounds, device) for case in tqdm(cases, disable=None)]
    header = (
        "N x K",
        "scores",
        "scikit-learn ms",
        "AP ms",
        "ratio",
        "peak extra memory / scores",
        "ROC AUC ms",
    )
    settings = f"- settings: n = {args.rounds} rounds of {CALLS_PER_ROUND} calls; median (lowest..highest) over rounds"
    timed = (
        "The timed region: calls on tensors [N, K] on the device, results left there, the device "
        "waited for before the first and after the last of a round, after two calls that are not "
        "counted. scikit-learn: once per class, on one core of the same machine; the ratio is to "
        "the median of 3. A call was run with PyTorch's synchronisation errors on: it does not "
        "wait for the device. Memory is that of PyTorch's allocator."
    )
    tell(
        "\n".join(
            [
                "# Average precision on a GPU",
                "",
                *lines,
                settings,
                "",
                table(header, rows),
                "",
                timed,
            ]
        ),
        args.out,
    )


if __name__ == "__main__":
    main()
