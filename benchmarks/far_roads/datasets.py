"""HF datasets: tar shards over HTTP, streamed; Pillow in the workers of a DataLoader."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from datasets import load_dataset
from datasets.distributed import split_dataset_by_node
from far_reading import Place
from torch.utils.data import DataLoader

from far_roads.pillow_crops import crops

SHUFFLE_SAMPLES = 1000
LIST = "shards.txt"


def prepare(root: Path, out: Path) -> None:
    """Write the tar shards that webdataset's road reads."""
    from far_roads.webdataset import prepare as write_tars

    write_tars(root, out)


class _Collate:
    def __init__(self, size: int) -> None:
        self._transform = crops(size)

    def __call__(self, samples: list[dict[str, Any]]) -> Any:
        images = [self._transform(sample["jpg"]["bytes"]) for sample in samples]
        return images, [sample["__key__"] for sample in samples]


class Reader:
    """Batches of one rank."""

    def __init__(self, place: Place) -> None:
        from datasets import Image

        with urlopen(f"{place.url}/{LIST}") as answer:
            names = answer.read().decode().split()
        files = [f"{place.url}/{name}" for name in names]
        data = load_dataset("webdataset", data_files=files, split="train", streaming=True)
        data = data.cast_column("jpg", Image(decode=False))
        data = data.shuffle(seed=0, buffer_size=SHUFFLE_SAMPLES)
        if place.num_ranks > 1:
            data = split_dataset_by_node(data, place.rank, place.num_ranks)
        self._data = data
        self._loader = DataLoader(
            data,
            batch_size=place.local_batch_size,
            num_workers=place.workers,
            collate_fn=_Collate(place.size),
        )

    def epoch(self, number: int) -> Iterator[list[str]]:
        """Read an epoch."""
        self._data.set_epoch(number)
        for _, keys in self._loader:
            yield keys

    def state(self) -> Any:
        return self._data.state_dict()

    def load(self, state: Any) -> None:
        self._data.load_state_dict(state)
