"""What the number of an epoch decides: the size of its training images, which is one for all or small
at first (progressive resizing), and whether it is validated.
"""

import re
from dataclasses import dataclass

from shards.errors import DataError

SIZE = (
    "side of the network's input in pixels; 128:224 trains on small images first, in multiples of "
    "32 that grow over three quarters of the epochs; all but training sees the last size"
)
VALIDATE_EVERY = (
    "validate after every so many epochs, and after the last one; the best epoch is one of these"
)
STEP = 32  # most networks halve an image five times, so multiples of it fit them


@dataclass(frozen=True)
class TrainingSizes:
    """The sizes of training, from `first` to `last` pixels; validation and all that comes after
    training see `last`.
    """

    first: int
    last: int

    @classmethod
    def read(cls, given: int | str) -> "TrainingSizes":
        """Read `224`, or `128:224`. Raises DataError."""
        numbers = re.fullmatch(
            r"(-?\d{1,9})(?::(-?\d{1,9}))?", str(given).replace(" ", ""), re.ASCII
        )
        if isinstance(given, bool) or not numbers:
            raise DataError(
                f"size is {given or repr(given)}: give pixels, such as 224, or 128:224 to grow"
            )
        first = int(numbers[1])
        last = int(numbers[2] or first)
        if first < 1:
            raise DataError(f"size is {given}: give at least 1")
        if first > last:
            swapped = f"{last}:{first}, or " if last > 0 else ""
            raise DataError(f"size is {given}: images grow; give {swapped}{first}")
        return cls(first, last)

    @property
    def given(self) -> int | str:
        """Spell them as the option does."""
        return self.last if self.first == self.last else f"{self.first}:{self.last}"

    def at(self, epoch: int, epochs: int) -> int:
        """Say the size of an epoch, counted from 0: a function of it and of their number alone.

        Three quarters of the epochs grow linearly, in multiples of STEP below the line, so that
        each size has about as many epochs; the last quarter, and always the last epoch, has `last`.
        """
        growing = 3 * epochs // 4
        if epoch >= growing:
            return self.last
        size = self.first + (self.last - self.first) * epoch // growing
        return max(self.first, size // STEP * STEP)

    def all_of(self, epochs: int) -> list[int]:
        """List the sizes that a run of so many epochs has, each once, growing."""
        return sorted({self.at(epoch, epochs) for epoch in range(epochs)})


class ByEpoch:
    """What a configuration, a dataclass that has these options, says of an epoch."""

    size: str | int
    epochs: int
    validate_every: int

    @property
    def sizes(self) -> TrainingSizes:
        """Return the first and the last size."""
        return TrainingSizes.read(self.size)

    @property
    def last_size(self) -> int:
        """Return the size of the network's input, but for that of early epochs."""
        return self.sizes.last

    def size_at(self, epoch: int) -> int:
        """Say the size of training images in an epoch, counted from 0."""
        return self.sizes.at(epoch, self.epochs)

    def validates_after(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 0, is validated: a function of it and the options, so
        that a run that was stopped validates the same ones.
        """
        done = epoch + 1
        return done % self.validate_every == 0 or done >= self.epochs
