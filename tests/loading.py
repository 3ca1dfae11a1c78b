"""Loaders by keyword, for tests that try one option after the other."""

from dataclasses import fields
from typing import Any

from shards.index import DatasetIndex
from shards.loader import Cache, Loader, View

SEEN = {field.name for field in fields(View)}


def load(index: DatasetIndex, global_batch_size: int = 64, **options: Any) -> Loader:
    """Make a loader; options of its View and of its Cache (`cache`, `cache_short_side`) are given
    like its own.
    """
    view = View(**{name: options.pop(name) for name in SEEN & options.keys()})
    cache = Cache(options.pop("cache", "none"), options.pop("cache_short_side", 0))
    return Loader(index, global_batch_size, view=view, cache=cache, **options)
