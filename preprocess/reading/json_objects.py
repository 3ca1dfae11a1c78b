"""Objects of JSON that name each key once: Python keeps the last of two and says nothing."""

from typing import Any


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs, as `object_pairs_hook` of json. Raises ValueError for a key that
    is there twice.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} is there twice in one object")
        found[key] = value
    return found
