"""The parts of a run's state that are not weights: generators, optimiser, scaler."""

import random
from typing import Any

import numpy as np
import torch


def generator_states(device: torch.device) -> dict[str, Any]:
    """Capture this rank's Python, NumPy and torch generators in types that `weights_only` reads."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of all devices too."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def joining_seed(seed: int, rank: int, epoch: int, step: int) -> int:
    """Seed the generators of a rank that joins a run of fewer ranks there: of its own, not those of
    its first epoch.
    """
    return int(np.random.SeedSequence([seed, rank, epoch, step]).generate_state(1)[0])


def restore_generators(states: dict[str, Any], device: torch.device) -> None:
    """Put the generators back; those of a device that is not there are left as they are."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
