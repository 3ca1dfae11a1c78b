"""Tar shards as WebDataset's own writer makes them."""

from pathlib import Path

import numpy as np
import webdataset

from tests.conftest import jpeg, photograph

NAMES = ("cat", "dog", "zebra")


def write_shard(path: Path, samples: list[dict]) -> Path:
    """Write samples `{"__key__": ..., suffix: content}` with the real TarWriter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def sample(number: int, suffix: str = "jpg", **more) -> dict:
    """Make a sample: an image, and `cls` or whatever is given."""
    image = photograph(40 + number, 30, number)
    encoded = (
        jpeg(image, quality=85, progressive=bool(number % 2))
        if suffix in ("jpg", "jpeg")
        else png(image)
    )
    return {"__key__": f"photo{number:04d}", suffix: encoded, **(more or {"cls": number % 3})}


def png(image) -> bytes:
    import io

    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def drawn_labels(number: int) -> list[int]:
    """Draw the labels of a sample."""
    return np.flatnonzero(np.random.default_rng(number).random(3) < 0.4).tolist()
