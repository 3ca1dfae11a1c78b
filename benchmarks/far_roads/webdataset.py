"""WebDataset: tar shards over HTTP, its cache, Pillow; batched in the workers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import webdataset as wds
from far_reading import Place
from torch.utils.data import DataLoader

from far_roads.pillow_crops import SHARD_BYTES, crops, photographs

SHUFFLE_SAMPLES = 1000
LIST = "shards.txt"  # a plain server lists no folder


def prepare(root: Path, out: Path) -> None:
    """Write tar shards with its own writer."""
    out.mkdir(parents=True)
    with wds.ShardWriter(str(out / "train-%06d.tar"), maxsize=SHARD_BYTES, verbose=0) as writer:
        for path in photographs(root):
            writer.write({"__key__": path.stem, "jpg": path.read_bytes()})
    names = sorted(path.name for path in out.glob("*.tar"))
    (out / LIST).write_text("\n".join(names))


class _Cropped:
    def __init__(self, size: int) -> None:
        self._transform = crops(size)

    def __call__(self, sample: dict[str, Any]) -> Any:
        return self._transform(sample["jpg"]), sample["__key__"]


class Reader:
    """Batches of one rank."""

    def __init__(self, place: Place) -> None:
        with urlopen(f"{place.url}/{LIST}") as answer:
            names = answer.read().decode().split()
        Path(place.cache).mkdir(parents=True, exist_ok=True)
        data = wds.WebDataset(
            [f"{place.url}/{name}" for name in names],
            shardshuffle=len(names),
            detshuffle=True,
            seed=0,
            nodesplitter=wds.split_by_node,
            cache_dir=place.cache,
            cache_size=place.cache_bytes or -1,
        )
        self._data = (
            data.shuffle(SHUFFLE_SAMPLES)
            .map(_Cropped(place.size))
            .batched(place.local_batch_size, partial=True)
        )
        self._loader = DataLoader(self._data, batch_size=None, num_workers=place.workers)

    def epoch(self, number: int) -> Iterator[list[str]]:
        """Read an epoch; they come one after the other."""
        for _, keys in self._loader:
            yield keys

    def state(self) -> Any:
        return self._data.state_dict()

    def load(self, state: Any) -> None:
        self._data.load_state_dict(state)
