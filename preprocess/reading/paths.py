"""Paths that a file of labels gives: they stay inside its folder; records are named after them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from shards.errors import DataError


def inside(root: Path, given: str, where: str) -> Path:
    """Join a path that a file of labels gives to its folder. Raises DataError where it would lead
    out of it.
    """
    path = PurePosixPath(given)
    if (
        not given
        or "\0" in given
        or path.is_absolute()
        or ".." in path.parts
        or Path(given).is_absolute()
    ):
        raise DataError(
            f"{where}: path {given!r} is no path inside {root}; give it relative to that folder, "
            f"without .."
        )
    return root / path


def short_names(sources: Sequence[str]) -> list[str]:
    """Name records after their paths without suffix; where two would be the same, with it."""
    stems = [source.rpartition(".")[0] or source for source in sources]
    count = Counter(stems)
    whole = {source for stem, source in zip(stems, sources, strict=True) if count[stem] > 1}
    added = whole
    while added:  # beside x.jpg and x.png the name x.jpg is no longer free for x.jpg.png
        pairs = zip(stems, sources, strict=True)
        added = {source for stem, source in pairs if stem in added} - whole
        whole |= added
    return [
        source if source in whole else stem for stem, source in zip(stems, sources, strict=True)
    ]
