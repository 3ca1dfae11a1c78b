"""Evaluate a checkpoint, or the mean of several: `python -m eval --ckpt runs/digits/best`.

Writes metrics.json, predictions.npz, per_class.csv and report.html into RUN/eval-SPLIT; what is
predicted otherwise than the run was validated has a folder of its own, such as
RUN/eval-SPLIT-tencrop-max.
"""

import sys

from eval.config import EvalConfig
from shards.commandline import joined, parse, run
from shards.host.importing import slow_imports
from train.run.launch import spread

EXAMPLES = "example: python -m eval --ckpt runs/voc-resnet18/best --data data/voc --classes dog,cat"


def main() -> None:
    """Read the command line and evaluate."""
    argv = joined(sys.argv[1:], "--ckpt")
    config = parse(
        EvalConfig, argv, prog="python -m eval", description=__doc__ or "", epilog=EXAMPLES
    )
    spread("eval")
    with slow_imports():  # not for --help or a mistyped flag
        from eval.evaluation import evaluate

    evaluate(config)


if __name__ == "__main__":
    run(main)
