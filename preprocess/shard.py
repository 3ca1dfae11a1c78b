"""Pack a source of labelled photographs into tar shards: `python -m preprocess.shard`."""

import contextlib
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from preprocess.images.geometry import ImageOptions, preloaded_for
from preprocess.packing.destination import classes_of, destination, folder_beside, splits_of
from preprocess.reading.class_names import questions
from preprocess.record import Record, Source, listed_records
from preprocess.shard_config import (
    PROG,
    ShardConfig,
    check_by_address,
    check_config,
    check_in_place,
)
from preprocess.sources.found import counted, described, listed, odd, packed
from preprocess.sources.holdout import Holdout, divided_split
from preprocess.sources.registry import (
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
from shards.disk.format import INDEX_NAME
from shards.errors import DataError, count_of
from shards.remote.address import Address

if TYPE_CHECKING:
    from preprocess.packing.packing_plan import Job
    from preprocess.packing.pool import Pool

EXAMPLES = f"example: {PROG} --source voc --root VOCdevkit/VOC2012 --out data/voc --short-side 256"
MOST_ASKED = 1_000_000  # labels of more images are asked about by every second, third, ...


def main() -> None:
    """Pack every split asked for and say what was done."""
    config, source_class = _parse(sys.argv[1:])
    check_config(config)
    out = destination(config.out or f"data/{config.source.rpartition(':')[2].lower()}")
    beside = folder_beside(out)
    root = folder(config.root) if config.root else source_class.default_root(beside)
    if config.list:
        with _unwritten(source_class, root, beside) as root:
            _list(config, _open(config, source_class, root))
        return
    source = _open(config, source_class, root)
    splits = _splits(config, source)
    asked = questions(source.class_names, config.source, config.accept_class_names)
    if source.in_place:
        check_in_place(config)
    if isinstance(out, Address):
        check_by_address(config, str(out), source.in_place)
    image = _image_options(config, source, given_flags(sys.argv[1:]))
    _check_belongs(out, source, splits)
    # Half a second of imports: not for --help, --list or a mistyped flag.
    from preprocess.packing.pool import open_pool, start_early

    if config.engine == "local" and not (source.in_place or config.finalize):
        start_early(config.workers, preloaded_for(image))
    from preprocess.packing.commanded import open_engine, pack_as_asked, packing_folder

    task = None if config.task_index is None else (config.task_index, config.num_tasks)
    with open_pool(config.workers, preloaded_for(image)) as pool:
        # what is wrong with labels, before the first shard
        jobs = [_job(config, source, split, image, pool) for split in splits]
        for line in (
            *described(source),
            *asked,
            *_asked_of_labels(config, source, [job.records for job in jobs]),
        ):
            print(line)
        with open_engine(config.engine, config.address, pool) as engine:
            for job in jobs:
                with packing_folder(out, job.split) as folder_of_split:
                    to = (out, folder_of_split)
                    print(pack_as_asked(job, *to, pool, engine, task, config.finalize))
                    if (folder_of_split / INDEX_NAME).exists():
                        print(*listed(packed(folder_of_split), source.class_names), sep="\n")
    if not config.splits and task is None:
        _tell_what_is_missing(splits, splits_of(out))


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
    records = {split: listed_records(source, split) for split in _splits(config, source)}
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
        step = 1 + sum(map(len, splits)) // MOST_ASKED  # of ten million, every tenth says as much
        yield from odd([record for split in splits for record in split[::step]], source.class_names)


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


def _check_belongs(out: Path | Address, source: Source, splits: Sequence[str]) -> None:
    """Refuse to put splits of different classes into one dataset."""
    for name in set(splits_of(out)) - set(splits):
        names, task = classes_of(out, name)
        if (names, task) != (source.class_names, source.task):
            raise DataError(
                f"{out / name}: has {count_of(len(names), 'class')} and task {task}, this source "
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
            options, listed_records(source, "train" if "train" in splits else splits[0])
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


def _job(
    config: ShardConfig, source: Source, split: str, image: ImageOptions, pool: "Pool"
) -> "Job":
    from preprocess.packing.listing import list_in_parallel
    from preprocess.packing.packing_plan import Job

    return Job(
        split=split,
        class_names=source.class_names,
        records=list_in_parallel(source, split, pool),
        image=image,
        shard_bytes=int(config.shard_mb * 1e6),
        shard_samples=config.shard_samples,
        max_rejects=config.max_rejects,
        command=config.command(),
        task=source.task,
        in_place=source.in_place,
        accept_damaged=config.accept_damaged,
        order=config.order,
        append=config.append,
        divided=config.val_fraction > 0,
    )


if __name__ == "__main__":
    run(main)
