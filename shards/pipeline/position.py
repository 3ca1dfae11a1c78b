"""How far a loader is: which batches its consumer has been given."""

from dataclasses import dataclass


class Position:
    """`step` batches of `epoch` have been handed out by the latest iteration; the next one starts at
    `first_step`.
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.epoch = 0
        self.step = 0
        self.first_step = 0

    def go_to(self, epoch: int, step: int) -> None:
        """Let the next iteration hand out batch `step` of `epoch` first."""
        self.epoch = epoch
        self.step = step
        self.first_step = step

    def following(self) -> tuple[int, int]:
        """Tell the epoch and the step of the first batch of the next iteration.

        One that is left starts the epoch again; but whoever counts batches (`islice`, `zip`) has
        all of them, and never asks for the end.
        """
        if self.step == self.num_steps:
            return self.epoch + 1, 0
        return self.epoch, self.first_step

    def start(self) -> tuple[int, int]:
        """Begin an iteration: the epoch and the step of its first batch."""
        self.epoch, self.step = self.following()
        self.first_step = 0
        return self.epoch, self.step


@dataclass(frozen=True, eq=False)
class Place:
    """Which batch of a run one is: who takes batches ahead of their consumer says by it what the
    consumer has been given.
    """

    position: Position
    epoch: int
    step: int

    def hand_out(self) -> None:
        """Note that the consumer has this batch, and none after it."""
        self.position.epoch = self.epoch
        self.position.step = self.step + 1

    def end_epoch(self) -> None:
        """Note that the consumer asked for more, where this was the last batch of its epoch."""
        if self.step + 1 == self.position.num_steps:
            self.position.epoch = self.epoch + 1
            self.position.step = 0
