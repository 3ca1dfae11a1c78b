"""Evaluate a checkpoint: `python -m eval --ckpt runs/digits/best`.

Writes metrics.json, predictions.npz, per_class.csv and report.html into RUN/eval-SPLIT.
"""

import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from eval.evaluate import Outputs, predict
from eval.files import write_metrics, write_per_class, write_predictions, write_report
from eval.launch import check_world, spread
from eval.report import RunRecord, choose_classes, render
from eval.results import Predictions, measure
from eval.summary import summary
from shards.batch import on_device
from shards.commandline import folder, option, parse, run
from shards.dataset import ShardDataset
from shards.errors import DataError
from shards.index import DatasetIndex, open_split
from shards.loader import Loader
from shards.sampler import World
from train import checkpoint
from train.checkpoint import Checkpoint
from train.model import Classifier, build_network
from train.run import read_metrics

EXAMPLES = "example: python -m eval --ckpt runs/voc-resnet18/best --data data/voc --classes dog,cat"
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


@dataclass(frozen=True)
class EvalConfig:
    """The command line of the evaluator."""

    ckpt: str = option("runs/digits/best", "checkpoint folder of a run: best or last")
    data: str = option("", "packed dataset; the one that the checkpoint names where not given")
    split: str = option("val", "split to evaluate")
    out: str = option("", "folder of the results; RUN/eval-SPLIT where not given")
    classes: str = option("", "classes to show images of, separated by commas; 5 random ones where not given")
    seed: int = option(0, "seed of the choice of random classes")
    batch_size: int = option(64, "samples per rank and step")
    num_threads: int = option(2, "loader threads per rank")


def main() -> None:
    """Rebuild the model, predict the split once, measure, write, summarise."""
    config = parse(EvalConfig, prog="python -m eval", description=__doc__ or "", epilog=EXAMPLES)
    spread("eval")
    ckpt = folder(config.ckpt)
    opened = checkpoint.read(ckpt)
    data = config.data or opened.config.data
    index = open_split(data, config.split)
    _check_classes(opened, index)
    shown = choose_classes(index.class_names, _names(config.classes), config.seed)
    accelerator = Accelerator(mixed_precision=opened.config.precision, cpu=torch.backends.mps.is_available())
    check_world(accelerator.num_processes)
    outputs = _predict(config, opened, index, accelerator)
    if not accelerator.is_main_process:
        return
    out = Path(config.out) if config.out else ckpt.parent / f"eval-{config.split}"
    predictions = Predictions(
        outputs.scores, outputs.labels, outputs.known, index.keys().tolist(), index.class_names, config.split
    )
    metrics = {"checkpoint": config.ckpt, "data": data, **measure(predictions)}
    record = _record(config, opened, index, data)
    history = read_metrics(ckpt.parent)
    page = render(metrics, predictions, record, history, shown, ShardDataset(index).image)
    out.mkdir(parents=True, exist_ok=True)
    write_metrics(out / "metrics.json", metrics)
    write_predictions(out / "predictions.npz", predictions)
    write_per_class(out / "per_class.csv", metrics)
    write_report(out / "report.html", page)
    names = ("report.html", "metrics.json", "predictions.npz", "per_class.csv")
    print(summary(metrics, [str(out / name) for name in names]))


def _predict(config: EvalConfig, opened: Checkpoint, index: DatasetIndex, accelerator: Accelerator) -> Outputs:
    world = World(accelerator.process_index, accelerator.num_processes)
    network = build_network(opened.config.model, len(opened.meta.class_names), opened.config.size)
    network.load_state_dict(opened.weights(averaged=opened.has_average))
    model = Classifier(network, opened.meta.mean, opened.meta.std).to(accelerator.device).eval()
    loader = Loader(
        index,
        config.batch_size * world.num_ranks,
        opened.config.size,
        train=False,
        world=world,
        num_threads=config.num_threads,
    )
    bar = tqdm(loader, f"evaluate {config.split}", unit="step", disable=None if accelerator.is_main_process else True)
    with accelerator.autocast():
        return predict(model, on_device(bar, accelerator.device), index.num_samples, accelerator.gather)


def _check_classes(opened: Checkpoint, index: DatasetIndex) -> None:
    trained, given = opened.meta.class_names, index.class_names
    if trained != given:
        raise DataError(
            f"{index.root}: has {len(given)} classes ({_few(given)}), {opened.path} was trained on {len(trained)} "
            f"({_few(trained)}); give the dataset of the run with --data"
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _names(classes: str) -> Sequence[str] | None:
    return [name.strip() for name in classes.split(",") if name.strip()] or None


def _record(config: EvalConfig, opened: Checkpoint, index: DatasetIndex, data: str) -> RunRecord:
    run_folder = folder(config.ckpt).parent
    epoch = opened.meta.progress.epoch
    return RunRecord(
        title=run_folder.resolve().name,
        commands=[
            f"{index.command} --out {shlex.quote(data)}",
            f"accelerate launch -m train --config {shlex.quote(str(run_folder / 'config.yaml'))}",
            shlex.join(["python", "-m", "eval", *sys.argv[1:]]),
        ],
        config_yaml=opened.config.to_yaml(),
        checkpoint=config.ckpt,
        epoch=epoch,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        facts={
            "data": data,
            "precision": opened.config.precision,
            "weights": "averaged (EMA)" if opened.has_average else "as trained",
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        },
    )


if __name__ == "__main__":
    run(main)
