"""Export: rebuild the model, write it, try what was written, put it in its place."""

import tempfile
from pathlib import Path

import torch

from shards.choices import CROP_SHARES
from shards.commandline import folder
from shards.disk.format import write_atomically
from shards.errors import DataError, count_of, one_line
from train.export import ExportConfig
from train.network.export_formats import FORMATS, Description, Format, Predict, Scorer
from train.network.model import Classifier, rebuild
from train.run import checkpoint
from train.run.checkpoint import Checkpoint

TOLERANCE = 1e-4  # of a probability; of a logit, relative to the largest
BATCHES = (1, 2, 5)  # sizes that the file is tried with


def export(config: ExportConfig) -> None:
    """Do what `python -m train.export` was asked for."""
    opened = checkpoint.read(folder(config.ckpt))
    form = FORMATS[config.format]
    path = Path(config.out) if config.out else opened.path.with_name(opened.path.name + form.suffix)
    _check_path(path, form)
    if not config.ema and not opened.has_average:
        print(f"{opened.path}: has no averaged weights, so --no-ema changes nothing")
    model = Scorer(_classifier(opened, config.ema), opened.meta.task).eval()
    description = file_description(
        opened, model.classifier, config.ema and opened.has_average, form.is_complete
    )
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / f"model{form.suffix}"
        try:
            form.write(model, description, written)
        except DataError:
            raise
        except Exception as error:  # an exporter fails in whatever way
            raise DataError(
                f"{opened.path}: cannot be written as {config.format} ({one_line(error)[:500]})"
            ) from error
        difference = compare_outputs(model, form, form.load(written, description), description)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, written.read_bytes())
    print(f"{path}: {opened.config.model}, {description['weights']}, {_signature(description)}")
    print(f"read again, it differs from the checkpoint by at most {difference:.1e}")
    print(form.load_line(path, description))


def _check_path(path: Path, form: Format) -> None:
    if path.suffix != form.suffix:
        raise DataError(f"out is {path}: the name of this format's files ends in {form.suffix}")
    if path.is_dir():
        raise DataError(f"out is {path}: that is a folder; give a file")


def _classifier(opened: Checkpoint, averaged: bool) -> Classifier:
    classifier = rebuild(opened)
    if opened.has_average and not averaged:
        opened.load_into(classifier.network)
    return classifier


def file_description(
    opened: Checkpoint, classifier: Classifier, averaged: bool, is_complete: bool
) -> Description:
    """Say what the file holds and what it takes: enough to use it without the run that it comes
    from.

    `is_complete`: it takes pixels and gives probabilities by itself.
    """
    done_by = "done inside" if is_complete else "left to the caller"
    meta = opened.meta
    config = opened.config
    size = config.last_size
    short_side = round(size / CROP_SHARES[config.augment])
    channels = [
        "red",
        "green",
        "blue",
        *(f"band {number}" for number in range(4, len(meta.mean) + 1)),
    ]
    return {
        "model": config.model,
        "task": meta.task,
        "class_names": list(meta.class_names),
        "size": size,
        "channels": channels,
        "mean": list(meta.mean),
        "std": list(meta.std),
        "preprocessing": f"decode upright; resize, bilinear with antialiasing, to a short side of {short_side}; crop "
        f"the centre of {size} x {size}; {', '.join(channels)} as planes of 0 to 255",
        "normalization": f"(pixel / 255 - mean) / std, by channel; {done_by}",
        "scores": f"{'softmax' if meta.task == 'multiclass' else 'sigmoid'} of the logits; {done_by}",
        "weights": f"{'averaged ' if averaged else ''}weights of epoch {meta.progress.epoch}",
        "best": str(meta.progress.best),
    }


@torch.inference_mode()
def compare_outputs(
    model: Scorer, form: Format, predict: Predict, description: Description
) -> float:
    """Return by how much the outputs differ on random images. Raises DataError above `TOLERANCE`."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for number in BATCHES:
        shape = (number, len(description["channels"]), description["size"], description["size"])
        contrast = torch.rand((number, 1, 1, 1), generator=generator)  # from flat grey to noise
        images = (127.5 + contrast * (255 * torch.rand(shape, generator=generator) - 127.5)).to(
            torch.uint8
        )
        own = form.own(model, images)
        given = predict(images)
        if own.shape != given.shape:
            raise DataError(
                f"what was written gives {tuple(given.shape)} for {tuple(own.shape)}: it is not "
                f"kept"
            )
        difference = float((own - given).abs().max() / own.abs().max().clamp(min=1))
        if not difference <= TOLERANCE:
            raise DataError(
                f"what was written differs from the checkpoint by {difference:.1e}: it is not kept"
            )
        largest = max(largest, difference)
    return largest


def _signature(description: Description) -> str:
    size = description["size"]
    num_channels = len(description["channels"])
    classes = count_of(len(description["class_names"]), "class")
    return f"images [N, {num_channels}, {size}, {size}] to {classes}"
