"""Train a classifier on packed shards: `accelerate launch -m train` or `python -m train`."""

import os
import sys
from pathlib import Path

from shards.commandline import joined, parse, run
from shards.host.importing import slow_imports
from shards.options import flag, free_on_resume
from train.checks import check_new
from train.config import TrainConfig
from train.recipe import DEFAULT, FOLDER, find_recipe
from train.run.launch import one_line_where_a_rank_is_lost, spread
from train.sweep.points import points

WITHOUT_CONFIG = (
    "Defaults below are those of a recipe that does not say otherwise; without --config the "
    f"options start from recipes/{DEFAULT}.yaml. --config voc-resnet18 finds one of Tarmac's "
    "recipes by its name."
)
EXAMPLES = "example: accelerate launch -m train --config recipes/voc-resnet18.yaml --data data/voc"


def main() -> None:
    """Read the configuration and train; without --config, the recipe of the embedded default."""
    argv = joined(config_first(sys.argv[1:]), "--sweep")
    may_change = ", ".join(map(flag, free_on_resume(TrainConfig)))
    description = (
        f"{__doc__} {WITHOUT_CONFIG} With --resume, all options stay as they are but {may_change}."
    )
    config = parse(
        TrainConfig,
        argv,
        prog="python -m train",
        description=description,
        epilog=EXAMPLES,
        config_file=True,
    )
    if config.sweep:
        points(config)  # refuses what cannot be swept
    else:
        check_new(config)
    spread("train")
    if not _names_config(sys.argv[1:]):
        _tell_defaults(config)
    with slow_imports():  # not before it is clear that this process trains
        if config.sweep:
            from train.sweep.sweep import sweep as train
        else:
            from train.loop import train
        from train.run.ranks import leave_ranks

    with one_line_where_a_rank_is_lost(
        "go on from the last checkpoint with the same command and --resume"
    ):
        ending = train(config)
        leave_ranks()
    if not ending:
        raise SystemExit(ending.value)


def _names_config(argv: list[str]) -> bool:
    return not argv or any(word.partition("=")[0] == "--config" for word in argv)


def _tell_defaults(config: TrainConfig) -> None:
    """Say whose options are in force, once: they are made for digits, not for photographs."""
    if os.environ.get("RANK", "0") != "0":
        return
    line = f"no --config: options that are not given are those of recipes/{DEFAULT}.yaml"
    if Path(config.data) != Path(TrainConfig.data):
        line += f", made for digits (size {config.size}); --config voc-fast is for photographs"
    print(line, file=sys.stderr)


def config_first(argv: list[str]) -> list[str]:
    """Put the file that `--config` names, or else the default, in front: flags win over it."""
    for place, arg in enumerate(argv):
        if arg.startswith("--config="):
            return [
                f"--config={find_recipe(arg.partition('=')[2])}",
                *argv[:place],
                *argv[place + 1 :],
            ]
        if arg == "--config":
            return [
                arg,
                *map(find_recipe, argv[place + 1 : place + 2]),
                *argv[:place],
                *argv[place + 2 :],
            ]
    return ["--config", str(FOLDER / f"{DEFAULT}.yaml"), *argv]


if __name__ == "__main__":
    run(main)
