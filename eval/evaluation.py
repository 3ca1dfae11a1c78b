"""Evaluate: rebuild the networks, predict the split once, measure, write, summarise."""

import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from eval.config import EvalConfig
from eval.prediction.ensemble import Ensembled, check_sizes, predict_ensemble
from eval.prediction.predictions import Predictions
from eval.prediction.tta import Look
from eval.prediction.unread import SkippedSamples, shortly
from eval.report.examples import draw_examples
from eval.report.figures import draw_figures, figures
from eval.report.gallery import Gallery, build_galleries
from eval.report.image_grids import grids, samples_of_grids
from eval.report.report import RunRecord, pictured_samples, render_report
from eval.report.report_images import Thumbnails
from eval.request import Request, open_request
from eval.results import baseline
from eval.results.class_curves import ClassCurves, class_curves
from eval.results.files import (
    WRITTEN,
    write_metrics,
    write_per_class,
    write_plots,
    write_predictions,
    write_report,
)
from eval.results.measure import measure_predictions
from eval.results.prediction_files import write_export
from eval.results.summary import evaluation_summary
from shards.dataset import ShardDataset
from shards.errors import count_of
from shards.loader import Loader, Order, View
from shards.pages.spelling import plain
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice
from train.network.ensemble_member import member
from train.run.checkpoint import Checkpoint
from train.run.device_settings import compute_as_run
from train.run.folder import read_metrics
from train.run.launch import one_line_where_a_rank_is_lost, one_line_where_memory_ends
from train.run.precision import Chosen, precision_line, precision_of_run
from train.run.ranks import Ranks, chosen_by_first, leave_ranks
from train.run.variables import numeric_variables

SMALLER = "give a smaller --local-batch-size or --size, or --precision bf16"
EVALUATION_ORDER = Order("near")  # each rank a part in one piece: a machine reads its own shards
MIRRORING = ("flip", "tencrop")  # of --tta
PACKAGES = (
    "tarmac-vision",
    "torch",
    "timm",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "pillow",
)


def evaluate(config: EvalConfig) -> None:
    """Run `python -m eval`."""
    request = open_request(config)
    ranks, precision = _join_ranks(config, request.opened)
    skips = SkippedSamples()
    if ranks.is_first:
        _ = request.index.key_bytes  # by address: rather no evaluation than one without its keys
    with (
        one_line_where_a_rank_is_lost("run the same command again"),
        one_line_where_memory_ends(SMALLER),
    ):
        outputs = _predict(request, ranks, precision.precision, skips)
        not_evaluated = skips.of_all_ranks(ranks.gather_list, request.index)
        evaluated = _chosen_to_show(request, outputs) if ranks.is_first else None
        thumbnails = _thumbnails(request, ranks, evaluated)
        ranks.wait()
    leave_ranks()
    if evaluated is None:
        return
    settings = _settings(config, request.opened, precision)
    if not_evaluated:
        settings["not evaluated"] = shortly(not_evaluated)
    curves = class_curves(evaluated.predictions)
    metrics = _measured(request, evaluated, curves, settings, not_evaluated)
    record = _record(request, ranks.device, {"data": request.data, **settings})
    written = _write_results(request, evaluated.predictions, metrics)
    _draw(request, evaluated, thumbnails, curves, metrics, record)
    if not_evaluated:
        print(f"not evaluated: {shortly(not_evaluated)}")
    print(evaluation_summary(metrics, [str(path) for path in written]))


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The scores of a split, and the samples that the report shows."""

    predictions: Predictions
    galleries: Sequence[Gallery]
    examples: Sequence[dict[str, Any]]  # of a set with one label each


def _chosen_to_show(request: Request, outputs: Ensembled) -> Evaluated:
    """Choose what is shown. Scores that are NaN are refused when they are measured."""
    index = request.index
    predictions = Predictions(
        outputs.scores,
        outputs.labels,
        outputs.known,
        index.keys().tolist(),
        index.class_names,
        request.split,
        index.task,
    )
    galleries = build_galleries(predictions, request.shown, request.config.num_images)
    is_single = predictions.task == "multiclass"
    examples = draw_examples(predictions, request.config.seed) if is_single else []
    return Evaluated(predictions, galleries, examples)


def _thumbnails(request: Request, ranks: Ranks, evaluated: Evaluated | None) -> Thumbnails:
    """Make the pictures of the report, each where its shard has been read: on the rank that has
    predicted it. All ranks call it, the first one with what is shown.
    """
    pictured: set[int] = set()
    on_paper: set[int] = set()
    if evaluated is not None:
        pictured = pictured_samples(evaluated.predictions, evaluated.galleries, evaluated.examples)
        on_paper = samples_of_grids(request.shown, evaluated.galleries)
    (asked,) = ranks.gather_list([(pictured, on_paper)] if ranks.is_first else [])
    batch_size = request.config.local_batch_size * ranks.num_ranks
    plan = EVALUATION_ORDER.plan(request.index, batch_size, False, 0, ranks.world)
    picture = ShardDataset(request.index, bands="rgb").image
    thumbnails = Thumbnails(picture, asked[1], quiet=not ranks.is_first)
    thumbnails.fetch(asked[0].intersection(plan.own_ids(0).tolist()))
    for made in ranks.gather_list([thumbnails.made()]):
        thumbnails.take(made)
    return thumbnails


def _measured(
    request: Request,
    evaluated: Evaluated,
    curves: ClassCurves,
    settings: dict[str, str],
    not_evaluated: Sequence[dict[str, str]],
) -> dict[str, Any]:
    """Make what metrics.json holds."""
    config = request.config
    predictions = evaluated.predictions
    limits = baseline.thresholds(request.chosen) if request.chosen else None
    measured = measure_predictions(
        predictions, config.tail_grid(), thresholds=limits, curves=curves
    )
    about = {"checkpoint": config.ckpt, "data": request.data, "prediction": settings}
    metrics: dict[str, Any] = {**about, **measured}
    if predictions.task == "multiclass":
        metrics["examples"] = evaluated.examples
    if not_evaluated:
        metrics["not_evaluated"] = not_evaluated
    if request.chosen:
        metrics["thresholds_from"] = str(request.chosen)
    if request.compared:
        metrics["baseline"] = baseline.compare_metrics(
            metrics, predictions, request.compared, curves.resampled
        )
    return metrics


def _write_results(
    request: Request, predictions: Predictions, metrics: dict[str, Any]
) -> list[Path]:
    """Write the numbers, and list all that an evaluation writes."""
    out = request.out
    write_metrics(out / "metrics.json", metrics)
    write_predictions(out / "predictions.npz", predictions)
    write_per_class(out / "per_class.csv", metrics)
    unread = {each["key"] for each in metrics.get("not_evaluated", ())}
    competition = request.config.voc_competition
    command = request.index.command
    exported = [
        write_export(kind, out, predictions, competition, command, unread) for kind in request.kinds
    ]
    return [*(out / name for name in WRITTEN), *exported]


def _draw(
    request: Request,
    evaluated: Evaluated,
    thumbnails: Thumbnails,
    curves: ClassCurves,
    metrics: dict[str, Any],
    record: RunRecord,
) -> None:
    """Draw the report and the plots: figures and thumbnails are made once for both."""
    predictions = evaluated.predictions
    history = read_metrics(request.run_folder)
    on_page, on_paper = draw_figures(figures(metrics, predictions, curves, history))
    page = render_report(
        metrics, predictions, record, on_page, request.shown, evaluated.galleries, thumbnails
    )
    write_report(request.out / "report.html", page)
    drawn = on_paper | grids(predictions, request.shown, evaluated.galleries, thumbnails)
    write_plots(request.out / "plots", drawn)


def _join_ranks(config: EvalConfig, opened: Sequence[Checkpoint]) -> tuple[Ranks, Chosen]:
    """Join the other ranks; compute in the precision asked for, that of the run as far as the first
    rank can.
    """
    if config.precision == "run":
        chosen = chosen_by_first(
            lambda device: precision_of_run(opened[0].config.precision, device)
        )
    else:
        chosen = Chosen(config.precision, "")
    ranks = Ranks(chosen.precision, "give --precision run, bf16 or no")
    tf32 = config.precision == "run" and opened[0].config.tf32
    chosen = compute_as_run(chosen, ranks.device, tf32)
    if ranks.is_first:
        for line in (precision_line(chosen, ranks.device), _mirror_line(config, opened)):
            if line:
                print(line, file=sys.stderr)
    return ranks, chosen


def _mirror_line(config: EvalConfig, opened: Sequence[Checkpoint]) -> str:
    """Say which networks are shown mirror images, or turned ones, that training never had."""
    if config.tta == "dihedral":
        seen = {each.path: each.config.dihedral for each in opened}
        what = "trained without --dihedral, --tta dihedral mirrors and turns"
    else:
        seen = {each.path: each.config.flip or config.tta not in MIRRORING for each in opened}
        what = f"trained without flips, --tta {config.tta} mirrors"
    unused = [str(path) for path, is_seen in seen.items() if not is_seen]
    return f"{', '.join(unused)}: {what}" if unused else ""


def _predict(request: Request, ranks: Ranks, precision: str, skips: SkippedSamples) -> Ensembled:
    config = request.config
    opened = request.opened
    index = request.index
    world = ranks.world
    device = ranks.device
    members = [member(each, config.size, device, precision) for each in opened]
    bands: Literal["all", "rgb"] = (
        "all" if any(each.config.bands == "all" for each in opened) else "rgb"
    )

    def batches(look: Look) -> Iterable[Batch]:
        loader = Loader(
            index,
            config.local_batch_size * world.num_ranks,
            world=world,
            num_threads=config.num_threads,
            view=View(
                look.size,
                False,
                crop_share=look.crop_share,
                five_crops=look.five_crops,
                bands=bands,
            ),
            order=EVALUATION_ORDER,
            device=device,
            on_bad_sample=config.on_bad_sample,
        )
        quiet = None if ranks.is_first else True
        crops = "five crops" if look.five_crops else "centre"
        what = f"evaluate {config.split}, {crops} of {count_of(look.size, 'pixel')}"
        return OnDevice(skips.noted(tqdm(loader, what, unit="step", disable=quiet)), device)

    with ranks.autocast():
        check_sizes(members, config.tta, device)
        return predict_ensemble(
            members,
            config.tta,
            config.tta_reduce,
            batches,
            index.num_samples,
            ranks.gather,
            index.task,
        )


def _record(request: Request, device: torch.device, facts: dict[str, str]) -> RunRecord:
    index = request.index
    first = request.opened[0]
    return RunRecord(
        title=plain(first.path.parent.resolve().name),
        commands=[
            # where a set was uploaded from is not known
            index.command + ("" if index.is_remote else f" --out {shlex.quote(facts['data'])}"),
            *(
                f"accelerate launch -m train --config {shlex.quote(str(run / 'config.yaml'))}"
                for run in dict.fromkeys(each.path.parent for each in request.opened)
            ),
            shlex.join(["python", "-m", "eval", *sys.argv[1:]]),
        ],
        config_yaml=first.config.to_yaml(),
        checkpoint=request.config.ckpt,
        epoch=first.meta.progress.epoch,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        facts={
            **facts,
            "weights": "averaged (EMA)" if first.has_average else "as trained",
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        },
    )


def _settings(
    config: EvalConfig, opened: Sequence[Checkpoint], precision: Chosen
) -> dict[str, str]:
    """Say how the scores were made, for the report and metrics.json."""
    sizes = {config.size or each.config.last_size for each in opened}
    return {
        "checkpoints": str(len(opened)),
        "size": " and ".join(map(str, sorted(sizes))),
        "precision": f"{precision.precision} ({precision.why})"
        if precision.why
        else precision.precision,
        "test-time augmentation": "none"
        if config.tta == "none"
        else f"{config.tta}, {config.tta_reduce}",
        **numeric_variables(),
    }
