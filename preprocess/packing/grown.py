"""Add to a set: the records that are not in it become shards of their own, behind the others.

No byte of an old shard changes. Which records are in the set, its shards say themselves, by the
source path of each sample.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from preprocess.packing.finishing import image_described
from preprocess.packing.folder_state import FolderState, read_state
from preprocess.packing.keys import sample_key
from preprocess.packing.listing import hash_key, key_hash
from preprocess.packing.packing_plan import (
    Job,
    PackedPart,
    PackingPlan,
    chosen_records,
    in_packing_order,
    plan_part,
)
from preprocess.packing.pool import Pool
from preprocess.packing.resume import Entry, is_there
from preprocess.record import Record
from shards.disk.format import INDEX_NAME, shard_name
from shards.errors import DataError, FormatError, one_line


def plan_append(job: Job, root: Path, state: FolderState, pool: Pool) -> PackingPlan | None:
    """Plan the part that `--append` works on: an unfinished or damaged one, else a new one.

    Its records are those of the source that no other part holds. None: there are no such.
    """
    if job.in_place:
        raise DataError("--append packs new shards, --in-place packs none; leave one of them out")
    if not state.parts:
        raise DataError(f"{root}: holds no set to add to; leave --append out to pack a new one")
    place = _place_of_work(job, root, state)
    is_new = place == len(state.parts)
    rest = replace(job, records=_records_left(job, root, state, place))
    if is_new and not rest.records:
        return None
    ordered, identity = in_packing_order(rest)
    if not is_new and state.parts[place].identity == identity:
        return plan_part(job, state.parts, place, ordered, pool)
    # The part is not of these images. An append that never finished is begun again with them.
    if not is_new and (place < max(1, state.num_indexed) or place < len(state.parts) - 1):
        raise DataError(
            f"{root}: shards of the packing {state.parts[place].command!r} are missing, and they "
            "cannot be made again from this source: give the one with the images of that time"
        )
    _check_alike(job, root)
    new = PackedPart(identity, job.command)
    return plan_part(job, [*state.parts[:place], new], place, ordered, pool)


def _place_of_work(job: Job, root: Path, state: FolderState) -> int:
    """Find the first part with a shard that is not there; if all are, the last one, unless
    index.json has it already.
    """
    for place in range(len(state.parts)):
        entries = [state.entries.get(name) for name in _names(job, state, place)]
        if not all(entry is not None and is_there(root, entry) for entry in entries):
            return place
    return len(state.parts) - (not state.is_finished)


def _names(job: Job, state: FolderState, place: int) -> list[str]:
    first = sum(part.num_shards for part in state.parts[:place])
    numbers = range(first, first + state.parts[place].num_shards)
    return [shard_name(job.split, number) for number in numbers]


def _check_alike(job: Job, root: Path) -> None:
    """Raise DataError where new shards would be of other classes or images than the old ones."""
    path = root / INDEX_NAME
    if not path.is_file():
        raise DataError(f"{root}: is not finished; run the command that packed it, then --append")
    described = json.loads(path.read_bytes())
    asked = {
        "class names": (list(described["class_names"]), list(job.class_names)),
        "task": (described["task"], job.task),
        "images": (described["image"], json.loads(json.dumps(image_described(job)))),
    }
    for name, (there, here) in asked.items():
        if there != here:
            raise DataError(
                f"{root}: has other {name} than this command would add ({_shown(there, here)}); "
                "give the options and the classes of the set, or choose another --out"
            )


def _shown(there: Any, here: Any) -> str:
    """Show the first difference of two values."""
    if isinstance(there, dict):
        name = next(name for name in {**there, **here} if there.get(name) != here.get(name))
        return f"{name} {there.get(name)!r}, not {here.get(name)!r}"
    if isinstance(there, list):
        odd = sorted(set(there) ^ set(here))[:1] or ["in another order"]
        return f"{len(there)} and {len(here)}, such as {odd[0]!r}"
    return f"{there!r}, not {here!r}"


def _records_left(job: Job, root: Path, state: FolderState, place: int) -> Sequence[Record]:
    """List the records whose source paths no part but `place` holds. Raises DataError where one has
    the key of a sample that is there under another path.
    """
    names = [
        name
        for other in range(len(state.parts))
        if other != place
        for name in _names(job, state, other)
    ]
    known, keys = _stored_in(root, [state.entries[name] for name in names])
    own = np.array([source_digest(record.source) for record in job.records], "S16")
    left = chosen_records(job.records, np.flatnonzero(~np.isin(own, known)))
    if job.divided:
        _refuse_divided_again(job, root, left)
    hashes = np.fromiter(map(key_hash, left), np.uint64, len(left))
    taken = np.flatnonzero(np.isin(hashes, keys))
    if len(taken):
        record = left[int(taken[0])]
        raise DataError(
            f"{record.source}: the set has another image with the key {sample_key(record.name)}; "
            "rename this one"
        )
    return left


def _refuse_divided_again(job: Job, root: Path, records: Sequence[Record]) -> None:
    """Raise DataError where --val-fraction would put an image of train into val, or one of val into
    train: another number of images is divided otherwise.
    """
    other = root.with_name("train" if job.split == "val" else "val")
    if not other.is_dir():
        return
    there, _ = _stored_in(other, list(read_state(other, other.name).entries.values()))
    own = np.array([source_digest(record.source) for record in records], "S16")
    found = np.flatnonzero(np.isin(own, there))
    if len(found):
        raise DataError(
            f"{records[int(found[0])].source}: is in {other.name} already, and --val-fraction now "
            f"puts it into {job.split}; give a --root that holds the new images alone"
        )


def _stored_in(root: Path, entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Hash the source paths, S16 [N], and the keys, uint64 [N], of shards' records."""
    sources = []
    keys = []
    for entry in tqdm(entries, f"read {root.name}", unit="shard", disable=None):
        for source, key in _stored(root, entry):
            sources.append(source_digest(source))
            keys.append(hash_key(key))
    return np.array(sources, "S16"), np.array(keys, np.uint64)


def source_digest(source: str) -> bytes:
    """Hash a source path to 128 bits: ten million as texts would take gigabytes."""
    return hashlib.blake2b(source.encode(errors="surrogatepass"), digest_size=16).digest()


def _stored(root: Path, entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield source path and key of each record of a shard: by its `.idx`, which says where the JSON
    of a sample is; a rejected record has no key.
    """
    path = root / entry.name
    yield from ((line["source"], "") for line in entry.rejected)
    try:
        lines = path.with_suffix(".idx").read_bytes().decode("ascii").splitlines()[1:]
        with path.open("rb") as tar:
            for line in lines:
                _, start, size, name = line.split(" ")[-4:]
                tar.seek(int(start))
                yield json.loads(tar.read(int(size)))["source"], name.removesuffix(".json")
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path}: its samples cannot be listed ({one_line(error)}); "
            f"python -m preprocess.verify {root} says what is damaged"
        ) from error
