"""Figures in the looks of the pages: inline SVG that follows a page from light to dark, and PNG for
paper.

A figure is drawn in a `Palette`: `PAPER`, whose colours no figure uses otherwise. `svg` replaces
each by the CSS variable of shards/pages/page.css, so that one SVG serves both colour schemes. Text
stays text: it takes the page's font, can be searched, and costs a few bytes.
"""

import html
import io
import re
from dataclasses import asdict, dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TEXT_POINTS = 8.5
PNG_DPI = 200


@dataclass(frozen=True)
class Palette:
    """The colours of a figure, named as the CSS variables are."""

    ink: str
    muted: str
    line: str
    first: str
    second: str
    bad: str


# no named or default colours
PAPER = Palette("#000001", "#444445", "#d0d0d1", "#1c67c4", "#b4530b", "#bd2130")


def empty_figure(
    palette: Palette, xlabel: str, ylabel: str, width: float = 4.2, height: float = 2.6
) -> Figure:
    """Return a figure of one axes, `width` x `height` inches. pyplot knows nothing of it: nothing
    to close.

    4.2 inches are 403 CSS pixels: a phone shrinks the text by little, a desktop enlarges it by a
    quarter.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, color=palette.muted, fontsize=TEXT_POINTS)
    axes.set_ylabel(ylabel, color=palette.muted, fontsize=TEXT_POINTS)
    axes.tick_params(which="both", colors=palette.muted, labelsize=TEXT_POINTS, length=0)
    axes.grid(color=palette.line, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.line)
    return figure


def add_legend(axes: Axes, palette: Palette, **where: Any) -> None:
    """Name the labelled lines, without a frame."""
    axes.legend(frameon=False, fontsize=TEXT_POINTS, labelcolor=palette.ink, **where)


def fix_layout(figure: Figure) -> None:
    """Lay a figure out now and for good: each output would do it again, which is half of the time
    of drawing one.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        # not "none", which leaves a placeholder that makes each output draw the figure twice
        with matplotlib.rc_context(
            {"figure.autolayout": False, "figure.constrained_layout.use": False}
        ):
            figure.set_layout_engine(None)


def svg(figure: Figure, name: str, title: str) -> Markup:
    """Draw a figure of palette `PAPER` for inlining: no fixed size, ids that begin with `name`.

    The <svg> says in data-x0, data-x1, data-y0 and data-y1 where, in its own units, 0 and 1 of its
    axes are.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": True}
    ):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"[ \t]*\n[ \t]*", "\n", text)
    head = (
        f'<svg class="plot" role="img" aria-label="{html.escape(title)}" {_place_of_axes(figure)}'
    )
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda found: f"{head} {found[1]}>", text, count=1
    )
    for colour, stand_in in asdict(PAPER).items():
        text = text.replace(stand_in, f"var(--{colour})")
    return Markup(text)  # matplotlib's own output, which escapes the text that it is given


def _place_of_axes(figure: Figure) -> str:
    """Place of data 0 and 1 in the SVG's units (points, y down), after the figure was drawn."""
    height = figure.get_figheight() * 72
    scale = 72 / figure.dpi
    (x0, y0), (x1, y1) = figure.axes[0].transData.transform([(0, 0), (1, 1)]) * scale
    return f'data-x0="{x0:.2f}" data-x1="{x1:.2f}" data-y0="{height - y0:.2f}" data-y1="{height - y1:.2f}"'


def png(figure: Figure) -> bytes:
    """Draw a figure of palette `PAPER` on white at 200 dots per inch. Same figure, same bytes."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None}
    )
    return buffer.getvalue()
