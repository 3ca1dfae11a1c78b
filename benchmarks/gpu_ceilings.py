"""What a GPU can do at most: what every other figure is to be compared with.

    python benchmarks/gpu_ceilings.py

Matrix products, copies within the device and from pinned and ordinary memory of the host, and the
sort of one long row: the work of a training step, of its feed and of the metrics.
"""

import argparse
import time
from collections.abc import Callable

import torch
from note import circumstances, spread, table

ROUNDS = 5
CALLS = 10


def seconds(call: Callable[[], object], device: torch.device) -> list[float]:
    """Time a call: the mean of several in a row, several times, after a warm-up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    found = []
    for _ in range(ROUNDS):
        wait()
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        wait()
        found.append((time.perf_counter() - started) / CALLS)
    return found


def products(device: torch.device, side: int) -> list[tuple[str, str]]:
    """Time square matrix products, in TFLOP/s."""
    rows = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        times = seconds(lambda a=a, b=b: a @ b, device)
        rates = [2 * side**3 / each / 1e12 for each in times]
        name = str(dtype).removeprefix("torch.")
        rows.append((f"{side} x {side} product in {name}, TFLOP/s", spread(rates, 2)))
    return rows


def copies(device: torch.device, num_bytes: int) -> list[tuple[str, str]]:
    """Time copies, in GB/s of what arrives."""
    pinned = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
    plain = torch.zeros(num_bytes, dtype=torch.uint8)
    there, other = (torch.empty(num_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    every = {
        "copy within the device": lambda: there.copy_(other),
        "host to device, pinned": lambda: there.copy_(pinned, non_blocking=True),
        "host to device, not pinned": lambda: there.copy_(plain),
        "device to host, pinned": lambda: pinned.copy_(there, non_blocking=True),
    }
    return [
        (f"{name}, GB/s", spread([num_bytes / each / 1e9 for each in seconds(call, device)], 1))
        for name, call in every.items()
    ]


def sorts(device: torch.device, num: int) -> list[tuple[str, str]]:
    """Time the sort of a long row of 64-bit keys, and a running sum of it, in million/s."""
    keys = torch.randint(-(1 << 40), 1 << 40, (num,), device=device)
    every = {"sort of int64": lambda: keys.sort(), "running sum": lambda: keys.cumsum(0)}
    return [
        (f"{name}, {num:,}, million/s", spread([num / t / 1e6 for t in seconds(call, device)]))
        for name, call in every.items()
    ]


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rehearse", action="store_true", help="small, also on a CPU")
    args = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    if not (args.rehearse or has_gpu):
        parser.error("no CUDA device here: --rehearse goes through it on the CPU")
    device = torch.device("cuda" if has_gpu else "cpu")
    side, num_bytes, num = (64, 1 << 16, 1000) if args.rehearse else (8192, 1 << 28, 20_000_000)
    rows = [*products(device, side), *copies(device, num_bytes), *sorts(device, num)]
    lines = circumstances(("torch",), torch.cuda.get_device_name() if has_gpu else "no GPU")
    settings = f"- settings: {ROUNDS} rounds of {CALLS} calls; median (lowest..highest)"
    print("\n".join(["# Ceilings", "", *lines, settings, "", table(("what", "figure"), rows)]))


if __name__ == "__main__":
    main()
