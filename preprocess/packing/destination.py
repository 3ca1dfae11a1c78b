"""Where `--out` says that a dataset goes: a folder, or an address that can be written to."""

from pathlib import Path

from shards.commandline import folder
from shards.disk.format import INDEX_NAME
from shards.errors import DataError
from shards.index import DatasetIndex, list_splits, parse_description
from shards.remote.address import Address, is_url

Classes = tuple[tuple[str, ...], str]  # names and task


def destination(text: str) -> Path | Address:
    """Turn what `--out` was given into a folder or an address. Raises DataError for what is none.

    file:///data/voc is the folder /data/voc: there a file can be renamed when it is whole.
    """
    if not is_url(text):
        out = folder(text)
        if not out.name:
            raise DataError(f"--out {text} has no name of its own; give a folder in it")
        return out
    address = Address.parse(text)
    if address.scheme in ("file", "local"):
        path = address.url.partition("://")[2]
        if not path.startswith("/"):
            raise DataError(
                f"--out {address}: give the folder itself, or file:// and its full path"
            )
        return destination(path)
    if address.scheme in ("http", "https"):
        raise DataError(
            f"--out {address}: nothing can be written by {address.scheme}://; give the address of a "
            "bucket, such as s3://bucket/voc, or a folder"
        )
    return address


def folder_beside(out: Path | Address) -> Path:
    """Return the folder beside which a source that writes its own images does so."""
    return out if isinstance(out, Path) else Path("data", out.name)


def splits_of(out: Path | Address) -> list[str]:
    """Name the finished splits of a dataset; of an address those of the usual names."""
    if isinstance(out, Path):
        return list_splits(out)
    from shards.remote.opening import SPLITS, there_of

    return there_of(out, SPLITS)


def classes_of(out: Path | Address, split: str) -> Classes:
    """Read the class names and the task of a finished split."""
    if isinstance(out, Path):
        there = DatasetIndex.open(out / split)
        return there.class_names, there.task
    from shards.remote.opening import MAX_INDEX_BYTES, fetch_small
    from shards.remote.transfer import open_store

    where = out / split / INDEX_NAME
    data = fetch_small(open_store(out / split), where, MAX_INDEX_BYTES)
    described = parse_description(data, where)
    return tuple(described.get("class_names", ())), described.get("task", "")
