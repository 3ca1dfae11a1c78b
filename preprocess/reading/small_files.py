"""Read the small text files that describe a dataset, whole but never more than a bound."""

from pathlib import Path

from preprocess.reading.encodings import plain_text
from shards.errors import DataError

MAX_TEXT_BYTES = 16 << 20  # 100,000 names have 2 MB


def read_small(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a text file. Raises DataError where it cannot be read, or is larger than that."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); restore it") from None
    if len(raw) > max_bytes:
        raise DataError(f"{path} has more than {max_bytes:,} bytes; it is another file, remove it")
    return plain_text(raw, path)
