"""Checkpoints: a folder that is whole or not there, readable without executing anything from it.

model.safetensors    the network's weights, with timm's names
ema.safetensors      their average, where the run keeps one
trainer.pt           optimiser, scaler and random generators; read with `weights_only`
checkpoint.json      position of the run, class names, normalisation, size, metrics
config.yaml          the run's configuration
"""

import errno
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from shards.disk.format import sync_folder
from shards.errors import DataError, count_of, one_line
from shards.identity import Identity, changes
from shards.index import DatasetIndex, Task
from shards.pages.spelling import is_text
from train.config import TrainConfig
from train.run.progress import Best, Progress

VERSION = 2  # 1 had `best_mAP` and `best_epoch` in place of `best`
SHOWN = 4  # differences of another run that one line names
_NEW = ".new"
_OLD = ".old"
ANOTHER = "take another checkpoint of the run, or train again with another --out"


@dataclass(frozen=True)
class Meta:
    """What rebuilds the model and names its outputs. `mean` and `std` are in units of 1/255.

    `bands` are of a multispectral set: how its packer scaled each band of a TIFF, in the words of
    its index.json. `data` says by split what the run was trained on (shards.identity); empty in
    checkpoints of earlier releases.
    """

    class_names: tuple[str, ...]
    task: Task
    mean: tuple[float, ...]
    std: tuple[float, ...]
    progress: Progress
    loader: dict[str, int]
    metrics: dict[str, Any]
    bands: tuple[dict[str, Any], ...] = ()
    data: dict[str, Identity] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint opened for reading; weights are read when asked for."""

    path: Path
    config: TrainConfig
    meta: Meta

    def weights(self, averaged: bool = False) -> dict[str, torch.Tensor]:
        """Read the network's state dict, or its average's."""
        return _read_tensors(self.path / ("ema.safetensors" if averaged else "model.safetensors"))

    def load_into(self, network: nn.Module, averaged: bool = False) -> None:
        """Give a network made by `config` its weights. Raises DataError where they are of another."""
        weights = self.weights(averaged)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(
                f"{self.path}: its config.yaml, or this release of timm, makes another "
                f"{self.config.model} than the weights are of "
                f"({_unlike(network.state_dict(), weights)}); put back the file that training wrote, "
                "or the timm that it was trained with"
            ) from error

    @property
    def has_average(self) -> bool:
        return (self.path / "ema.safetensors").exists()

    def trainer(self) -> dict[str, Any]:
        """Read the state of optimiser, scaler and generators."""
        path = self.path / "trainer.pt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise DataError(
                f"{path}: cannot be read safely ({one_line(error)}); {ANOTHER}"
            ) from error


def save(
    path: Path,
    config: TrainConfig,
    meta: Meta,
    weights: dict[str, torch.Tensor],
    averaged: dict[str, torch.Tensor] | None,
    trainer: dict[str, Any],
) -> None:
    """Write a checkpoint under a new name, sync it, then put it in the place of the one at `path`.

    Raises DataError where that is not possible, such as on a full disk; the one at `path` is then
    as it was.
    """
    described = {"version": VERSION, **asdict(meta)}
    with _written_anew(path) as new:
        _write_tensors(new / "model.safetensors", weights)
        if averaged is not None:
            _write_tensors(new / "ema.safetensors", averaged)
        _write_trainer(new / "trainer.pt", trainer)
        for file in new.glob("*.safetensors"):
            # safetensors makes files that only their owner can read
            shutil.copymode(new / "trainer.pt", file)
        (new / "config.yaml").write_text(config.to_yaml())
        (new / "checkpoint.json").write_text(
            json.dumps(described, indent=1, allow_nan=False) + "\n"
        )


def copy(source: Path, path: Path) -> None:
    """Make `path` the same checkpoint as `source`, at no cost of space where the disk knows hard
    links.
    """
    with _written_anew(path) as new:
        for file in source.iterdir():
            try:
                # safe: no file of a checkpoint is ever changed in place
                os.link(file, new / file.name)
            except OSError:
                shutil.copy2(file, new / file.name)


def read(path: Path) -> Checkpoint:
    """Open a checkpoint. Raises DataError where there is none, or one that this release does not
    read.
    """
    path = _whole(path)
    described_path = path / "checkpoint.json"
    if not described_path.is_file():
        near = next((folder for folder in (path / "best", path.parent) if exists(folder)), None)
        raise DataError(
            f"{path}: no checkpoint here; give {near or 'a folder such as runs/digits/best'}"
        )
    try:
        described = json.loads(described_path.read_bytes())
        version = described.pop("version")
        if version not in (1, VERSION):
            raise DataError(
                f"{described_path}: a checkpoint of another version; this release reads 1 and "
                f"{VERSION}"
            )
        described["progress"] = _progress(described["progress"], version)
        for name in ("class_names", "mean", "std", "bands"):
            described[name] = tuple(described.get(name, ()) if name == "bands" else described[name])
        meta = Meta(**described)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{described_path}: not a checkpoint's description ({one_line(error)}); {ANOTHER}"
        ) from error
    return Checkpoint(path, TrainConfig.from_yaml(path / "config.yaml"), meta)


def check_continues(path: Path, saved: TrainConfig, given: TrainConfig) -> None:
    """Raise DataError where `given` would make another run of the one whose configuration is at
    `path`.
    """
    if differences := saved.differences(given):
        pairs = [f"{name} {before!r}, now {now!r}" for name, (before, now) in differences.items()]
        more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        kept = path if path.suffix == ".yaml" else path.parent / "config.yaml"
        raise DataError(
            f"{path}: was trained with {', '.join(pairs[:SHOWN])}{more}: resume with the same "
            f"options, which --config {kept} holds, or give another --out"
        )


def check_fits(last: Checkpoint, index: DatasetIndex, num_channels: int) -> None:
    """Raise DataError where a checkpoint belongs to a dataset of other classes or other bands than
    this one.
    """
    remedy = "give the --data of that run, or another --out"
    if last.meta.class_names != index.class_names:
        raise DataError(
            f"{last.path}: was trained on other classes than {index.root} has; {remedy}"
        )
    if len(last.meta.mean) != num_channels:
        raise DataError(
            f"{last.path}: was trained on {count_of(len(last.meta.mean), 'channel')}, the images "
            "of "
            f"{index.root} have {num_channels}; {remedy}"
        )


def check_same_data(last: Checkpoint, now: dict[str, Identity], root: str) -> list[str]:
    """Compare the data of a run with those it is to go on with, by split; return what is to be said
    about them.

    Raises DataError where they are other data: the rest of the run would be that of another one.
    """
    if not last.meta.data:
        return [
            f"{last.path} is of a release that did not keep what it was trained on: {root} is not "
            f"compared with it"
        ]
    found = []
    said = []
    try:
        for split, before in last.meta.data.items():
            found += [f"{what} of {split}" for what in changes(before, now[split])]
            if before["shards"] != now[split]["shards"]:
                said.append(
                    f"{root}/{split}: its shards are not those of the run's start; labels and "
                    f"images agree"
                )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{last.path}: its description of the data cannot be read ({error!r}); {ANOTHER}"
        ) from error
    if found:
        raise DataError(
            f"{last.path}: {root} is not what it was trained on; other: {', '.join(found)}. Give "
            "the --data of that run, or start another with --weights "
            f"{last.path}/model.safetensors and another --out"
        )
    return said


def exists(path: Path) -> bool:
    """Tell whether there is a whole checkpoint at `path`."""
    return (_whole(path) / "checkpoint.json").is_file()


def _progress(described: dict[str, Any], version: int) -> Progress:
    if version == 1:
        value = described.pop("best_mAP")
        epoch = described.pop("best_epoch")
        described["best"] = (
            None if epoch is None else {"metric": "val_mAP", "value": value, "epoch": epoch}
        )
    best = described.pop("best")
    return Progress(**described, best=None if best is None else Best(**best))


def _whole(path: Path) -> Path:
    """Find the checkpoint also if the power failed between the two renames of `_put`."""
    if not path.name:  # `.`, where there is nothing beside it
        return path
    old = path.with_name(path.name + _OLD)
    return old if not path.exists() and old.exists() else path


@contextmanager
def _written_anew(path: Path) -> Iterator[Path]:
    """Give an empty folder; what is written into it takes the place of `path`, or is removed where
    writing fails.
    """
    new = path.with_name(path.name + _NEW)
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        yield new
        _put(new, path)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        kept = (
            f"the one before it is whole in {_whole(path)}"
            if exists(path)
            else "there is none before it"
        )
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        )
        raise DataError(
            f"{path}: this checkpoint could not be written ({reason}), {kept}; "
            "make room, then run the same command with --resume"
        ) from error


def _put(new: Path, path: Path) -> None:
    for file in new.iterdir():
        with open(file, "r+b") as handle:  # Windows syncs no handle that cannot write
            os.fsync(handle.fileno())
    sync_folder(new)
    old = path.with_name(path.name + _OLD)
    # otherwise an `old` from an interrupted exchange is the only whole one: keep it until the end
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
    os.rename(new, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a state dict; a parameter that a network has under two names is written under both."""
    copies = {}
    seen = set()
    for name, value in tensors.items():
        copy = value.detach().cpu().contiguous()
        place = copy.untyped_storage().data_ptr()
        copies[name] = copy.clone() if place in seen else copy
        seen.add(place)
    safetensors.torch.save_file(copies, path)


def _write_trainer(path: Path, trainer: dict[str, Any]) -> None:
    try:
        torch.save(trainer, path)
    except (
        RuntimeError
    ) as error:  # torch.save does not say that the disk is full, only that it lost count
        if "inline_container" in str(error) or "iostream" in str(error):
            raise OSError(
                errno.EIO, f"{path.name}: torch could not write it, as on a full disk", str(path)
            ) from error
        raise


def _unlike(own: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> str:
    """Name the first tensor that a network and a file do not have alike."""
    for name, value in own.items():
        if name not in given:
            return f"{name} is not in the file"
        there = given[name].shape
        if there != value.shape:
            return f"{name} is {list(value.shape)} in the network, {list(there)} in the file"
    return f"{next((name for name in given if name not in own), 'a tensor')} is not in the network"


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if not is_text(str(path)):  # load_file, which maps the file, takes no such path
            return safetensors.torch.load(path.read_bytes())
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); {ANOTHER}") from error
