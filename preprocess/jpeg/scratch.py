"""Memory that one thread writes to, image after image."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
_MOST_KEPT = 32 << 20  # bytes of one array; what a very large image needs is given back


class KeptArrays(threading.local):
    """Arrays by name, which grow as needed. What is in them is left from the image before."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._made: dict[Callable[[], Any], Any] = {}

    def array(self, name: str, size: int, kind: Any) -> np.ndarray:
        """Return an array of at least `size` numbers, zeros when new."""
        array = self._arrays.get(name)
        if array is None or len(array) < size:
            array = np.zeros(size + size // 4, kind)
            if array.nbytes <= _MOST_KEPT:
                self._arrays[name] = array
        return array

    def once(self, make: Callable[[], T]) -> T:
        """Return what `make` makes, the same each time."""
        if make not in self._made:
            self._made[make] = make()
        return self._made[make]

    def exactly(self, name: str, size: int, kind: Any) -> np.ndarray:
        """Return an array of `size` numbers."""
        return self.array(name, size, kind)[:size]
