"""sweep.html: one file without scripts or network that compares the runs of a sweep."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from shards.pages.html import content_policy, environment, stylesheet
from shards.pages.palette import PAPER, Palette, empty_figure, svg
from shards.pages.spelling import number, plain
from train.config import TrainConfig
from train.run.progress import metric_name
from train.sweep.comparison import Outcome, metric_of, ranked, winner

MAX_LOSS_OVER_MEDIAN = 4.0  # what a diverging run adds above this is cut off
MAX_LOG_SPAN = 8.0  # values that span more than this, all above 0, get a logarithmic axis

Line = tuple[int, str, list[tuple[float, float]]]  # number of the run, style, (epoch, value) points


def render_sweep(
    out: Path, config: TrainConfig, outcomes: Sequence[Outcome], config_yaml: str
) -> str:
    """Return the page. The colours of the runs follow their values; the table has the best run
    first.
    """
    best = winner(outcomes)
    metric = metric_of(outcomes)
    options = list(outcomes[0].values)
    place = {outcome.name: run for run, outcome in enumerate(outcomes)}
    return (
        environment("train.sweep")
        .get_template("sweep.html")
        .render(
            styles=stylesheet(),
            policy=content_policy(),
            title=plain(out.resolve().name),
            outcomes=outcomes,
            rows=[(place[outcome.name], outcome) for outcome in ranked(outcomes)],
            best=best,
            unfinished=any(outcome.status != "finished" for outcome in outcomes),
            options=options,
            columns=options if len(options) > 1 else [],  # a single one is in the run's name
            metric_name=metric_name(metric),
            facts={
                "Model": config.model,
                "Data": config.data,
                "Swept": config.sweep,
                "Epochs": config.epochs,
            },
            shares=_shares(outcomes),
            response=_response(outcomes, options),
            curves=_curves(outcomes, metric),
            commands=[
                f"accelerate launch -m train --config {shlex.quote(str(out / 'sweep.yaml'))}",
                f"python -m eval --ckpt {shlex.quote(str(out / 'best'))}",
            ],
            config_yaml=config_yaml,
            number=number,
        )
    )


def _shares(outcomes: Sequence[Outcome]) -> list[float]:
    """How far, in %, each run's colour is from the first to the second one: by the rank of its
    values.
    """
    ranks = sorted(range(len(outcomes)), key=lambda run: tuple(outcomes[run].values.values()))
    return [100 * ranks.index(run) / max(1, len(outcomes) - 1) for run in range(len(outcomes))]


def _curves(outcomes: Sequence[Outcome], metric: str) -> list[tuple[str, Markup]]:
    """The figures over epochs of all runs together, with their captions; none before a run has
    finished an epoch.
    """
    if not any(outcome.history for outcome in outcomes):
        return []
    name = metric_name(metric).removeprefix("val ")
    losses = [*_lines(outcomes, "train_loss", "--"), *_lines(outcomes, "val_loss", "-")]
    values = [value for _, _, points in losses for _, value in points]
    top = MAX_LOSS_OVER_MEDIAN * float(np.median(values))
    cut = f" Cut off above {top:.2g}." if max(values) > top else ""
    drawn = [
        (
            f"Loss per epoch: validation, and training dashed.{cut}",
            "loss",
            _draw(losses, "loss", PAPER, top),
        ),
        (
            f"Validation {name} per epoch; the best one of each run is marked.",
            "metric",
            _draw(
                [*_lines(outcomes, metric, "-"), *_marks(outcomes, metric)],
                f"validation {name}",
                PAPER,
            ),
        ),
    ]
    return [(caption, svg(figure, name, caption)) for caption, name, figure in drawn]


def _lines(outcomes: Sequence[Outcome], key: str, style: str) -> list[Line]:
    lines = []
    for run, outcome in enumerate(outcomes):
        points = [(row["epoch"], row[key]) for row in outcome.history if row.get(key) is not None]
        lines.append((run, style + ("o" if len(points) == 1 else ""), points))
    return [line for line in lines if line[2]]


def _marks(outcomes: Sequence[Outcome], metric: str) -> list[Line]:
    bests = [(run, outcome.best) for run, outcome in enumerate(outcomes)]
    return [
        (run, "o", [(best.epoch, best.value)])
        for run, best in bests
        if best and best.metric == metric and best.value is not None
    ]


def _draw(lines: Sequence[Line], ylabel: str, palette: Palette, top: float | None = None) -> Figure:
    """Each line carries the number of its run in its id; the page's stylesheet gives it its colour."""
    figure = empty_figure(palette, "epoch", ylabel, height=3.2)
    axes = figure.axes[0]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for place, (run, style, points) in enumerate(lines):
        drawn = axes.plot(
            *zip(*points, strict=True),
            style,
            color=palette.muted,
            linewidth=1.8,
            markersize=6,
            mew=0,
        )
        drawn[0].set_gid(f"curve-{place}-run-{run}")
    if top is not None:
        axes.set_ylim(
            0, min(top, 1.05 * max(value for _, _, points in lines for _, value in points))
        )
    return figure


def _response(outcomes: Sequence[Outcome], options: Sequence[str]) -> Markup | None:
    """The best value against the option, where one option has at least three values that differ
    visibly.
    """
    marks = [
        (run, outcome.values[options[0]], outcome.best.value)
        for run, outcome in enumerate(outcomes)
        if outcome.best
        and outcome.best.metric == metric_of(outcomes)
        and outcome.best.value is not None
    ]
    if len(options) > 1 or len(marks) < 3:
        return None
    caption = f"The best value of each run against {options[0]}"
    figure = empty_figure(PAPER, options[0], metric_name(metric_of(outcomes)))
    axes = figure.axes[0]
    rising = sorted((value, metric) for _, value, metric in marks)
    axes.plot(*zip(*rising, strict=True), "-", color=PAPER.line, linewidth=1.2)
    for run, value, metric in marks:
        axes.plot([value], [metric], "o", color=PAPER.muted, markersize=7, mew=0)[0].set_gid(
            f"curve-run-{run}"
        )
    if rising[0][0] > 0 and rising[-1][0] / rising[0][0] > MAX_LOG_SPAN:
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks([value for value, _ in rising], [f"{value:g}" for value, _ in rising])
    return svg(figure, "response", caption)
