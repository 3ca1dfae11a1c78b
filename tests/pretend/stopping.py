"""The trainer, asked to stop after so many of its steps."""

from train.run.stop import Stop


class StopAfter(Stop):
    """Is asked once a step, on one rank."""

    def __init__(self, num_steps: int) -> None:
        self.left = num_steps

    @property
    def asked(self) -> bool:  # type: ignore[override]
        self.left -= 1
        return self.left <= 0
