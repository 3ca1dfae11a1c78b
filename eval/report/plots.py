"""The report's figures, each drawn in a palette: of the page, for the report, or of paper, for PNG
files.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shards.pages.palette import TEXT_POINTS, Palette, add_legend, empty_figure

MAX_LINES = 100  # classes drawn one by one
MAX_CELLS = 40  # classes of a matrix
MAX_NAME = 16  # characters of a class name beside a matrix

History = Sequence[Mapping[str, Any]]
Draw = Callable[[Palette], Figure]
Point = tuple[float, float]  # epoch, value


def history_figures(history: History) -> dict[str, Draw]:
    """Loss, accuracy, validation mAP and learning rate per epoch, as far as they were recorded."""
    losses = _both(history, "loss")
    accuracies = _both(history, "accuracy")
    mean_ap = _points(history, "val_mAP")
    rates = _points(history, "lr")
    return {
        **({"loss": partial(_draw_both, "loss", losses)} if losses else {}),
        **({"accuracy": partial(_draw_both, "accuracy", accuracies)} if accuracies else {}),
        **({"map": partial(_draw_map, mean_ap)} if mean_ap else {}),
        **({"lr": partial(_draw_rate, rates)} if rates else {}),
    }


def _points(history: History, key: str) -> list[Point]:
    """The (epoch, value) points of one recorded quantity."""
    return [(row["epoch"], row[key]) for row in history if row.get(key) is not None]


def _both(history: History, what: str) -> dict[str, list[Point]]:
    """The points of training and validation, of those that were recorded."""
    found = {
        name: _points(history, f"{key}_{what}")
        for name, key in (("training", "train"), ("validation", "val"))
    }
    return {name: points for name, points in found.items() if points}


def _draw_both(what: str, curves: Mapping[str, list[Point]], palette: Palette) -> Figure:
    """Draw training and validation; the best validation accuracy is marked."""
    figure = _over_epochs(palette, what)
    axes = figure.axes[0]
    for (name, points), colour, style in zip(
        curves.items(), (palette.first, palette.second), ("-", "--"), strict=False
    ):
        axes.plot(
            *zip(*points, strict=True),
            style + _mark(points),
            color=colour,
            linewidth=1.8,
            label=name,
        )
    if what == "accuracy" and "validation" in curves:
        _mark_best(
            axes,
            curves["validation"],
            palette.second if len(curves) > 1 else palette.first,
            palette,
        )
        add_legend(axes, palette, loc="upper left")
    else:
        axes.set_ylim(bottom=0)
        add_legend(axes, palette)
    return figure


def _draw_map(points: list[Point], palette: Palette) -> Figure:
    figure = _over_epochs(palette, "validation mAP")
    axes = figure.axes[0]
    axes.plot(*zip(*points, strict=True), color=palette.first, linewidth=1.8)
    _mark_best(axes, points, palette.first, palette)
    return figure


def _mark_best(axes: Axes, points: Sequence[Point], colour: str, palette: Palette) -> None:
    """Mark the best epoch, and name it in the corner that a rising curve leaves free."""
    epoch, best = max(points, key=lambda point: (point[1], -point[0]))
    axes.plot([epoch], [best], "o", color=colour, markersize=5)
    label = f"best {best:.4f}, epoch {epoch:g}"
    axes.text(
        0.98,
        0.05,
        label,
        transform=axes.transAxes,
        ha="right",
        color=palette.ink,
        fontsize=TEXT_POINTS,
    )


def _draw_rate(points: list[Point], palette: Palette) -> Figure:
    figure = _over_epochs(palette, "learning rate")
    axes = figure.axes[0]
    axes.plot(*zip(*points, strict=True), "-" + _mark(points), color=palette.first, linewidth=1.8)
    axes.set_ylim(bottom=0)
    return figure


def _over_epochs(palette: Palette, ylabel: str) -> Figure:
    figure = empty_figure(palette, "epoch", ylabel)
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _mark(points: Sequence[Any]) -> str:
    return "o" if len(points) == 1 else ""


def draw_precision_recall(
    recall: np.ndarray, precision: np.ndarray, mean: np.ndarray, palette: Palette
) -> Figure:
    """Precision [R, K] at recall [R] of each class, thin, and their mean [R]."""
    figure = empty_figure(palette, "recall", "precision", height=3.4)
    _draw_class_lines(figure, recall, precision, mean, palette)
    figure.axes[0].set_xlim(0, 1.01)
    figure.axes[0].set_ylim(0, 1.03)
    add_legend(figure.axes[0], palette, loc="lower left")
    return figure


def draw_tail(
    thresholds: np.ndarray,
    values: np.ndarray,
    mean: Sequence[tuple[float, float]],
    limits: tuple[float, float],
    palette: Palette,
) -> Figure:
    """Tail accuracy [T, K] at thresholds [T] of each class, thin, and the (threshold, mean) points,
    between limits.
    """
    figure = empty_figure(palette, "threshold t", "tail accuracy", height=3.4)
    _draw_class_lines(figure, thresholds, values, mean=None, palette=palette)
    axes = figure.axes[0]
    axes.plot(
        *zip(*mean, strict=True),
        "o-",
        color=palette.first,
        linewidth=2.2,
        markersize=3,
        label="mean",
    )
    axes.set_xlim(limits[0], limits[1] + 0.005)
    axes.set_ylim(0, 1.03)
    add_legend(axes, palette, loc="lower left")
    return figure


def _draw_class_lines(
    figure: Figure, x: np.ndarray, values: np.ndarray, mean: np.ndarray | None, palette: Palette
) -> None:
    """Draw each class as a thin line whose id says its number; of many classes as many, evenly
    taken.
    """
    axes = figure.axes[0]
    num_classes = values.shape[1]
    for number in np.unique(
        np.linspace(0, num_classes - 1, min(num_classes, MAX_LINES)).astype(int)
    ):
        shown = ~np.isnan(values[:, number])
        if shown.any():
            line = axes.plot(
                x[shown], values[shown, number], color=palette.muted, linewidth=0.8, alpha=0.35
            )
            line[0].set_gid(f"class-{number}")
    if mean is not None:
        axes.plot(x, mean, color=palette.first, linewidth=2.2, label="mean")


def draw_histogram(histogram: Mapping[str, Sequence[int]], palette: Palette) -> Figure:
    """How many positives and negatives score in each of equal bins from 0 to 1, on a logarithmic
    scale.
    """
    figure = empty_figure(palette, "score", "entries (log scale)", height=3.0)
    axes = figure.axes[0]
    edges = np.linspace(0, 1, len(histogram["negatives"]) + 1)
    for name, colour in (("negatives", palette.second), ("positives", palette.first)):
        counts = np.array(histogram[name], dtype=float)
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.18, linewidth=0, baseline=0.5)
        axes.stairs(counts, edges, color=colour, linewidth=1.5, baseline=0.5, label=name)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.set_xlim(0, 1)
    axes.minorticks_off()
    add_legend(axes, palette, loc="upper center", ncols=2)
    return figure


def draw_reliability(calibration: Mapping[str, Any], share_of: str, palette: Palette) -> Figure:
    """Share of positives, or right ones, against mean score, bin by bin; a calibrated model is on
    the diagonal.
    """
    figure = empty_figure(palette, "mean score of the bin", f"share of {share_of}", height=3.0)
    axes = figure.axes[0]
    rows = zip(calibration["mean_score"], calibration["positive_share"], strict=True)
    axes.plot([0, 1], [0, 1], "--", color=palette.muted, linewidth=1, label="calibrated")
    axes.plot(
        *zip(*(row for row in rows if None not in row), strict=True),
        "o-",
        color=palette.first,
        markersize=4,
    )
    if calibration["ece"] is not None:
        error = f"expected calibration error {calibration['ece']:.4f}"
        axes.text(
            0.98,
            0.05,
            error,
            transform=axes.transAxes,
            ha="right",
            color=palette.ink,
            fontsize=TEXT_POINTS,
        )
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.03)
    add_legend(axes, palette, loc="upper left")
    return figure


def draw_matrix(
    shares: np.ndarray,
    names: Sequence[str],
    words: tuple[str, str],
    diagonal: bool,
    palette: Palette,
) -> Figure:
    """Shares [K, K] as cells of deepening colour with their percent; `words` name the rows and the
    columns.

    The diagonal is drawn in the second colour, or left out.
    """
    num_classes = len(names)
    size = 1.5 + 0.215 * num_classes
    figure = empty_figure(palette, words[1], words[0], size, size)
    axes = figure.axes[0]
    axes.grid(visible=False)
    on_diagonal = np.eye(num_classes, dtype=bool)
    shares = np.where(np.isnan(shares) | (on_diagonal & (not diagonal)), 0.0, shares)
    colours = np.where(on_diagonal[..., None], to_rgb(palette.second), to_rgb(palette.first))
    cells = np.concatenate([colours, 0.75 * shares[..., None]], axis=-1).reshape(-1, 4)
    mesh = axes.pcolormesh(np.zeros((num_classes, num_classes)), linewidth=0, antialiased=False)
    mesh.set_array(None)
    mesh.set_facecolor([tuple(cell) for cell in cells.tolist()])
    for row, column in zip(*np.nonzero(shares >= 0.01), strict=True):
        place = (column + 0.5, row + 0.5)
        percent = f"{100 * shares[row, column]:.0f}"
        axes.text(*place, percent, ha="center", va="center", color=palette.ink, fontsize=6.2)
    shown = [name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…" for name in names]
    axes.set_xticks(np.arange(num_classes) + 0.5, shown, rotation=90)
    axes.set_yticks(np.arange(num_classes) + 0.5, shown)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a dollar in a name is a dollar
    axes.tick_params(labelsize=7)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.spines["bottom"].set_visible(False)
    return figure


def matrix_classes(weights: np.ndarray) -> np.ndarray:
    """Choose, rising, the classes of a matrix [K, K] to show: all, or the `MAX_CELLS` heaviest off
    the diagonal.
    """
    off = weights * ~np.eye(len(weights), dtype=bool)
    order = np.argsort(-(off.sum(0) + off.sum(1)), kind="stable")
    return np.sort(order[:MAX_CELLS])
