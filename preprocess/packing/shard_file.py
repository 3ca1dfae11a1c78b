"""Make one shard of pieces, in order, and write down what it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.images.geometry import ImageOptions
from preprocess.packing.folder_state import FinishedShard, finished_shard, write_finished
from preprocess.packing.index_tables import packed_rows
from preprocess.packing.packing_plan import PackTask
from preprocess.packing.pieces import (
    PackedPiece,
    PieceLength,
    PieceTask,
    cut_records,
    pack_piece,
)
from preprocess.packing.resume import Entry, inputs_digest, is_intact
from preprocess.record import Record
from shards.disk.writer import ShardWriter


@dataclass(frozen=True)
class PackSettings:
    """What all shards of a part share. `identity` is the part's."""

    root: Path
    identity: str
    image: ImageOptions
    accept_damaged: bool
    num_classes: int

    def piece(self, records: Sequence[Record]) -> PieceTask:
        """Ask for a piece."""
        return PieceTask(records, self.image, self.accept_damaged)


class ShardBuilder:
    """A shard that grows by pieces. Its file has its name only when `finish` has synced it."""

    def __init__(self, settings: PackSettings, task: PackTask) -> None:
        self._settings = settings
        self._task = task
        self._writer = ShardWriter(settings.root / task.name)
        self._pieces: list[PackedPiece] = []  # without their bytes

    def add(self, piece: PackedPiece) -> None:
        """Append what was made of the next records."""
        self._writer.append(piece.tar)
        self._pieces.append(piece.without_bytes())

    def finish(self) -> FinishedShard:
        """Sync and name the shard, then write down what it holds. What fails leaves no file."""
        try:
            entry = self._entry()
        except BaseException:
            self.abort()
            raise
        settings = self._settings
        num_members = len(settings.image.members)
        rows = packed_rows(self._task.number, self._writer.rows, settings.num_classes, num_members)
        shard = FinishedShard(entry, rows)
        write_finished(settings.root, settings.identity, shard)
        return shard

    def abort(self) -> None:
        """Drop the unfinished file."""
        self._writer.abort()

    def _entry(self) -> Entry:
        num_bytes = self._writer.num_bytes
        sha256 = self._writer.close()
        records = self._task.records
        sizes = [size for piece in self._pieces for size in piece.sizes]
        sums = zip(*(piece.pixel_sum for piece in self._pieces), strict=True)
        squares = zip(*(piece.pixel_sum_squares for piece in self._pieces), strict=True)
        return Entry(
            name=self._task.name,
            bytes=num_bytes,
            num_samples=len(self._writer.rows),
            sha256=sha256,
            first_record=self._task.first_record,
            num_records=len(records),
            inputs=inputs_digest(records, sizes),
            num_pixels=sum(piece.num_pixels for piece in self._pieces),
            pixel_sum=[sum(channel) for channel in sums],
            pixel_sum_squares=[sum(channel) for channel in squares],
            rejected=[line for piece in self._pieces for line in piece.rejected],
            accepted=[line for piece in self._pieces for line in piece.accepted],
        )


def pack_shard_once(settings: PackSettings, task: PackTask) -> FinishedShard:
    """Make a shard, or return it where this same task has finished it: a machine may die before its
    answer arrives. One with rejected or damaged images is made again.
    """
    found = finished_shard(settings.root, settings.identity, task.name)
    if found is None or found.entry.rejected or found.entry.accepted:
        return pack_shard(settings, task)
    is_whole = is_intact(settings.root, found.entry, task.records)
    return found if is_whole else pack_shard(settings, task)


def pack_shard(settings: PackSettings, task: PackTask) -> FinishedShard:
    """Make a whole shard in this process. Made again, by any process, it has the same bytes."""
    builder = ShardBuilder(settings, task)
    length = PieceLength()
    try:
        for records in cut_records(task.records, length):
            piece = pack_piece(settings.piece(records))
            length.note(piece)
            builder.add(piece)
        return builder.finish()
    except BaseException:
        builder.abort()
        raise
