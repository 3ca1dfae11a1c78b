"""Pack a source of labelled photographs into tar shards: `python -m preprocess.shard`."""

import dataclasses
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preprocess.digits import Digits
from preprocess.geometry import ImageOptions
from preprocess.pack import Job, Packing, pack_split
from preprocess.pool import Pool, open_pool
from preprocess.record import Source
from preprocess.voc import VOC
from shards.commandline import option, parse, run
from shards.errors import DataError

EXAMPLES = "example: python -m preprocess.shard --source voc --root VOCdevkit/VOC2012 --out data/voc --short-side 256"


@dataclass(frozen=True)
class ShardConfig:
    """The command line of the packer."""

    source: Literal["digits", "voc"] = option("digits", "where the photographs come from")
    root: str = option("", "the source's folder, such as VOCdevkit/VOC2012; digits writes its own: OUT-source")
    out: str = option("", "the dataset's folder, one folder per split inside; data/SOURCE where not given")
    splits: str = option("", "splits to pack, separated by commas; those that the source names where not given")
    max_side: int = option(0, "shrink to this longer side in pixels; 0 keeps the size")
    short_side: int = option(0, "shrink to this shorter side in pixels; 0 keeps the size")
    quality: int = option(90, "JPEG quality of what has to be encoded anew; untouched JPEGs keep their own")
    shard_mb: float = option(128.0, "start a new shard at this size in MB")
    shard_samples: int = option(0, "start a new shard after this many samples; 0 lets the size decide")
    workers: int = option(0, "packing processes; 0 means one per core")
    difficult: Literal["ignore", "positive", "negative"] = option(
        "ignore", "what becomes of a class that shows only difficult objects; ignored ones count in no loss or metric"
    )
    max_rejects: int = option(0, "how many unreadable images per split are put up with; they are always listed")

    def command(self) -> str:
        """Spell what decides the content: no folders of this machine, so same input, same bytes."""
        parts = ["python -m preprocess.shard"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "root" and value:
                value = Path(value).resolve().name
            if value != field.default and field.name not in ("out", "workers"):
                parts.append(f"--{field.name.replace('_', '-')} {shlex.quote(str(value))}")
        return " ".join(parts)


def main() -> None:
    """Pack every split asked for and say what was done."""
    config = parse(ShardConfig, prog="python -m preprocess.shard", description=__doc__ or "", epilog=EXAMPLES)
    _check(config)
    out = Path(config.out or f"data/{config.source}")
    source = _open_source(config, out)
    splits = [name.strip() for name in config.splits.split(",") if name.strip()] or list(source.splits())
    with open_pool(config.workers) as pool:
        for split in splits:
            started = time.perf_counter()
            packing = _pack(config, source, split, out / split, pool)
            _tell(packing, out / split, time.perf_counter() - started)


def _open_source(config: ShardConfig, out: Path) -> Source:
    if config.source == "digits":
        root = Path(config.root) if config.root else out.with_name(out.name + "-source")
        return Digits(root, config.difficult)
    if not config.root:
        raise DataError(f"--source {config.source} needs --root, the folder that holds JPEGImages and ImageSets")
    return VOC(Path(config.root), config.difficult)


def _pack(config: ShardConfig, source: Source, split: str, root: Path, pool: Pool) -> Packing:
    job = Job(
        split=split,
        class_names=source.class_names,
        records=source.records(split),
        image=ImageOptions(config.max_side, config.short_side, config.quality),
        shard_bytes=int(config.shard_mb * 1e6),
        shard_samples=config.shard_samples,
        max_rejects=config.max_rejects,
        command=config.command(),
        task=source.task,
    )
    return pack_split(job, root, pool)


def _check(config: ShardConfig) -> None:
    if not 0 < config.shard_mb < math.inf:
        raise DataError(f"--shard-mb is {config.shard_mb}: give a size above 0")
    for name in ("shard_samples", "workers", "max_rejects"):
        if getattr(config, name) < 0:
            raise DataError(f"--{name.replace('_', '-')} is {getattr(config, name)}: give 0 or more")
    ImageOptions(config.max_side, config.short_side, config.quality)


def _tell(packing: Packing, root: Path, seconds: float) -> None:
    written = packing.num_shards - packing.num_kept
    rate = f", {packing.num_samples / seconds:.0f} images/s" if written == packing.num_shards else ""
    print(
        f"{root}: {packing.num_samples} samples in {packing.num_shards} shards, {packing.num_bytes / 1e6:.1f} MB; "
        f"{written} written, {packing.num_kept} verified and kept, {packing.num_rejected} images rejected "
        f"({seconds:.1f} s{rate})"
    )


if __name__ == "__main__":
    run(main)
