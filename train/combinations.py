"""Which values of a run's options go together: what does not is refused in one line."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from shards.errors import DataError, count_of
from shards.pages.spelling import plain


def check_names(path: Path, given: Set[Any], known: Set[str]) -> None:
    """Raise DataError where the configuration at `path` has options that there are not."""
    if odd := sorted(map(str, given - known)):
        raise DataError(
            f"{path}: has options that this release does not know: {', '.join(map(plain, odd))}; "
            "take them out, or use the release that wrote it"
        )


def check_start(pretrained: bool, weights: str, freeze_layers: int) -> None:
    """Raise DataError where a run is to start from two sets of weights, or to keep random ones."""
    if pretrained and weights:
        raise DataError(
            f"weights is {weights} and pretrained is set: give --no-pretrained with --weights, or "
            "leave --weights out"
        )
    if freeze_layers and not (pretrained or weights):
        raise DataError(
            f"freeze_layers is {freeze_layers}, but nothing is loaded, and random layers would "
            "stay as they are: leave it out, or start from --pretrained or --weights"
        )


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


def check_cache(cache: str, short_side: int, augment: str, size: int | str) -> None:
    """Raise DataError where images are to be shrunk that are not kept, or are seen whole; or grow,
    but are kept finished.
    """
    if short_side and (cache == "none" or augment == "pad"):
        what = f"augment is {augment}" if cache != "none" else "cache is none"
        raise DataError(f"cache_short_side is {short_side}, but {what}: leave it out")
    if isinstance(size, str) and cache != "none" and augment == "pad":
        raise DataError(
            f"size is {size}, but with augment pad a cache keeps images of one size: give --size "
            f"{size.partition(':')[2]}, or --cache none"
        )


def check_normalisation(normalize: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise DataError where `mean` and `std` do not go with `normalize` or with each other."""
    if normalize != "own":
        if mean or std:
            raise DataError(
                f"mean and std are given, but normalize is {normalize}: give --normalize own"
            )
        return
    if not mean or len(mean) != len(std):
        raise DataError(
            f"normalize is own, with {count_of(len(mean), 'number')} for mean and {len(std)} for "
            "std: give as many of each as images have channels, such as --mean "
            "[0.46,0.44,0.40]"
        )
    if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
        raise DataError(
            f"mean is {list(mean)}, std is {list(std)}: give shares of 255, mean "
            f"from 0 to 1, std above 0"
        )


def check_batch_changes(options: Mapping[str, Any]) -> None:
    """Raise DataError where two options would change the same thing, or contradict each other."""
    choose = "choose one of the two"
    for jitter in ("color_jitter", "hue_jitter"):
        if options["trivial_augment"] and options[jitter]:
            raise DataError(
                f"{jitter} is {options[jitter]}, but trivial_augment is set, which changes colours "
                f"too: {choose}"
            )
    if options["cutout"] and options["erasing"]:
        raise DataError(
            f"cutout is {options['cutout']} and erasing is {options['erasing']}: both cut out a "
            f"part of an image; {choose}"
        )
    if options["dihedral"] and not options["flip"]:
        raise DataError(
            f"dihedral is set, but flip is off, and half of the dihedral images are mirror images: "
            f"{choose}"
        )
