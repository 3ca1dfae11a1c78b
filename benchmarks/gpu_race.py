"""Is any batch changed while a busy GPU still reads it? Every way of copying that a loop may take.

    python benchmarks/gpu_race.py data/voc

Behind each batch the device is kept busy, so that its copy is made long after the host asked for
it; the batch is dropped at once, and its memory is free to be filled again. At the end every copy
is compared with what was decoded. Status 1 if one differs.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import torch
from note import table

from shards.index import open_split
from shards.loader import Loader
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice

SLEEP_CYCLES = 40_000_000  # some 20 ms of a GPU at 2 GHz
Copy = Callable[[Batch], torch.Tensor]


def ways(device: torch.device) -> dict[str, Copy]:
    """Name the copies."""

    def on_a_stream(batch: Batch) -> torch.Tensor:
        if device.type != "cuda":
            return batch.images.to(device, copy=True)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            return batch.images.to(device, non_blocking=True)

    return {
        "images.to(device, non_blocking=True)": lambda batch: batch.images.to(
            device, non_blocking=True, copy=True
        ),
        "batch.to(device)": lambda batch: batch.to(device).images.clone(),
        "copy_ into a buffer": lambda batch: torch.empty_like(batch.images, device=device).copy_(
            batch.images, non_blocking=True
        ),
        "on a stream": on_a_stream,
    }


def keep_busy(device: torch.device) -> None:
    """Let the device work for some 20 ms, without waiting for it."""
    if device.type == "cuda":
        torch.cuda._sleep(SLEEP_CYCLES)


def num_wrong(copies: Sequence[torch.Tensor], truth: Sequence[torch.Tensor]) -> int:
    """Count the copies that are not what was decoded, when all that were asked for are made."""
    if copies and copies[0].is_cuda:  # those on a stream of their own, too
        torch.cuda.synchronize(copies[0].device)
    return sum(not torch.equal(a.cpu(), b) for a, b in zip(copies, truth, strict=True))


def main() -> int:
    """Race, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="packed dataset, such as data/voc")
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--rehearse", action="store_true", help="small, also on a CPU")
    args = parser.parse_args()
    if not (args.rehearse or torch.cuda.is_available()):
        parser.error("no CUDA device here: --rehearse goes through it on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    index = open_split(args.data, "train")
    batch_size, size = (4, 32) if args.rehearse else (32, 224)
    num = min(args.batches, index.num_samples // batch_size)

    def loader() -> Loader:
        return Loader(index, batch_size, size, seed=0, num_threads=4, device=device)

    truth = [
        batch.images.clone()
        for _, batch in zip(range(num), Loader(index, batch_size, size, seed=0), strict=False)
    ]
    rows = []
    for name, copy in ways(device).items():
        copies = []
        for _, batch in zip(range(num), loader(), strict=False):
            keep_busy(device)
            copies.append(copy(batch))
            del batch
        rows.append((name, num_wrong(copies, truth)))
    copies = []
    for _, batch in zip(range(num), OnDevice(loader(), device), strict=False):
        keep_busy(device)
        copies.append(batch.images.clone())
        del batch
    rows.append(("the trainer's OnDevice", num_wrong(copies, truth)))
    spelled = [(name, f"{wrong} of {num}") for name, wrong in rows]
    print(table((f"copy to {device.type}", "batches with wrong pixels"), spelled))
    return int(any(wrong for _, wrong in rows))


if __name__ == "__main__":
    sys.exit(main())
