"""LitData: chunks from a bucket, its own data loader."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from far_reading import Place
from litdata import StreamingDataLoader, StreamingDataset, optimize
from litdata.streaming import downloader

from far_roads.pillow_crops import SHARD_BYTES, crops, photographs


def _sample(path: Path) -> dict[str, Any]:
    return {"image": path.read_bytes(), "key": path.stem}


def prepare(root: Path, out: Path) -> None:
    """Write chunks of the JPEG bytes."""
    optimize(_sample, photographs(root), str(out), chunk_bytes=SHARD_BYTES, num_workers=1)


def _cropped(transform: Any, sample: dict[str, Any]) -> Any:
    return transform(sample["image"]), sample["key"]


class Reader:
    """Batches of one rank."""

    def __init__(self, place: Place) -> None:
        # it has no setting for a server on this machine, which has no certificate
        downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
        limit = {"max_cache_size": place.cache_bytes} if place.share else {}
        dataset = StreamingDataset(
            place.bucket,
            cache_dir=place.cache,
            shuffle=True,
            seed=0,
            drop_last=False,
            transform=partial(_cropped, crops(place.size)),
            **limit,
        )
        self._loader = StreamingDataLoader(
            dataset, batch_size=place.local_batch_size, num_workers=place.workers
        )

    def epoch(self, number: int) -> Iterator[list[str]]:
        """Read the rest of an epoch, or the whole of it; they come one after the other."""
        for _, keys in self._loader:
            yield keys

    def state(self) -> Any:
        return self._loader.state_dict()

    def load(self, state: Any) -> None:
        self._loader.load_state_dict(state)
