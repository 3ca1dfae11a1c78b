"""Look at a packed dataset before training on it: `python -m preprocess.inspect data/voc`."""

import json
from dataclasses import dataclass
from pathlib import Path

from preprocess.inspecting.findings import images
from preprocess.inspecting.inspection import Inspection, as_json, inspect
from preprocess.inspecting.inspection_page import render
from shards.commandline import folder, option, parse, run
from shards.disk.format import write_atomically
from shards.errors import DataError
from shards.host.machine import num_cores

PAGE_NAME = "inspect.html"
NUMBERS_NAME = "inspect.json"
PRINTED_CLASSES = 80  # the page and the numbers have all


@dataclass(frozen=True)
class InspectConfig:
    """The command line."""

    data: str = option("", "packed dataset, such as data/voc", positional=True)
    out: str = option("", "folder for inspect.html and inspect.json; default: inspect-NAME here, NAME as in data/NAME")
    images: int = option(10, "sample images per class")
    seed: int = option(0, "draws the sample images")
    duplicates: bool = option(True, "look for near-duplicates, for which every image is decoded")
    num_threads: int = option(0, "threads that decode and compare images; 0 is one per core")

    def __post_init__(self) -> None:
        for name in ("images", "seed", "num_threads"):
            if getattr(self, name) < 0:
                raise DataError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give 0 or more")


def main(argv: list[str] | None = None) -> None:
    """Inspect, print, and write the page and the numbers."""
    config = parse(
        InspectConfig,
        argv,
        prog="python -m preprocess.inspect",
        description="Tell and show what a packed dataset holds and what of it deserves attention.",
        epilog="example: python -m preprocess.inspect data/voc",
    )
    data = folder(config.data)
    out = Path(config.out or f"inspect-{data.name}")
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out}: a file of that name is there; give a folder")
    threads = config.num_threads or num_cores()
    inspection = inspect(data, config.duplicates, threads)
    page = render(inspection, config.images, config.seed, threads)
    numbers = json.dumps(as_json(inspection), indent=2, ensure_ascii=False, allow_nan=False)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / NUMBERS_NAME, f"{numbers}\n".encode(errors="backslashreplace"))
    write_atomically(out / PAGE_NAME, page.encode(errors="backslashreplace"))
    print("\n".join(summary(inspection)))
    print(f"\nsee {out / PAGE_NAME}; the numbers are in {out / NUMBERS_NAME}")


def summary(inspection: Inspection) -> list[str]:
    """Spell what fits a terminal: findings, splits, classes."""
    splits, names = inspection.splits, inspection.class_names
    classes = "1 class" if len(names) == 1 else f"{len(names):,} classes"
    lines = [f"{inspection.name}: {images(inspection.num_samples)} of {classes}", ""]
    lines += [f"{'!' if finding.serious else '-'} {finding.text}" for finding in inspection.findings]
    if not inspection.findings:
        lines.append("nothing to report")
    if inspection.likeness is None:
        lines.append("- nobody looked for near-duplicates (--no-duplicates)")
    width = max(len("split"), *(len(split.split) for split in splits))
    lines += [
        "",
        f"{'split':{width}}  {'images':>9}  {'kB each':>7}  {'labels each':>11}  {'common size':>11}  mean, std",
    ]
    for split in splits:
        side = f"{split.sizes.common[0][0]} x {split.sizes.common[0][1]}"
        moments = "  ".join(f"{mean:.3f}, {std:.3f}" for mean, std in zip(split.mean, split.std, strict=True))
        lines.append(
            f"{split.split:{width}}  {split.num_samples:9,}  {split.mean_bytes / 1e3:7.1f}  {split.labels_mean:11.2f}"
            f"  {side:>11}  {moments}"
        )
    lines += ["", "pixels of decoded images, normalised by mean and std of their index:"]
    for split, one in zip(splits, inspection.normalised, strict=True):
        moments = "  ".join(f"{round(mean, 3) + 0:.3f}, {std:.3f}" for mean, std in zip(one.mean, one.std, strict=True))
        lines.append(f"{split.split:{width}}  {one.num_images:9,} images have mean, std  {moments}")
    width = max(len("positives"), *(len(name) for name in names))
    columns = [max(7, len(split.split)) for split in splits]
    titles = "".join(f"  {split.split:>{w}}  ignored" for split, w in zip(splits, columns, strict=True))
    lines += ["", f"{'positives':{width}}{titles}"]
    for number, name in enumerate(names[:PRINTED_CLASSES]):
        counts = "".join(
            f"  {split.positives[number]:{w},}  {split.ignored[number]:7,}"
            for split, w in zip(splits, columns, strict=True)
        )
        lines.append(f"{name:{width}}{counts}")
    if len(names) > PRINTED_CLASSES:
        lines.append(f"and {len(names) - PRINTED_CLASSES:,} more classes")
    lines += ["", "labels of an image  " + "  ".join(f"{number:>7}" for number in range(_most_labels(inspection) + 1))]
    lines += [f"{split.split:18}  " + "  ".join(f"{num:7,}" for num in split.labels_per_image) for split in splits]
    return lines


def _most_labels(inspection: Inspection) -> int:
    return max(len(split.labels_per_image) for split in inspection.splits) - 1


if __name__ == "__main__":
    run(main)
