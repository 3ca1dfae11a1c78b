"""Pack one split: plan, verify what is finished, make the other shards with an engine, finish."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from preprocess.packing.finishing import all_entries, finish_split, tidy_finished
from preprocess.packing.folder_state import (
    FinishedShard,
    FolderState,
    forget_finished,
    read_state,
    write_finished,
    write_progress,
)
from preprocess.packing.grown import plan_append
from preprocess.packing.local_engine import LocalEngine
from preprocess.packing.lock import alone_in, together_in
from preprocess.packing.packing_bar import PackingBar
from preprocess.packing.packing_plan import (
    Job,
    PackedPart,
    PackingPlan,
    PackTask,
    in_packing_order,
    plan_part,
)
from preprocess.packing.pool import Pool
from preprocess.packing.resume import Entry, is_intact, is_there, remove_surplus
from preprocess.packing.shard_file import PackSettings
from preprocess.record import Record
from shards.disk.format import INDEX_NAME, shard_name
from shards.errors import DataError, count_of

# Tells whether the shard of an entry is there and need not be made again of these records.
Proof = Callable[[Path, Entry, Sequence[Record]], bool]


class Engine(Protocol):
    """What makes shards: in any order, each once, its bytes a function of settings and task."""

    def pack(
        self, settings: PackSettings, tasks: Iterable[PackTask], advance: Callable[[int], None]
    ) -> Iterator[FinishedShard]:
        """Yield shards as they are finished. `advance` is called with numbers of images done."""


@dataclass(frozen=True)
class Packing:
    """The result of packing one split."""

    num_samples: int
    num_shards: int
    num_kept: int
    num_rejected: int
    num_bytes: int
    num_accepted: int = 0  # damaged
    is_verified: bool = True  # every byte of what was kept was read


@dataclass(frozen=True)
class TaskReport:
    """What one task of several did, and how much of the split is there now."""

    num_shards: int  # its own
    num_kept: int
    num_rejected: int
    num_there: int  # of all tasks
    num_planned: int


def pack_split(
    job: Job, root: Path, pool: Pool, engine: Engine | None = None, proof: Proof = is_intact
) -> Packing:
    """Pack a split into folder `root`; `proof` tells which of its finished shards are kept.

    Raises DataError past `max_rejects`, where `root` holds something else, and where another
    process packs into it.
    """
    _make_folder(job, root)
    with alone_in(root):
        state = read_state(root, job.split)
        plan = make_plan(job, root, state, pool)
        if plan is None:
            return _as_it_is(state, root)
        if job.in_place:
            if not state.is_finished:  # so that links are never found in a folder without it
                write_progress(root, plan.parts, state.entries.values())
            from preprocess.packing.in_place import link_shards

            link_shards(job.split, plan.records, root)
        kept = _verified(job, plan, state, root, plan.numbers, pool, proof)
        _refuse_lost(job, plan, state, root, plan.numbers, kept)
        made = dict(kept)
        if not (plan.place < state.num_indexed and len(kept) == len(plan.numbers)):
            _begin(plan, state, root, kept)
            made |= _make(job, plan, root, kept, pool, engine or LocalEngine(pool))
        remove_surplus(root, job.split, plan.num_shards)
        entries = all_entries(plan, state, [made[number] for number in plan.numbers], root)
        finish_split(job, plan, state, root, entries)
        others = len(entries) - len(plan.numbers)
        packing = _summed_up(entries, others + sum(made[n] == entry for n, entry in kept.items()))
        return replace(packing, is_verified=not others and proof is is_intact)


def pack_task(
    job: Job,
    root: Path,
    pool: Pool,
    index: int,
    num_tasks: int,
    engine: Engine | None = None,
    proof: Proof = is_intact,
) -> TaskReport:
    """Make the shards of task `index` of `num_tasks`, which may run at any time on any machine.

    `finalize` writes the index when all of them are through.
    """
    _make_folder(job, root)
    with together_in(root):
        state = read_state(root, job.split)
        plan = make_plan(job, root, state, pool)
        if plan is None:
            return TaskReport(0, 0, 0, 0, 0)
        numbers = [number for number in plan.numbers if number % num_tasks == index]
        kept = _verified(job, plan, state, root, numbers, pool, proof)
        _refuse_lost(job, plan, state, root, numbers, kept)
        made = dict(kept)
        missing = [number for number in numbers if number not in kept]
        if plan.place >= state.num_indexed:
            if plan.part not in state.parts:
                write_progress(root, plan.parts, _others(plan, state).values())
            made |= _packed(job, plan, root, missing, engine or LocalEngine(pool))
        elif missing:
            raise _finished_but_damaged(plan, root, missing)
        there = read_state(root, job.split).entries.keys()
        return TaskReport(
            len(numbers),
            len(kept),
            sum(len(entry.rejected) for entry in made.values()),
            sum(shard_name(job.split, number) in there for number in plan.numbers),
            len(plan.numbers),
        )


def finalize(job: Job, root: Path, pool: Pool) -> Packing:
    """Write the index of a split whose shards several tasks have made; no tar is read.

    Raises DataError where one is missing.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder; run the tasks first, --num-tasks 8 --task-index 0"
        )
    with alone_in(root):
        state = read_state(root, job.split)
        plan = make_plan(job, root, state, pool)
        if plan is None:
            return _as_it_is(state, root)
        found = {number: _entry_of(plan, state, number) for number in plan.numbers}
        made = {
            number: entry
            for number, entry in found.items()
            if entry is not None and is_there(root, entry) and _is_as_asked(job, entry)
        }
        missing = [number for number in plan.numbers if number not in made]
        if missing and plan.place < state.num_indexed:
            raise _finished_but_damaged(plan, root, missing)
        if missing:
            names = ", ".join(shard_name(job.split, number) for number in missing[:3])
            raise DataError(
                f"{root}: {len(missing)} of {count_of(len(plan.numbers), 'shard')} are not there, "
                "such as "
                f"{names}; run their tasks again, or this command without --finalize"
            )
        remove_surplus(root, job.split, plan.num_shards)
        entries = all_entries(plan, state, [made[number] for number in plan.numbers], root)
        finish_split(job, plan, state, root, entries)
        return replace(_summed_up(entries, len(entries)), is_verified=False)


def _finished_but_damaged(plan: PackingPlan, root: Path, missing: Sequence[int]) -> DataError:
    """Say who makes shards of a finished set again: not tasks, for its index has to go first."""
    return DataError(
        f"{root}: is finished, but {len(missing)} of its shards, such as "
        f"{shard_name(plan.split, missing[0])}, is damaged, missing or of other images: run the "
        "same command without --num-tasks, --task-index and --finalize"
    )


def _make_folder(job: Job, root: Path) -> None:
    if job.append and not root.is_dir():
        raise DataError(f"{root}: holds no set to add to; leave --append out to pack a new one")
    root.mkdir(parents=True, exist_ok=True)


def make_plan(job: Job, root: Path, state: FolderState, pool: Pool) -> PackingPlan | None:
    """Plan the part to work on; None where there is nothing to append. Raises DataError where the
    folder holds another dataset.
    """
    if job.append:
        return plan_append(job, root, state, pool)
    ordered, identity = in_packing_order(job)
    parts = state.parts or (PackedPart(identity, job.command),)
    place = next((n for n, part in enumerate(parts) if part.identity == identity), None)
    if place is None:
        raise DataError(
            f"{root}: holds another dataset, or this one with other options; choose another "
            "--out, or remove it first; --append adds what is new in a source that has grown"
        )
    return plan_part(job, parts, place, ordered, pool)


def _entry_of(plan: PackingPlan, state: FolderState, number: int) -> Entry | None:
    """Return what is listed of a shard, if it is of the records that the plan gives it."""
    entry = state.entries.get(shard_name(plan.split, number))
    start, stop = plan.bounds(number)
    planned = (plan.num_before + start, stop - start)
    return entry if entry and (entry.first_record, entry.num_records) == planned else None


def _verified(
    job: Job,
    plan: PackingPlan,
    state: FolderState,
    root: Path,
    numbers: Sequence[int],
    pool: Pool,
    proof: Proof,
) -> dict[int, Entry]:
    """Map the numbers of shards that are finished and whole to their entries.

    Rejects that were not tolerated get another chance: the image or the disk may have been
    repaired.
    """
    listed = [number for number in numbers if shard_name(plan.split, number) in state.entries]
    if not listed:
        return {}

    def check(number: int) -> Entry | None:
        entry = _entry_of(plan, state, number)
        if entry is None or not _is_as_asked(job, entry):
            return None
        if entry.rejected and plan.place >= state.num_indexed:
            return None
        return entry if proof(root, entry, plan.task(number).records) else None

    with ThreadPoolExecutor(pool.workers) as threads:  # hashing and reading hold no lock
        checked = tqdm(
            threads.map(check, listed), "verify", len(listed), unit="shard", disable=None
        )
        pairs = zip(listed, checked, strict=True)
        return {number: entry for number, entry in pairs if entry is not None}


def _refuse_lost(
    job: Job,
    plan: PackingPlan,
    state: FolderState,
    root: Path,
    numbers: Sequence[int],
    kept: Mapping[int, Entry],
) -> None:
    """Raise DataError where shards would be made again without images that they hold, more than may
    be rejected: their files are gone or empty, and nothing else may have them. Tars in place are
    never made again.
    """
    if job.in_place:
        return
    rejected = sum(len(entry.rejected) for entry in kept.values())
    lost: list[Record] = []
    for number in numbers:
        if number in kept or not (root / shard_name(plan.split, number)).is_file():
            continue
        entry = _entry_of(plan, state, number)
        known = {line["source"] for line in entry.rejected} if entry else set()
        missing = [record for record in plan.task(number).records if record.num_bytes() <= 0]
        rejected += len(missing)
        lost += [record for record in missing if record.source not in known]
    if lost and rejected > job.max_rejects:
        raise DataError(
            f"{root}: {len(lost)} of its images are now missing or empty in the source, such as "
            f"{lost[0].path}; restore them, or leave them out of the set with --max-rejects "
            f"{rejected}"
        )


def _is_as_asked(job: Job, entry: Entry) -> bool:
    """Tell whether a shard holds damaged images, or leaves them out, as --accept-damaged says."""
    return not entry.num_damaged if job.accept_damaged else not entry.accepted


def _others(plan: PackingPlan, state: FolderState) -> dict[str, Entry]:
    """Return the entries of the other parts."""
    names = [shard_name(plan.split, n) for n in range(plan.num_shards) if n not in plan.numbers]
    return {name: state.entries[name] for name in names if name in state.entries}


def _begin(plan: PackingPlan, state: FolderState, root: Path, kept: Mapping[int, Entry]) -> None:
    """Make the folder an unfinished one; a set that only grows keeps its index until the end.

    First the record of what is kept, then the mark of completeness goes: a kill in between loses
    nothing.
    """
    entries = [*_others(plan, state).values(), *kept.values()]
    again = [number for number in plan.numbers if number not in kept]
    forget_finished(root, (shard_name(plan.split, number) for number in again))
    write_progress(root, plan.parts, sorted(entries, key=lambda entry: entry.first_record))
    if plan.place < state.num_indexed or not state.num_indexed:
        (root / INDEX_NAME).unlink(missing_ok=True)


def _make(
    job: Job,
    plan: PackingPlan,
    root: Path,
    kept: Mapping[int, Entry],
    pool: Pool,
    engine: Engine,
) -> dict[int, Entry]:
    if not job.in_place:
        missing = [number for number in plan.numbers if number not in kept]
        return _packed(job, plan, root, missing, engine)
    made = {}
    by_name = {entry.name: entry for entry in kept.values()}
    tasks = map(plan.task, plan.numbers)
    with tqdm(total=len(plan.records), desc=f"index {job.split}", unit="img", disable=None) as bar:
        from preprocess.packing.in_place import index_shards

        for entry in index_shards(tasks, root, pool, by_name, bar):
            number = _number_of(entry)
            made[number] = entry
            if number not in kept:
                write_finished(root, plan.part.identity, FinishedShard(entry))
    return made


def _packed(
    job: Job, plan: PackingPlan, root: Path, missing: Sequence[int], engine: Engine
) -> dict[int, Entry]:
    """Make shards, each written down as soon as it is finished."""
    settings = PackSettings(
        root, plan.part.identity, job.image, job.accept_damaged, len(job.class_names)
    )
    total = len(plan.records)
    left = sum(stop - start for start, stop in map(plan.bounds, missing))
    made = {}
    with PackingBar(f"pack {job.split}", total, total - left) as bar:
        for shard in engine.pack(settings, map(plan.task, missing), bar.advance):
            made[_number_of(shard.entry)] = shard.entry
    return made


def _number_of(entry: Entry) -> int:
    return int(Path(entry.name).stem.rpartition("-")[2])


def _as_it_is(state: FolderState, root: Path) -> Packing:
    """Nothing is left to add to a finished set."""
    tidy_finished(root)
    entries = list(state.entries.values())
    return replace(_summed_up(entries, len(entries)), is_verified=False)


def _summed_up(entries: Sequence[Entry], num_kept: int) -> Packing:
    return Packing(
        num_samples=sum(entry.num_samples for entry in entries),
        num_shards=len(entries),
        num_kept=num_kept,
        num_rejected=sum(len(entry.rejected) for entry in entries),
        num_bytes=sum(entry.bytes for entry in entries),
        num_accepted=sum(len(entry.accepted) for entry in entries),
    )
