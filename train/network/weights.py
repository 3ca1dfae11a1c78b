"""Weights from a local file: what fits is loaded, the rest is reported."""

import argparse
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from shards.errors import DataError, one_line
from train.config import NewChannels
from train.network.filters import fit_filters
from train.network.two_branch import Joined

MAX_NAMES = 6  # parameter names spelled out in a report of loaded weights
# of a network's tensors that a file must have: one that fits less is of another network
MIN_SHARE = 0.5
# Where checkpoints of training programs keep the weights. Averages come last: a file often has
# both.
PLACES = (
    "state_dict",
    "model_state_dict",
    "model",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
)
MAX_DEPTH = 4  # of dictionaries in dictionaries


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor: in both and loaded, only in the model, only in the file, of
    another shape.

    `extended` are those of the loaded that got filters for channels which the file's network does
    not have. `place` is where in the file they are kept, `prefix` what precedes the names of the
    model there; empty for nothing.
    """

    loaded: list[str]
    new: list[str]
    unused: list[str]
    unfit: list[str]
    extended: list[str]
    place: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.place:
            parts.append(f"from {self.place}")
        if self.prefix:
            parts.append(f"the prefix {self.prefix} of their names taken off")
        for label, names in (
            ("of them for other channels", self.extended),
            ("new", self.new),
            ("not in the model", self.unused),
            ("of another shape", self.unfit),
        ):
            if names:
                shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
                parts.append(f"{len(names)} {label} ({shown})")
        return "; ".join(parts)


def load_weights(
    network: nn.Module, path: str | Path, new_channels: NewChannels = "kaiming"
) -> LoadReport:
    """Load what fits of a local state dict and report the rest. Raises DataError where less than
    half fits.

    A file of an RGB network serves one of more channels as pretrained weights do
    (train.network.filters), and both networks of two that are joined. Names may have anything
    before them, such as `module.` of a wrapped model.
    """
    own = network.state_dict()
    found, place = read_state_dict(Path(path))
    single = isinstance(network, Joined) and not any(_suffixes(name) & own.keys() for name in found)
    targets = {name.removeprefix("rgb."): value for name, value in own.items()} if single else own
    prefix = find_prefix(found, targets)
    given = {
        name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)
    }
    unused = [name for name in found if not name.startswith(prefix)]
    extended: list[str] = []
    if single:
        rgb, extra = (
            {f"{part}.{name}": value for name, value in given.items()} for part in ("rgb", "extra")
        )
        extra, extended = fit_filters(extra, own, False, new_channels)
        given = rgb | extra
    elif not isinstance(network, Joined):
        given, extended = fit_filters(given, own, True, new_channels)
    fits = {
        name: value
        for name, value in given.items()
        if name in own and own[name].shape == value.shape
    }
    report = LoadReport(
        loaded=sorted(fits),
        new=sorted(name for name in own if name not in given),
        unused=sorted([*unused, *(name for name in given if name not in own)]),
        unfit=sorted(name for name in given if name in own and name not in fits),
        extended=sorted(extended),
        place=place,
        prefix=prefix,
    )
    _check(Path(path), fits, own, found)
    network.load_state_dict(fits, strict=False)
    return report


def find_prefix(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Find what precedes the names in a file so that most of its tensors fit: `module._orig_mod.`
    or nothing.

    Wrappers (DataParallel, torch.compile, a Lightning module's attribute) put their name before
    each, in any order.
    """
    counts = Counter[str]()
    for name, value in found.items():
        for suffix in _suffixes(name):
            if suffix in own and own[suffix].shape == value.shape:
                counts[name.removesuffix(suffix)] += 1
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default="")


def _suffixes(name: str) -> set[str]:
    """Take parts off the front of a name, none to all but one: a.b.c, b.c, c."""
    parts = name.split(".")
    return {".".join(parts[start:]) for start in range(len(parts))}


def _check(
    path: Path, fits: Mapping[str, Tensor], own: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> None:
    """Refuse a file of another network, and one of weights that are no numbers."""
    if len(fits) < MIN_SHARE * len(own):
        missing = _examples(own, [name for name in own if name not in fits])
        raise DataError(
            f"{path}: fits {len(fits)} of the network's {len(own)} tensors, less than half; the "
            f"network has {missing}, the file {_examples(found, list(found))}: give the --model "
            "they are of, or another file"
        )
    for name, value in fits.items():
        if not value.isfinite().all():
            raise DataError(
                f"{path}: tensor {name} has values that are no numbers; give another file"
            )


def _examples(tensors: Mapping[str, Tensor], names: Sequence[str]) -> str:
    return " and ".join(f"{name} {list(tensors[name].shape)}" for name in names[:2])


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read a .safetensors file, or a .pth with nothing but tensors, numbers and words in it
    (`weights_only`).

    Returns the tensors by name, and where in the file they are kept, such as `state_dict`.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such weights file; check the path given with --weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path), ""
        # options, as timm's training keeps them
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on hostile bytes the unpickler raises almost anything
        # Not the unpickler's own words: they advise to load it unsafely.
        reason = (
            "its pickle asks for more"
            if isinstance(error, pickle.UnpicklingError)
            else one_line(error)[:300]
        )
        raise DataError(
            f"{path}: not a state dict that can be read safely ({reason}); "
            "give a .safetensors file, or a .pth that holds tensors by name and nothing else"
        ) from error
    places: list[str] = []
    while not _is_state_dict(state) and len(places) < MAX_DEPTH:
        place = _place(state)
        if place is None:
            raise DataError(
                f"{path}: holds no state dict of tensors; save model.state_dict() alone, as "
                f".safetensors or .pth"
            )
        state = state[place]
        places.append(place)
    return dict(state), ".".join(places)


def _place(state: Any) -> str | None:
    """Choose the entry of a checkpoint that leads to the weights: a usual name, or the only one of
    tensors.
    """
    if not isinstance(state, dict):
        return None
    for place in PLACES:
        if isinstance(state.get(place), dict):
            return place
    others = [
        name for name, value in state.items() if isinstance(name, str) and _is_state_dict(value)
    ]
    return others[0] if len(others) == 1 else None


def _is_state_dict(state: Any) -> bool:
    return (
        isinstance(state, dict)
        and len(state) > 0
        and all(isinstance(name, str) and torch.is_tensor(value) for name, value in state.items())
    )
