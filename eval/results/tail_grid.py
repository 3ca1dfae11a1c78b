"""The options for the thresholds of tail accuracy; imports no torch, so that --help is fast."""

from dataclasses import dataclass

from shards.errors import DataError

CLASSIFICATION_THRESHOLD = 0.5  # of a probability: f(x) is positive from here
MAX_STEPS = 1000


@dataclass(frozen=True)
class TailGrid:
    """Which thresholds t: `num_steps` evenly spaced ones from `t_min`, from where a score says the
    class.

    They reach `t_max`, or with 0 up to but not to the highest score, so that something scores above
    each.
    """

    t_min: float = CLASSIFICATION_THRESHOLD
    t_max: float = 0.0
    num_steps: int = 20

    def __post_init__(self) -> None:
        if self.t_max != 0 and not self.t_min < self.t_max < 1:
            raise DataError(
                f"tail_max is {self.t_max}: give a probability above tail_min ({self.t_min}) and "
                "below 1, or 0 for the highest score"
            )
