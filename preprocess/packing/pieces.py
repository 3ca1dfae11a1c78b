"""Pack a few consecutive records into a piece of a shard: a pure function, done by any process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from preprocess.images.geometry import ImageOptions
from preprocess.images.outcome import Packed
from preprocess.packing.keys import sample_key
from preprocess.packing.pool import READ_TIMEOUT_S, Pool, read_and_do
from preprocess.record import Record
from shards.disk.writer import Sample, ShardPiece, tar_piece

PIECE_BYTES = 1 << 20  # what a piece aims at: the writer is fastest at 0.25 to 2 MB
MOST_RECORDS = 64  # of a piece; the first ones of a run are of FIRST_RECORDS
FIRST_RECORDS = 8


@dataclass(frozen=True)
class PieceTask:
    """Records to pack, and how."""

    records: Sequence[Record]
    image: ImageOptions
    accept_damaged: bool
    read_timeout_s: float = READ_TIMEOUT_S


@dataclass(frozen=True)
class PackedPiece:
    """What became of some consecutive records.

    `sizes` are the bytes of each record's file; the sums are exact, one for each channel.
    """

    tar: ShardPiece
    sizes: tuple[int, ...]
    num_pixels: int
    pixel_sum: tuple[int, ...]
    pixel_sum_squares: tuple[int, ...]
    rejected: tuple[dict[str, str], ...]
    accepted: tuple[dict[str, str], ...]

    def without_bytes(self) -> "PackedPiece":
        """Keep what is counted and listed."""
        return replace(self, tar=ShardPiece(b"", (), ()))


def pack_piece(task: PieceTask) -> PackedPiece:
    """Pack records in order. Raises DataError naming an image that cannot be read to its end."""
    # of the process that packs alone: the command would wait for compiled code that it never calls
    from preprocess.images.image import pack_image

    pack = partial(pack_image, options=task.image, accept_damaged=task.accept_damaged)
    results = list(read_and_do((list(task.records), pack, task.read_timeout_s)))
    pairs = list(zip(task.records, results, strict=True))
    packed = [(record, result) for record, result in pairs if isinstance(result, Packed)]
    channels = range(task.image.num_channels)
    return PackedPiece(
        tar=tar_piece(_sample(record, result) for record, result in packed),
        sizes=tuple(record.num_bytes() for record in task.records),
        num_pixels=sum(result.width * result.height for _, result in packed),
        pixel_sum=tuple(sum(result.pixel_sum[c] for _, result in packed) for c in channels),
        pixel_sum_squares=tuple(
            sum(result.pixel_sum_squares[c] for _, result in packed) for c in channels
        ),
        rejected=tuple(
            {"source": record.source, "reason": result}
            for record, result in pairs
            if isinstance(result, str)
        ),
        accepted=tuple(
            {"source": record.source, "reason": result.damage}
            for record, result in packed
            if result.damage
        ),
    )


def _sample(record: Record, packed: Packed) -> Sample:
    return Sample(
        key=sample_key(record.name),
        images=packed.images,
        labels=tuple(record.labels),
        ignored=tuple(record.ignored),
        width=packed.width,
        height=packed.height,
        source=record.source,
    )


class PieceLength:
    """How many records go into the next piece: as many as make PIECE_BYTES, by those before.

    The bytes that wait for the writer are bounded by it, whether images are thumbnails or of 50
    megapixels.
    """

    def __init__(self) -> None:
        self.now = FIRST_RECORDS
        self._num_bytes = 0
        self._num_records = 0

    def note(self, piece: PackedPiece) -> None:
        """Take a finished piece into account."""
        self._num_bytes += len(piece.tar.data)
        self._num_records += len(piece.sizes)
        mean = self._num_bytes / self._num_records
        self.now = max(1, min(MOST_RECORDS, int(PIECE_BYTES / max(1.0, mean))))


def cut_records(records: Sequence[Record], length: PieceLength) -> Iterator[Sequence[Record]]:
    """Cut records into pieces, each of as many as `length` says when it is asked for."""
    at = 0
    while at < len(records):
        piece = records[at : at + length.now]
        at += len(piece)
        yield piece


def pilot(
    records: Sequence[Record], image: ImageOptions, accept_damaged: bool, pool: Pool
) -> float:
    """Return the mean bytes that a sample of these records takes in a shard; 0 where none does."""
    tasks = (
        PieceTask(records[start : start + FIRST_RECORDS], image, accept_damaged)
        for start in range(0, len(records), FIRST_RECORDS)
    )
    num_bytes = 0
    num_samples = 0
    for piece in pool.run(pack_piece, tasks):
        num_bytes += len(piece.tar.data)
        num_samples += len(piece.tar.rows)
    return num_bytes / max(1, num_samples)
