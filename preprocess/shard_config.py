"""The command line of the packer, and which of its options go together."""

import dataclasses
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preprocess.images.geometry import MAX_SIDE, Encoding, ImageOptions
from preprocess.sources.holdout import MAX_SEED, Division
from preprocess.sources.registry import SOURCES
from shards.errors import DataError
from shards.options import check_bounds, flag, option
from shards.pages.spelling import plain

PROG = "python -m preprocess.shard"
NOT_RECORDED = (  # options that change no byte
    *("out", "workers", "list", "engine", "address", "num_tasks", "task_index", "finalize"),
)
Order = Literal["shuffled", "source"]
EngineKind = Literal["local", "ray"]


@dataclass(frozen=True)
class ShardConfig:
    """The command line of the packer."""

    source: str = option(
        "digits",
        f"where the photographs come from: {', '.join(SOURCES)}, or a class of your own as "
        "module:Class; --source NAME --help shows what flags it adds",
        group="source",
    )
    root: str = option(
        "",
        "the source's folder, such as VOCdevkit/VOC2012; digits writes its own: OUT-source",
        group="source",
    )
    list: bool = option(
        False,
        "say what the source holds, every class with its counts, and pack nothing",
        group="source",
    )
    splits: str = option(
        "",
        "splits to pack, separated by commas; those that the source names where not given",
        group="splits",
    )
    val_fraction: float = option(
        0.0,
        "hold out this share of the images as split val, such as 0.2, where the source has no val "
        "of its own",
        gt=0,
        lt=1,
        unit="a share",
        zero="none",
        group="splits",
    )
    split_by: Division = option(
        "stratified",
        "with --val-fraction: keep every class's share, or draw at random as scikit-learn does",
        group="splits",
    )
    split_seed: int = option(
        0, "with --val-fraction: draws which images are held out", ge=0, le=MAX_SEED, group="splits"
    )
    max_side: int = option(
        0,
        "shrink to this longer side in pixels; 0 keeps the size",
        ge=1,
        le=MAX_SIDE,
        unit="pixels",
        zero="the original size",
        group="images",
    )
    short_side: int = option(
        0,
        "shrink to this shorter side in pixels; 0 keeps the size",
        ge=1,
        le=MAX_SIDE,
        unit="pixels",
        zero="the original size",
        group="images",
    )
    quality: int = option(
        90,
        "JPEG quality of what has to be encoded again; JPEGs that keep their size keep their "
        "quality",
        ge=1,
        le=100,
        group="images",
    )
    encoding: Encoding = option(
        "jpg", "png stores the pixels without loss: for images too small for JPEG", group="images"
    )
    out: str = option(
        "",
        "the dataset's folder, one folder per split inside, or its address, such as "
        "s3://bucket/voc; data/SOURCE where not given",
        group="packing",
    )
    append: bool = option(
        False,
        "add the images that a finished set lacks, by their paths below --root, as new shards",
        group="packing",
    )
    order: Order = option(
        "shuffled",
        "shuffled mixes the classes over all shards; source keeps the order of the source",
        group="packing",
    )
    shard_mb: float = option(
        128.0, "size of a shard in MB, on average", gt=0, lt=math.inf, group="packing"
    )
    shard_samples: int = option(
        0,
        "images of a shard; 0: as many as make --shard-mb",
        ge=0,
        group="packing",
    )
    workers: int = option(0, "packing processes; 0 means one per core", ge=0, group="packing")
    engine: EngineKind = option(
        "local",
        "local: processes of this machine; ray: a Ray cluster (pip install 'tarmac-vision[ray]')",
        group="several machines",
    )
    address: str = option(
        "",
        "with --engine ray: the cluster's, such as auto or ray-head:6379; not given: one here",
        group="several machines",
    )
    num_tasks: int = option(
        0, "divide the shards among this many runs of this command", ge=0, group="several machines"
    )
    task_index: int | None = option(
        None,
        "with --num-tasks N: which of them this is, 0 to N - 1",
        ge=0,
        group="several machines",
    )
    finalize: bool = option(
        False, "write the index when all of --num-tasks have ended", group="several machines"
    )
    max_rejects: int = option(
        0,
        "how many unreadable images per split are tolerated; they are always listed",
        ge=0,
        group="what to accept",
    )
    accept_damaged: bool = option(
        False,
        "pack JPEGs that have lost pixels too, and list them in accepted.jsonl; otherwise they "
        "are rejects",
        group="what to accept",
    )
    accept_class_names: bool = option(
        False,
        "pack class names that are refused or asked about as likely mistakes",
        group="what to accept",
    )

    def __post_init__(self) -> None:
        check_bounds(self, as_flags=True)

    def command(self) -> str:
        """Spell what decides the content: no folders of this machine, so same input, same bytes."""
        parts = [PROG]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "root" and value:
                value = plain(Path(value).resolve().name)
            if value != field.default and field.name not in NOT_RECORDED:
                if isinstance(value, bool):
                    parts.append(flag(field.name if value else f"no_{field.name}"))
                else:
                    parts.append(f"{flag(field.name)} {shlex.quote(str(value))}")
        return " ".join(parts)


def check_config(config: ShardConfig) -> None:
    if not config.val_fraction and (config.split_seed, config.split_by) != (
        ShardConfig.split_seed,
        ShardConfig.split_by,
    ):
        raise DataError(
            "--split-seed and --split-by say how --val-fraction divides: give it too, or leave "
            "them out"
        )
    ImageOptions(config.max_side, config.short_side, config.quality)
    if config.shard_samples and config.shard_mb != ShardConfig.shard_mb:
        raise DataError(
            "--shard-mb and --shard-samples both say how large a shard is; leave one of them out"
        )
    _check_machines(config)


def _check_machines(config: ShardConfig) -> None:
    """Raise DataError where options for several machines do not go together."""
    if config.address and config.engine != "ray":
        raise DataError(f"--address {config.address} is of --engine ray; give it too")
    if (config.task_index is None) != (config.num_tasks == 0):
        raise DataError("--num-tasks 8 and --task-index 0 to 7 go together; give both or none")
    if config.task_index is not None and config.task_index >= config.num_tasks:
        raise DataError(
            f"--task-index is {config.task_index}: give 0 to {config.num_tasks - 1}, one less than "
            f"--num-tasks"
        )
    if config.finalize and (config.num_tasks or config.engine != "local"):
        raise DataError(
            "--finalize writes the index of what tasks have packed: leave --num-tasks, "
            "--task-index and --engine out"
        )


def check_in_place(config: ShardConfig) -> None:
    for name in ("append", "engine", "num_tasks", "finalize"):
        if getattr(config, name) != getattr(ShardConfig, name):
            raise DataError(
                f"{flag(name)} is about writing shards, --in-place writes none and is done by one "
                "command on one machine; leave one of them out"
            )
    if config.accept_damaged:
        raise DataError(
            "--accept-damaged packs damaged JPEGs again, --in-place packs none; leave one of them "
            "out"
        )
    for name in ("max_side", "short_side", "quality", "encoding", "shard_mb", "shard_samples"):
        if getattr(config, name) != getattr(ShardConfig, name):
            raise DataError(
                f"{flag(name)} says how images are written, --in-place writes none; leave one of "
                f"them out"
            )


def check_by_address(config: ShardConfig, out: str, in_place: bool) -> None:
    """Raise DataError where an option needs a folder and `--out` is an address."""
    if in_place:
        raise DataError(
            f"--out {out}: --in-place makes links to tars, and a bucket has no links; give a "
            "folder, or pack without --in-place"
        )
    if config.append:
        raise DataError(
            f"--out {out}: --append reads in the shards which images they hold; copy the set into "
            "a folder, add to it there and copy it back"
        )
    if config.engine != "local":
        raise DataError(
            f"--out {out}: --engine {config.engine} writes to a folder that its nodes share; give "
            "one, or divide the packing by --num-tasks"
        )
