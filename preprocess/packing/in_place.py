"""Index tar shards of other writers in place: links to them, and a row of samples.npy for every
image.
"""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import ContainerIO, Image
from tqdm import tqdm

from preprocess.images.image import FORMATS, decode_image
from preprocess.images.image_check import what_is_wrong
from preprocess.images.members import with_sums
from preprocess.images.orientation import orientation
from preprocess.images.outcome import BadImage, Packed
from preprocess.packing.index_file import LINKED_MEMBER
from preprocess.packing.keys import sample_key
from preprocess.packing.packing_plan import PackTask
from preprocess.packing.pool import Pool
from preprocess.packing.resume import Entry, inputs
from preprocess.record import Record
from shards.decode.decoder import Decoder
from shards.decode.png import is_png
from shards.disk.format import MAX_STORED_SIDE, shard_name, write_atomically
from shards.disk.writer import SampleRow, dali_index, file_sha256
from shards.errors import DataError, SampleError

_SERVED = {"JPEG": ("RGB", "L"), "PNG": ("RGB",)}  # formats and Pillow's modes that readers take


def link_shards(split: str, records: Sequence[Record], root: Path) -> None:
    """Make `<split>-<number>.tar` in `root` links to the tars that hold the records. Raises
    DataError.
    """
    for number, (target, _) in enumerate(groupby(records, lambda record: record.path)):
        path = root / shard_name(split, number)
        to = str(target.resolve())
        if path.is_symlink() and os.readlink(path) == to:
            continue
        temporary = path.with_name(path.name + ".tmp")
        temporary.unlink(missing_ok=True)
        try:
            temporary.symlink_to(to)
        except (OSError, NotImplementedError) as error:
            raise DataError(
                f"{path}: no link to {to} can be made ({error}); pack without --in-place"
            ) from None
        os.replace(temporary, path)


def index_shards(
    tasks: Iterable[PackTask], root: Path, pool: Pool, kept: Mapping[str, Entry], bar: tqdm
) -> Iterator[Entry]:
    """Yield the entries of all shards in order, looking at every image of those that are not kept."""
    copies = {entry.sha256: entry.name for entry in kept.values()}
    for task in tasks:
        entry = kept.get(task.name)
        if entry is None:
            entry = _look_at(root / task.name, task, pool, bar)
            path = task.records[0].path
            if entry.sha256 in copies:
                raise DataError(
                    f"{path}: holds the same bytes as {copies[entry.sha256]}; remove one of them"
                )
            copies[entry.sha256] = str(path)
        bar.update(task.first_record + len(task.records) - bar.n)
        yield entry


def _look_at(path: Path, task: PackTask, pool: Pool, bar: tqdm) -> Entry:
    records = task.records
    rejected: list[dict[str, str]] = []
    num_pixels = 0
    sums = [0] * 3
    squares = [0] * 3
    for record, result in zip(records, pool.images(examine, records), strict=True):
        bar.update()
        if isinstance(result, str):
            rejected.append({"source": record.source, "reason": result})
            continue
        num_pixels += result.width * result.height
        sums = [a + b for a, b in zip(sums, result.pixel_sum, strict=True)]
        squares = [a + b for a, b in zip(squares, result.pixel_sum_squares, strict=True)]
    write_atomically(path.with_suffix(".idx"), dali_index(path))
    return Entry(
        name=path.name,
        bytes=path.stat().st_size,
        num_samples=len(records) - len(rejected),
        sha256=file_sha256(path),
        first_record=task.first_record,
        num_records=len(records),
        inputs=inputs(records),
        num_pixels=num_pixels,
        pixel_sum=sums,
        pixel_sum_squares=squares,
        rejected=rejected,
    )


def examine(data: bytes) -> Packed:
    """Sum up the pixels of an image that readers will see just as packing would make it.

    Raises BadImage for a damaged one, one too large for samples.npy, and one that would be seen
    otherwise: turned by EXIF, CMYK, a PNG that is not 8-bit RGB.
    """
    pixels = decode_image(data)
    height, width = pixels.shape[:2]
    stored = np.frombuffer(data, np.uint8)
    why = _not_served(data) or what_is_wrong(
        stored, "png" if is_png(stored) else "jpg", width, height
    )
    if why is None:
        try:
            served = Decoder().box(stored, width, height, (0, 0, width, height))
            why = None if np.array_equal(served, pixels) else "its pixels would be others"
        except SampleError as error:
            why = str(error)
    if why is not None:
        raise BadImage(f"cannot be used in place ({why}); pack these shards without --in-place")
    return with_sums({}, Image.fromarray(pixels))


def _not_served(data: bytes) -> str | None:
    """Translate the usual reasons into a user's words."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    # of several pictures readers see the first
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    if image.mode not in _SERVED.get(kind, ()):
        return f"{kind} of mode {image.mode}"
    if kind == "PNG" and data[24] != 8:
        return f"PNG of {data[24]} bits"
    if max(image.size) > MAX_STORED_SIDE:
        return f"{image.width} x {image.height} has a side over {MAX_STORED_SIDE:,} pixels; --max-side shrinks it"
    by = orientation(image)
    return f"EXIF orientation {by}" if by != 1 else None


def linked_rows(records: Sequence[Record], entries: Sequence[Entry]) -> list[tuple[int, SampleRow]]:
    """List (shard's number, row) of all samples that were not rejected; their sizes are read from
    their headers.
    """
    rows = []
    bar = tqdm(
        total=sum(entry.num_samples for entry in entries),
        desc="read sizes",
        unit="img",
        disable=None,
    )
    for number, entry in enumerate(entries):
        left_out = {line["source"] for line in entry.rejected}
        for record in records[entry.first_record : entry.first_record + entry.num_records]:
            if record.source in left_out:
                continue
            assert record.span is not None, record.source
            offset, length = record.span
            key = sample_key(record.name)
            with record.path.open("rb") as file:
                width, height = Image.open(ContainerIO.ContainerIO(file, offset, length)).size
            row = SampleRow(
                key,
                (LINKED_MEMBER,),
                (offset,),
                (length,),
                record.labels,
                record.ignored,
                width,
                height,
            )
            rows.append((number, row))
            bar.update()
    bar.close()
    return rows
