"""Predict pictures: find them, rebuild the networks, predict each picture once, print, write."""

import csv
import io
import os
import sys
import warnings
from collections.abc import Container, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from eval.config import names
from eval.predict import PredictConfig
from eval.prediction.ensemble import check_sizes, predict_ensemble
from eval.prediction.pictures import Decode, PictureBatches, find_pictures
from eval.prediction.tta import Look
from eval.results.files import make_folder
from eval.results.tail_grid import CLASSIFICATION_THRESHOLD
from preprocess.images.geometry import Band
from preprocess.images.image import decode_image
from preprocess.images.outcome import BadImage, DamagedImage
from preprocess.images.tiff import is_tiff, read_tiff, scale_bands
from shards.commandline import folder
from shards.disk.format import write_atomically
from shards.errors import DamagedError, DataError, SampleError, count_of, one_line
from shards.host.machine import cores_per_rank
from shards.pages.spelling import plain
from shards.pipeline.batch import Batch
from shards.pipeline.copy_ahead import OnDevice
from shards.remote.address import Address
from train.network.ensemble_member import member
from train.run import checkpoint
from train.run.checkpoint import Checkpoint
from train.run.device_settings import compute_as_run
from train.run.launch import one_line_where_memory_ends
from train.run.precision import Chosen, check_precision, precision_line, precision_of_run
from train.run.variables import check_variables


def predict_pictures(config: PredictConfig) -> None:
    """Run `python -m eval.predict`."""
    found = find_pictures(config.pictures)
    paths = found.pictures
    if config.csv:
        make_folder(Path(config.csv).parent)
        if Path(config.csv).is_dir():
            raise DataError(f"csv is {config.csv}: is a folder; give the name of a file in it")
    opened = [checkpoint.read(folder(path)) for path in names(config.ckpt)]
    _check_alike(opened)
    class_names = opened[0].meta.class_names
    task = opened[0].meta.task
    decode, num_channels = decoder(opened)
    pictures = PictureBatches(
        paths,
        len(class_names),
        config.local_batch_size,
        config.num_threads or cores_per_rank(),
        decode,
        num_channels,
        config.accept_damaged,
    )
    with one_line_where_memory_ends(
        "give a smaller --local-batch-size or --size, or --precision bf16"
    ):
        scores = _predict(config, opened, pictures)
    _check_numbers(scores, paths, pictures.unreadable)
    readable = [number for number in range(len(paths)) if number not in pictures.unreadable]
    if config.csv:
        _write_csv(
            Path(config.csv), class_names, [(paths[number], scores[number]) for number in readable]
        )
    for number in readable:
        print(f"{plain(str(paths[number]))}: {_labels(scores[number], config, class_names, task)}")
    for line in found.left_out():
        print(line, file=sys.stderr)
    for number, reason in sorted(pictures.damaged.items()):
        print(f"{plain(str(paths[number]))}: predicted, but {reason}", file=sys.stderr)
    if pictures.damaged:
        print(
            f"{len(pictures.damaged)} of {count_of(len(paths), 'picture')} are damaged, as named "
            "above",
            file=sys.stderr,
        )
    for number, reason in sorted(pictures.unreadable.items()):
        print(f"{plain(str(paths[number]))}: {reason}", file=sys.stderr)
    if pictures.unreadable:
        sys.stdout.flush()
        raise DataError(
            f"{len(pictures.unreadable)} of {count_of(len(paths), 'picture')} cannot be read, as "
            "named above"
        )


def _check_numbers(
    scores: np.ndarray, paths: Sequence[Path | Address], unreadable: Container[int]
) -> None:
    """Refuse scores that are NaN or no probabilities, as python -m eval does."""
    nan = [
        number
        for number in np.isnan(scores).any(1).nonzero()[0].tolist()
        if number not in unreadable
    ]
    if nan:
        raise DataError(
            f"scores are NaN of {len(nan)} of {count_of(len(paths), 'picture')} (first: "
            f"{plain(str(paths[nan[0]]))}): the model diverged or its weights are damaged"
        )


def choose(scores: np.ndarray, threshold: float | None, top: int, task: str) -> list[int]:
    """Return the labels to print of scores [K], the likeliest first, equal ones in the order of the
    classes.
    """
    if threshold is None and not top:
        threshold, top = (0.0, 1) if task == "multiclass" else (CLASSIFICATION_THRESHOLD, 0)
    order = np.argsort(-scores, kind="stable").tolist()
    return [label for label in order if scores[label] >= (threshold or 0.0)][: top or None]


def _labels(
    scores: np.ndarray, config: PredictConfig, class_names: Sequence[str], task: str
) -> str:
    """Spell the labels to print; where none reaches the threshold a dash, and which came nearest."""
    chosen = choose(scores, config.threshold, config.top, task)
    spelled = [
        f"{plain(class_names[label])} {scores[label]:.3f}"
        for label in chosen or [int(scores.argmax())]
    ]
    return ", ".join(spelled) if chosen else f"- (nearest: {spelled[0]})"


def _check_alike(opened: Sequence[Checkpoint]) -> None:
    first = opened[0].meta
    for each in opened:
        if (each.meta.class_names, each.meta.task) != (first.class_names, first.task):
            raise DataError(
                f"{each.path}: has other classes, or another task, than {opened[0].path}: give "
                f"runs of one set"
            )
        if each.meta.bands != first.bands:
            raise DataError(
                f"{each.path}: its set scales bands otherwise than that of {opened[0].path}: give "
                f"one of them"
            )
        if not first.bands and len(each.meta.mean) != 3:
            raise DataError(
                f"{each.path}: its network sees {count_of(len(each.meta.mean), 'band')}, but the "
                "checkpoint is "
                "of a release that did not keep their ranges; pack the TIFFs with "
                "preprocess.shard and give python -m eval"
            )


def decoder(opened: Sequence[Checkpoint]) -> tuple[Decode, int]:
    """Tell how the pictures of these networks are decoded, and to how many channels.

    A TIFF, where the set is of TIFFs of several bands, is scaled as its packer scaled it. Other
    pictures are RGB.
    """
    num_channels = max(len(each.meta.mean) for each in opened)
    try:
        bands = tuple(
            Band(str(band["name"]), int(band["position"]), float(band["low"]), float(band["high"]))
            for band in opened[0].meta.bands[:num_channels]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{opened[0].path}: its description of bands cannot be read ({one_line(error)})"
        ) from error

    def decode(data: bytes, accept_damaged: bool = False) -> np.ndarray:
        try:
            if bands and (is_tiff(data) or num_channels > 3):
                return scale_bands(read_tiff(data), bands)
            return decode_image(data, accept_damaged)
        except DamagedImage as error:
            raise DamagedError(str(error)) from error
        except BadImage as error:
            raise SampleError(str(error)) from error

    return decode, num_channels


def _predict(
    config: PredictConfig, opened: Sequence[Checkpoint], pictures: PictureBatches
) -> np.ndarray:
    """Return the probabilities of all pictures, float32 [N, K]; those of an unreadable one are
    undefined.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = _precision(config, opened, device)
    task = opened[0].meta.task
    check_variables(precision)
    members = [member(each, config.size, device, precision) for each in opened]

    def batches(look: Look) -> Iterable[Batch]:
        crops = "five crops" if look.five_crops else "centre"
        what = f"predict, {crops} of {count_of(look.size, 'pixel')}"
        made = pictures.batches(look, pinned=device.type == "cuda")
        return OnDevice(tqdm(made, what, len(pictures), unit="step", disable=None), device)

    with _autocast(precision, device), warnings.catch_warnings():
        # Pillow's, on damaged metadata; threads cannot each have filters of their own
        warnings.simplefilter("ignore")
        check_sizes(members, config.tta, device)
        outputs = predict_ensemble(
            members, config.tta, "mean", batches, len(pictures.paths), lambda values: values, task
        )
    return outputs.scores.cpu().numpy()


def _precision(config: PredictConfig, opened: Sequence[Checkpoint], device: torch.device) -> str:
    """Take the precision asked for, or that of the run as far as this machine can; say on stderr
    what is odd.
    """
    if config.precision == "run":
        chosen = precision_of_run(opened[0].config.precision, device)
    else:
        chosen = Chosen(config.precision, "")
        check_precision(config.precision, device, "give --precision run, bf16 or no")
    tf32 = config.precision == "run" and opened[0].config.tf32
    chosen = compute_as_run(chosen, device, tf32)
    if line := precision_line(chosen, device):
        print(line, file=sys.stderr)
    return chosen.precision


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    if precision == "no":
        return nullcontext()
    return torch.autocast(device.type, torch.float16 if precision == "fp16" else torch.bfloat16)


def _write_csv(
    path: Path, class_names: Sequence[str], rows: Iterable[tuple[Path | Address, np.ndarray]]
) -> None:
    """Write path and score of every class, nine digits each, which give back the same float32."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", *class_names])
    writer.writerows(
        [picture, *(f"{score:.9g}" for score in scores.tolist())] for picture, scores in rows
    )
    write_atomically(path, os.fsencode(buffer.getvalue()))
