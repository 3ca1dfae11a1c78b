"""The rows of a split of which some may not be here yet: whoever asks for rows gets them brought."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Bring = Callable[[np.ndarray], None]


class RowsInParts:
    """Looks like the array of all rows; what is read of it is brought first.

    Invariant: no row is handed out before `bring` has returned for the part that it is in. Rows of
    a shard are one part; `bring` is called with the numbers of some, int64 [n], in any order and
    more than once. What is asked for in a way that is not understood here needs all parts.
    """

    def __init__(self, rows: np.ndarray, sizes: np.ndarray, bring: Bring) -> None:
        self._rows = rows
        self._ends = np.cumsum(sizes)
        self._all = np.arange(len(sizes))
        self._bring = bring
        self._is_whole = False

    def after(self, ids: Any) -> np.ndarray:
        """Return the table when the rows of some samples are here; others may be anything."""
        if not self._is_whole:
            parts = self._parts_of(ids)
            self._bring(parts)
            self._is_whole = parts is self._all
        return self._rows

    def __getitem__(self, ids: Any) -> Any:
        return self.after(ids)[ids]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.after(None), dtype, copy=copy)

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Tell what a row holds."""
        return self._rows.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Count the rows, as numpy does."""
        return self._rows.shape

    @property
    def nbytes(self) -> int:
        """Count the bytes of all rows."""
        return self._rows.nbytes

    def _parts_of(self, ids: Any) -> np.ndarray:
        """Name the parts that some rows are in, at least these, a part more than once for some."""
        if isinstance(ids, slice):
            places = range(*ids.indices(len(self)))
            if not places:
                return self._all[:0]
            if len(places) == len(self):
                return self._all
            first, last = self._parts_at(np.sort([places[0], places[-1]]))
            return self._all[first : last + 1]
        if isinstance(ids, int | np.integer | list | np.ndarray) and not isinstance(ids, bool):
            numbers = np.asarray(ids)
            if numbers.dtype == bool and numbers.shape == self.shape:
                return self._parts_at(np.flatnonzero(numbers))
            if numbers.dtype.kind in "iu" or not numbers.size:
                return self._parts_at(numbers.ravel().astype(np.int64, copy=False))
        return self._all

    def _parts_at(self, numbers: np.ndarray) -> np.ndarray:
        """Name the part of each row; one that does not exist, which numpy refuses, has none."""
        if len(numbers) and numbers.min() < 0:
            numbers = numbers + len(self) * (numbers < 0)
        parts = np.searchsorted(self._ends, numbers, "right")
        return parts[parts < len(self._ends)] if len(parts) else parts
