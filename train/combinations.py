"""Which values of a run's options go together: what does not is refused in one line."""

from collections.abc import Set
from pathlib import Path
from typing import Any

from shards.errors import DataError


def check_names(path: Path, given: Set[Any], known: Set[str]) -> None:
    """Raise DataError where the configuration at `path` has options that there are not."""
    if odd := sorted(given - known):
        raise DataError(
            f"{path}: has options that this release does not know: {', '.join(map(str, odd))}; "
            "take them out, or use the release that wrote it"
        )


def check_start(pretrained: bool, weights: str) -> None:
    """Raise DataError where a run is to start from two sets of weights."""
    if pretrained and weights:
        raise DataError(f"weights is {weights} and pretrained is set: choose one of the two")


def check_channels(new_channels: str, is_loaded: bool | str, bands: str, fusion: str) -> None:
    """Raise DataError where filters of further bands, or their network, would have nothing to do."""
    if new_channels != "kaiming" and not is_loaded:
        raise DataError(
            f"new_channels is {new_channels}, but nothing is loaded: leave it out, or start from "
            "--pretrained or --weights"
        )
    if bands == "rgb" and fusion == "late":
        raise DataError(
            "fusion is late, but bands is rgb: there is nothing to join RGB with; choose one of "
            "the two"
        )


def check_cache(cache: str, short_side: int, augment: str) -> None:
    """Raise DataError where images are to be shrunk that are not kept, or are seen whole."""
    if short_side and (cache == "none" or augment == "pad"):
        what = f"augment is {augment}" if cache != "none" else "cache is none"
        raise DataError(f"cache_short_side is {short_side}, but {what}: leave it out")
