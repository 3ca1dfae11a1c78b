"""Rewrite the metadata of a packed dataset as format 2: `python -m preprocess.upgrade data/voc`."""

from collections.abc import Sequence
from dataclasses import dataclass

from shards.commandline import folder, parse, run
from shards.options import check_bounds, option


@dataclass(frozen=True)
class UpgradeConfig:
    """The command line."""

    data: str = option("", "packed dataset, such as data/voc, or one split of it", positional=True)
    threads: int = option(0, "reading threads; 0 means one per core", ge=0)

    def __post_init__(self) -> None:
        check_bounds(self, as_flags=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Upgrade every split, and say what was done."""
    config = parse(
        UpgradeConfig,
        argv,
        prog="python -m preprocess.upgrade",
        description="Rewrite the metadata of a packed dataset of format 1 as format 2, which opens "
        "at once whatever its size. Shards are read, and compared with their checksums, but not "
        "changed; a folder is of one version or the other whenever this is killed.",
        epilog="example: python -m preprocess.upgrade data/voc",
    )
    from preprocess.upgrading.upgrade_split import upgrade_split
    from preprocess.verifying.verification import find_splits

    for split in find_splits(folder(config.data)):
        print(upgrade_split(split, config.threads))


if __name__ == "__main__":
    run(main)
