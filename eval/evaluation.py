"""Evaluate: rebuild the networks, predict the split once, measure, write, summarise."""

import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from eval.config import EvalConfig, names, results_name
from eval.prediction.ensemble import Ensembled, check_sizes, predict_ensemble
from eval.prediction.predictions import Predictions
from eval.prediction.tta import Look
from eval.prediction.unread import SkippedSamples, shortly
from eval.report.examples import draw_examples
from eval.report.figures import draw_figures, figures
from eval.report.gallery import build_galleries, choose_classes
from eval.report.image_grids import grids, samples_of_grids
from eval.report.report import RunRecord, render_report
from eval.report.report_images import Thumbnails
from eval.results import baseline
from eval.results.class_curves import class_curves
from eval.results.files import (
    make_folder,
    write_metrics,
    write_per_class,
    write_plots,
    write_predictions,
    write_report,
)
from eval.results.measure import measure_predictions
from eval.results.prediction_files import check_voc_names, export_kinds, write_export
from eval.results.summary import evaluation_summary
from shards.commandline import folder
from shards.dataset import ShardDataset
from shards.errors import DataError
from shards.index import DatasetIndex, open_split
from shards.loader import Loader, View
from shards.pages.spelling import plain
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice
from train.network.ensemble_member import member
from train.run import checkpoint
from train.run.checkpoint import Checkpoint
from train.run.folder import read_metrics
from train.run.launch import one_line_where_a_rank_is_lost, one_line_where_memory_ends
from train.run.precision import Chosen, precision_line, precision_of_run
from train.run.ranks import Ranks, chosen_by_first, leave_ranks
from train.run.variables import numeric_variables

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
    kinds = export_kinds(config.export)
    opened = [checkpoint.read(folder(path)) for path in names(config.ckpt)]
    data = config.data or opened[0].config.data
    index = _open(config, data, opened[0])
    split = Path(config.split).name if index.is_remote else folder(str(index.root)).name  # val/
    for each in opened:
        _check_classes(each, index)
    if "voc" in kinds:
        check_voc_names(index.class_names, index.keys().tolist(), split)
        _check_competition(config, opened)
    # a name with commas
    asked = [config.classes] if config.classes in index.class_names else names(config.classes)
    shown = choose_classes(index.class_names, asked or None, config.seed)
    compared = baseline.find_metrics(config.baseline, split) if config.baseline else None
    if config.thresholds and index.task == "multiclass":
        raise DataError(
            "--thresholds: samples with one label take the highest score, not a threshold; leave "
            "it out"
        )
    chosen = (
        baseline.find_thresholds(config.thresholds, data, split, index.class_names)
        if config.thresholds
        else None
    )
    run_folder = opened[0].path.parent
    out = (
        Path(config.out)
        if config.out
        else run_folder / results_name(config, opened[0].config.data, split)
    )
    make_folder(out)
    ranks, precision = _join_ranks(config, opened)
    smaller = "give a smaller --local-batch-size or --size, or --precision bf16"
    with (
        one_line_where_a_rank_is_lost("run the same command again"),
        one_line_where_memory_ends(smaller),
    ):
        skips = SkippedSamples()
        outputs = _predict(config, opened, index, ranks, precision.precision, skips)
        not_evaluated = skips.of_all_ranks(ranks.gather_list, index)
        ranks.wait()
    leave_ranks()
    if not ranks.is_first:
        return
    predictions = Predictions(
        outputs.scores,
        outputs.labels,
        outputs.known,
        index.keys().tolist(),
        index.class_names,
        split,
        index.task,
    )
    settings = _settings(config, opened, precision)
    if not_evaluated:
        settings["not evaluated"] = shortly(not_evaluated)
    curves = class_curves(predictions)
    limits = baseline.thresholds(chosen) if chosen else None
    measured = measure_predictions(
        predictions, config.tail_grid(), thresholds=limits, curves=curves
    )
    metrics = {"checkpoint": config.ckpt, "data": data, "prediction": settings, **measured}
    if index.task == "multiclass":
        metrics["examples"] = draw_examples(predictions, config.seed)
    record = _record(config, opened, index, ranks.device, {"data": data, **settings})
    history = read_metrics(run_folder)
    if not_evaluated:
        metrics["not_evaluated"] = not_evaluated
    if chosen:
        metrics["thresholds_from"] = str(chosen)
    if compared:
        metrics["baseline"] = baseline.compare_metrics(
            metrics, predictions, compared, curves.resampled
        )
    write_metrics(out / "metrics.json", metrics)
    write_predictions(out / "predictions.npz", predictions)
    write_per_class(out / "per_class.csv", metrics)
    galleries = build_galleries(predictions, shown, config.num_images)
    on_page, on_paper = draw_figures(figures(metrics, predictions, curves, history))
    thumbnails = Thumbnails(
        ShardDataset(index, bands="rgb").image, samples_of_grids(shown, galleries)
    )
    page = render_report(metrics, predictions, record, on_page, shown, galleries, thumbnails)
    write_report(out / "report.html", page)
    write_plots(out / "plots", on_paper | grids(predictions, shown, galleries, thumbnails))
    written = ("report.html", "plots", "metrics.json", "predictions.npz", "per_class.csv")
    unread = {each["key"] for each in not_evaluated}
    exported = [
        write_export(kind, out, predictions, config.voc_competition, index.command, unread)
        for kind in kinds
    ]
    if not_evaluated:
        print(f"not evaluated: {shortly(not_evaluated)}")
    print(
        evaluation_summary(
            metrics, [str(path) for path in (*(out / name for name in written), *exported)]
        )
    )


def _open(config: EvalConfig, data: str, first: Checkpoint) -> DatasetIndex:
    """Open what is evaluated; of the data of a run by address its cache serves, if none is given."""
    cache_dir = config.cache_dir
    cache_gb = config.cache_gb
    if not config.data and not cache_dir:
        cache_dir = first.config.cache_dir
        cache_gb = cache_gb or first.config.cache_gb
    return open_split(data, config.split, cache_dir, cache_gb)


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
    if ranks.is_first and (line := precision_line(chosen, ranks.device)):
        print(line, file=sys.stderr)
    return ranks, chosen


def _predict(
    config: EvalConfig,
    opened: Sequence[Checkpoint],
    index: DatasetIndex,
    ranks: Ranks,
    precision: str,
    skips: SkippedSamples,
) -> Ensembled:
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
            device=device,
            on_bad_sample=config.on_bad_sample,
        )
        quiet = None if ranks.is_first else True
        what = f"evaluate {config.split}, {'five crops' if look.five_crops else 'centre'} of {look.size} pixels"
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


def _check_classes(opened: Checkpoint, index: DatasetIndex) -> None:
    trained = opened.meta.class_names
    given = index.class_names
    if trained != given:
        raise DataError(
            f"{index.root}: has {len(given)} classes ({_few(given)}), {opened.path} was trained on "
            f"{len(trained)} ({_few(trained)}); give the dataset of the run with --data"
        )
    if opened.meta.task != index.task:
        raise DataError(
            f"{index.root}: its task is {index.task}, {opened.path} was trained on "
            f"{opened.meta.task} data; give the dataset of the run with --data"
        )
    needed = len(opened.meta.mean)
    if index.num_channels < needed or (
        opened.config.bands == "all" and index.num_channels != needed
    ):
        raise DataError(
            f"{index.root}: its images have {index.num_channels} channels, {opened.path} was "
            f"trained on {needed}; give the dataset of the run with --data"
        )


def _check_competition(config: EvalConfig, opened: Sequence[Checkpoint]) -> None:
    for each in opened:
        if config.voc_competition == "comp1" and (each.config.pretrained or each.config.weights):
            raise DataError(
                "voc_competition is comp1, for systems trained on VOC's own data alone, but "
                f"{each.path} started from "
                f"{'pretrained weights' if each.config.pretrained else each.config.weights}: give "
                "comp2"
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _record(
    config: EvalConfig,
    opened: Sequence[Checkpoint],
    index: DatasetIndex,
    device: torch.device,
    facts: dict[str, str],
) -> RunRecord:
    first = opened[0]
    return RunRecord(
        title=plain(first.path.parent.resolve().name),
        commands=[
            # where a set was uploaded from is not known
            index.command + ("" if index.is_remote else f" --out {shlex.quote(facts['data'])}"),
            *(
                f"accelerate launch -m train --config {shlex.quote(str(run / 'config.yaml'))}"
                for run in dict.fromkeys(each.path.parent for each in opened)
            ),
            shlex.join(["python", "-m", "eval", *sys.argv[1:]]),
        ],
        config_yaml=first.config.to_yaml(),
        checkpoint=config.ckpt,
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
    sizes = {config.size or each.config.size for each in opened}
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
