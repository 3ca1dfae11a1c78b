"""Open one split of a packed dataset: what is in it and where, without touching an image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from shards.disk.format import (
    CONTENTS,
    DAMAGED_NAME,
    FORMAT_NAME,
    FORMAT_VERSION,
    IMAGE_SUFFIXES,
    INDEX_NAME,
    KEYS_NAME,
    PROGRESS_NAME,
    ROWS_NAME,
    SAMPLES_NAME,
    TABLES_VERSION,
    row_dtype,
    unpack_labels,
)
from shards.disk.rows_in_parts import RowsInParts
from shards.disk.tables import Keys, Rows, Shard, ShardTable, Tables, map_array, open_tables
from shards.errors import DataError, FormatError, count_of
from shards.remote.address import Address, is_url

if TYPE_CHECKING:
    from shards.remote.fetch_ahead import FollowedShards

__all__ = ["DatasetIndex", "list_splits", "open_split"]

Task = Literal["multilabel", "multiclass"]


@dataclass(frozen=True, eq=False)
class DatasetIndex:
    """What a split holds, in either version of the format. `samples` is a memory-mapped structured
    array, one row per sample (shards.disk.format), or looks like one: large ones by address fetch
    what is read of them. Keys are asked for by `key` and `keys`.
    """

    root: Path | Address
    split: str
    task: Task
    class_names: tuple[str, ...]
    shards: Sequence[Shard]
    samples: Rows
    members: tuple[str, ...]
    statistics: dict[str, Any]
    settings: dict[str, Any]
    command: str
    # shards are links to tars of another writer: keys and labels are in rows and keys alone
    in_place: bool = False
    # of version 2: bytes [N], by address when first asked for; in version 1 keys are in the rows
    stored_keys: Keys | None = None
    # of version 2: digests of rows and keys (shards.identity)
    contents: Any = None
    # shards that are fetched into a cache (shards.remote); None of a split in a folder
    remote: "FollowedShards | None" = None

    @classmethod
    def open(
        cls, path: str | Path | Address, cache_dir: str = "", cache_gb: float = 0.0
    ) -> "DatasetIndex":
        """Open a split's folder, such as `data/voc/train`, or its address, such as
        `https://host/voc/train`; of an address what is read is kept in `cache_dir`.

        Raises FormatError where the folder is unfinished, of another version, or its files are not
        those that the index describes. Of version 1 the sizes of all shards are compared, of
        version 2 each shard's when it is first used: checksums are the business of verify.
        """
        if isinstance(path, Address) or is_url(path):
            from shards.remote.opening import open_remote  # torch's users without URLs do without

            return open_remote(Address.parse(str(path)), cache_dir, cache_gb)
        root = Path(path)
        described = _read_json(root)
        try:
            if described["version"] == TABLES_VERSION:
                return cls.from_description(root, described, open_tables(root, described))
            counts = (len(described["class_names"]), len(described["image"]["members"]))
            samples = map_samples(root / SAMPLES_NAME, described["num_samples"], *counts)
            index = cls.from_description(root, described, samples)
            _check_files(index, root)
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                f"{root / INDEX_NAME}: no valid {error} entry; pack this split again"
            ) from error
        return index

    @classmethod
    def from_description(
        cls,
        root: Path | Address,
        described: dict[str, Any],
        samples: "np.ndarray | Tables",
        remote: "FollowedShards | None" = None,
        rows: RowsInParts | None = None,
    ) -> "DatasetIndex":
        """Make an index of what index.json holds, and of the rows of samples.npy or the tables;
        `rows` are those of the tables that may not be here yet.
        """
        members = members_of(described, root)
        tables = samples if isinstance(samples, Tables) else None
        mapped = samples.rows if isinstance(samples, Tables) else samples
        return cls(
            root=root,
            split=described["split"],
            task=described["task"],
            class_names=tuple(described["class_names"]),
            shards=tables.shards if tables else listed_shards(described),
            samples=mapped if rows is None else rows,
            members=members,
            statistics=described["statistics"],
            settings=described["image"],
            command=described["command"],
            in_place=described.get("in_place", False),
            stored_keys=tables.stored_keys if tables else None,
            contents=described.get(CONTENTS) if tables else None,
            remote=remote,
        )

    @property
    def num_samples(self) -> int:
        """Count the samples of the split."""
        return len(self.samples)

    @property
    def num_classes(self) -> int:
        """Count the classes."""
        return len(self.class_names)

    @property
    def num_channels(self) -> int:
        """Count the channels of an image: three of the first member, one of each further band."""
        return 2 + len(self.members)

    @property
    def shard_sizes(self) -> np.ndarray:
        """Count the samples of each shard: int64 [S]."""
        if isinstance(self.shards, ShardTable):
            return self.shards.sizes
        return np.array([shard.num_samples for shard in self.shards], np.int64)

    @property
    def key_bytes(self) -> np.ndarray:
        """Name all samples: ASCII, bytes [N]."""
        if self.stored_keys is None:
            return self.samples["key"]
        return self.stored_keys() if callable(self.stored_keys) else self.stored_keys

    def num_members(self, bands: str) -> int:
        """Count the image members to read for `bands`, all or rgb. Raises DataError for anything
        else.
        """
        if bands not in ("all", "rgb"):
            raise DataError(f"bands is {bands!r}: give all or rgb")
        return len(self.members) if bands == "all" else 1

    def labels(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Unpack labels of the given samples (all by default) into bool [N, K]."""
        return unpack_labels(self._rows_with(ids)["labels"][ids], self.num_classes)

    def known(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Tell which labels count: bool [N, K], False where the annotation says to ignore the
        class.
        """
        return ~unpack_labels(self._rows_with(ids)["ignored"][ids], self.num_classes)

    def _rows_with(self, ids: np.ndarray | slice) -> np.ndarray:
        """Return all rows, of which some are to be read."""
        return self.samples if isinstance(self.samples, np.ndarray) else self.samples.after(ids)

    def key(self, sample: int) -> str:
        """Name one sample."""
        return self.key_bytes[sample].decode("ascii", "backslashreplace")

    def keys(self) -> np.ndarray:
        """Name all samples: unicode [N]. Raises FormatError where a key is not ASCII."""
        try:
            return self.key_bytes.astype(str)
        except UnicodeDecodeError as error:
            name = SAMPLES_NAME if self.stored_keys is None else KEYS_NAME
            raise FormatError(
                f"{self.root / name}: a key is not ASCII; pack this split again"
            ) from error

    @property
    def is_remote(self) -> bool:
        """Tell whether the shards come over a network: training then reads few of them at a time."""
        return self.remote is not None

    @property
    def rows_name(self) -> str:
        """Name the file that says where samples are."""
        return SAMPLES_NAME if self.stored_keys is None else ROWS_NAME

    def shard_path(self, number: int) -> Path | Address:
        """Return the tar file of a shard, or its address."""
        return self.root / self.shards[number].name

    def open_shard(self, number: int) -> BinaryIO:
        """Open the tar of a shard; one that is elsewhere is fetched first."""
        if self.remote is not None:
            return self.remote.open(number)
        return open(str(self.shard_path(number)), "rb")

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Pickle as the path: a worker process maps the files itself."""
        if self.remote is not None:
            from shards.remote.opening import open_remote

            return open_remote, (self.root, *self.remote.reopening)
        return DatasetIndex.open, (self.root,)


def list_splits(root: str | Path) -> list[str]:
    """Name the finished splits of a dataset folder."""
    root = Path(root)
    if not root.is_dir():
        return []
    return sorted(
        path.parent.name
        for path in root.glob(f"*/{INDEX_NAME}")
        if path.parent.name != DAMAGED_NAME
    )


def open_split(
    data: str | Path, split: str, cache_dir: str = "", cache_gb: float = 0.0
) -> DatasetIndex:
    """Open `data/split`, with an error that names the splits there are.

    `data` may be an address, such as `s3://bucket/voc`; what is read of it is kept in `cache_dir`.
    """
    if is_url(data):
        from shards.remote.opening import open_remote_split

        return open_remote_split(Address.parse(str(data)), split, cache_dir, cache_gb)
    if cache_dir or cache_gb:
        raise DataError(
            f"cache_dir and cache_gb are for data by address, but {data} is a folder: leave them out"
        )
    root = Path(data)
    if not (root / split).is_dir():
        there = list_splits(root)
        if (root / INDEX_NAME).is_file():
            raise FormatError(
                f"{root}: is one split; give the folder of the whole dataset, {root.parent}"
            )
        remedy = (
            f"it has {', '.join(there)}; pack it too (--val-fraction 0.2 makes train and val of "
            f"one split)"
            if there
            else "pack it first: python -m preprocess.shard"
        )
        raise FormatError(f"{root}: no split {split!r} here; {remedy}")
    return DatasetIndex.open(root / split)


def _read_json(root: Path) -> dict[str, Any]:
    path = root / INDEX_NAME
    if not path.is_file():
        if (root / PROGRESS_NAME).exists():
            raise FormatError(
                f"{root}: packing was not finished; run the same preprocess.shard command again"
            )
        splits = list_splits(root)
        hint = (
            f"; did you mean {root / splits[0]}?"
            if splits
            else "; pack it first: python -m preprocess.shard"
        )
        raise FormatError(f"{root}: no {INDEX_NAME} here{hint}")
    return parse_description(path.read_bytes(), path)


def parse_description(data: bytes, path: Path | Address) -> dict[str, Any]:
    """Read what index.json holds. Raises FormatError for what is none of ours, or of another
    version.
    """
    try:
        described = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({error}); pack this split again") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT_NAME:
        raise FormatError(f"{path}: not the index of a {FORMAT_NAME} dataset")
    if described.get("version") not in (FORMAT_VERSION, TABLES_VERSION):
        raise FormatError(
            f"{path}: format version {described.get('version')!r}, this code reads "
            f"{FORMAT_VERSION} and {TABLES_VERSION}; pack again or use the matching release"
        )
    return described


def listed_shards(described: dict[str, Any]) -> tuple[Shard, ...]:
    """Read the shards that an index.json of version 1 lists."""
    return tuple(
        Shard(entry["name"], entry["bytes"], entry["num_samples"], entry["sha256"])
        for entry in described["shards"]
    )


def members_of(described: dict[str, Any], root: Path | Address) -> tuple[str, ...]:
    """Read the suffixes of a sample's images. Raises FormatError for any that are not read here."""
    members = tuple(described["image"]["members"])
    if not members or any(suffix.rpartition(".")[2] not in IMAGE_SUFFIXES for suffix in members):
        raise FormatError(
            f"{root / INDEX_NAME}: image members {members!r:.200} are not of a kind read here"
        )
    return members


def map_samples(
    path: Path,
    num_samples: int,
    num_classes: int,
    num_members: int,
    named: Path | Address | None = None,
) -> np.ndarray:
    """Map samples.npy, its type and length compared. Raises FormatError, which names the file as
    `named`, where given.
    """
    samples = map_array(path, named)
    key_bytes = (
        samples.dtype["key"].itemsize if samples.dtype.names and "key" in samples.dtype.names else 1
    )
    expected = row_dtype(num_classes, num_members, key_bytes)
    if samples.dtype != expected or samples.shape != (num_samples,):
        raise FormatError(
            f"{named or path}: {samples.shape} rows of {samples.dtype}, the index says "
            f"{count_of(num_samples, 'row')} "
            f"of {count_of(num_classes, 'class')}; pack this split again"
        )
    return samples


def _check_files(index: DatasetIndex, root: Path) -> None:
    total = 0
    for shard in index.shards:
        if Path(shard.name).name != shard.name:
            raise FormatError(
                f"{index.root / INDEX_NAME}: shard name {shard.name!r} leads out of the folder"
            )
        path = root / shard.name
        try:
            found = path.stat().st_size if path.is_file() else None
        except OSError as error:  # such as a name longer than the file system takes
            raise FormatError(
                f"{path}: cannot be looked at ({error.strerror}); pack this split again"
            ) from error
        if found != shard.num_bytes:
            state = "is missing" if found is None else f"has {count_of(found, 'byte')}"
            again = "run the same preprocess.shard command again to"
            mended = (
                f"restore what it links to, or {again} index again"
                if index.in_place
                else f"{again} restore it"
            )
            raise FormatError(
                f"{path}: {state}, the index says {count_of(shard.num_bytes, 'byte')}; {mended}"
            )
        total += shard.num_samples
    if total != index.num_samples:
        raise FormatError(
            f"{index.root}: shards hold {count_of(total, 'sample')}, samples.npy "
            f"{index.num_samples}; pack "
            f"again"
        )
