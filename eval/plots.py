"""The report's figures as inline SVG that follows the page from light to dark.

Each colour is drawn as a stand-in that no figure uses otherwise and replaced by a CSS variable, so one SVG
serves both colour schemes. Text stays text: it takes the page's font, can be searched, and costs a few bytes.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, LINE, FIRST, SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
CSS_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
}
SIZE_INCHES = (
    4.2,
    2.5,
)  # 403 CSS pixels wide: a phone shrinks its text by little, a desktop enlarges it by 1.3
TEXT_POINTS = 8.5

History = Sequence[Mapping[str, Any]]


def loss_plot(history: History) -> Markup | None:
    """Training loss per epoch, and validation loss where it was recorded."""
    curves = [_curve(history, "train_loss", "training"), _curve(history, "val_loss", "validation")]
    return _epoch_plot("loss", [curve for curve in curves if curve[1]], "Loss per epoch")


def map_plot(history: History) -> Markup | None:
    """Validation mAP per epoch, the best epoch marked."""
    _, points = _curve(history, "val_mAP", "")
    if not points:
        return None
    figure, axes = _axes("epoch", "validation mAP")
    axes.plot(*zip(*points, strict=True), color=FIRST, linewidth=1.8)
    epoch, best = max(points, key=lambda point: (point[1], -point[0]))
    axes.plot([epoch], [best], "o", color=FIRST, markersize=5)
    label = f"best {best:.4f}, epoch {epoch:g}"  # in the corner that a rising curve leaves free
    axes.text(0.98, 0.05, label, transform=axes.transAxes, ha="right", color=INK, fontsize=TEXT_POINTS)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, "map", "Validation mAP per epoch")


def tail_plot(tail: Mapping[str, Any]) -> Markup | None:
    """Mean tail accuracy against the threshold t."""
    points = [(t, v) for t, v in zip(tail["thresholds"], tail["mean"], strict=True) if v is not None]
    if not points:
        return None
    figure, axes = _axes("threshold t", "mean tail accuracy")
    axes.plot(*zip(*points, strict=True), "o-", color=FIRST, linewidth=1.8, markersize=3.5)
    lowest = min(value for _, value in points)
    axes.set_ylim(max(0.0, lowest - 0.1), 1.02)
    return _svg(figure, "tail", "Mean tail accuracy against the threshold")


def _curve(history: History, key: str, name: str) -> tuple[str, list[tuple[float, float]]]:
    """The (epoch, value) points of one recorded quantity."""
    return name, [(row["epoch"], row[key]) for row in history if row.get(key) is not None]


def _epoch_plot(ylabel: str, curves: Sequence[tuple[str, list[tuple[float, float]]]], title: str) -> Markup | None:
    if not curves:
        return None
    figure, axes = _axes("epoch", ylabel)
    for (name, points), colour, style in zip(curves, (FIRST, SECOND), ("-", "--"), strict=False):
        mark = "o" if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), style + mark, color=colour, linewidth=1.8, label=name)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=TEXT_POINTS, labelcolor=INK)
    return _svg(figure, ylabel, title)


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """An empty figure in the report's looks. pyplot knows nothing of it: nothing to close, nothing shared."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, color=MUTED, fontsize=TEXT_POINTS)
    axes.set_ylabel(ylabel, color=MUTED, fontsize=TEXT_POINTS)
    axes.tick_params(colors=MUTED, labelsize=TEXT_POINTS, length=0)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    return figure, axes


def _svg(figure: Figure, name: str, title: str) -> Markup:
    """Draw to SVG for inlining: no XML prologue, no fixed size, ids that no other figure on the page has."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg class="plot" role="img" aria-label="{title}" \1>', text
    )
    for stand_in, variable in CSS_COLOURS.items():
        text = text.replace(stand_in, variable)
    return Markup(text)  # matplotlib's own output: the only strings in it are this module's
