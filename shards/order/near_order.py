"""Which sample comes when, with few shards at a time: a pure function of (seed, epoch, step).

Once, by the seed: shards are permuted and laid end to end, and this line is cut into G groups, each
as long as its slots of all global batches. A shard on a border is cut between two rows, into two
pieces. Each epoch, in every group: its pieces are permuted, W after W of them make a window, and
the samples of a window are permuted. Position i of group g is slot i % width of its slots, in batch
i // width. So whoever reads some groups' slots reads the same shards in every epoch, a few at a
time.
"""

from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from shards.augment.hashing import hash2, hash3
from shards.errors import DataError, count_of
from shards.host.compiled import compiled
from shards.order.permutation import permute_run

# what a permutation is for
_DEAL = np.uint64(1)
_PIECES = np.uint64(2)
_WINDOW = np.uint64(3)
EMPTY = -1  # a slot of a short batch that no sample fills
STEPS_AT_ONCE = 32  # made together: up to 10 times as fast as each by itself
SLOTS_AT_ONCE = 1 << 16  # of large batches fewer steps, for the memory
BLOCKS_KEPT = 4  # of so many steps: threads make a few batches at a time
EPOCHS_KEPT = 2  # lines: an epoch's threads may still be at work when the next one begins
MAX_SAMPLES = 2**62  # products of a step and a width stay in 64 bits


class Line(NamedTuple):
    """An epoch's P pieces, group after group, and where its windows begin; int64 each."""

    start: np.ndarray  # [P + 1], positions where pieces begin
    shift: np.ndarray  # [P], from a position in a piece to the sample's number
    shard: np.ndarray  # [P]
    window: np.ndarray  # [windows + 1], positions where windows begin
    opener: np.ndarray  # [windows + 1], the pieces that windows begin with


class NearOrder:
    """`sizes`: samples of each shard. These five decide the order; nodes, ranks and caches do not."""

    def __init__(
        self, sizes: np.ndarray, global_batch_size: int, groups: int, window: int, seed: int
    ) -> None:
        self.sizes = np.asarray(sizes, np.int64)
        self.num_samples = int(self.sizes.sum())
        if self.num_samples > MAX_SAMPLES:
            raise DataError(
                f"the split has {count_of(self.num_samples, 'sample')}: {MAX_SAMPLES} are the most"
            )
        self.global_batch_size = global_batch_size
        self.groups = min(groups, global_batch_size)
        self.window = window
        self.seed = seed
        # group g fills the slots from slots[g] to slots[g + 1] of each batch
        self.slots = np.arange(self.groups + 1) * global_batch_size // self.groups
        # and is border[g] to border[g + 1] of the line
        self.border = self._borders()
        self._cut_line()
        self._lines: dict[int, Line] = {}
        self._blocks: dict[tuple[int, int, int, int], np.ndarray] = {}
        self._lock = Lock()

    def fill(self, epoch: int, step: int, first: int, last: int) -> np.ndarray:
        """List the samples in slots `first` to `last` of a global batch: int64 [last - first],
        EMPTY where the batch has none.
        """
        block, row = divmod(step, _num_at_once(last - first))
        key = (epoch, block, first, last)
        line = self.line(epoch)
        with self._lock:
            if key not in self._blocks:
                _drop_oldest(self._blocks, BLOCKS_KEPT)
                self._blocks[key] = self._block(line, *key)
            return self._blocks[key][row].copy()

    def _block(self, line: Line, epoch: int, block: int, first: int, last: int) -> np.ndarray:
        out = np.full((_num_at_once(last - first), last - first), EMPTY, np.int64)
        at = (line.start, line.shift, line.window, line.opener)
        first_step = block * len(out)
        _fill(out, first, first_step, self.slots, self.border, *at, self.seed, epoch)
        return out

    def line(self, epoch: int) -> Line:
        """Lay out the pieces of an epoch: O(S), some 20 ms for 100,000 shards, kept for the next
        call.
        """
        with self._lock:
            if epoch not in self._lines:
                _drop_oldest(self._lines, EPOCHS_KEPT)
                self._lines[epoch] = self._line(epoch)
            return self._lines[epoch]

    def groups_of(self, first: int, last: int) -> np.ndarray:
        """Name the groups that slots `first` to `last` of a batch belong to: int64."""
        return np.unique(np.searchsorted(self.slots, np.arange(first, last), "right") - 1)

    def uses(self, epoch: int, groups: np.ndarray) -> np.ndarray:
        """Tell when some groups need which shards: int64 [uses, 3] of (first step, last step,
        shard), by first step.
        """
        line = self.line(epoch)
        group = self._group_of_piece
        width = np.diff(self.slots)[group]
        number = np.searchsorted(line.window, line.start[:-1], "right") - 1
        opens = (line.window[number] - self.border[group]) // width
        ends = (line.window[number + 1] - 1 - self.border[group]) // width
        rows = np.stack([opens, ends, line.shard], 1)[np.isin(group, groups)]
        return rows[np.lexsort((rows[:, 2], rows[:, 0]))]

    def _borders(self) -> np.ndarray:
        """Cut the line where groups meet. The last batch is shared as every other: by slots."""
        size = self.global_batch_size
        whole, rest = divmod(self.num_samples, size)
        # in the last batch too the two samples of a pair (mixup) are neighbours, on one rank
        unit = 2 if size % (2 * self.groups) == 0 else 1
        tail = unit * (rest // unit * self.slots // size)
        # a single sample that is left over goes to the last group with a slot for it
        with_room = np.flatnonzero(np.diff(tail) < np.diff(self.slots))
        if len(with_room):
            tail[with_room[-1] + 1 :] += rest - tail[-1]
        return whole * self.slots + tail

    def _cut_line(self) -> None:
        """Deal the shards, and cut them into pieces at the borders; empty shards have none."""
        deal = np.arange(len(self.sizes))
        _permute_all(deal, self.seed)
        first_id = np.cumsum(self.sizes) - self.sizes
        ends = np.cumsum(self.sizes[deal])
        cuts = np.union1d(np.concatenate([[0], ends]), self.border)
        at = np.searchsorted(ends, cuts[:-1], "right")
        begins = ends - self.sizes[deal]
        self._size = np.diff(cuts)
        self._shard = deal[at]
        self._first_id = first_id[self._shard] + cuts[:-1] - begins[at]
        # group g has the pieces first[g] to first[g + 1]
        self._first = np.searchsorted(cuts, self.border)
        self._group_of_piece = np.repeat(np.arange(self.groups), np.diff(self._first))

    def _line(self, epoch: int) -> Line:
        group = self._group_of_piece
        inside = np.arange(len(group)) - self._first[group]
        there = inside.copy()
        _permute_groups(there, self._first, self.seed, epoch)
        there += self._first[group]
        start = np.concatenate([[0], np.cumsum(self._size[there])])
        # each group opens its windows at another time: not all shards change at once
        wait = self.window - 1 - group % self.window
        opens = ((inside + wait) % self.window == 0) | (inside == 0)
        opener = np.append(np.flatnonzero(opens), len(group))
        shift = self._first_id[there] - start[:-1]
        return Line(start, shift, self._shard[there], start[opener], opener)


def _num_at_once(num_slots: int) -> int:
    return max(1, min(STEPS_AT_ONCE, SLOTS_AT_ONCE // max(1, num_slots)))


def _drop_oldest(kept: dict[Any, Any], most: int) -> None:
    while len(kept) >= most:
        del kept[next(iter(kept))]


@compiled(nogil=True)
def _permute_all(run: np.ndarray, seed: int) -> None:
    permute_run(run, max(1, len(run)), hash2(np.uint64(seed), _DEAL))


@compiled(nogil=True)
def _permute_groups(run: np.ndarray, first: np.ndarray, seed: int, epoch: int) -> None:
    """Permute run[first[g]:first[g + 1]], numbers from 0, each group by itself."""
    base = hash3(np.uint64(seed), _PIECES, np.uint64(epoch))
    for group in range(len(first) - 1):
        part = run[first[group] : first[group + 1]]
        permute_run(part, max(1, len(part)), hash2(base, np.uint64(group)))


@compiled(nogil=True)
def _fill(
    out: np.ndarray,
    first: int,
    first_step: int,
    slots: np.ndarray,
    border: np.ndarray,
    start: np.ndarray,
    shift: np.ndarray,
    window: np.ndarray,
    opener: np.ndarray,
    seed: int,
    epoch: int,
) -> None:
    """Write the samples of some steps, from `first_step` on, into their slots from `first` on: out
    int64 [steps, slots].

    What these steps take of a window is permuted as one run: the keys of a permutation's rounds
    cost as much as a sample.
    """
    base = hash3(np.uint64(seed), _WINDOW, np.uint64(epoch))
    num_steps, num_slots = out.shape
    line = np.empty(num_steps * num_slots, np.int64)
    run = np.empty(num_steps * num_slots, np.int64)
    for group in range(np.searchsorted(slots, first, side="right") - 1, len(slots) - 1):
        low = max(first, slots[group])
        high = min(first + num_slots, slots[group + 1])
        if low >= high:
            break
        width = slots[group + 1] - slots[group]
        num = 0
        for step in range(first_step, first_step + num_steps):
            at = border[group] + step * width - slots[group]
            for slot in range(low, min(high, border[group + 1] - at)):
                line[num] = at + slot
                num += 1
        begin = 0
        while begin < num:
            number = np.searchsorted(window, line[begin], side="right") - 1
            opens = window[number]
            end = begin + np.searchsorted(line[begin:num], window[number + 1])
            for i in range(begin, end):
                run[i] = line[i] - opens
            name = hash2(base, np.uint64(opener[number]))
            permute_run(run[begin:end], window[number + 1] - opens, name)
            pieces = start[opener[number] : opener[number + 1]]
            for i in range(begin, end):
                here = opens + run[i]
                piece = opener[number] + np.searchsorted(pieces, here, side="right") - 1
                run[i] = here + shift[piece]
            begin = end
        # slots are filled from the lowest, in each step
        i = 0
        for step in range(num_steps):
            at = border[group] + (first_step + step) * width - slots[group]
            for slot in range(low, min(high, border[group + 1] - at)):
                out[step, slot - first] = run[i]
                i += 1
