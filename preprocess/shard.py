"""Pack a source of labelled photographs into tar shards: `python -m preprocess.shard`."""

import contextlib
import dataclasses
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from preprocess.images.geometry import MAX_SIDE, Encoding, ImageOptions
from preprocess.reading.class_names import questions
from preprocess.record import Record, Source, check_records
from preprocess.sources.found import counted, described, listed, odd, packed
from preprocess.sources.holdout import MAX_SEED, Division, Holdout, divided_split
from preprocess.sources.registry import (
    SOURCES,
    about,
    find_source,
    given_flags,
    named_source,
    open_source,
    options,
    refuse_foreign_flags,
    with_options,
)
from shards.commandline import folder, parse, run
from shards.errors import DataError
from shards.index import DatasetIndex, list_splits
from shards.options import check_bounds, flag, option
from shards.pages.spelling import plain

if TYPE_CHECKING:
    from preprocess.packing.pack import Job, Packing

PROG = "python -m preprocess.shard"
EXAMPLES = f"example: {PROG} --source voc --root VOCdevkit/VOC2012 --out data/voc --short-side 256"


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
        "the dataset's folder, one folder per split inside; data/SOURCE where not given",
        group="packing",
    )
    shard_mb: float = option(
        128.0, "start a new shard at this size in MB", gt=0, lt=math.inf, group="packing"
    )
    shard_samples: int = option(
        0,
        "start a new shard after this many samples; 0 lets the size decide",
        ge=0,
        group="packing",
    )
    workers: int = option(0, "packing processes; 0 means one per core", ge=0, group="packing")
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
            if value != field.default and field.name not in ("out", "workers", "list"):
                if isinstance(value, bool):
                    parts.append(flag(field.name if value else f"no_{field.name}"))
                else:
                    parts.append(f"{flag(field.name)} {shlex.quote(str(value))}")
        return " ".join(parts)


def main() -> None:
    """Pack every split asked for and say what was done."""
    config, source_class = _parse(sys.argv[1:])
    _check(config)
    out = folder(config.out or f"data/{config.source.rpartition(':')[2].lower()}")
    if not out.name:
        raise DataError(f"--out {config.out} has no name of its own; give a folder in it")
    root = folder(config.root) if config.root else source_class.default_root(out)
    if config.list:
        with _unwritten(source_class, root, out) as root:
            _list(config, _open(config, source_class, root))
        return
    source = _open(config, source_class, root)
    splits = _splits(config, source)
    asked = questions(source.class_names, config.source, config.accept_class_names)
    if source.in_place:
        _check_in_place(config)
    image = _image_options(config, source, given_flags(sys.argv[1:]))
    _check_belongs(out, source, splits)
    # what is wrong with labels, before the first shard
    jobs = [_job(config, source, split, image) for split in splits]
    for line in (
        *described(source),
        *asked,
        *_asked_of_labels(config, source, [job.records for job in jobs]),
    ):
        print(line)
    # Half a second of imports: not for --help, --list or a mistyped flag.
    from preprocess.packing.pack import pack_split
    from preprocess.packing.pool import open_pool

    with open_pool(config.workers) as pool:
        for job in jobs:
            started = time.perf_counter()
            packing = pack_split(job, out / job.split, pool)
            _tell(packing, out / job.split, time.perf_counter() - started)
            print(*listed(packed(out / job.split), source.class_names), sep="\n")
    if not config.splits:
        _tell_what_is_missing(splits, list_splits(out))


def _open(config: ShardConfig, source_class: type[Source], root: Path | None) -> Source:
    """Open the source with its flags, divided where the user wants that."""
    values = {name: getattr(config, name) for name in options(source_class)}
    source = open_source(config.source, source_class, root, values)
    if config.val_fraction:
        return Holdout(source, config.val_fraction, config.split_seed, config.split_by)
    return source


def _splits(config: ShardConfig, source: Source) -> Sequence[str]:
    """Name the splits to pack. Raises DataError where --val-fraction would do nothing."""
    splits = [name.strip() for name in config.splits.split(",") if name.strip()] or source.splits()
    if config.val_fraction and not {"train", "val"} & set(splits):
        raise DataError(
            f"--val-fraction makes train and val, --splits {config.splits} asks for neither; leave "
            f"one out"
        )
    return splits


def _list(config: ShardConfig, source: Source) -> None:
    """Print what would be packed, every class of it, and then what is wrong with their names."""
    records = {split: source.records(split) for split in _splits(config, source)}
    for split, of_split in records.items():
        check_records(split, of_split, source)
    for line in described(source):
        print(line)
    for split, of_split in records.items():
        counts = counted(split, of_split, len(source.class_names))
        print(*listed(counts, source.class_names, everything=True), sep="\n")
    sys.stdout.flush()
    asked = questions(source.class_names, config.source, config.accept_class_names)
    for line in (*asked, *_asked_of_labels(config, source, list(records.values()))):
        print(line)


def _asked_of_labels(
    config: ShardConfig, source: Source, splits: Sequence[Sequence[Record]]
) -> Iterator[str]:
    """Yield questions about labels that occur as those of classes hardly do."""
    if not config.accept_class_names:
        yield from odd([record for split in splits for record in split], source.class_names)


@contextlib.contextmanager
def _unwritten(source_class: type[Source], root: Path | None, out: Path) -> Iterator[Path | None]:
    """Lend another root to a source that would write its own, such as digits: listing leaves
    nothing behind.
    """
    if (
        root is None
        or source_class.default_root(out) is None
        or (root.is_dir() and any(root.iterdir()))
    ):
        yield root
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, root.name)


def _tell_what_is_missing(splits: Sequence[str], there: Sequence[str]) -> None:
    missing = [split for split in ("train", "val") if split not in there]
    if missing:
        divides = "val" not in splits and divided_split(splits)
        remedy = (
            "--val-fraction 0.2 divides it"
            if divides
            else f"pack {' and '.join(missing)} into the same --out too"
        )
        print(f"training needs train and val, this source has {', '.join(splits)}: {remedy}")


def _check_belongs(out: Path, source: Source, splits: Sequence[str]) -> None:
    """Refuse to put splits of different classes into one dataset."""
    for name in set(list_splits(out)) - set(splits):
        there = DatasetIndex.open(out / name)
        if (there.class_names, there.task) != (source.class_names, source.task):
            raise DataError(
                f"{out / name}: has {there.num_classes} classes and task {there.task}, this source "
                f"{len(source.class_names)} and {source.task}, or others: choose another --out"
            )


def _parse(argv: list[str]) -> tuple[ShardConfig, type[Source]]:
    """Read the flags: those of every packing and those of the source that `--source` names."""
    name = named_source(argv, "")
    source_class = find_source(name or ShardConfig.source)
    config_class = with_options(ShardConfig, source_class)
    refuse_foreign_flags(argv, config_class)
    description = "Pack a source of labelled photographs into tar shards."
    examples = EXAMPLES
    if name:
        description += f" --source {name}: {about(source_class)}"
        examples = f"example: {PROG} --source {name} {source_class.example}"
    return parse(
        config_class, argv, prog=PROG, description=description, epilog=examples
    ), source_class


def _image_options(config: ShardConfig, source: Source, given: Collection[str]) -> ImageOptions:
    """Adapt how images are packed to the source. Raises DataError where a flag that was given does
    nothing then.
    """
    options = ImageOptions(config.max_side, config.short_side, config.quality, config.encoding)
    # or a training split is listed, which may not be there
    if type(source).image_options is not Source.image_options:
        splits = source.splits()
        options = source.image_options(
            options, source.records("train" if "train" in splits else splits[0])
        )
    if options.encoding != config.encoding and "encoding" in given:
        raise DataError(
            f"--encoding {config.encoding}: this source's images become {options.encoding}; leave "
            f"it out"
        )
    if options.encoding == "png" and config.quality != ShardConfig.quality:
        raise DataError(
            f"--quality {config.quality} is of JPEGs, and these images become png; leave it out"
        )
    return options


def _job(config: ShardConfig, source: Source, split: str, image: ImageOptions) -> "Job":
    from preprocess.packing.pack import Job

    records = source.records(split)
    check_records(split, records, source)
    return Job(
        split=split,
        class_names=source.class_names,
        records=records,
        image=image,
        shard_bytes=int(config.shard_mb * 1e6),
        shard_samples=config.shard_samples,
        max_rejects=config.max_rejects,
        command=config.command(),
        task=source.task,
        in_place=source.in_place,
        accept_damaged=config.accept_damaged,
    )


def _check(config: ShardConfig) -> None:
    if not config.val_fraction and (config.split_seed, config.split_by) != (
        ShardConfig.split_seed,
        ShardConfig.split_by,
    ):
        raise DataError(
            "--split-seed and --split-by say how --val-fraction divides: give it too, or leave "
            "them out"
        )
    ImageOptions(config.max_side, config.short_side, config.quality)


def _check_in_place(config: ShardConfig) -> None:
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


def _tell(packing: "Packing", root: Path, seconds: float) -> None:
    written = packing.num_shards - packing.num_kept
    rate = (
        f", {packing.num_samples / seconds:.0f} images/s" if written == packing.num_shards else ""
    )
    damaged = f", {packing.num_accepted} damaged images accepted" if packing.num_accepted else ""
    print(
        f"{root}: {packing.num_samples} samples in {packing.num_shards} shards, "
        f"{packing.num_bytes / 1e6:.1f} MB; {written} written, {packing.num_kept} verified and "
        f"kept, {packing.num_rejected} images rejected{damaged} ({seconds:.1f} s{rate})"
    )


if __name__ == "__main__":
    run(main)
