"""The command line of the evaluator."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.results.tail_grid import MAX_STEPS, TailGrid
from shards.choices import (
    CACHE_DIR,
    CACHE_GB,
    NUM_THREADS,
    OnBadSample,
    TestTimeName,
    check_location,
    is_url,
)
from shards.commandline import folder
from shards.errors import DataError
from shards.options import check_bounds, option

MIN_SIZE = 16  # pixels that can be asked for
MAX_IMAGES = 500  # per gallery


@dataclass(frozen=True)
class EvalConfig:
    """What to evaluate and how. The names are the flags, with dashes."""

    ckpt: str = option(
        "runs/digits/best",
        "checkpoint folder of a run: best or last. Of several, separated by commas or each with a "
        "--ckpt of its own, the probabilities are averaged",
        group="what to evaluate",
    )
    data: str = option(
        "",
        "packed dataset, a folder or an address; the one that the checkpoint names where not given",
        group="what to evaluate",
    )
    cache_dir: str = option("", CACHE_DIR, group="what to evaluate")
    cache_gb: float = option(0.0, CACHE_GB, ge=0, group="what to evaluate")
    split: str = option("val", "split to evaluate", group="what to evaluate")
    on_bad_sample: OnBadSample = option(
        "stop",
        "skip: leave out samples that cannot be read, up to one in a hundred; they are listed as "
        "not evaluated",
        group="what to evaluate",
    )
    size: int = option(
        0,
        "side of the network's input in pixels; 0 is the size that the run was trained with",
        ge=MIN_SIZE,
        unit="pixels",
        zero="the size of training",
        group="prediction",
    )
    precision: Literal["run", "no", "bf16", "fp16"] = option(
        "run",
        "mixed precision; run is that of the run, the first one of several, where this machine "
        "has instructions for it",
        group="prediction",
    )
    tta: TestTimeName = option(
        "none",
        "test-time augmentation. flip: the centre and its mirror image; fivecrop: the centre and "
        "the four corners; tencrop: those five and their mirror images; multiscale: the centre at "
        "1, 1.25 and 1.5 times the size; dihedral: the centre in its 8 symmetries, quarter turns "
        "and their mirror images, for satellite and microscope images",
        group="prediction",
    )
    tta_reduce: Literal["mean", "max"] = option(
        "mean",
        "with --tta: how the probabilities of an image's views become one",
        group="prediction",
    )
    local_batch_size: int = option(64, "samples per rank and step", ge=1, group="prediction")
    num_threads: int = option(
        0,
        NUM_THREADS,
        ge=1,
        zero="one per core",
        group="prediction",
    )
    out: str = option(
        "",
        "folder of the results; in the run's folder, the first run's of several, where not given",
        group="results",
    )
    export: str = option(
        "",
        "write the scores also as voc (files for the PASCAL VOC server), csv or parquet; several "
        "separated by commas",
        group="results",
    )
    voc_competition: Literal["comp1", "comp2"] = option(
        "comp2",
        "with --export voc: comp1 if all that was learnt was learnt from VOC's own trainval, "
        "comp2 with any other data, such as pretrained weights",
        group="results",
    )
    baseline: str = option(
        "",
        "an evaluation to compare with: a run (its results of the same split), a folder of "
        "results or a metrics.json",
        group="results",
    )
    thresholds: str = option(
        "",
        "an evaluation of other data whose best thresholds per class give a further F1 here: a "
        "run (its results of val), a folder of results or a metrics.json",
        group="results",
    )
    tail_min: float = option(
        0.5,
        "lowest threshold t of the tail accuracy, from where a score says the class",
        ge=0,
        lt=1,
        unit="a probability",
        group="results",
    )
    tail_max: float = option(
        0.0,
        "highest threshold of the tail accuracy; 0 is max f(x), the highest score",
        ge=0,
        lt=1,
        unit="a probability",
        group="results",
    )
    tail_steps: int = option(
        20,
        "number of thresholds of the tail accuracy, evenly spaced from tail_min to tail_max",
        ge=2,
        le=MAX_STEPS,
        unit="thresholds",
        group="results",
    )
    classes: str = option(
        "",
        "classes to show images of, separated by commas; 5 random ones where not given",
        group="report",
    )
    num_images: int = option(
        50,
        "images with the highest, and with the lowest, scores to show of each class",
        ge=1,
        le=MAX_IMAGES,
        unit="images",
        group="report",
    )
    seed: int = option(
        0,
        "seed of the choice of random classes, and of the ten images of a set with one label each",
        ge=0,
        group="report",
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        check_location(self.data, self.cache_dir, self.cache_gb)
        check_checkpoints(self.ckpt)
        self.tail_grid()
        if self.voc_competition == "comp1" and "voc" not in names(self.export):
            raise DataError(
                "voc_competition is comp1, but nothing is exported for it: give --export voc too"
            )
        if self.tta_reduce == "max" and self.tta == "none":
            raise DataError(
                "tta_reduce is max, but there is one view of each image: choose a --tta too"
            )

    def tail_grid(self) -> TailGrid:
        """Return the thresholds of the tail accuracy. Raises DataError for what makes none."""
        return TailGrid(self.tail_min, self.tail_max, self.tail_steps)


def names(text: str) -> list[str]:
    """Split a flag's value at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_checkpoints(ckpt: str) -> None:
    """Raise DataError where the option names no checkpoint, or one twice, which would count twice."""
    folders = [folder(name) for name in names(ckpt)]
    if not folders:
        raise DataError("ckpt is empty: give a checkpoint folder such as runs/digits/best")
    if len(set(folders)) < len(folders):
        raise DataError(f"ckpt is {ckpt}: names a checkpoint twice")


def results_name(config: EvalConfig, trained_on: str, split: str) -> str:
    """Name the folder of the results of `split` after what differs from the validation of a run's
    best checkpoint.

    Another folder (dataset or run) is named with six hex digits of its path: many end alike, such
    as runs/best.
    """
    parts = [f"eval-{split}"]
    if config.data and Path(config.data).resolve() != Path(trained_on).resolve():
        parts.append(f"of-{_told_apart(config.data)}")
    first, *others = (folder(path) for path in names(config.ckpt))
    if first.name != "best":
        parts.append(first.name)
    parts += [
        f"with-{_told_apart(str(each.parent))}" + ("" if each.name == "best" else f"-{each.name}")
        for each in others
    ]
    if config.tta != "none":
        parts.append(config.tta)
    if config.tta_reduce == "max":
        parts.append("max")
    if config.size:
        parts.append(f"{config.size}px")
    if config.precision != "run":
        parts.append("fp32" if config.precision == "no" else config.precision)
    return "-".join(parts)


def _told_apart(place: str) -> str:
    """Spell a folder, or an address, as its name and a digest of the whole."""
    path = Path(place) if is_url(place) else folder(place)
    whole = place.rstrip("/") if is_url(place) else path.resolve()
    return f"{path.name}-{hashlib.blake2b(os.fsencode(whole), digest_size=3).hexdigest()}"
