"""Pack shards with the processes of this machine. Pieces of a shard go to all of them, so that one
shard is enough to keep every core busy.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from preprocess.packing.folder_state import FinishedShard
from preprocess.packing.packing_plan import PackTask
from preprocess.packing.pieces import PieceLength, PieceTask, cut_records, pack_piece
from preprocess.packing.shard_file import PackSettings, ShardBuilder

MOST_CLOSING = 1  # shards that are synced while the next one is written


class Runner(Protocol):
    """What calls functions in other processes, such as `preprocess.packing.pool.Pool`."""

    def run(self, function: Callable[..., Any], tasks: Iterable[Any]) -> Generator[Any, None, None]:
        """Yield the function's results for all tasks, in order."""


class LocalEngine:
    """Shards by worker processes; this process concatenates their pieces in order."""

    def __init__(self, pool: Runner) -> None:
        self._pool = pool

    def pack(
        self, settings: PackSettings, tasks: Iterable[PackTask], advance: Callable[[int], None]
    ) -> Iterator[FinishedShard]:
        """Yield shards as they are finished. `advance` is called with numbers of images done."""
        length = PieceLength()
        asked: deque[tuple[PackTask, bool]] = deque()
        pieces = self._pool.run(pack_piece, _ask(settings, tasks, length, asked))
        closing: deque[Future[FinishedShard]] = deque()
        builder: ShardBuilder | None = None
        with ThreadPoolExecutor(1) as threads:
            try:
                for piece in pieces:
                    task, is_last = asked.popleft()
                    builder = builder or ShardBuilder(settings, task)
                    builder.add(piece)
                    length.note(piece)
                    advance(len(piece.sizes))
                    if is_last:
                        # fsync of a large shard takes tenths of a second; workers go on meanwhile
                        closing.append(threads.submit(builder.finish))
                        builder = None
                    while len(closing) > MOST_CLOSING:
                        yield closing.popleft().result()
                while closing:
                    yield closing.popleft().result()
            finally:
                pieces.close()
                if builder is not None:
                    builder.abort()


def _ask(
    settings: PackSettings,
    tasks: Iterable[PackTask],
    length: PieceLength,
    asked: deque[tuple[PackTask, bool]],
) -> Iterator[PieceTask]:
    """Yield pieces of all shards, and note which shard each is of, and whether it is its last."""
    for task in tasks:
        left = len(task.records)
        for records in cut_records(task.records, length):
            left -= len(records)
            asked.append((task, left == 0))
            yield settings.piece(records)
