"""What the runs of a sweep came to: read from their folders, compared, reported on the terminal and
in sweep.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shards.pages.spelling import number
from train.run import checkpoint
from train.run.folder import read_metrics
from train.run.progress import Best, metric_name
from train.sweep.points import Number, Point

Status = Literal["finished", "diverged", "failed", "stopped", "not started"]
ENDED = ("finished", "diverged")
NO_EPOCH = (3, 0.0)  # after every rank of a best epoch


@dataclass(frozen=True)
class Outcome:
    """How far one run came; `best` is None as long as it has finished no epoch."""

    name: str
    values: Mapping[str, Number]
    epochs: int  # that it was to have
    status: Status
    best: Best | None
    history: Sequence[Mapping[str, Any]]
    error: str = ""  # what a failed run ended with

    @property
    def best_row(self) -> Mapping[str, Any]:
        """The line of metrics.jsonl of the best epoch."""
        epoch = self.best.epoch if self.best else None
        return next((row for row in self.history if row["epoch"] == epoch), {})


def read_outcome(point: Point, diverged: bool, error: str = "") -> Outcome:
    """Look into the folder of a run; `error` is what it has just failed with."""
    run = Path(point.config.out)
    epochs = point.config.epochs
    told: Status | None = "diverged" if diverged else ("failed" if error else None)
    # it ended before its first checkpoint, or has not begun
    if not checkpoint.exists(run / "last"):
        return Outcome(point.name, point.values, epochs, told or "not started", None, [], error)
    progress = checkpoint.read(run / "last").meta.progress
    history = [row for row in read_metrics(run) if row["epoch"] <= progress.epoch]
    reached: Status = "finished" if progress.epoch >= epochs else "stopped"
    return Outcome(point.name, point.values, epochs, told or reached, progress.best, history, error)


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Put the run with the best epoch first; equal ones as they were given, those without a value
    last.
    """
    return sorted(outcomes, key=lambda outcome: outcome.best.rank if outcome.best else NO_EPOCH)


def winner(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The run with the best epoch, as far as the runs have come; None where none has finished an
    epoch.
    """
    return next((outcome for outcome in ranked(outcomes) if outcome.best), None)


def metric_of(outcomes: Sequence[Outcome]) -> str:
    """The key in metrics.jsonl of what chose the best epoch."""
    best = winner(outcomes)
    return best.best.metric if best is not None and best.best is not None else "val_mAP"


def sweep_results(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what sweep.json says: nothing in it depends on how fast the runs were or how often
    they were stopped.
    """
    best = winner(outcomes)
    return {
        "metric": metric_of(outcomes),
        "best": None
        if best is None or best.best is None
        else {"run": best.name, "epoch": best.best.epoch},
        "runs": [
            {
                "name": outcome.name,
                "values": dict(outcome.values),
                "status": outcome.status,
                **({"error": outcome.error} if outcome.error else {}),
                "epochs_done": len(outcome.history),
                "best_epoch": outcome.best.epoch if outcome.best else None,
                **{
                    key: outcome.best_row.get(key)
                    for key in (metric_of(outcomes), "val_loss", "train_loss")
                },
            }
            for outcome in outcomes
        ],
    }


def sweep_table(outcomes: Sequence[Outcome]) -> str:
    """Lay out the best epoch of each run for a terminal, the best run first and starred."""
    metric = metric_of(outcomes)
    best = winner(outcomes)
    width = max(len("run"), *(len(outcome.name) for outcome in outcomes))
    lines = [f"{'run':<{width}}  best epoch  {metric_name(metric):>9}  val loss  train loss"]
    for outcome in ranked(outcomes):
        star = "*" if outcome is best else " "
        value = number(outcome.best.value if outcome.best else None)
        epoch = f"{outcome.best.epoch}/{outcome.epochs}" if outcome.best else "-"
        losses = [number(outcome.best_row.get(key)) for key in ("val_loss", "train_loss")]
        note = "" if outcome.status == "finished" else f"  {outcome.status}"
        lines.append(
            f"{outcome.name:<{width}}  {epoch:>10}  {value:>8}{star}  {losses[0]:>8}  {losses[1]:>10}{note}"
        )
    return "\n".join(lines)
