"""Memory that one thread writes to, image after image."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
_MOST_KEPT = 32 << 20  # bytes of one array; what a very large image needs is given back
_MOST_GROUPS = 64


class KeptArrays(threading.local):
    """Arrays by name, which grow as needed. What is in them is left from the image before."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._made: dict[Callable[[], Any], Any] = {}
        self._groups: dict[Hashable, Any] = {}  # of arrays that are all kept
        self._num_lent = 0  # arrays that are not kept

    def array(self, name: str, size: int, kind: Any) -> np.ndarray:
        """Return an array of at least `size` numbers, zeros when new."""
        array = self._arrays.get(name)
        if array is None or len(array) < size:
            array = np.zeros(size + size // 4, kind)
            self._groups.clear()  # they would keep the smaller one
            if array.nbytes <= _MOST_KEPT:
                self._arrays[name] = array
            else:
                self._num_lent += 1
        return array

    def group(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes of arrays, the same for a key until one of them has to grow."""
        if key in self._groups:
            return self._groups[key]
        lent = self._num_lent
        made = make()
        if self._num_lent == lent:
            if len(self._groups) >= _MOST_GROUPS:
                self._groups.clear()
            self._groups[key] = made
        return made

    def once(self, make: Callable[[], T]) -> T:
        """Return what `make` makes, the same each time."""
        if make not in self._made:
            self._made[make] = make()
        return self._made[make]

    def exactly(self, name: str, size: int, kind: Any) -> np.ndarray:
        """Return an array of `size` numbers."""
        return self.array(name, size, kind)[:size]
