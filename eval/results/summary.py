"""The one-screen summary for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from shards.errors import count_of
from shards.pages.spelling import number, plain

MAX_NAME = 18  # characters of a class name
MAX_ONE_COLUMN = 20  # classes
MAX_TWO_COLUMNS = 50
# title, key, width
MULTILABEL_COLUMNS = (("AP", "ap", 6), ("pos", "positives", 6), ("ignored", "ignored", 7))
MULTICLASS_COLUMNS = (("accuracy", "accuracy", 8), ("AP", "ap", 6), ("images", "positives", 6))

_Row = tuple[str, dict[str, Any]]


def best_first(metrics: Mapping[str, Any]) -> list[_Row]:
    """Return (class name, entry) by falling AP, of multiclass data by falling accuracy; those
    without come last.

    Equal ones are in the order of their names.
    """
    by = "accuracy" if metrics["task"] == "multiclass" else "ap"
    return sorted(metrics["per_class"].items(), key=lambda row: (_falling(row[1][by]), row[0]))


def _falling(value: float | None) -> float:
    return math.inf if value is None else -value


def evaluation_summary(metrics: Mapping[str, Any], paths: Sequence[str] = ()) -> str:
    """Return mAP, the AP of every class, the mean tail accuracy and where the files are, for a
    terminal.

    Up to 20 classes make one column, up to 50 two; of more, the 25 best and the 25 worst are shown.
    """
    rows = best_first(metrics)
    half = MAX_TWO_COLUMNS // 2
    shown = rows if len(rows) <= MAX_TWO_COLUMNS else rows[:half] + rows[-half:]
    lines = [*_answer(metrics), *_compared(metrics), "", *_columns(shown, metrics["task"])]
    if len(shown) < len(rows):
        lines.append(
            f"({count_of(len(rows) - len(shown), 'class')} between the best and the worst are in "
            f"per_class.csv)"
        )
    missing = metrics["classes_without_positives"]
    if missing:
        lines.append(f"no known positive, left out of the mean: {_shortened(missing)}")
    tail = metrics["tail_accuracy"]
    lines += ["", f"mean tail accuracy {number(tail['mean_over_all'])}   {_tail_points(tail)}"]
    return "\n".join([*lines, *(f"  {path}" for path in paths)])


def _answer(metrics: Mapping[str, Any]) -> list[str]:
    """Say how good it is: mAP, of multiclass data accuracy and then mAP."""
    images = count_of(metrics["num_samples"], "image")
    on = f"   {metrics['split']}: {images}, {count_of(metrics['num_classes'], 'class')}"
    mean_ap = f"mAP {number(metrics['mAP'])}{_interval(metrics['mAP_interval'])}"
    if metrics["task"] != "multiclass":
        return [mean_ap + on]
    top5 = (
        "" if metrics["top5_accuracy"] is None else f"top-5 {number(metrics['top5_accuracy'])}   "
    )
    return [
        f"accuracy {number(metrics['accuracy'])}{_interval(metrics['accuracy_interval'])}{on}",
        top5 + mean_ap,
    ]


def _compared(metrics: Mapping[str, Any]) -> list[str]:
    """Say how far mAP is from the baseline's, if there is one, on the classes of both."""
    found = metrics.get("baseline")
    if not found:
        return []
    lines = []
    if accuracy := found["accuracy"]:
        against = f"against accuracy {number(accuracy['baseline'])} of {found['path']}"
        lines.append(
            f"{accuracy['difference']:+.4f}{_signed_interval(accuracy['interval'])} {against}"
        )
    what = "mAP " if metrics["task"] == "multiclass" else ""
    against = f"against {what}{number(found['baseline_mAP'])} of {found['path']}"
    lines.append(f"{found['difference']:+.4f}{_signed_interval(found['interval'])} {against}")
    for name, (theirs, ours) in found["predicted_otherwise"].items():
        lines.append(f"  which was predicted otherwise: {name} {theirs} there, {ours} here")
    return lines


def _signed_interval(edges: Sequence[float | None] | None) -> str:
    low, high = edges or (None, None)
    return "" if low is None or high is None else f", 95% interval {low:+.4f} to {high:+.4f}"


def _interval(edges: Sequence[float | None]) -> str:
    low, high = edges
    return "" if low is None or high is None else f", 95% interval {number(low)} to {number(high)}"


def _columns(rows: Sequence[_Row], task: str) -> list[str]:
    """Lay out the table in one column, or in two when it is longer than `MAX_ONE_COLUMN`."""
    width = min(MAX_NAME, max([5, *(len(plain(name)) for name, _ in rows)]))
    columns = MULTICLASS_COLUMNS if task == "multiclass" else MULTILABEL_COLUMNS
    head = f"{'class':<{width}}" + "".join(f"  {title:>{space}}" for title, _, space in columns)
    cells = [_cell(name, entry, width, columns) for name, entry in rows]
    if len(cells) <= MAX_ONE_COLUMN:
        return [head, *cells]
    half = math.ceil(len(cells) / 2)
    right = [*cells[half:], ""]
    return [
        f"{head}    {head}",
        *(f"{a}    {b}".rstrip() for a, b in zip(cells[:half], right, strict=False)),
    ]


def _cell(
    name: str, entry: Mapping[str, Any], width: int, columns: Sequence[tuple[str, str, int]]
) -> str:
    text = plain(name)
    text = text if len(text) <= width else text[: width - 1] + "\u2026"
    values = [entry[key] for _, key, _ in columns]
    shown = [str(value) if isinstance(value, int) else number(value) for value in values]
    return f"{text:<{width}}" + "".join(
        f"  {v:>{space}}" for v, (_, _, space) in zip(shown, columns, strict=True)
    )


def _shortened(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(plain, names[:limit])) + more


def _tail_points(tail: Mapping[str, Any]) -> str:
    """Name the curve at a few of its thresholds."""
    points = [
        (t, v) for t, v in zip(tail["thresholds"], tail["mean"], strict=True) if v is not None
    ]
    if not points:
        return f"(nothing scores above {tail['t_min']})"
    chosen = points[:: max(1, len(points) // 4)][:5]
    return "  ".join(f"t>{t:.2f}: {v:.3f}" for t, v in chosen)
