"""Weights from a local file: what fits is loaded, the rest is reported."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from shards.errors import DataError, one_line
from train.config import NewChannels
from train.filters import fit_filters
from train.joined import Joined

MAX_NAMES = 6  # parameter names spelled out in a report of loaded weights


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor: in both and loaded, only in the model, only in the file, of another shape.

    `extended` are those of the loaded that got filters for channels which the file's network does not have.
    """

    loaded: list[str]
    new: list[str]
    unused: list[str]
    unfit: list[str]
    extended: list[str]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
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


def load_weights(network: nn.Module, path: str | Path, new_channels: NewChannels = "kaiming") -> LoadReport:
    """Load what fits of a local state dict and report the rest. Raises DataError where nothing fits.

    A file of an RGB network serves one of more channels as pretrained weights do (train.filters), and both networks
    of two that are joined.
    """
    given = read_state_dict(Path(path))
    own = network.state_dict()
    extended: list[str] = []
    if isinstance(network, Joined) and not any(name in own for name in given):
        rgb, extra = ({f"{part}.{name}": value for name, value in given.items()} for part in ("rgb", "extra"))
        extra, extended = fit_filters(extra, own, False, new_channels)
        given = rgb | extra
    elif not isinstance(network, Joined):
        given, extended = fit_filters(given, own, True, new_channels)
    fits = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    report = LoadReport(
        loaded=sorted(fits),
        new=sorted(name for name in own if name not in given),
        unused=sorted(name for name in given if name not in own),
        unfit=sorted(name for name in given if name in own and name not in fits),
        extended=sorted(extended),
    )
    if not fits:
        raise DataError(
            f"{path}: none of its {len(given)} tensors fits the model; give the --model they are of, or another file"
        )
    network.load_state_dict(fits, strict=False)
    return report


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a .safetensors file, or a .pth with nothing but tensors in it (`weights_only`)."""
    if not path.is_file():
        raise DataError(f"{path}: no such weights file; check the path given with --weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on hostile bytes the unpickler raises almost anything
        # Not the unpickler's own words: they advise to load it unsafely.
        reason = "its pickle asks for more" if isinstance(error, pickle.UnpicklingError) else one_line(error)[:300]
        raise DataError(
            f"{path}: not a state dict that can be read safely ({reason}); "
            "give a .safetensors file, or a .pth that holds tensors by name and nothing else"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not all(torch.is_tensor(value) for value in state.values()):
        raise DataError(
            f"{path}: holds no state dict of tensors; save model.state_dict() alone, as .safetensors or .pth"
        )
    return {name.removeprefix("module."): value for name, value in state.items()}
