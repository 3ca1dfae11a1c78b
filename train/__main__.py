"""Train a multi-label classifier on packed shards: `accelerate launch -m train` or `python -m train`."""

import sys
from pathlib import Path

from shards.commandline import parse, run
from train.config import TrainConfig
from train.loop import train

DEFAULT_RECIPE = Path(__file__).parent.parent / "recipes" / "digits.yaml"
EXAMPLES = "example: accelerate launch -m train --config recipes/voc-resnet18.yaml --data data/voc"


def main() -> None:
    """Read the configuration and train; without --config, the recipe of the embedded default."""
    argv = sys.argv[1:]
    if not any(arg == "--config" or arg.startswith("--config=") for arg in argv):
        argv = ["--config", str(DEFAULT_RECIPE), *argv]
    description = f"{__doc__} Without --config it takes recipes/digits.yaml."
    config = parse(
        TrainConfig, argv, prog="python -m train", description=description, epilog=EXAMPLES, config_file=True
    )
    if not train(config):
        raise SystemExit(130)


if __name__ == "__main__":
    run(main)
