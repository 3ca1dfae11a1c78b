"""Predict the labels of pictures that were never packed: `python -m eval.predict --ckpt
runs/digits/best photo.jpg`.

A line for each picture: its labels with their probabilities. A picture may be an address, such as
https://host/photo.jpg; a folder by address is not listed. Pictures are decoded by the rules of
packing and seen as evaluation sees them: the scores are those of `python -m eval` on the same
pictures packed at their size, but for what is lost there where packing encodes a picture again.
TIFFs of several bands are scaled as those of the training set. Those that cannot be read are named
on stderr; the others are predicted all the same, and the exit status is then 2. What a folder holds
besides pictures is counted and named on stderr too, hidden and system files apart.
"""

import sys
from dataclasses import dataclass
from typing import Literal

from eval.config import EvalConfig, check_checkpoints
from shards.choices import TestTimeName
from shards.commandline import joined, parse, run
from shards.host.importing import slow_imports
from shards.options import check_bounds, declared, grouped, option
from shards.remote.address import Address, is_url

EXAMPLES = "example: python -m eval.predict --ckpt runs/voc-resnet18/best --csv scores.csv holiday.jpg albums/2026"

_OF_EVALUATION = {field.name: field for field in declared(EvalConfig)}


@dataclass(frozen=True)
class PredictConfig:
    """What to predict and how. The names are the flags, with dashes."""

    pictures: tuple[str, ...] = option(
        (), "picture files, folders of them, and addresses of pictures", positional=True
    )
    ckpt: str = grouped(_OF_EVALUATION["ckpt"], "prediction")
    threshold: float | None = option(
        None,
        "print the labels with at least this probability; where neither this nor top is given: "
        "0.5, or with one label a sample the likeliest class",
        ge=0,
        le=1,
        unit="a probability",
        group="output",
    )
    top: int = option(
        0,
        "print at most so many labels, the likeliest; 0 prints all that reach the threshold",
        ge=0,
        group="output",
    )
    accept_damaged: bool = option(
        False,
        "predict JPEGs that have lost pixels too, and name them; otherwise they count as "
        "unreadable",
        group="prediction",
    )
    csv: str = option(
        "",
        "write all scores into this CSV file: a line per picture, a column per class",
        group="output",
    )
    tta: TestTimeName = option(
        "none",
        "test-time augmentation, as of python -m eval; the probabilities of an image's views are "
        "averaged",
        group="prediction",
    )
    size: int = grouped(_OF_EVALUATION["size"], "prediction")
    precision: Literal["run", "no", "bf16", "fp16"] = grouped(
        _OF_EVALUATION["precision"], "prediction"
    )
    local_batch_size: int = option(64, "pictures per step", ge=1, group="prediction")
    num_threads: int = option(
        0, "threads that decode; 0 is one per core", ge=1, zero="one per core", group="prediction"
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        for picture in filter(is_url, self.pictures):
            Address.parse(picture)  # refuses one that holds a secret
        check_checkpoints(self.ckpt)


def main() -> None:
    """Read the command line and predict."""
    argv = joined(sys.argv[1:], "--ckpt")
    config = parse(
        PredictConfig,
        argv,
        prog="python -m eval.predict",
        description=__doc__ or "",
        epilog=EXAMPLES,
    )
    with slow_imports():  # not for --help or a mistyped flag
        from eval.predict_pictures import predict_pictures

    predict_pictures(config)


if __name__ == "__main__":
    run(main)
