"""A sweep: one run after the other, each in its own folder under the sweep's, the best of them at
its top.

OUT/sweep.yaml       the sweep's configuration; `--config OUT/sweep.yaml` repeats it
OUT/lr=0.01/         a run like any other, and so on for each value
OUT/sweep.json       what the runs came to, after each of them
OUT/sweep.html       the same with their curves
OUT/best             the best epoch of the best run, with its config.yaml and metrics.jsonl
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from shards.commandline import folder
from shards.disk.format import write_atomically
from shards.errors import DataError, count_of, one_line
from train.config import TrainConfig
from train.loop import train
from train.run import checkpoint
from train.run.checkpoint import check_continues
from train.run.folder import CONFIG_NAME, METRICS_NAME, RunFolder
from train.run.progress import Diverged
from train.run.ranks import join_for_training, leave_ranks, settle_precision
from train.run.stop import Ending
from train.sweep.comparison import ENDED, Outcome, read_outcome, sweep_results, sweep_table, winner
from train.sweep.points import Point, parse_sweep, points
from train.sweep.sweep_page import render_sweep

CONFIGURATION = "sweep.yaml"
RESULTS = "sweep.json"
PAGE = "sweep.html"


def sweep(config: TrainConfig) -> Ending:
    """Train the runs of `config.sweep` and compare them; return how that ended, false if it was
    asked to stop before the end.

    A run that fails is left out and the others go on. Raises DataError, when all have ended, that
    names those.
    """
    out = RunFolder(folder(config.out))
    kept = _kept(out.path) if config.resume else None
    config, why = settle_precision(config.with_order_of(kept), kept)
    plan = points(config)
    ranks = join_for_training(config)
    is_main = ranks.is_first
    if is_main and why:
        print(f"precision {config.precision} ({why})")
    going_on = config.resume and goes_on(out.path, config)
    diverged = _diverged(out.path) if going_on else set()
    failed: dict[str, str] = {}  # with what; --resume tries them again
    done = (
        {each.name for each in _outcomes(plan, diverged, failed) if each.status in ENDED}
        if going_on
        else set()
    )
    ranks.wait()  # all have looked before the first rank changes anything
    if is_main:
        _begin(out, config, going_on)
    ending = Ending.FINISHED
    for number, point in enumerate(plan, start=1):
        if is_main:
            print(
                f"{point.name}: run {number} of "
                f"{len(plan)}{', ended before' if point.name in done else ''}"
            )
        if point.name in done:
            continue
        try:
            ending = train(_continued(point.config))
        except Diverged as error:
            diverged.add(point.name)
            if is_main:
                print(f"{point.name}: {error}")
        except (DataError, torch.OutOfMemoryError) as error:
            if not _fails_alone(error, Path(point.config.out), ranks.num_ranks):
                raise
            failed[point.name] = _reason(error)
            if is_main:
                print(f"{point.name} failed: {failed[point.name]}")
        ranks.free_memory()
        ranks.wait()  # a rank that went ahead would share its images with what is left of this run
        if is_main:
            _record(out.path, config, _outcomes(plan, diverged, failed))
        if not ending:
            break
    if ending and is_main:
        _conclude(out, config, plan, _outcomes(plan, diverged, failed))
    out.unlock()
    if ending and failed and is_main:
        leave_ranks()
        raise DataError(
            f"{out.path}: {len(failed)} of {count_of(len(plan), 'run')} failed: "
            f"{'; '.join(f'{name} ({reason})' for name, reason in failed.items())}; fix that and "
            "give --resume, or leave these values out"
        )
    return ending


def _fails_alone(error: Exception, run: Path, num_ranks: int) -> bool:
    """Tell whether the sweep can go on after a run's error.

    Of several ranks others may be waiting in the middle of the run, unless it failed before it had
    a folder: what is found wrong up to there all ranks find, since they share options and data.
    """
    return num_ranks == 1 or (isinstance(error, DataError) and not run.exists())


def _reason(error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    return f"out of memory: {one_line(error).partition('. ')[0]}; give a smaller --global-batch-size, or --accumulate 2"


def _outcomes(plan: Sequence[Point], diverged: set[str], failed: dict[str, str]) -> list[Outcome]:
    return [
        read_outcome(point, point.name in diverged, failed.get(point.name, "")) for point in plan
    ]


def _continued(config: TrainConfig) -> TrainConfig:
    """Resume what has been begun."""
    return dataclasses.replace(config, resume=config.resume and Path(config.out).exists())


def goes_on(out: Path, config: TrainConfig) -> bool:
    """Tell whether `out` holds a sweep to go on with. Raises DataError where it is another one, or
    a single run.

    Values may have been added to those of an option, or left out.
    """
    if checkpoint.exists(out / "last"):
        raise DataError(f"{out}: holds a run, not a sweep; give another --out")
    if not (out / CONFIGURATION).is_file():
        return False
    before = TrainConfig.from_yaml(out / CONFIGURATION)
    swept = parse_sweep(config.sweep).keys()
    if parse_sweep(before.sweep).keys() != swept:
        raise DataError(
            f"{out}: holds a sweep of {before.sweep}, now {config.sweep}: give another --out"
        )
    before = dataclasses.replace(before, **{name: getattr(config, name) for name in swept})
    check_continues(out / CONFIGURATION, before, config)
    return True


def _kept(out: Path) -> TrainConfig | None:
    """Read what a sweep was begun with, if there is one: its runs are compared, so they compute
    alike.
    """
    path = out / CONFIGURATION
    return TrainConfig.from_yaml(path) if path.is_file() else None


def _diverged(out: Path) -> set[str]:
    """Read which runs had diverged: they would again."""
    path = out / RESULTS
    try:
        runs = json.loads(path.read_bytes())["runs"] if path.exists() else []
        return {run["name"] for run in runs if run["status"] == "diverged"}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: not the results of a sweep ({one_line(error)}); remove it to go on"
        ) from error


def _begin(out: RunFolder, config: TrainConfig, going_on: bool) -> None:
    if going_on:
        out.lock()
    else:
        if config.resume:
            print(f"nothing to resume in {out.path}: starting")
        aside = out.begin(config.to_yaml(), config.resume)
        if aside is not None:
            print(f"{out.path} held another run: moved to {aside}")
    write_atomically(out.path / CONFIGURATION, config.to_yaml().encode())


def _record(out: Path, config: TrainConfig, outcomes: Sequence[Outcome]) -> None:
    """Write sweep.json and sweep.html for the state so far."""
    best = winner(outcomes)
    best_config = out / best.name / CONFIG_NAME if best else out / CONFIGURATION
    write_atomically(
        out / RESULTS,
        (json.dumps(sweep_results(outcomes), indent=1, allow_nan=False) + "\n").encode(),
    )
    page = render_sweep(out, config, outcomes, best_config.read_text(encoding="utf-8"))
    write_atomically(out / PAGE, page.encode(errors="backslashreplace"))


def _conclude(
    out: RunFolder, config: TrainConfig, plan: Sequence[Point], outcomes: Sequence[Outcome]
) -> None:
    """Put the best run's best checkpoint and records at the top, and print the comparison."""
    _record(out.path, config, outcomes)
    best = winner(outcomes)
    if best is None:
        told = [f"{each.name} ({each.error or 'diverged'})" for each in outcomes]
        raise DataError(
            f"{out.path}: no run finished an epoch: {'; '.join(told)}; fix that and give --resume, "
            "or other values (where runs diverged lower ones, or --clip-norm 1)"
        )
    run = out.path / best.name
    for name in (CONFIG_NAME, METRICS_NAME):
        write_atomically(out.path / name, (run / name).read_bytes())
    checkpoint.copy(run / "best", out.best)
    print(sweep_table(outcomes))
    print(f"best: {best.name}, {best.best}, {out.best}\ncomparison: {out.path / PAGE}")
