"""MosaicML Streaming: MDS shards from a bucket, its own data loader."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from far_reading import Place
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

from far_roads.pillow_crops import SHARD_BYTES, crops, photographs

SHUFFLE_BLOCK = 180  # samples: four shards. Its default, 262,144, is all of a small set


def prepare(root: Path, out: Path) -> None:
    """Write MDS shards of the JPEG bytes."""
    columns = {"image": "bytes", "key": "str"}
    with MDSWriter(out=str(out), columns=columns, size_limit=SHARD_BYTES) as writer:
        for path in photographs(root):
            writer.write({"image": path.read_bytes(), "key": path.stem})


class _Crops(StreamingDataset):
    def __init__(self, place: Place) -> None:
        super().__init__(
            remote=place.bucket,
            local=place.cache,
            shuffle=True,
            shuffle_seed=0,
            batch_size=place.local_batch_size,
            cache_limit=place.cache_bytes or None,
            num_canonical_nodes=1,
            shuffle_block_size=SHUFFLE_BLOCK,
        )
        self._transform = crops(place.size)

    def __getitem__(self, number: Any) -> Any:
        sample = super().__getitem__(number)
        return self._transform(sample["image"]), sample["key"]


class Reader:
    """Batches of one rank."""

    def __init__(self, place: Place) -> None:
        if place.num_ranks == 1:
            clean_stale_shared_memory()
        self._loader = StreamingDataLoader(
            _Crops(place),
            batch_size=place.local_batch_size,
            num_workers=place.workers,
            persistent_workers=False,
        )

    def epoch(self, number: int) -> Iterator[list[str]]:
        """Read the rest of an epoch, or the whole of it; they come one after the other."""
        for _, keys in self._loader:
            yield keys

    def state(self) -> Any:
        return self._loader.state_dict()

    def load(self, state: Any) -> None:
        self._loader.load_state_dict(state)
