"""What an evaluation is asked for: opened and checked before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from eval.config import EvalConfig, names, results_name
from eval.report.gallery import choose_classes
from eval.results import baseline
from eval.results.files import check_others, make_folder
from eval.results.prediction_files import check_voc_names, export_kinds
from shards.commandline import folder
from shards.errors import DataError, count_of
from shards.index import DatasetIndex, open_split
from train.run import checkpoint
from train.run.checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Request:
    """An evaluation that can begin."""

    config: EvalConfig
    opened: Sequence[Checkpoint]
    data: str
    index: DatasetIndex
    split: str
    kinds: Sequence[str]  # of exports
    shown: Sequence[int]  # classes whose galleries are on the page
    compared: Path | None  # the metrics.json of --baseline
    chosen: Path | None  # and that of --thresholds
    out: Path  # there, and without files that an evaluation would replace but its own

    @property
    def run_folder(self) -> Path:
        """Return the folder of the first checkpoint's run."""
        return self.opened[0].path.parent


def open_request(config: EvalConfig) -> Request:
    """Open checkpoints and dataset, and make the folder of the results. Raises DataError for what
    does not go together.
    """
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
    chosen = _find_thresholds(config, data, split, index)
    out = Path(config.out)
    if not config.out:
        out = opened[0].path.parent / results_name(config, opened[0].config.data, split)
    check_others(out)
    make_folder(out)
    return Request(config, opened, data, index, split, kinds, shown, compared, chosen, out)


def _open(config: EvalConfig, data: str, first: Checkpoint) -> DatasetIndex:
    """Open what is evaluated; of the data of a run by address its cache serves, if none is given."""
    cache_dir = config.cache_dir
    cache_gb = config.cache_gb
    if not config.data and not cache_dir:
        cache_dir = first.config.cache_dir
        cache_gb = cache_gb or first.config.cache_gb
    return open_split(data, config.split, cache_dir, cache_gb)


def _find_thresholds(config: EvalConfig, data: str, split: str, index: DatasetIndex) -> Path | None:
    if config.thresholds and index.task == "multiclass":
        raise DataError(
            "--thresholds: samples with one label take the highest score, not a threshold; leave "
            "it out"
        )
    if not config.thresholds:
        return None
    found = baseline.find_thresholds(config.thresholds, data, split, index.class_names)
    labels, known = (torch.from_numpy(matrix) for matrix in (index.labels(), index.known()))
    if baseline.is_of_samples(found, index.keys().tolist(), labels, known, index.class_names):
        raise DataError(
            f"--thresholds {found}: is of the very samples that are being evaluated: name an "
            "evaluation of other data"
        )
    return found


def _check_classes(opened: Checkpoint, index: DatasetIndex) -> None:
    trained = opened.meta.class_names
    given = index.class_names
    if trained != given and sorted(trained) == sorted(given):
        at = next(
            n for n, names in enumerate(zip(trained, given, strict=True)) if len({*names}) > 1
        )
        raise DataError(
            f"{index.root}: has the classes of {opened.path} in another order (class {at} is "
            f"{given[at]}, there {trained[at]}); pack it in that order, or give the "
            "dataset of the run with --data"
        )
    if trained != given:
        raise DataError(
            f"{index.root}: has {count_of(len(given), 'class')} ({_few(given)}), {opened.path} "
            f"was trained on {len(trained)} ({_few(trained)}); give the dataset of the run with "
            "--data"
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
            f"{index.root}: its images have {count_of(index.num_channels, 'channel')}, "
            f"{opened.path} was "
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
