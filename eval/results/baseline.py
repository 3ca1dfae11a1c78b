"""Compare with another evaluation: by its metrics.json, and sample by sample where its predictions
are beside it.
"""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from eval.metrics.bootstrap import (
    interval,
    mean_interval,
    resampled_average_precision,
    resampled_mean,
)
from eval.metrics.multiclass import is_in_top, target_classes
from eval.prediction.predictions import Predictions, finite_list
from shards.errors import DataError

METRICS_NAME = "metrics.json"
PREDICTIONS_NAME = "predictions.npz"


def find_metrics(path: str, split: str, flag: str = "--baseline") -> Path:
    """Return the metrics.json that `path` means: the file, or that of a results folder or of a
    run's `split`.

    Raises DataError where there is none that can be read.
    """
    given = Path(path)
    choices = (
        [given]
        if given.is_file()
        else [given / METRICS_NAME, given / f"eval-{split}" / METRICS_NAME]
    )
    found = next((choice for choice in choices if choice.is_file()), None)
    if found is None:
        raise DataError(
            f"{flag} {path}: no such file as {' or '.join(map(str, choices))}; evaluate that run "
            "first, or name its metrics.json"
        )
    read_baseline(found, flag)
    return found


def read_baseline(path: Path, flag: str = "--baseline") -> dict[str, Any]:
    """Read a metrics.json. Raises DataError for any other file."""
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        numbers = [metrics["mAP"], *(entry["ap"] for entry in metrics["per_class"].values())]
        numbers += [entry.get("best_f1_threshold") for entry in metrics["per_class"].values()]
        if not all(
            value is None or (isinstance(value, (int, float)) and isfinite(value))
            for value in numbers
        ):
            raise TypeError("mAP, an ap or a threshold is no number")
        return metrics
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{flag} {path}: is not a metrics.json of this evaluator ({error!r})"
        ) from error


def find_thresholds(path: str, data: str, split: str, class_names: Sequence[str]) -> Path:
    """Return the metrics.json that --thresholds means, of a run that of `val`, where thresholds are
    chosen.

    Raises DataError where it is of the very samples that are evaluated, since thresholds chosen
    there flatter, and where it has none for any of the classes.
    """
    found = find_metrics(path, "val", "--thresholds")
    metrics = read_baseline(found, "--thresholds")
    if (
        metrics.get("split") == split
        and Path(str(metrics.get("data", ""))).resolve() == Path(data).resolve()
    ):
        raise DataError(
            f"--thresholds {found}: is of {split} of {data}, which is being evaluated: name an "
            f"evaluation of other data"
        )
    if all(thresholds(found).get(name) is None for name in class_names):
        raise DataError(
            f"--thresholds {found}: has a threshold for none of the classes here: name another "
            f"evaluation"
        )
    return found


def is_of_samples(
    path: Path, keys: Sequence[str], labels: Tensor, known: Tensor, class_names: Sequence[str]
) -> bool:
    """Tell whether the predictions beside a metrics.json are of these very samples: the same keys,
    and the same labels [N, K], bool, where both know them. Its path alone does not say: data move.
    """
    if list(read_baseline(path)["per_class"]) != list(class_names):
        return False
    ours = Predictions(labels, labels, known, keys, class_names, "")
    other = _beside(ours, class_names, path.with_name(PREDICTIONS_NAME))
    if other is None:
        return False
    both = known & other.known
    return bool(both.any()) and torch.equal(labels & both, other.labels & both)


def thresholds(path: Path) -> dict[str, float | None]:
    """Return by class name the thresholds at which F1 was best there."""
    return {
        name: entry.get("best_f1_threshold")
        for name, entry in read_baseline(path)["per_class"].items()
    }


def compare_metrics(
    metrics: Mapping[str, Any],
    predictions: Predictions,
    path: Path,
    resampled: Tensor | None = None,
) -> dict[str, Any]:
    """Return mAP and AP minus those of the baseline, over the classes that both have a value for.

    `per_class` maps a class name to {"difference", "interval"}; `mAP`, `baseline_mAP` and
    `difference` are over those classes. An interval is None unless the baseline's predictions are
    beside its metrics and are of the same samples with the same labels: then it is from resamples
    that both models share, which is sharper than comparing two intervals. `resampled` are our
    average precisions, [resamples, K], of the bootstrap that `metrics` names, where the caller has
    them.
    """
    other = read_baseline(path)
    ours = metrics["per_class"]
    theirs = other["per_class"]
    shared = [
        name for name in ours if _value(ours, name) is not None and _value(theirs, name) is not None
    ]
    if not shared:
        raise DataError(
            f"--baseline {path}: shares no class that has an average precision with this data"
        )
    differences = {name: ours[name]["ap"] - theirs[name]["ap"] for name in shared}
    beside = _beside(predictions, list(theirs), path.with_name(PREDICTIONS_NAME))
    paired = (
        None
        if beside is None
        else _paired(predictions, beside, shared, metrics["bootstrap"], resampled)
    )
    values = torch.tensor(list(differences.values()), dtype=torch.float64)
    edges: list[Any] = [None] * len(shared)
    if paired is not None:
        edges = [finite_list(row) for row in interval(paired.cpu(), values).T]
    mean = sum(ours[name]["ap"] for name in shared) / len(shared)
    return {
        "path": str(path),
        "accuracy": _accuracy(metrics, other, predictions, beside),
        "split": other.get("split"),
        "num_samples": other.get("num_samples"),
        "predicted_otherwise": _otherwise(
            metrics.get("prediction", {}), other.get("prediction", {})
        ),
        "num_classes": len(shared),
        "mAP": mean,
        "baseline_mAP": mean - float(values.mean()),
        "difference": float(values.mean()),
        "interval": None
        if paired is None
        else finite_list(mean_interval(paired.cpu().nanmean(1), values.mean())),
        "per_class": {
            name: {"difference": differences[name], "interval": edge}
            for name, edge in zip(shared, edges, strict=True)
        },
    }


def _otherwise(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Tell which settings of prediction differ: name -> [theirs, ours]. The device is no setting."""
    both = [name for name in ours if name in theirs and name != "device"]
    return {name: [theirs[name], ours[name]] for name in both if theirs[name] != ours[name]}


def _value(per_class: Mapping[str, Any], name: str) -> float | None:
    return per_class.get(name, {}).get("ap")


def _accuracy(
    metrics: Mapping[str, Any],
    other: Mapping[str, Any],
    predictions: Predictions,
    beside: Predictions | None,
) -> dict[str, Any] | None:
    """Compare accuracies; None but for sets with one label a sample, of the same classes."""
    ours = metrics.get("accuracy")
    theirs = other.get("accuracy")
    if (
        ours is None
        or not isinstance(theirs, (int, float))
        or set(metrics["per_class"]) != set(other["per_class"])
    ):
        return None
    found = {"baseline": theirs, "difference": ours - theirs, "interval": None}
    if beside is None:
        return found
    names = list(predictions.class_names)
    order = torch.tensor(
        [list(beside.class_names).index(name) for name in names], device=beside.scores.device
    )
    targets = target_classes(predictions.labels, predictions.known)
    if torch.equal(targets, target_classes(beside.labels[:, order], beside.known[:, order])):
        hits = (
            is_in_top(scores, targets).double()
            for scores in (predictions.scores, beside.scores[:, order])
        )
        difference = torch.sub(*hits)[:, None]
        bootstrap = metrics["bootstrap"]
        resampled = resampled_mean(
            difference, targets >= 0, bootstrap["resamples"], bootstrap["seed"]
        )
        found["interval"] = finite_list(interval(resampled[:, 0], _mean(difference, targets >= 0)))
    return found


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of whole numbers [N, 1] over the counted samples: on a GPU `mean` would multiply by a
    rounded 1 / n.
    """
    return values[counted].sum() / counted.sum()


def _beside(predictions: Predictions, names: Sequence[str], path: Path) -> Predictions | None:
    """Read the baseline's predictions in our order of samples, on our device; None where they are
    of other samples.
    """
    other = _read_predictions(path, predictions.split, names) if path.is_file() else None
    if other is None or sorted(other.keys) != sorted(map(str, predictions.keys)):
        return None
    place = {key: row for row, key in enumerate(other.keys)}
    rows = torch.tensor([place[str(key)] for key in predictions.keys])
    device = predictions.scores.device
    scores, labels, known = (
        matrix[rows].to(device) for matrix in (other.scores, other.labels, other.known)
    )
    return Predictions(scores, labels, known, predictions.keys, names, predictions.split)


def _paired(
    predictions: Predictions,
    other: Predictions,
    shared: Sequence[str],
    bootstrap: Mapping[str, Any],
    resampled: Tensor | None,
) -> Tensor | None:
    """Resampled differences of AP, float64 [resamples, shared classes]; None where labels differ."""
    device = predictions.scores.device
    mine, its = (
        torch.tensor([list(each.class_names).index(name) for name in shared], device=device)
        for each in (predictions, other)
    )

    def ours(matrix: Tensor) -> Tensor:
        return matrix[:, mine]

    def theirs(matrix: Tensor) -> Tensor:
        return matrix[:, its]

    known = ours(predictions.known.bool())
    labels = ours(predictions.labels) > 0
    same_known = torch.equal(known, theirs(other.known))
    if not same_known or not torch.equal(labels & known, theirs(other.labels) & known):
        return None
    num = bootstrap["resamples"]
    seed = bootstrap["seed"]
    if resampled is None:
        resampled = resampled_average_precision(
            predictions.scores, predictions.labels, predictions.known, num, seed
        )
    return ours(resampled) - resampled_average_precision(
        theirs(other.scores), labels, known, num, seed
    )


def _read_predictions(path: Path, split: str, names: Sequence[str]) -> Predictions | None:
    """Read predictions.npz; None for a file of other shapes or arrays than the evaluator writes."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            scores, labels, known = (
                torch.from_numpy(arrays[name]) for name in ("scores", "labels", "known")
            )
            return Predictions(scores, labels, known, arrays["keys"].tolist(), names, split)
    except (ValueError, KeyError, TypeError, OSError, BadZipFile):
        return None
