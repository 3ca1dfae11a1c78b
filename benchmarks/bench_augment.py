"""CPU time an image of augmentation on whole batches, beside torchvision and kornia.

    python benchmarks/bench_augment.py --out benchmarks/results/augment.md
    python benchmarks/bench_augment.py --device cuda

Tarmac draws for each sample by itself and works on the batch: compiled, as on a CPU, and in torch,
as on a device. torchvision's v2 transforms draw once a call, so they are called for each sample.
kornia draws for each sample too, but its TrivialAugment does one operation to the whole batch. It is
measured where it is installed (pip install kornia). Roads take turns within each round, the first
to go changes from round to round, and ratios are formed round by round. Of CUDA the time is the
clock's, after all kernels have ended.
"""

import argparse
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from note import circumstances, ratios, spread, table, tell
from torchvision.transforms import v2
from tqdm import tqdm

from shards.augment.sample_changes import BatchAugmentation, Changes, draw_changes
from shards.augment.tensor_ops import DeviceChanges
from shards.pipeline.augmenter import change_on_cpu
from shards.pipeline.block import copied_together

COMPILED = "Tarmac, compiled"
TORCH = "Tarmac, in torch"
PEER = "torchvision v2, per sample"
KORNIA = "kornia, per batch"
COLOUR = np.array([110, 104, 97], np.uint8)
WAYS = {
    "TrivialAugment": BatchAugmentation(trivial_augment=True),
    "colour jitter 0.4": BatchAugmentation(color_jitter=0.4),
    "colour jitter 0.4, hue 0.1": BatchAugmentation(color_jitter=0.4, hue_jitter=0.1),
    "dihedral": BatchAugmentation(dihedral=True),
    "erasing 0.25": BatchAugmentation(erasing=0.25),
}
Call = Callable[[torch.Tensor, int], torch.Tensor]


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--local-batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="", help="also write the note here")
    return parser.parse_args()


def pictures(num: int, size: int, device: str) -> torch.Tensor:
    """Make smooth pictures with noise, uint8 [num, 3, size, size], channels_last."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.integers(20, 236, (num, 3, 8, 8))).float()
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic")
    noise = torch.from_numpy(random.normal(0, 6, (num, 3, size, size)))
    pixels = (smooth + noise).clamp(0, 255).to(torch.uint8)
    return pixels.contiguous(memory_format=torch.channels_last).to(device)


def by_torchvision(options: BatchAugmentation) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give torchvision's transform of one image."""
    if options.trivial_augment:
        return v2.TrivialAugmentWide()
    if options.dihedral:
        flip = v2.RandomHorizontalFlip()
        return lambda image: flip(image).rot90(int(torch.randint(4, ())), (1, 2))
    if options.erasing:
        return v2.RandomErasing(options.erasing, value=COLOUR.tolist())
    jitter = options.color_jitter
    return v2.ColorJitter(jitter, jitter, jitter, options.hue_jitter)


def by_kornia(options: BatchAugmentation) -> Call | None:
    """Give kornia's augmentation of a batch, or None where it has none. Raises ImportError."""
    import kornia.augmentation as kornia
    from kornia.augmentation.auto import TrivialAugment

    if options.trivial_augment:
        augment = TrivialAugment()
    elif options.erasing:
        augment = kornia.RandomErasing(p=options.erasing, value=float(COLOUR.mean() / 255))
    elif options.color_jitter:
        jitter = options.color_jitter
        augment = kornia.ColorJitter(jitter, jitter, jitter, options.hue_jitter, p=1.0)
    else:
        return None
    # it takes floats from 0 to 1; Tarmac's batches stay uint8 until they are normalised
    return lambda images, _: augment(images.float() / 255)


def roads(options: BatchAugmentation, device: str) -> dict[str, Call]:
    """Map each road's name to what it does with a batch in an epoch."""
    transform = by_torchvision(options)

    def changes(images: torch.Tensor, epoch: int) -> Changes:
        return draw_changes(options, np.arange(len(images)), 0, epoch, *images.shape[2:])

    def compiled(images: torch.Tensor, epoch: int) -> torch.Tensor:
        pixels = images.permute(0, 2, 3, 1).numpy()
        change_on_cpu(pixels, changes(images, epoch), COLOUR)
        return images

    def in_torch(images: torch.Tensor, epoch: int) -> torch.Tensor:
        pixels = images.permute(0, 2, 3, 1)
        there = DeviceChanges(changes(images, epoch), COLOUR, *images.shape[2:])
        return there.apply(pixels, copied_together(there.arrays, images.device))

    def per_sample(images: torch.Tensor, epoch: int) -> torch.Tensor:
        return torch.stack([transform(image) for image in images])

    found: dict[str, Call] = {COMPILED: compiled} if device == "cpu" else {}
    found |= {TORCH: in_torch, PEER: per_sample}
    try:
        if (kornia := by_kornia(options)) is not None:
            found[KORNIA] = kornia
    except ImportError:
        pass
    return found


def measure(every: dict[str, Call], images: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Let the roads take turns: microseconds an image of each round."""
    clock = time.process_time if images.device.type == "cpu" else time.perf_counter
    costs: dict[str, list[float]] = {name: [] for name in every}
    for number in range(-1, rounds):  # the first one compiles
        at = number % len(every)
        for name in (*list(every)[at:], *list(every)[:at]):
            batch = images.clone()
            start = clock()
            every[name](batch, number + 1)
            if images.device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 0:
                costs[name].append(1e6 * (clock() - start) / len(images))
    return costs


def main() -> None:
    """Measure and tell."""
    args = read_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    packages = ["torch", "torchvision", "numba", "numpy"]
    try:
        version("kornia")
        packages.append("kornia")
    except PackageNotFoundError:
        print("kornia is not installed and is left out: pip install kornia")
    lines = circumstances(packages)
    images = pictures(args.local_batch_size, args.size, args.device)
    rows = []
    for way, options in tqdm(WAYS.items(), "ways", disable=None):
        costs = measure(roads(options, args.device), images, args.rounds)
        for name, cost in costs.items():
            rows.append((way, name, spread(cost, 1), spread(ratios(costs[PEER], cost), 1)))
    kind = "CPU time" if args.device == "cpu" else "time"
    text = [
        "# Augmentation of whole batches",
        "",
        *lines,
        f"- settings: batches of {args.local_batch_size} x 3 x {args.size} x {args.size} uint8 on "
        f"{args.device}, {args.threads} threads; n = {args.rounds} rounds of one batch; median "
        f"(lowest..highest)",
        "",
        table(("augmentation", "road", f"{kind} us/image", f"{PEER} over it"), rows),
    ]
    tell("\n".join(text), args.out)


if __name__ == "__main__":
    main()
